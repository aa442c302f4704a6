"""Predict over REST: values by element type, shapes, the two formats, answers and their text (json_tensor.cc)."""

from __future__ import annotations

from collections.abc import Callable

from tests.conformance.rows import Answer, Rest, Row, bad, differing, error, predict, text, value

# --- values ----------------------------------------------------------------------------------------------------------

_SIGNATURES = {"float": "float32", "double": "float64"}
"""By type; the others bear its name."""

_VALUES: dict[str, list[tuple[str, str]]] = {
    "float": [
        ("1", "1.0"),
        ("-0", "0.0"),
        ("-0.0", "-0.0"),
        ("1e3", "1000.0"),
        ("0.1", "0.1"),
        ("0.3333333333333333", "0.333333343"),
        ("16777216", "16777216.0"),
        ("16777217", "16777216.0"),
        ("9000000", "9e+06"),
        ("123456789", "123456792.0"),
        ("3e-05", "3e-05"),
        ("0.0001", "0.0001"),
        ("0.00012345678", "0.000123456775"),
        ("100000", "100000.0"),
        ("1000000", "1e+06"),
        ("1234567", "1234567.0"),
        ("3.14159265", "3.14159274"),
        ("1e38", "1e+38"),
        ("3.4028235e38", "3.40282347e+38"),
        ("1e39", "Infinity"),
        ("-1e39", "-Infinity"),
        ("1e-46", "0.0"),
        ("-1e-46", "-0.0"),
        ("1e-45", "1.4013e-45"),
        ("18446744073709551615", "1.84467441e+19"),
        ("18446744073709551616", "1.84467441e+19"),
        ("-9223372036854775808", "-9.22337204e+18"),
        ("NaN", "NaN"),
    ],
    "double": [
        ("1", "1.0"),
        ("0.1", "0.1"),
        ("0.3333333333333333", "0.33333333333333331"),
        ("123456", "123456.0"),
        ("1234567", "1234567.0"),
        ("1e6", "1e+06"),
        ("9007199254740993", "9007199254740992.0"),
        ("1e308", "1e+308"),
        ("1.7976931348623157e308", "1.7976931348623157e+308"),
        ("5e-324", "4.94066e-324"),
        ("-Infinity", "-Infinity"),
        ("2.5e-7", "2.5e-07"),
        ("18446744073709551615", "1.8446744073709552e+19"),
    ],
    "int32": [("0", "0"), ("-0", "0"), ("2147483647", "2147483647"), ("-2147483648", "-2147483648")],
    "int16": [("32767", "32767"), ("-32768", "-32768"), ("32768", "-32768"), ("2147483647", "-1")],
    "int8": [("127", "127"), ("-128", "-128"), ("200", "-56")],
    "uint8": [("255", "255"), ("300", "44"), ("-1", "255")],
    "int64": [
        ("9223372036854775807", "9223372036854775807"),
        ("-9223372036854775808", "-9223372036854775808"),
        ("4294967296", "4294967296"),
    ],
    "uint32": [("4294967295", "4294967295"), ("0", "0"), ("-0", "0")],
    "uint64": [("18446744073709551615", "18446744073709551615"), ("0", "0")],
    "bool": [("true", "true"), ("false", "false")],
    "string": [
        ('""', '""'),
        ('"text"', '"text"'),
        ('"\\u0041\\n\\t\\"\\\\\\/"', '"A\\n\\t\\"\\\\/"'),
        ('"möve"', '"möve"'),
        ('"\\u00f6\\uD83D\\uDE00"', '"ö😀"'),
        ('{"b64": "aGVsbG8="}', '"hello"'),
        ('{"b64": "aGVsbG8"}', '"hello"'),
        ('{"b64": " aGVs\\nbG8= "}', '"hello"'),
        ('{"b64": ""}', '""'),
        ('{"b64": "w7Y="}', '"ö"'),
    ],
}

