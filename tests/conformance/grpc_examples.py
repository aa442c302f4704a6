"""Classify, Regress and MultiInference over gRPC (classifier.cc, regressor.cc, multi_inference.cc)."""

from __future__ import annotations

from tests.conformance.rows import Grpc, Row, Setting, refused, under

_CLASSIFY = "PredictionService/Classify"
_REGRESS = "PredictionService/Regress"
_MULTI = "PredictionService/MultiInference"


def _spec(signature: str = "", name: str = "forms", more: str = "") -> str:
    return f'model_spec {{ name: "{name}" signature_name: "{signature}" {more} }} '


def _echo(signature: str, version: int = 1) -> str:
    return f'model_spec {{ name: "forms" version {{ value: {version} }} signature_name: "{signature}" }} '


def _feature(name: str, values: str) -> str:
    return f'feature {{ key: "{name}" value {{ {values} }} }} '


def _x(a: float, b: float) -> str:
    return _feature("x", f"float_list {{ value: [{a}, {b}] }}")


def _c(c: float) -> str:
    return _feature("c", f"float_list {{ value: {c} }}")


def _list(*examples: str) -> str:
    return "input { example_list { " + _examples(*examples) + "} } "


def _with_context(context: str, *examples: str) -> str:
    return f"input {{ example_list_with_context {{ {_examples(*examples)} context {{ features {{ {context} }} }} }} }} "


def _examples(*examples: str) -> str:
    return "".join(f"examples {{ features {{ {each} }} }} " for each in examples)


_LABELS = ("red", "green", "blue")


def _classes(*rows: tuple[float, float, float], labels: tuple[str, ...] = _LABELS) -> str:
    return "result { " + "".join(
        "classifications { " + "".join(
            f'classes {{ label: "{label}" score: {score} }} ' for label, score in zip(labels, row, strict=True)
        ) + "} "
        for row in rows
    ) + "} "


def _regressions(*values: float) -> str:
    return "result { " + "".join(f"regressions {{ value: {value} }} " for value in values) + "} "


_TWO = _list(_x(1, 2) + _c(3), _c(0.5))
_ONE = _list(_c(0.5))

_CLASSIFIED: list[Row] = [
    Grpc(_CLASSIFY, _spec("classify") + _TWO, _classes((1, 2, 3), (0, 0, 0.5)) + _echo("classify")),
    Grpc(_CLASSIFY, _spec("classify") + _list(""), _classes((0, 0, 0)) + _echo("classify")),
    Grpc(_CLASSIFY, _spec("classify", more="version { value: 1 }") + _ONE, _classes((0, 0, 0.5)) + _echo("classify")),
    Grpc(_CLASSIFY, _spec("scores_only") + _ONE,
         _classes((0, 0, 0.5), labels=("", "", "")) + _echo("scores_only")),
    Grpc(_CLASSIFY, _spec("classes_only") + _ONE, _classes((0, 0, 0)) + _echo("classes_only")),
    Grpc(_CLASSIFY, _spec("classify_by_predict") + _ONE, _classes((0, 0, 0.5)) + _echo("classify_by_predict")),
    Grpc(_CLASSIFY, _spec("text") + _list(_feature("t", 'bytes_list { value: "a" }')),
         'result { classifications { classes { label: "a" } } } ' + _echo("text")),
    # The context's features are every example's, unless it has its own.
    Grpc(_CLASSIFY, _spec("classify") + _with_context(_c(9), _x(1, 2), _c(4), ""),
         _classes((1, 2, 9), (0, 0, 4), (0, 0, 9)) + _echo("classify")),
    Grpc(_CLASSIFY, _spec("classify") + _with_context("", _c(4)), _classes((0, 0, 4)) + _echo("classify")),
]

_REGRESSED: list[Row] = [
    Grpc(_REGRESS, _spec(signature) + _TWO, _regressions(6, 0.5) + _echo(signature))
    for signature in ("regress", "regress_flat", "regress_by_predict", "strange_method", "no_method")
]
_REGRESSED += [
    Grpc(_REGRESS, _spec("regress") + _with_context(_c(9), _x(1, 2), _c(4)), _regressions(12, 4) + _echo("regress")),
    Grpc(_REGRESS, _spec("number") + _list(_feature("n", "int64_list { value: 7 }")),
         _regressions(7) + _echo("number")),
]

