"""Predict over gRPC: model specs, inputs, tensors, filters, defaults, and the echo (predict_util.cc, tensor.cc)."""

from __future__ import annotations

from tests.conformance.rows import Grpc, Row, Setting, differing_grpc, refused, under

_PREDICT = "PredictionService/Predict"


def _spec(name: str = "forms", signature: str = "", more: str = "") -> str:
    return f'model_spec {{ name: "{name}" signature_name: "{signature}" {more} }} '


def _input(alias: str, tensor: str) -> str:
    return f'inputs {{ key: "{alias}" value {{ {tensor} }} }} '


def _shape(*sizes: int) -> str:
    return "tensor_shape { " + " ".join(f"dim {{ size: {size} }}" for size in sizes) + " } "


def _output(alias: str, tensor: str) -> str:
    return f'outputs {{ key: "{alias}" value {{ {tensor} }} }} '


def _echo(signature: str = "serving_default", name: str = "forms", version: int = 1) -> str:
    return f'model_spec {{ name: "{name}" version {{ value: {version} }} signature_name: "{signature}" }}'


_X = _input("x", f"dtype: DT_FLOAT {_shape(3)} float_val: [1, 2, 5]")
_Y = f"dtype: DT_FLOAT {_shape(3)} "


def _half(more: str, version: int) -> Grpc:
    """half_plus_two, whose version 1 adds two and version 2 three."""
    right = " ".join(f"float_val: {value / 2 + 1 + version}" for value in (1, 2, 5))
    return Grpc(
        _PREDICT, _spec("half_plus_two", more=more) + _X,
        _output("y", _Y + right) + _echo("serving_default", "half_plus_two", version),
    )


# --- which version ---------------------------------------------------------------------------------------------------

_NO_MODEL = "Servable not found for request: "

_SPECS: list[Row] = [
    _half("", 2),
    _half("version { value: 1 }", 1),
    _half("version { value: 2 }", 2),
    _half('version_label: "stable"', 1),
    _half('version_label: "canary"', 2),
    *[
        refused(_PREDICT, request, code, message)
        for request, code, message in [
            (_X, "INVALID_ARGUMENT", "Missing ModelSpec"),
            ("", "INVALID_ARGUMENT", "Missing ModelSpec"),
            ("model_spec { } " + _X, "INVALID_ARGUMENT", "ModelSpec has no name specified."),
            ("model_spec { version { value: 1 } } ", "INVALID_ARGUMENT", "ModelSpec has no name specified."),
            ('model_spec { version_label: "a" } ', "INVALID_ARGUMENT", "ModelSpec has no name specified."),
            (_spec("nope") + _X, "NOT_FOUND", _NO_MODEL + "Latest(nope)"),
            (_spec("Half_plus_two"), "NOT_FOUND", _NO_MODEL + "Latest(Half_plus_two)"),
            (_spec("broken"), "NOT_FOUND", _NO_MODEL + "Latest(broken)"),
            (_spec("nope", more="version { value: 1 }"), "NOT_FOUND", _NO_MODEL + "Specific(nope, 1)"),
            (_spec("broken", more="version { value: 1 }"), "NOT_FOUND", _NO_MODEL + "Specific(broken, 1)"),
            (_spec("half_plus_two", more="version { value: 3 }"), "NOT_FOUND",
             _NO_MODEL + "Specific(half_plus_two, 3)"),
            # A version that is there is meant, even 0 and less.
            (_spec("half_plus_two", more="version { }"), "NOT_FOUND", _NO_MODEL + "Specific(half_plus_two, 0)"),
            (_spec("half_plus_two", more="version { value: -1 }"), "NOT_FOUND",
             _NO_MODEL + "Specific(half_plus_two, -1)"),
            (_spec("half_plus_two", more='version_label: "nope"'), "INVALID_ARGUMENT",
             "Unrecognized servable version label: nope"),
            (_spec("half_plus_two", more='version_label: ""'), "INVALID_ARGUMENT",
             "Unrecognized servable version label: "),
            (_spec("half_plus_two", more='version_label: "1"'), "INVALID_ARGUMENT",
             "Unrecognized servable version label: 1"),
            (_spec("nope", more='version_label: "stable"'), "INVALID_ARGUMENT",
             "Unrecognized servable version label: stable"),
            (_spec("forms", more='version_label: "stable"'), "INVALID_ARGUMENT",
             "Unrecognized servable version label: stable"),
            (_spec("half_plus_two", more='version_label: "lost"'), "NOT_FOUND",
             _NO_MODEL + "Specific(half_plus_two, 9)"),
            # The servable is looked up before the signature and the inputs are.
            (_spec("nope", "nope"), "NOT_FOUND", _NO_MODEL + "Latest(nope)"),
            # Long messages are cut.
            (_spec("n" * 2000), "NOT_FOUND", f"{_NO_MODEL}Latest({'n' * 2000})"[:1024] + "...TRUNCATED"),
        ]
    ],
]