_REFUSED: dict[str, list[tuple[str, str, str]]] = {
    # What is sent, how the message quotes it, and what the message calls it.
    "float": [
        ('"1"', '"1"', "String"),
        ("true", "true", "True"),
        ("false", "false", "False"),
        ("null", "null", "Null"),
        ('{"b64": "YQ=="}', '{\n    "b64": "YQ=="\n}', "Object"),
        ('{"x": 1}', '{\n    "x": 1\n}', "Object"),
    ],
    "double": [('"NaN"', '"NaN"', "String"), ("null", "null", "Null")],
    "int32": [
        ("1.0", "1.0", "Number"),
        ("1e3", "1000.0", "Number"),
        ("2147483648", "2147483648", "Number"),
        ("-2147483649", "-2147483649", "Number"),
        ("NaN", "NaN", "Number"),
        ("true", "true", "True"),
        ('"1"', '"1"', "String"),
        ("null", "null", "Null"),
    ],
    "int16": [("2147483648", "2147483648", "Number"), ("0.5", "0.5", "Number")],
    "int8": [("4294967296", "4294967296", "Number"), ("false", "false", "False")],
    "uint8": [("-2147483649", "-2147483649", "Number"), ("1.0", "1.0", "Number")],
    "int64": [
        ("9223372036854775808", "9223372036854775808", "Number"),
        ("1.0", "1.0", "Number"),
        ("1e2", "100.0", "Number"),
        ('"1"', '"1"', "String"),
        ("-9223372036854775809", "-9223372036854776000.0", "Number"),
    ],
    "uint32": [
        ("-1", "-1", "Number"),
        ("4294967296", "4294967296", "Number"),
        ("1.0", "1.0", "Number"),
    ],
    "uint64": [
        ("-1", "-1", "Number"),
        ("18446744073709551616", "18446744073709552000.0", "Number"),
        ("null", "null", "Null"),
    ],
    "bool": [
        ("0", "0", "Number"),
        ("1", "1", "Number"),
        ('"true"', '"true"', "String"),
        ("null", "null", "Null"),
    ],
    "string": [
        ("1", "1", "Number"),
        ("true", "true", "True"),
        ("null", "null", "Null"),
    ],
}


def _of(dtype: str, body: str, answer: Answer) -> Row:
    return predict(body, answer, signature=_SIGNATURES.get(dtype, dtype))


def _value_rows() -> list[Row]:
    rows: list[Row] = []
    for dtype, cases in _VALUES.items():
        sent, got = (", ".join(column) for column in zip(*cases, strict=True))
        rows += [
            *[_of(dtype, f'{{"inputs": {one}}}', value(f'{{"outputs": {other}}}')) for one, other in cases],
            _of(dtype, f'{{"inputs": [{sent}]}}', value(f'{{"outputs": [{got}]}}')),
            _of(dtype, f'{{"instances": [{sent}]}}', value(f'{{"predictions": [{got}]}}')),
            _of(dtype, f'{{"instances": [[{sent}], [{sent}]]}}', value(f'{{"predictions": [[{got}], [{got}]]}}')),
            _of(dtype, f'{{"inputs": {{"x": [[{sent}]]}}}}', value(f'{{"outputs": [[{got}]]}}')),
        ]
    return rows


def _refused_rows() -> list[Row]:
    rows: list[Row] = []
    for dtype, cases in _REFUSED.items():
        good = _VALUES[dtype][0][0]
        for sent, quoted, kind in cases:
            message = f"JSON Value: {quoted} Type: {kind} is not of expected type: {dtype}"
            rows.append(_of(dtype, f'{{"inputs": [{good}, {sent}]}}', bad(message)))
            if kind != "Object":
                wrapped = f"Failed to process element: 1 of 'instances' list. Error: INVALID_ARGUMENT: {message}"
                rows.append(_of(dtype, f'{{"instances": [{good}, {sent}]}}', bad(wrapped)))
    return rows


_UNCONVERTED = {
    "uint16": "uint16",
    "float16": "half",
    "bfloat16": "bfloat16",
    "complex64": "complex64",
    "complex128": "complex128",
}

_UNCONVERTED_ROWS: list[Row] = [
    row
    for signature, dtype in _UNCONVERTED.items()
    for message in [f"Conversion of JSON Value: 1 to type: {dtype}"]
    for row in [
        predict('{"inputs": [1]}', error(501, message), signature=signature),
        predict('{"inputs": {"x": 1}}', error(501, message), signature=signature),
        predict(
            '{"instances": [1]}',
            bad(f"Failed to process element: 0 of 'instances' list. Error: UNIMPLEMENTED: {message}"),
            signature=signature,
        ),
        predict(
            '{"instances": [{"x": 1}]}',
            bad(f"Failed to process element: 0 key: x of 'instances' list. Error: UNIMPLEMENTED: {message}"),
            signature=signature,
        ),
    ]
]