_LOOKUPS: list[Row] = [
    refused(method, request, code, message)
    for method in (_CLASSIFY, _REGRESS)
    for request, code, message in [
        ("", "INVALID_ARGUMENT", "Missing ModelSpec"),
        (_ONE, "INVALID_ARGUMENT", "Missing ModelSpec"),
        ("model_spec { } " + _ONE, "INVALID_ARGUMENT", "ModelSpec has no name specified."),
        (_spec(name="nope") + _ONE, "NOT_FOUND", "Servable not found for request: Latest(nope)"),
        (_spec(name="broken") + _ONE, "NOT_FOUND", "Servable not found for request: Latest(broken)"),
        (_spec(more="version { value: 2 }") + _ONE, "NOT_FOUND", "Servable not found for request: Specific(forms, 2)"),
        (_spec(more='version_label: "a"') + _ONE, "INVALID_ARGUMENT", "Unrecognized servable version label: a"),
        (_spec("nope") + _ONE, "INVALID_ARGUMENT", "No signature was found with the name: nope"),
        (_spec("two_inputs") + _ONE, "INVALID_ARGUMENT", "Expected one input Tensor."),
    ]
]

_EMPTY: list[Row] = [
    refused(method, _spec(signature) + examples, "INVALID_ARGUMENT", "Input is empty.")
    for method, signature in ((_CLASSIFY, "classify"), (_REGRESS, "regress"))
    for examples in ("", "input { }", "input { example_list { } }", _with_context(""), _with_context(_c(1)))
]

_SIGNATURES: list[Row] = [
    *[
        refused(_CLASSIFY, _spec(signature) + _ONE, "INVALID_ARGUMENT", message)
        for signature, message in [
            ("nothing", "Expected one input Tensor."),
            ("two", "Expected one input Tensor."),
            ("three_outputs", "Expected one or two output Tensors, found 3"),
            ("no_output", "Expected one or two output Tensors, found 0"),
            ("flat_scores", "Expected Tensor shape: [batch_size num_classes] but got [1]"),
            ("flat_classes", "Expected Tensor shape: [batch_size num_classes] but got [1]"),
            ("float_classes", "Expected classes Tensor of DT_STRING. Got: DT_FLOAT"),
            ("text_scores", "Expected scores Tensor of DT_FLOAT. Got: DT_STRING"),
            ("double_scores", "Expected scores Tensor of DT_FLOAT. Got: DT_DOUBLE"),
            ("more_scores", "Expected scores output batch size of 1. Got: 2"),
            ("more_classes", "Expected classes output batch size of 1. Got: 2"),
            ("wide_scores", "Tensors class and score should match in dim_size(1). Got 3 vs. 6"),
        ]
    ],
    *[
        Grpc(_CLASSIFY, _spec(signature) + _ONE, code="INVALID_ARGUMENT", matches=pattern)
        for signature, pattern in [
            ("other_input", '^No classification inputs found in SignatureDef: .*key: "x"'),
            ("", "^No classification inputs found in SignatureDef: "),
            ("other_output", "^Expected classification signature outputs to contain at least one of "
             '"classes" or "scores". Signature was: .*key: "y"'),
            ("other_outputs", "^Expected classification signature outputs to contain at least one of"),
        ]
    ],
    *[
        refused(_REGRESS, _spec(signature) + _ONE, "INVALID_ARGUMENT", message)
        for signature, message in [
            ("nothing", "Expected one input Tensor."),
            ("classify", "Expected one output Tensor."),
            ("no_output", "Expected one output Tensor."),
            ("regress_two", "Expected one output Tensor."),
            ("regress_wide", "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got [1,3]"),
            ("regress_scalar", "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got []"),
            ("regress_more", "Input batch size did not match output batch size: 1 vs. 2"),
            ("regress_double", "Expected output Tensor of DT_FLOAT.  Got: DT_DOUBLE"),
            ("regress_text", "Expected output Tensor of DT_FLOAT.  Got: DT_STRING"),
        ]
    ],
    *[
        Grpc(_REGRESS, _spec(signature) + _ONE, code="INVALID_ARGUMENT", matches=pattern)
        for signature, pattern in [
            ("regress_other_input", '^No regression inputs found in SignatureDef: .*key: "x"'),
            ("regress_other_output", '^No regression outputs found in SignatureDef: .*key: "y"'),
            ("", "^No regression inputs found in SignatureDef: "),
        ]
    ],
    # Features of the wrong type are the model's to refuse.
    Grpc(_REGRESS, _spec("regress") + _list(_feature("c", "int64_list { value: 7 }")), code="INVALID_ARGUMENT",
         matches="Key: c.*Data types don't match"),
]

# --- several at once -------------------------------------------------------------------------------------------------


def _task(signature: str = "", method: str = "tensorflow/serving/classify", name: str = "forms", more: str = "") -> str:
    return f'tasks {{ {_spec(signature, name, more)} method_name: "{method}" }} '


_REGRESS_METHOD = "tensorflow/serving/regress"
_CLASSIFIED_ONE = (
    "results { " + _echo("classify") + _classes((0, 0, 0.5)).replace("result {", "classification_result {", 1) + "} "
)
_REGRESSED_ONE = "results { " + _echo("regress") + "regression_result { regressions { value: 0.5 } } } "