# --- signatures and inputs -------------------------------------------------------------------------------------------

_ONE = f"dtype: DT_FLOAT {_shape(1)} float_val: 1"
_TEXT = f'dtype: DT_STRING {_shape(1)} string_val: "p"'


def _size(got: int, wanted: int, sent: str, signature: str, extra: str, missing: str) -> str:
    return (
        f"input size does not match signature: {got}!={wanted} len({{{sent}}}) != len({{{signature}}}). "
        f"Sent extra: {{{extra}}}. Missing but required: {{{missing}}}."
    )


_INPUTS: list[Row] = [
    Grpc(_PREDICT, _spec(signature="serving_default") + _X,
         _output("y", _Y + "float_val: [2.5, 3, 4.5]") + _echo()),
    Grpc(_PREDICT, _spec() + _X, _output("y", _Y + "float_val: [2.5, 3, 4.5]") + _echo()),
    Grpc(
        _PREDICT, _spec(signature="two") + _input("a", _ONE) + _input("b", _TEXT),
        _output("a", _ONE) + _output("b", _TEXT) + _echo("two"),
    ),
    Grpc(_PREDICT, _spec(signature="nothing"),
         _output("y", f"dtype: DT_FLOAT {_shape(2)} float_val: [1.5, 2.5]") + _echo("nothing")),
    # Fields that this server does not need are no mistake.
    Grpc(
        _PREDICT,
        _spec() + _X + 'client_id: "c" predict_streamed_options { request_state: SPLIT } request_options { }',
        _output("y", _Y + "float_val: [2.5, 3, 4.5]") + _echo(),
    ),
    *[
        refused(_PREDICT, request, "INVALID_ARGUMENT", message)
        for request, message in [
            (_spec(), _size(0, 1, "", "x", "", "x")),
            (_spec() + _X + _input("z", _ONE), _size(2, 1, "x,z", "x", "z", "")),
            (_spec() + _input("w", _ONE) + _input("z", _ONE), _size(2, 1, "w,z", "x", "w,z", "x")),
            (_spec(signature="two") + _input("a", _ONE), _size(1, 2, "a", "a,b", "", "b")),
            (_spec(signature="two") + _input("z", _ONE), _size(1, 2, "z", "a,b", "z", "a,b")),
            (_spec(signature="nothing") + _X, _size(1, 0, "x", "", "x", "")),
            (
                _spec() + _input("z", _ONE),
                "Signature input alias: x(feed name: x:0) not found in request and no default value provided. "
                "Inputs expected to be in the request {x}, or default input alias set: {}",
            ),
            (
                _spec() + _input("X", _ONE),
                "Signature input alias: x(feed name: x:0) not found in request and no default value provided. "
                "Inputs expected to be in the request {x}, or default input alias set: {}",
            ),
        ]
    ],
    refused(_PREDICT, _spec(signature="nope") + _X, "FAILED_PRECONDITION", 'Serving signature key "nope" not found.'),
    refused(_PREDICT, _spec("broken", "nope"), "NOT_FOUND", _NO_MODEL + "Latest(broken)"),
    # The signature is looked for before the inputs are.
    refused(_PREDICT, _spec(signature="nope"), "FAILED_PRECONDITION", 'Serving signature key "nope" not found.'),
]