_BASE64: list[Row] = [
    predict(f'{{"inputs": [{sent}]}}', answer, signature="string")
    for sent, answer in [
        ('{"b64": "!"}', bad("Unable to base64 decode")),
        ('{"b64": "a"}', bad("Unable to base64 decode")),
        ('{"b64": "a-_b"}', bad("Unable to base64 decode")),
        ('{"b64": "YQ=="}, {"b64": "YQ=a"}', bad("Unable to base64 decode")),
        ('{"b64": 1}', bad('JSON Value: {\n    "b64": 1\n} not formatted correctly for base64 data')),
        ('{"b64": null}', bad('JSON Value: {\n    "b64": null\n} not formatted correctly for base64 data')),
        ('{"b65": "YQ=="}', bad('JSON Value: {\n    "b65": "YQ=="\n} not formatted correctly for base64 data')),
        ('{"B64": "YQ=="}', bad('JSON Value: {\n    "B64": "YQ=="\n} not formatted correctly for base64 data')),
        ("{}", bad("JSON Value: {} not formatted correctly for base64 data")),
        (
            '{"b64": "YQ==", "c": 1}',
            bad('JSON Value: {\n    "b64": "YQ==",\n    "c": 1\n} not formatted correctly for base64 data'),
        ),
    ]
]
_BASE64 += [
    predict('{"inputs": {"b64": "YQ=="}}', value('{"outputs": "a"}'), signature="string"),
    predict('{"instances": [{"b64": "YQ=="}, "b"]}', value('{"predictions": ["a", "b"]}'), signature="string"),
    predict('{"instances": [["b", {"b64": "YQ=="}]]}', value('{"predictions": [["b", "a"]]}'), signature="string"),
    predict('{"instances": [{"x": {"b64": "YQ=="}}]}', value('{"predictions": ["a"]}'), signature="string"),
    predict(
        '{"instances": [{"b64": "!"}]}',
        bad("Failed to process element: 0 of 'instances' list. Error: INVALID_ARGUMENT: Unable to base64 decode"),
        signature="string",
    ),
    # An input that is called b64 can be named, unless its value is a string: that is a base64 object.
    predict('{"instances": [{"b64": ["text"]}]}', value('{"predictions": [["text"]]}'), signature="b64"),
    predict('{"instances": [{"b64": {"b64": "YQ=="}}]}', value('{"predictions": ["a"]}'), signature="b64"),
    predict('{"instances": [{"b64": "YQ=="}]}', value('{"predictions": ["a"]}'), signature="b64"),
    predict(
        '{"instances": [{"b64": "text!"}]}',
        bad("Failed to process element: 0 of 'instances' list. Error: INVALID_ARGUMENT: Unable to base64 decode"),
        signature="b64",
    ),
    predict('{"inputs": {"b64": ["text"]}}', value('{"outputs": ["text"]}'), signature="b64"),
]

# --- shapes ----------------------------------------------------------------------------------------------------------


def _element(index: int, message: str, key: str | None = None, code: str = "INVALID_ARGUMENT") -> Answer:
    where = f"Failed to process element: {index}" + (f" key: {key}" if key else "")
    return bad(f"{where} of 'instances' list. Error: {code}: {message}")


_FLOAT = "JSON Value: {} found at incorrect level: {} in the JSON DOM. Expected at level: {}"

