"""Classify and regress over REST (http_rest_api_handler.cc, json_tensor.cc)."""

from __future__ import annotations

from tests.conformance.rows import Answer, Rest, Row, bad, differing, error, predict, text, value


def _classify(body: str | bytes, answer: Answer, signature: str = "classify") -> Rest:
    return predict(body, answer, signature=signature, verb="classify")


def _regress(body: str | bytes, answer: Answer, signature: str = "regress") -> Rest:
    return predict(body, answer, signature=signature, verb="regress")


def _classes(*rows: tuple[str, str, str]) -> Answer:
    lists = [f'[["red", {a}], ["green", {b}], ["blue", {c}]]' for a, b, c in rows]
    return value(f'{{"results": [{", ".join(lists)}]}}')


_ANSWERED: list[Row] = [
    _classify('{"examples": [{"x": [1.0, 2.0], "c": 3.0}]}', _classes(("1.0", "2.0", "3.0"))),
    _classify('{"examples": [{"x": [1.0, 2.0]}, {"c": [0.5]}]}',
              _classes(("1.0", "2.0", "0.0"), ("0.0", "0.0", "0.5"))),
    _classify('{"examples": [{}]}', _classes(("0.0", "0.0", "0.0"))),
    _classify('{"examples": [{"x": [0.1, 0.2]}]}', _classes(("0.1", "0.2", "0.0"))),
    _classify('{"examples": [{"x": [0.3333333333333333, 1e6]}]}', _classes(("0.333333343", "1e+06", "0.0"))),
    _classify('{"examples": [{"x": [NaN, Infinity]}]}', _classes(("NaN", "Infinity", "0.0"))),
    _classify('{"examples": [{"unknown": ["a", "b"], "c": 1.5}]}', _classes(("0.0", "0.0", "1.5"))),
    _classify('{"examples": [{}], "other": 1}', _classes(("0.0", "0.0", "0.0"))),
    _classify('{"examples": [{"c": 1.5}]} trailing', _classes(("0.0", "0.0", "1.5"))),
    # A signature is taken for what its tensors are, whatever method it names.
    _classify('{"examples": [{"c": 1.5}]}', _classes(("0.0", "0.0", "1.5")), "classify_by_predict"),
    _classify('{"examples": [{"c": 1.5}]}', value('{"results": [[["", 0.0], ["", 0.0], ["", 1.5]]]}'), "scores_only"),
    _classify('{"examples": [{}]}', value('{"results": [[["red", 0.0], ["green", 0.0], ["blue", 0.0]]]}'),
              "classes_only"),
    _classify('{"examples": [{"t": "möve"}]}', value('{"results": [[["möve", 0.0]]]}'), "text"),
    _classify('{"examples": [{"t": {"b64": "YQ=="}}, {"t": ["b"]}, {}]}',
              value('{"results": [[["a", 0.0]], [["b", 0.0]], [["", 0.0]]]}'), "text"),
    _regress('{"examples": [{"x": [1.0, 2.0]}, {"c": 0.5}]}', value('{"results": [3.0, 0.5]}')),
    _regress('{"examples": [{"x": [1.0, 2.0]}]}', value('{"results": [3.0]}'), "regress_flat"),
    _regress('{"examples": [{"x": [1.0, 2.0]}]}', value('{"results": [3.0]}'), "regress_by_predict"),
    _regress('{"examples": [{"x": [0.1, 0.0]}]}', value('{"results": [0.1]}')),
    _regress('{"examples": [{"x": [1.0, 2.0]}]}', value('{"results": [3.0]}'), "strange_method"),
    # What a feature is, its first element says.
    _regress('{"examples": [{"n": 5}, {"n": [6]}, {"n": true}, {"n": [false]}, {"n": -7}]}',
             value('{"results": [5.0, 6.0, 1.0, 0.0, -7.0]}'), "number"),
    _regress('{"examples": [{"x": [1e0, 20E-1], "n": [1, true]}]}',
             Answer(400, matches=r"Key: n.*[Nn]umber of int64 values"), "number"),
    _regress('{"examples": [{"c": 18446744073709551616}]}', value('{"results": [1.84467441e+19]}')),
    _regress('{"examples": [{"n": []}]}', value('{"results": [0.0]}'), "number"),
    differing(
        "same-names",
        _regress('{"examples": [{"c": 1.0, "c": 2.0}]}', Answer(400, matches="Key: c.*[Nn]umber of float values")),
        value('{"results": [1.0]}'),
    ),
    # The context's features are every example's, unless it has its own.
    _regress('{"context": {"c": 10.0}, "examples": [{"x": [1.0, 2.0]}, {"c": 1.0}, {}]}',
             value('{"results": [13.0, 1.0, 10.0]}')),
    _regress('{"context": {}, "examples": [{"c": 1.0}]}', value('{"results": [1.0]}')),
    _regress('{"examples": [{}], "context": {"x": [1.0, 1.0], "c": 2.0}}', value('{"results": [4.0]}')),
    _classify('{"context": {"c": 10.0}, "examples": [{"x": [1.0, 2.0]}]}', _classes(("1.0", "2.0", "10.0"))),
    # Layout: what belongs to one example is on one line.
    _regress('{"examples": [{"c": 1.5}, {"c": 2.5}]}', text('{\n    "results": [1.5, 2.5\n    ]\n}')),
]