_BIAS = _input("bias", "dtype: DT_FLOAT float_val: 0.5")
_DEFAULTS: list[Row] = [
    Grpc(_PREDICT, _spec(signature="defaults") + _X,
         _output("y", _Y + "float_val: [0, 1, 4]") + _echo("defaults")),
    Grpc(_PREDICT, _spec(signature="defaults") + _X + _BIAS,
         _output("y", _Y + "float_val: [1.5, 2.5, 5.5]") + _echo("defaults")),
    Grpc(_PREDICT, _spec(signature="defaults") + _BIAS, code="INVALID_ARGUMENT",
         matches=r"Signature input alias: x\(feed name: x:0\) not found in request and no default value provided"),
    Grpc(_PREDICT, _spec(signature="defaults"), code="INVALID_ARGUMENT", matches="Signature input alias: x"),
    refused(_PREDICT, _spec(signature="defaults") + _X + _BIAS + _input("z", _ONE), "INVALID_ARGUMENT",
            _size(3, 2, "bias,x,z", "bias,x", "z", "")),
    Grpc(_PREDICT, _spec(signature="defaults") + _X + _input("z", _ONE), code="INVALID_ARGUMENT",
         matches="Inputs contains invalid name"),
]

# --- output filters --------------------------------------------------------------------------------------------------

_A = _input("a", _ONE)
_TWICE = f"dtype: DT_FLOAT {_shape(1)} float_val: 2"


def _filter(*aliases: str) -> str:
    return _spec(signature="one_to_two") + _A + "".join(f'output_filter: "{alias}" ' for alias in aliases)


_NO_OUTPUT = "output tensor alias not found in signature: {} Outputs expected to be in the set {{a,twice}}."

_FILTERS: list[Row] = [
    Grpc(_PREDICT, _filter(), _output("a", _ONE) + _output("twice", _TWICE) + _echo("one_to_two")),
    Grpc(_PREDICT, _filter("a"), _output("a", _ONE) + _echo("one_to_two")),
    Grpc(_PREDICT, _filter("twice"), _output("twice", _TWICE) + _echo("one_to_two")),
    Grpc(_PREDICT, _filter("twice", "a"), _output("a", _ONE) + _output("twice", _TWICE) + _echo("one_to_two")),
    *[
        refused(_PREDICT, request, "INVALID_ARGUMENT", message)
        for request, message in [
            (_filter("z"), _NO_OUTPUT.format("z")),
            (_filter("a", "z"), _NO_OUTPUT.format("z")),
            (_filter(""), _NO_OUTPUT.format("")),
            (_filter("A"), _NO_OUTPUT.format("A")),
            (_filter("a", "a"), "duplicate output tensor alias: a"),
            (_filter("a", "twice", "a"), "duplicate output tensor alias: a"),
            # Inputs are looked at before outputs are.
            (_spec(signature="one_to_two") + 'output_filter: "z"', _size(0, 1, "", "a", "", "a")),
        ]
    ],
]

# --- tensors ---------------------------------------------------------------------------------------------------------


def _identity(signature: str, sent: str, got: str) -> Grpc:
    return Grpc(_PREDICT, _spec(signature=signature) + _input("x", sent), _output("y", got) + _echo(signature))