_SHAPES: list[Row] = [
    predict(f'{{"inputs": {sent}}}', answer, signature="float32")
    for sent, answer in [
        ("1", text('{\n    "outputs": 1.0\n}')),
        ("[]", value('{"outputs": []}')),
        ("[[]]", value('{"outputs": [[]]}')),
        ("[[], []]", value('{"outputs": [[], []]}')),
        ("[[[1]]]", value('{"outputs": [[[1.0]]]}')),
        ("[[1, 2], [3, 4], [5, 6]]", value('{"outputs": [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]}')),
        ('{"x": [1]}', value('{"outputs": [1.0]}')),
        ('{"x": 1, "y": "ignored", "z": {}}', value('{"outputs": 1.0}')),
        ("[1, [2]]", bad("Encountered list at unexpected level: 1 expected < 1")),
        ("[[1], [[2]]]", bad("Encountered list at unexpected level: 2 expected < 2")),
        ("[[1, 2], [3]]", bad("Encountered list at unexpected size: 1 at level: 1 expected size: 2")),
        ("[[1], [2, 3]]", bad("Encountered list at unexpected size: 2 at level: 1 expected size: 1")),
        ("[[1], []]", bad("Encountered list at unexpected size: 0 at level: 1 expected size: 1")),
        ("[[], [1]]", bad("Encountered list at unexpected size: 1 at level: 1 expected size: 0")),
        ("[[1], 2]", bad(_FLOAT.format(2, 2, 2))),
        ("[[[1]], [2]]", bad(_FLOAT.format(2, 3, 3))),
        ('[[1], "a"]', bad(_FLOAT.format('"a"', 2, 2))),
        ("{}", bad("Missing named input: x in 'inputs' object.")),
        ('{"y": 1}', bad("Missing named input: x in 'inputs' object.")),
        ('{"X": 1}', bad("Missing named input: x in 'inputs' object.")),
        ("null", bad("JSON Value: null Type: Null is not of expected type: float")),
        ('"a"', bad('JSON Value: "a" Type: String is not of expected type: float')),
        ('{"b64": "YQ=="}', bad('JSON Value: {\n    "b64": "YQ=="\n} Type: Object is not of expected type: float')),
    ]
]

_ROWS_OF_ONE: list[Row] = [
    predict(f'{{"instances": {sent}}}', answer, signature="float32")
    for sent, answer in [
        ("[1, 2]", value('{"predictions": [1.0, 2.0]}')),
        ("[[1, 2]]", value('{"predictions": [[1.0, 2.0]]}')),
        ("[[], []]", value('{"predictions": [[], []]}')),
        ('[{"x": 1}, {"x": 2}]', value('{"predictions": [1.0, 2.0]}')),
        ('[{"x": [1, 2]}]', value('{"predictions": [[1.0, 2.0]]}')),
        ("1", bad("JSON Value: 1 Expecting 'instances' to be an list/array")),
        ("null", bad("JSON Value: null Expecting 'instances' to be an list/array")),
        ('"a"', bad("JSON Value: \"a\" Expecting 'instances' to be an list/array")),
        ('{"x": [1]}', bad("JSON Value: {\n    \"x\": [1]\n} Expecting 'instances' to be an list/array")),
        ("{}", bad("JSON Value: {} Expecting 'instances' to be an list/array")),
        ("[]", bad("JSON Value: [] No values in 'instances' array")),
        ("[[1, 2], [3]]", _element(1, "Expecting tensor size: 2 but got: 1")),
        ("[[1], [2], [3, 4]]", _element(2, "Expecting tensor size: 1 but got: 2")),
        ("[1, [2, 3]]", _element(1, "Expecting tensor size: 1 but got: 2")),
        ("[1, [2]]", _element(1, "Expecting shape [] but got: [1]")),
        ("[[1], 2]", _element(1, "Expecting shape [1] but got: []")),
        ("[[[1, 2]], [1, 2]]", _element(1, "Expecting shape [1,2] but got: [2]")),
        ("[[1, [2]]]", _element(0, "Encountered list at unexpected level: 1 expected < 1")),
        ("[[[1], [2, 3]]]", _element(0, "Encountered list at unexpected size: 2 at level: 1 expected size: 1")),
        ("[[[1], 2]]", _element(0, _FLOAT.format(2, 2, 2))),
        ('[1, {"x": 2}]', bad("Expecting value/list but got object at item 1 of input list")),
        ("[1, {}]", bad("Expecting value/list but got object at item 1 of input list")),
        ('[{"x": 1}, 2]', bad("Expecting object but got list at item 1 of input list")),
        ('[{"x": 1}, [2]]', bad("Expecting object but got list at item 1 of input list")),
        ('[{"x": 1}, {"b64": "YQ=="}]', bad("Expecting object but got list at item 1 of input list")),
        ('[{"y": 1}]', _element(0, "JSON object: does not have named input: y", "y")),
        ('[{"x": 1}, {"x": 1, "y": 1}]', _element(1, "JSON object: does not have named input: y", "y")),
        (
            "[{}]",
            bad("Failed to process element: 0 of 'instances' list. JSON object: {} keys must be equal to: x"),
        ),
        ('[{"x": "a"}]', _element(0, 'JSON Value: "a" Type: String is not of expected type: float', "x")),
        ('[{"x": [1]}, {"x": [1, 2]}]', _element(1, "Expecting tensor size: 1 but got: 2", "x")),
        ('[{"x": [1]}, {"x": 2}]', _element(1, "Expecting shape [1] but got: []", "x")),
        ('[{"b64": "YQ=="}]', _element(
            0, 'JSON Value: {\n    "b64": "YQ=="\n} Type: Object is not of expected type: float'
        )),
    ]
]