_MULTIPLE: list[Row] = [
    Grpc(_MULTI, _task("classify") + _task("regress", _REGRESS_METHOD) + _ONE, _CLASSIFIED_ONE + _REGRESSED_ONE),
    Grpc(_MULTI, _task("regress", _REGRESS_METHOD) + _task("classify") + _ONE, _REGRESSED_ONE + _CLASSIFIED_ONE),
    Grpc(_MULTI, _task("classify") + _ONE, _CLASSIFIED_ONE),
    Grpc(_MULTI, _task("regress", _REGRESS_METHOD) + _with_context(_c(0.5), ""), _REGRESSED_ONE),
    # The first task says which version it is; what the others say of it is not looked at.
    Grpc(_MULTI, _task("classify") + _task("regress", _REGRESS_METHOD, more="version { value: 9 }") + _ONE,
         _CLASSIFIED_ONE + _REGRESSED_ONE),
    Grpc(_MULTI, _task("classify") + _task("regress", _REGRESS_METHOD, more='version_label: "a"') + _ONE,
         _CLASSIFIED_ONE + _REGRESSED_ONE),
    *[
        refused(_MULTI, request, code, message)
        for request, code, message in [
            ("", "INVALID_ARGUMENT", "ModelSpec has no name specified."),
            (_ONE, "INVALID_ARGUMENT", "ModelSpec has no name specified."),
            ("tasks { } " + _ONE, "INVALID_ARGUMENT", "ModelSpec has no name specified."),
            (_task(name="") + _ONE, "INVALID_ARGUMENT", "ModelSpec has no name specified."),
            (_task(name="nope") + _ONE, "NOT_FOUND", "Servable not found for request: Latest(nope)"),
            (_task("classify", more="version { value: 9 }") + _ONE, "NOT_FOUND",
             "Servable not found for request: Specific(forms, 9)"),
            (_task("classify", more='version_label: "a"') + _ONE, "INVALID_ARGUMENT",
             "Unrecognized servable version label: a"),
            (_task("classify") + _task("regress", _REGRESS_METHOD, name="") + _ONE, "INVALID_ARGUMENT",
             "Found ModelSpec with an empty model name."),
            (_task("classify") + _task("regress", _REGRESS_METHOD, name="half_plus_two") + _ONE, "INVALID_ARGUMENT",
             "All ModelSpecs in a MultiInferenceRequest must access the same model name."),
            (_task("classify") + _task("classify") + _ONE, "INVALID_ARGUMENT",
             "Duplicate evaluation of signature: classify"),
            (_task("nope") + _ONE, "INVALID_ARGUMENT", "Requested signature not found in model graph: nope"),
            (_task("classify", "tensorflow/serving/predict") + _ONE, "UNIMPLEMENTED",
             "Unsupported signature method_name: tensorflow/serving/predict"),
            (_task("classify", "") + _ONE, "UNIMPLEMENTED", "Unsupported signature method_name: "),
            (_task("classify"), "INVALID_ARGUMENT", "Input is empty."),
            (_task("classify") + _with_context(_c(1)), "INVALID_ARGUMENT", "Input is empty."),
            (_task("two_inputs") + _ONE, "INVALID_ARGUMENT", "Expected one input Tensor."),
            (_task("three_outputs") + _ONE, "INVALID_ARGUMENT", "Expected one or two output Tensors, found 3"),
            (_task("classify", _REGRESS_METHOD) + _ONE, "INVALID_ARGUMENT", "Expected one output Tensor."),
        ]
    ],
]

_WRONG_CLASSIFY = "Expected classification signature method_name to be tensorflow/serving/classify. Was: "
_WRONG_REGRESS = "Expected regression signature method_name to be tensorflow/serving/regress. Was: "
_CHECKED: list[Row] = [
    Grpc(_CLASSIFY, _spec("classify") + _ONE, _classes((0, 0, 0.5)) + _echo("classify")),
    Grpc(_REGRESS, _spec("regress") + _ONE, _regressions(0.5) + _echo("regress")),
    *[
        refused(method, _spec(signature) + _ONE, "INVALID_ARGUMENT", message)
        for method, signature, message in [
            (_CLASSIFY, "classify_by_predict", _WRONG_CLASSIFY + "tensorflow/serving/predict"),
            (_CLASSIFY, "regress", _WRONG_CLASSIFY + "tensorflow/serving/regress"),
            (_CLASSIFY, "no_method", _WRONG_CLASSIFY),
            (_REGRESS, "regress_by_predict", _WRONG_REGRESS + "tensorflow/serving/predict"),
            (_REGRESS, "classify", _WRONG_REGRESS + "tensorflow/serving/classify"),
            (_REGRESS, "strange_method", _WRONG_REGRESS + "strange/method"),
        ]
    ],
]

ROWS: list[Row] = [
    *_CLASSIFIED, *_REGRESSED, *_LOOKUPS, *_EMPTY, *_SIGNATURES, *_MULTIPLE, *under(Setting.CHECKED, _CHECKED)
]