_TYPES: list[Row] = [
    _identity(signature, tensor, tensor)
    for signature, dtype, one, two in [
        ("float32", "DT_FLOAT", "float_val: [1.5, -inf]", "float_val: 0.1"),
        ("float64", "DT_DOUBLE", "double_val: [1.5, inf]", "double_val: 0.1"),
        ("int32", "DT_INT32", "int_val: [1, -2147483648]", "int_val: 2147483647"),
        ("uint8", "DT_UINT8", "int_val: [0, 255]", "int_val: 7"),
        ("int16", "DT_INT16", "int_val: [-32768, 32767]", "int_val: 7"),
        ("int8", "DT_INT8", "int_val: [-128, 127]", "int_val: 7"),
        ("uint16", "DT_UINT16", "int_val: [0, 65535]", "int_val: 7"),
        ("string", "DT_STRING", 'string_val: ["a", "\\377\\000"]', 'string_val: ""'),
        ("int64", "DT_INT64", "int64_val: [-9223372036854775808, 9223372036854775807]", "int64_val: 7"),
        ("bool", "DT_BOOL", "bool_val: [true, false]", "bool_val: true"),
        ("uint32", "DT_UINT32", "uint32_val: [0, 4294967295]", "uint32_val: 7"),
        ("uint64", "DT_UINT64", "uint64_val: [0, 18446744073709551615]", "uint64_val: 7"),
        ("float16", "DT_HALF", "half_val: [15360, 64512]", "half_val: 0"),
        ("bfloat16", "DT_BFLOAT16", "half_val: [16256, 65408]", "half_val: 0"),
        ("complex64", "DT_COMPLEX64", "scomplex_val: [1, 2, 3, -4]", "scomplex_val: [1, 2]"),
        ("complex128", "DT_COMPLEX128", "dcomplex_val: [1, 2, 3, -4]", "dcomplex_val: [1, 2]"),
    ]
    for tensor in [
        f"dtype: {dtype} {_shape(2)} {one}",
        f"dtype: {dtype} {_shape(2, 1)} {one}",
        f"dtype: {dtype} {_shape(1, 1, 1)} {two}",
        f"dtype: {dtype} {_shape()} {two}",
        f"dtype: {dtype} {_shape(0)}",
        f"dtype: {dtype} {_shape(2, 0, 3)}",
    ]
]

_F = "dtype: DT_FLOAT "

_DECODED: list[Row] = [
    _identity(signature, sent, got)
    for signature, sent, got in [
        # A short list repeats its last value, none at all means zeros, and a long one is cut.
        ("float32", f"{_F} {_shape(3)} float_val: 7", f"{_F} {_shape(3)} float_val: [7, 7, 7]"),
        ("float32", f"{_F} {_shape(2, 2)} float_val: [1, 2]", f"{_F} {_shape(2, 2)} float_val: [1, 2, 2, 2]"),
        ("float32", f"{_F} {_shape(2)}", f"{_F} {_shape(2)} float_val: [0, 0]"),
        ("float32", f"{_F} {_shape(2)} float_val: [1, 2, 3]", f"{_F} {_shape(2)} float_val: [1, 2]"),
        ("int64", f"dtype: DT_INT64 {_shape(2)} int64_val: 5", f"dtype: DT_INT64 {_shape(2)} int64_val: [5, 5]"),
        ("bool", f"dtype: DT_BOOL {_shape(2)}", f"dtype: DT_BOOL {_shape(2)} bool_val: [false, false]"),
        ("string", f"dtype: DT_STRING {_shape(2)}", f'dtype: DT_STRING {_shape(2)} string_val: ["", ""]'),
        ("string", f'dtype: DT_STRING {_shape(3)} string_val: ["a", "b"]',
         f'dtype: DT_STRING {_shape(3)} string_val: ["a", "b", "b"]'),
        ("complex64", f"dtype: DT_COMPLEX64 {_shape(2)} scomplex_val: [1, 2]",
         f"dtype: DT_COMPLEX64 {_shape(2)} scomplex_val: [1, 2, 1, 2]"),
        ("float16", f"dtype: DT_HALF {_shape(2)} half_val: 15360",
         f"dtype: DT_HALF {_shape(2)} half_val: [15360, 15360]"),
        # Without a shape it is a scalar.
        ("float32", f"{_F} float_val: 7", f"{_F} {_shape()} float_val: 7"),
        ("float32", f"{_F}", f"{_F} {_shape()} float_val: 0"),
        ("string", 'dtype: DT_STRING string_val: "a"', f'dtype: DT_STRING {_shape()} string_val: "a"'),
        # Raw bytes instead of a list; the version number and the dimensions' names are not looked at.
        ("float32", f'{_F} {_shape(2)} tensor_content: "\\000\\000\\200?\\000\\000\\000@"',
         f"{_F} {_shape(2)} float_val: [1, 2]"),
        ("float32", f'{_F} {_shape(1)} tensor_content: "\\000\\000\\200?" float_val: 9',
         f"{_F} {_shape(1)} float_val: 1"),
        ("int64", f'dtype: DT_INT64 {_shape(1)} tensor_content: "\\001\\000\\000\\000\\000\\000\\000\\200"',
         f"dtype: DT_INT64 {_shape(1)} int64_val: -9223372036854775807"),
        ("bool", f'dtype: DT_BOOL {_shape(2)} tensor_content: "\\001\\000"',
         f"dtype: DT_BOOL {_shape(2)} bool_val: [true, false]"),
        ("string", f'dtype: DT_STRING {_shape(2)} tensor_content: "\\001\\002abc"',
         f'dtype: DT_STRING {_shape(2)} string_val: ["a", "bc"]'),
        ("uint8", f'dtype: DT_UINT8 {_shape(2)} tensor_content: "\\377\\000"',
         f"dtype: DT_UINT8 {_shape(2)} int_val: [255, 0]"),
        ("float32", f"{_F} {_shape(0)} float_val: 7", f"{_F} {_shape(0)}"),
        ("float32", f'{_F} version_number: 7 tensor_shape {{ dim {{ size: 1 name: "n" }} }} float_val: 7',
         f"{_F} {_shape(1)} float_val: 7"),
        # Values in the list of another type do not count.
        ("float32", f"{_F} {_shape(1)} double_val: 7", f"{_F} {_shape(1)} float_val: 0"),
    ]
]