_PLAIN_LIST = (
    "instances is a plain list, but expecting list of objects as multiple input tensors required as per tensorinfo_map"
)
_PLAIN_VALUE = (
    "inputs is a plain value/list, but expecting an object as multiple input tensors required as per tensorinfo_map"
)

_NAMED: list[Row] = [
    predict(sent, answer, signature="two")
    for sent, answer in [
        ('{"instances": [{"a": 1, "b": "p"}]}', value('{"predictions": [{"a": 1.0, "b": "p"}]}')),
        (
            '{"instances": [{"a": 1, "b": "p"}, {"b": {"b64": "cQ=="}, "a": 2}]}',
            value('{"predictions": [{"a": 1.0, "b": "p"}, {"b": "q", "a": 2.0}]}'),
        ),
        (
            '{"instances": [{"a": [1, 2], "b": "p"}, {"b": "q", "a": [3, 4]}]}',
            value('{"predictions": [{"a": [1.0, 2.0], "b": "p"}, {"a": [3.0, 4.0], "b": "q"}]}'),
        ),
        ('{"inputs": {"a": [1, 2], "b": ["p", "q"]}}', value('{"outputs": {"a": [1.0, 2.0], "b": ["p", "q"]}}')),
        # In columns each tensor has a shape of its own.
        ('{"inputs": {"a": 1, "b": ["p", "q"]}}', value('{"outputs": {"a": 1.0, "b": ["p", "q"]}}')),
        ('{"inputs": {"a": [[1]], "b": "p", "c": 1}}', value('{"outputs": {"a": [[1.0]], "b": "p"}}')),
        ('{"inputs": {"b": {"b64": "cQ=="}, "a": []}}', value('{"outputs": {"a": [], "b": "q"}}')),
        ('{"instances": [1, 2]}', bad(_PLAIN_LIST)),
        ('{"instances": [[1], {"a": 1}]}', bad(_PLAIN_LIST)),
        ('{"instances": ["p"]}', bad(_PLAIN_LIST)),
        ('{"inputs": [1, 2]}', bad(_PLAIN_VALUE)),
        ('{"inputs": "p"}', bad(_PLAIN_VALUE)),
        ('{"inputs": null}', bad(_PLAIN_VALUE)),
        ('{"inputs": {"b64": "YQ=="}}', bad(_PLAIN_VALUE)),
        ('{"inputs": {"a": 1}}', bad("Missing named input: b in 'inputs' object.")),
        ('{"inputs": {"b": "p"}}', bad("Missing named input: a in 'inputs' object.")),
        ('{"inputs": {"a": "p", "b": "p"}}', bad('JSON Value: "p" Type: String is not of expected type: float')),
        (
            '{"instances": [{"a": 1}]}',
            bad("Failed to process element: 0 of 'instances' list. JSON object: {\n    \"a\": 1\n} "
                "keys must be equal to: a,b"),
        ),
        (
            '{"instances": [{"a": 1, "b": "p"}, {"b": "p"}]}',
            bad("Failed to process element: 1 of 'instances' list. JSON object: {\n    \"b\": \"p\"\n} "
                "keys must be equal to: a,b"),
        ),
        ('{"instances": [{"c": 1}]}', _element(0, "JSON object: does not have named input: c", "c")),
        ('{"instances": [{"a": 1, "b": "p"}, 5]}', bad("Expecting object but got list at item 1 of input list")),
        # A base64 object in front gets past the check; the number of inputs will not do.
        (
            '{"instances": [{"b64": "YQ=="}]}',
            Answer(400, matches="input size does not match signature: 1!=2|is not of expected type: float"),
        ),
    ]
]

# --- what is asked ---------------------------------------------------------------------------------------------------

_BOTH_KEYS = (
    "JSON Value: {\n    \"instances\": [1],\n    \"inputs\": [1]\n} Not formatted correctly expecting only one of "
    "'inputs' or 'instances' keys to exist "
)