# The same sentence, whichever of the two is asked.
_NO_EXAMPLES = (
    "JSON Value: {{\n    \"signature_name\": \"{0}\",\n    \"a\": 1\n}} When method is classify, key 'examples' is "
    "expected and was not found"
)

_REFUSED: list[Row] = [
    _classify("", bad("JSON Parse error: The document is empty"), ""),
    _classify("{", bad("JSON Parse error: Missing a name for object member. at offset: 1"), ""),
    _classify("[1]", bad("JSON Value: [1] Is not object"), ""),
    _regress("7", bad("JSON Value: 7 Is not object"), ""),
    _classify('{"signature_name": 5, "examples": [{}]}',
              bad("JSON Value: 5 not formatted correctly. 'signature_name' key must be a string value."), ""),
    _classify('{"a": 1}', bad(_NO_EXAMPLES.format("classify"))),
    _regress('{"a": 1}', bad(_NO_EXAMPLES.format("regress"))),
    _regress("{}", bad("JSON Value: {} When method is classify, key 'examples' is expected and was not found"), ""),
    _classify('{"examples": {}}', bad("JSON Value: {} Expecting 'examples' value to be an list/array")),
    _regress('{"examples": 1}', bad("JSON Value: 1 Expecting 'examples' value to be an list/array")),
    _regress('{"examples": []}', bad("JSON Value: [] 'examples' value is an empty array")),
    *[
        _regress(f'{{"examples": [{{}}, {sent}]}}', bad(f"Example must be JSON object but got JSON {kind}"))
        for sent, kind in [
            ("1", "Number"), ('"a"', "String"), ("null", "Null"), ("true", "True"), ("false", "False"), ("[]", "Array")
        ]
    ],
    _regress('{"context": 1, "examples": [{}]}', bad("Example must be JSON object but got JSON Number")),
    *[
        _regress(f'{{"examples": [{{"f": {sent}}}]}}', bad(message))
        for sent, message in [
            ("null", "Feature: f has element with unexpected JSON type: Null"),
            ("[null]", "Feature: f has element with unexpected JSON type: Null"),
            ("{}", "Feature: f has element with unexpected JSON type: Object"),
            ('{"b65": "a"}', "Feature: f has element with unexpected JSON type: Object"),
            ("[[1]]", "Feature: f has element with unexpected JSON type: Array"),
            ("[{}]", "Feature: f has element with unexpected JSON type: Object"),
            ("[1, 2.0]", "Unexpected element type in feature: f expecting type: int64"),
            ('[1, "a"]', "Unexpected element type in feature: f expecting type: int64"),
            ("[1.0, 2]", "Unexpected element type in feature: f expecting type: float"),
            ("[1.0, true]", "Unexpected element type in feature: f expecting type: float"),
            ('["a", 1]', "Unexpected element type in feature: f expecting type: bytes"),
            ('["a", 1.0]', "Unexpected element type in feature: f expecting type: bytes"),
            ("18446744073709551615", "Feature: f has uint64_t element. Only int64_t is supported."),
            ("[1, 9223372036854775808]", "Feature: f has uint64_t element. Only int64_t is supported."),
        ]
    ],
    _regress('{"context": {"f": null}, "examples": [{}]}',
             bad("Feature: f has element with unexpected JSON type: Null")),
    # The model's own parsing: an integer is not a float.
    _regress('{"examples": [{"c": 2}]}', Answer(400, matches="Key: c.*Data types don't match.*")),
    _regress('{"examples": [{"x": [1.0]}]}', Answer(400, matches="Key: x.*[Nn]umber of float values")),
    # The whole body is looked at before the servable is.
    Rest("POST", "/v1/models/nope:classify", Answer(400, matches="Example must be"), b'{"examples": [1]}'),
    Rest("POST", "/v1/models/nope:classify", error(404, "Servable not found for request: Latest(nope)"),
         b'{"examples": [{}]}'),
    Rest("POST", "/v1/models/half_plus_two/labels/nobodys:regress", bad("Unrecognized servable version label: nobodys"),
         b'{"examples": [{}]}'),
    Rest("POST", "/v1/models/forms/versions/3:regress",
         error(404, "Servable not found for request: Specific(forms, 3)"), b'{"examples": [{}]}'),
    # Signatures that are not made for it.
    *[
        _classify('{"examples": [{}]}', bad(message), signature)
        for signature, message in [
            ("nope", "No signature was found with the name: nope"),
            ("two_inputs", "Expected one input Tensor."),
            ("three_outputs", "Expected one or two output Tensors, found 3"),
            ("flat_scores", "Expected Tensor shape: [batch_size num_classes] but got [1]"),
            ("text_scores", "Expected scores Tensor of DT_FLOAT. Got: DT_STRING"),
            ("float_classes", "Expected classes Tensor of DT_STRING. Got: DT_FLOAT"),
        ]
    ],
    *[
        _regress('{"examples": [{}]}', bad(message), signature)
        for signature, message in [
            ("nope", "No signature was found with the name: nope"),
            ("classify", "Expected one output Tensor."),
            ("regress_wide", "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got [1,3]"),
            ("regress_double", "Expected output Tensor of DT_FLOAT.  Got: DT_DOUBLE"),
        ]
    ],
    _regress('{"examples": [{}]}', Answer(400, matches="No regression inputs found in SignatureDef: "), ""),
]

ROWS: list[Row] = [*_ANSWERED, *_REFUSED]