_UNDECODED: list[Row] = [
    Grpc(
        _PREDICT, _spec(signature="float32") + _input("x", tensor), code="INVALID_ARGUMENT",
        matches="^tensor parsing error: x",
    )
    for tensor in [
        "",
        f"{_shape(1)} float_val: 1",
        f'{_F} {_shape(2)} tensor_content: "\\000\\000\\200?"',
        f'{_F} {_shape(1)} tensor_content: "abc"',
        f'{_F} {_shape(1)} tensor_content: "abcde"',
        f"{_F} {_shape(-1)} float_val: 1",
        f"{_F} {_shape(2, -1)} float_val: 1",
        f"{_F} tensor_shape {{ unknown_rank: true }} float_val: 1",
        f"{_F} {_shape(1 << 40, 1 << 40)} float_val: 1",
        f"dtype: DT_RESOURCE {_shape(1)}",
        f"dtype: DT_FLOAT_REF {_shape(1)} float_val: 1",
        f'dtype: DT_STRING {_shape(2)} tensor_content: "\\001\\002ab"',
        f'dtype: DT_STRING {_shape(2)} tensor_content: "\\001\\002abcd"',
    ]
]

_MODEL_SAYS: list[Row] = [
    # Nothing is cast to the signature's type; the model refuses what it cannot take.
    Grpc(_PREDICT, _spec() + _input("x", f'dtype: DT_STRING {_shape(1)} string_val: "a"'), code="INVALID_ARGUMENT",
         matches="expects to be float but string is provided|Expects arg.0. to be float but string|float.*string"),
    Grpc(_PREDICT, _spec() + _input("x", f"dtype: DT_INT32 {_shape(1)} int_val: 1"), code="INVALID_ARGUMENT",
         matches="float"),
    Grpc(_PREDICT, _spec() + _input("x", f"dtype: DT_DOUBLE {_shape(1)} double_val: 1"), code="INVALID_ARGUMENT",
         matches="float"),
    Grpc(_PREDICT, _spec(signature="matmul") + _input("x", f"{_F} {_shape(1, 3)}"), code="INVALID_ARGUMENT",
         matches=r"In\[0\]"),
    Grpc(_PREDICT, _spec(signature="regress") + _input("inputs", _TEXT), code="INVALID_ARGUMENT",
         matches="Could not parse example input"),
    # A signature of another method can be asked, too.
    Grpc(_PREDICT, _spec(signature="regress") + _input("inputs", f'dtype: DT_STRING {_shape(1)} string_val: ""'),
         _output("outputs", f"dtype: DT_FLOAT {_shape(1, 1)} float_val: 0") + _echo("regress")),
    Grpc(_PREDICT, _spec(signature="strange_method") + _input("inputs", f"dtype: DT_STRING {_shape(1)}"),
         _output("outputs", f"dtype: DT_FLOAT {_shape(1, 1)} float_val: 0") + _echo("strange_method")),
    Grpc(_PREDICT, _spec(signature="sum") + _input("a", f"{_F} {_shape(3)} float_val: 1"),
         _output("y", f"{_F} {_shape()} float_val: 3") + _echo("sum")),
]