_ASKED: list[Row] = [
    predict("{}", bad("Missing 'inputs' or 'instances' key")),
    predict('{"Instances": [1]}', bad("Missing 'inputs' or 'instances' key")),
    predict('{"signature_name": "serving_default"}', bad("Missing 'inputs' or 'instances' key")),
    predict('{"instances": [1], "inputs": [1]}', bad(_BOTH_KEYS)),
    predict('{"instances": null, "inputs": 1}', Answer(400, matches="expecting only one of")),
    predict('{"instances": [1]}', bad('Serving signature name: "nope" not found in signature def'), signature="nope"),
    predict('{"inputs": []}', bad('Serving signature name: "nope" not found in signature def'), signature="nope"),
    predict('{"a": 1}', bad('Serving signature name: "nope" not found in signature def'), signature="nope"),
    predict('{"instances": [1]}', bad("Failed to get input map for signature: nothing"), signature="nothing"),
    predict('{"a": 1}', bad("Failed to get input map for signature: nothing"), signature="nothing"),
    # Inputs with defaults have to be sent, too.
    predict(
        '{"inputs": {"x": [1]}}', bad("Missing named input: bias in 'inputs' object."), signature="defaults"
    ),
    predict('{"inputs": [1]}', bad(_PLAIN_VALUE), signature="defaults"),
    predict('{"inputs": {"x": [1], "bias": 2}}', value('{"outputs": [3.0]}'), signature="defaults"),
    # The model has its say about shapes.
    predict('{"instances": [[1, 2], [3, 4]]}', value('{"predictions": [[5.0], [11.0]]}'), signature="matmul"),
    predict('{"instances": [[1, 2, 3]]}', Answer(400, matches=r"In\[0\]"), signature="matmul"),
    predict('{"inputs": [[1, 2, 3]]}', Answer(400, matches=r"^{\n    \"error\": \".*In\[0\]"), signature="matmul"),
    # Classifying signatures can be asked like any other.
    predict(
        '{"instances": [{"b64": ""}]}',
        value('{"predictions": [{"classes": ["red", "green", "blue"], "scores": [0.0, 0.0, 0.0]}]}'),
        signature="classify",
    ),
    predict('{"inputs": ["not an example"]}', Answer(400, matches="Could not parse example input"),
            signature="regress"),
]

# --- answers ---------------------------------------------------------------------------------------------------------

_ANSWERS: list[Row] = [
    # One output is not named, several are.
    predict('{"instances": [{"a": 1, "b": "p"}]}', value('{"predictions": [1.0]}'), signature="two_to_one"),
    predict('{"inputs": {"a": [1], "b": "p"}}', value('{"outputs": [1.0]}'), signature="two_to_one"),
    predict('{"instances": [1, 2]}', value('{"predictions": [{"a": 1.0, "twice": 2.0}, {"a": 2.0, "twice": 4.0}]}'),
            signature="one_to_two"),
    predict('{"inputs": [1, 2]}', value('{"outputs": {"a": [1.0, 2.0], "twice": [2.0, 4.0]}}'),
            signature="one_to_two"),
    predict('{"inputs": 1}', value('{"outputs": {"a": 1.0, "twice": 2.0}}'), signature="one_to_two"),
    # Row answers need rows.
    predict('{"instances": [1, 2]}', bad("Tensor name: y has no shape information "), signature="sum"),
    predict('{"inputs": [1, 2]}', value('{"outputs": 3.0}'), signature="sum"),
    predict(
        '{"instances": [1, 2]}',
        Answer(
            400,
            matches='"Tensor name: (all has inconsistent batch size: 2 expecting: 1|'
            'rest has inconsistent batch size: 1 expecting: 2)"',
        ),
        signature="uneven",
    ),
    predict('{"inputs": [1, 2]}', value('{"outputs": {"all": [1.0, 2.0], "rest": [2.0]}}'), signature="uneven"),
    predict('{"instances": [1, 2]}', value('{"predictions": []}'), signature="no_rows"),
    predict('{"inputs": [1, 2]}', value('{"outputs": []}'), signature="no_rows"),
    # The number of rows is the output's affair.
    predict('{"instances": [7]}', value('{"predictions": [1.0, 2.0]}'), signature="two_rows"),
    # Strings under a name that ends with _bytes are written in base64.
    predict('{"instances": ["a", {"b64": "/w=="}, ""]}',
            value('{"predictions": [{"b64": "YQ=="}, {"b64": "/w=="}, {"b64": ""}]}'), signature="binary"),
    predict('{"inputs": "abc"}', value('{"outputs": {"b64": "YWJj"}}'), signature="binary"),
    predict('{"inputs": [["abc"]]}', value('{"outputs": [[{"b64": "YWJj"}]]}'), signature="binary"),
    predict('{"instances": ["abc"]}', value('{"predictions": [{"s": "abc", "s_bytes": {"b64": "YWJj"}}]}'),
            signature="both"),
    predict('{"inputs": "abc"}', value('{"outputs": {"s": "abc", "s_bytes": {"b64": "YWJj"}}}'), signature="both"),
    # Other strings are written as they are.
    predict(b'{"inputs": "\xff\xc3"}', Answer(200, b'{\n    "outputs": "\xff\xc3"\n}'), signature="string"),
    predict('{"inputs": {"b64": "/wABHw=="}}', Answer(200, b'{\n    "outputs": "\xff\\u0000\\u0001\\u001F"\n}'),
            signature="string"),
    predict('{"inputs": "\\b\\f\\n\\r\\t/\\u007f"}', text('{\n    "outputs": "\\b\\f\\n\\r\\t/\x7f"\n}'),
            signature="string"),
    # Types that JSON cannot carry.
    predict('{"instances": [1]}', bad("Failed to write JSON value for tensor type: half"), signature="to_half"),
    predict('{"inputs": [1]}', bad("Failed to write JSON value for tensor type: complex64"), signature="to_complex"),
]