_METHODS = "{tensorflow/serving/predict, tensorflow/serving/classify, tensorflow/serving/regress}"
_TEXTS = _input("inputs", f"dtype: DT_STRING {_shape(1)}")

_CHECKED: list[Row] = [
    Grpc(_PREDICT, _spec() + _X, _output("y", _Y + "float_val: [2.5, 3, 4.5]") + _echo()),
    Grpc(_PREDICT, _spec(signature="regress") + _TEXTS,
         _output("outputs", f"dtype: DT_FLOAT {_shape(1, 1)} float_val: 0") + _echo("regress")),
    Grpc(_PREDICT, _spec(signature="scores_only") + _TEXTS,
         _output("scores", f"dtype: DT_FLOAT {_shape(1, 3)} float_val: [0, 0, 0]") + _echo("scores_only")),
    refused(_PREDICT, _spec(signature="strange_method") + _TEXTS, "INTERNAL",
            f"Expected prediction signature method_name to be one of {_METHODS}. Was: strange/method"),
    refused(_PREDICT, _spec(signature="no_method"), "INTERNAL",
            f"Expected prediction signature method_name to be one of {_METHODS}. Was: "),
    refused(_PREDICT, _spec(signature="nope"), "FAILED_PRECONDITION", 'Serving signature key "nope" not found.'),
]

_CONTENT: list[Row] = [
    Grpc(_PREDICT, _spec() + _input("x", f"{_F} {_shape(2)} float_val: [0, -2]"),
         _output("y", f'{_F} {_shape(2)} tensor_content: "\\000\\000\\000@\\000\\000\\200?"') + _echo()),
    Grpc(_PREDICT, _spec(signature="string") + _input("x", f'dtype: DT_STRING {_shape(2)} string_val: ["a", "bc"]'),
         _output("y", f'dtype: DT_STRING {_shape(2)} tensor_content: "\\001\\002abc"') + _echo("string")),
    Grpc(_PREDICT, _spec(signature="bool") + _input("x", f"dtype: DT_BOOL {_shape(2)} bool_val: [true, false]"),
         _output("y", f'dtype: DT_BOOL {_shape(2)} tensor_content: "\\001\\000"') + _echo("bool")),
    Grpc(_PREDICT, _spec(signature="float32") + _input("x", f"{_F} {_shape(0)}"),
         _output("y", f"{_F} {_shape(0)}") + _echo("float32")),
]

_OURS: list[Row] = [
    differing_grpc(
        "filled",
        Grpc(_PREDICT, _spec(signature="sum") + _input("a", f"{_F} {_shape(1 << 27)} float_val: 1"),
             _output("y", f"{_F} {_shape()} float_val: 134217728") + _echo("sum")),
        code="INVALID_ARGUMENT", matches="^tensor parsing error: a: .*may be left to repetition",
    ),
    _identity("float32", f"{_F} {_shape(*[1] * 64)} float_val: 7", f"{_F} {_shape(*[1] * 64)} float_val: 7"),
    differing_grpc(
        "dimensions",
        _identity("float32", f"{_F} {_shape(*[1] * 70)} float_val: 7", f"{_F} {_shape(*[1] * 70)} float_val: 7"),
        code="INVALID_ARGUMENT", matches="^tensor parsing error: x: the shape has 70 dimensions",
    ),
]

ROWS: list[Row] = [
    *_SPECS, *_INPUTS, *_DEFAULTS, *_FILTERS, *_TYPES, *_DECODED, *_UNDECODED, *_MODEL_SAYS, *_OURS,
    *under(Setting.CHECKED, _CHECKED), *under(Setting.CONTENT, _CONTENT),
]