_LAYOUT: list[Row] = [
    predict(body, text(right), signature=signature)
    for body, right, signature in [
        ('{"instances": [1, 2, 5]}', '{\n    "predictions": [2.5, 3.0, 4.5\n    ]\n}', "serving_default"),
        ('{"instances": [1]}', '{\n    "predictions": [2.5\n    ]\n}', "serving_default"),
        ('{"inputs": [1, 2, 5]}', '{\n    "outputs": [\n        2.5,\n        3.0,\n        4.5\n    ]\n}',
         "serving_default"),
        ('{"instances": [[1, 2], [3, 4]]}', '{\n    "predictions": [[1.0, 2.0], [3.0, 4.0]\n    ]\n}', "float32"),
        ('{"instances": [true, false]}', '{\n    "predictions": [true, false\n    ]\n}', "bool"),
        ('{"instances": ["a", "b"]}', '{\n    "predictions": ["a", "b"\n    ]\n}', "string"),
        ('{"inputs": [1]}', '{\n    "outputs": 1.0\n}', "sum"),
    ]
]

_DEEP = "[" * 70 + "1" + "]" * 70
_LEVELS: list[Row] = [
    predict(f'{{"inputs": {"[" * 64}1{"]" * 64}}}', value(f'{{"outputs": {"[" * 64}1.0{"]" * 64}}}'),
            signature="float32"),
    differing(
        "levels",
        predict(f'{{"inputs": {_DEEP}}}', value(f'{{"outputs": {_DEEP.replace("1", "1.0")}}}'), signature="float32"),
        Answer(400, matches="64"),
    ),
]

# --- order of checks -------------------------------------------------------------------------------------------------

_NO_MODEL = error(404, "Servable not found for request: Latest(nope)")


def _to(model: str) -> Callable[[str, Answer], Rest]:
    return lambda body, answer: predict(body, answer, model=model)


_ORDER: list[Row] = [
    _to("nope")('{"instances": []}', _NO_MODEL),
    _to("nope")('{"signature_name": "nope"}', _NO_MODEL),
    _to("nope")('{"instances": [1], "inputs": [1]}', _NO_MODEL),
    predict('{"inputs": "a", "instances": []}', bad("Failed to get input map for signature: nothing"),
            signature="nothing"),
    predict('{"inputs": "a", "instances": []}', Answer(400, matches="expecting only one of"), signature="two"),
    predict('{"instances": [{"c": 1}, 5]}', _element(0, "JSON object: does not have named input: c", "c"),
            signature="two"),
]

ROWS: list[Row] = [
    *_value_rows(), *_refused_rows(), *_UNCONVERTED_ROWS, *_BASE64, *_SHAPES, *_ROWS_OF_ONE, *_NAMED, *_ASKED,
    *_ANSWERS, *_LAYOUT, *_LEVELS, *_ORDER,
]
