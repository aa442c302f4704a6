"""The dialect of JSON that bodies may be written in (RapidJSON 1.1, read iteratively)."""

from __future__ import annotations

from tests.conformance.rows import Answer, Rest, Row, bad, differing, predict, value

_FINE = value('{"predictions": [2.5, 3.0]}')

_READ: list[Row] = [
    predict(body, _FINE)
    for body in [
        '{"instances": [1, 2]}',
        '{"instances":[1.0,2.0]}',
        ' \t\r\n{ "instances" : [ 1 , 2 ] } \n',
        '{"instances": [1e0, 20E-1]}',
        '{"instances": [1.0e+0, 0.2e1]}',
        '{"instances": [1, 2], "other": {"a": [null, true, {"b": []}]}}',
        '{"other": "instances", "instances": [1, 2]}',
        '{"inst\\u0061nces": [1, 2]}',
        # What follows the first value is not looked at.
        '{"instances": [1, 2]} trailing',
        '{"instances": [1, 2]}{"instances": []}',
        '{"instances": [1, 2]}}}',
        '{"instances": [1, 2]}\0',
        # Of several members with one name the first counts.
        '{"instances": [1, 2], "instances": [3]}',
        '{"instances": [1, 2], "instances": "nonsense"}',
        '{"signature_name": "serving_default", "instances": [1, 2], "signature_name": 5}',
        # Signature names.
        '{"signature_name": "", "instances": [1, 2]}',
        '{"signature_name": "serving_default", "instances": [1, 2]}',
        '{"signature_name": "serving\\u005fdefault", "instances": [1, 2]}',
    ]
]
_READ += [
    predict(b'\xef\xbb\xbf{"instances": [1, 2]}', _FINE),
    predict(b'{"instances": [1, 2], "bad \xff\xfe utf-8": "\xc3"}', _FINE),
    predict(b'{"instances": [1, 2], "other": ' + b"[" * 500_000 + b"]" * 500_000 + b"}", _FINE),
    predict(b'{"instances": [1, 2], "other": ' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"}", _FINE),
    predict(b'{"other": ' + b'"' + b"x" * 1_000_000 + b'", "instances": [1, 2]}', _FINE),
    predict(b"{" + b"".join(b'"k%d": 1, ' % i for i in range(20_000)) + b'"instances": [1, 2]}', _FINE),
]

_TOKENS: list[Row] = [
    predict('{"inputs": [NaN, Infinity, -Infinity]}', value('{"outputs": [NaN, Infinity, -Infinity]}'),
            signature="float32"),
    predict('{"inputs": [Inf, -Inf, -NaN]}', value('{"outputs": [Infinity, -Infinity, NaN]}'), signature="float32"),
    predict('{"inputs": {"y": Inf, "x": 1}}', value('{"outputs": 1.0}'), signature="float32"),
    predict('{"inputs": NaN}', value('{"outputs": NaN}'), signature="float64"),
]


def _wrong(marked: str, what: str) -> Rest:
    """A body whose mistake is told at the mark."""
    at = marked.encode().index("¦".encode())
    return predict(marked.replace("¦", ""), bad(f"JSON Parse error: {what} at offset: {at}"))


_EMPTY = "The document is empty."
_INVALID = "Invalid value."
_NO_NAME = "Missing a name for object member."
_NO_COLON = "Missing a colon after a name of object member."
_NO_COMMA_OR_BRACE = "Missing a comma or '}' after an object member."
_NO_COMMA_OR_BRACKET = "Missing a comma or ']' after an array element."
_HEX = "Incorrect hex digit after \\u escape in string."
_SURROGATES = "The surrogate pair in string is invalid."
_ESCAPE = "Invalid escape character in string."
_QUOTE = "Missing a closing quotation mark in string."
_TOO_BIG = "Number too big to be stored in double."
_FRACTION = "Miss fraction part in number."
_EXPONENT = "Miss exponent in number."

_SYNTAX: list[Row] = [
    predict("", bad("JSON Parse error: The document is empty")),
    *[
        _wrong(marked, what)
        for marked, what in [
            ("   ¦", _EMPTY),
            ("\n\t¦", _EMPTY),
            ("¦}", _EMPTY),
            ("¦]", _EMPTY),
            ("¦,", _EMPTY),
            ("¦: 1", _EMPTY),
            ("¦hello", _INVALID),
            ("¦'a'", _INVALID),
            ("¦undefined", _INVALID),
            ("¦+1", _INVALID),
            ("¦.5", _INVALID),
            ("n¦ot", _INVALID),
            ("nul¦", _INVALID),
            ("tru¦", _INVALID),
            ("fals¦y", _INVALID),
            ("¦True", _INVALID),
            ('{"instances": [n¦an]}', _INVALID),
            ('{"instances": [Na¦n]}', _INVALID),
            ('{"instances": [¦inf]}', _INVALID),
            ('{"instances": [-¦x]}', _INVALID),
            ('{"instances": [-¦]}', _INVALID),
            ('{"instances": [1, 2¦', _NO_COMMA_OR_BRACKET),
            ('{"instances": [1 ¦2]}', _NO_COMMA_OR_BRACKET),
            ('{"instances": [1¦}', _NO_COMMA_OR_BRACKET),
            ('{"instances": [1,¦]}', _INVALID),
            ('{"instances": [¦,1]}', _INVALID),
            ('{"instances": [¦', _INVALID),
            ('{"instances": [0¦1]}', _NO_COMMA_OR_BRACKET),
            ('{"instances": [0¦x1]}', _NO_COMMA_OR_BRACKET),
            ('{"instances": [1], ¦}', _NO_NAME),
            ("{¦", _NO_NAME),
            ("{¦instances: [1]}", _NO_NAME),
            ("{¦'instances': [1]}", _NO_NAME),
            ("{¦1: 2}", _NO_NAME),
            ("{ ¦/* comment */}", _NO_NAME),
            ('{"instances"¦}', _NO_COLON),
            ('{"instances" ¦[1]}', _NO_COLON),
            ('{"instances"¦', _NO_COLON),
            ('{"instances": ¦}', _INVALID),
            ('{"instances": ¦', _INVALID),
            ('{"instances": [1]¦', _NO_COMMA_OR_BRACE),
            ('{"instances": [1] ¦"a": 1}', _NO_COMMA_OR_BRACE),
            ('{"instances": [1]¦]', _NO_COMMA_OR_BRACE),
            ('{"instances": ["a¦', _QUOTE),
            ('{"instances¦', _QUOTE),
            ('{"instances": ["¦\\x"]}', _ESCAPE),
            ('{"instances": ["¦\\\'"]}', _ESCAPE),
            ('{"instances": ["a¦\nb"]}', _ESCAPE),
            ('{"instances": ["a¦\tb"]}', _ESCAPE),
            ('{"instances": ["¦\\u12"]}', _HEX),
            ('{"instances": ["¦\\uzzzz"]}', _HEX),
            ('{"instances": ["¦\\uD800"]}', _SURROGATES),
            ('{"instances": ["¦\\uD800x"]}', _SURROGATES),
            ('{"instances": ["¦\\uD800\\u0041"]}', _SURROGATES),
            ('{"instances": [¦1e309]}', _TOO_BIG),
            ('{"instances": [¦-1e400]}', _TOO_BIG),
            (f'{{"instances": [¦{"9" * 400}]}}', _TOO_BIG),
            ('{"instances": [1.¦]}', _FRACTION),
            ('{"instances": [1.¦e5]}', _FRACTION),
            ('{"instances": [1e¦]}', _EXPONENT),
            ('{"instances": [1e+¦]}', _EXPONENT),
            ('{"instances": [1.5E-¦]}', _EXPONENT),
        ]
    ],
    predict('{"inputs": 1e-400}', value('{"outputs": 0.0}'), signature="float64"),
]


_NOT_OBJECTS: list[Row] = [
    predict(text, bad(f"JSON Value: {shown} Is not object"))
    for text, shown in [
        ("1", "1"),
        ("-0", "0"),
        ("1.5e3", "1500.0"),
        ("true", "true"),
        ("false", "false"),
        ("null", "null"),
        ("NaN", "NaN"),
        ("Inf", "Infinity"),
        ("-Infinity", "-Infinity"),
        ('"text"', '"text"'),
        ('"a\\"b\\\\c\\n"', '"a\\"b\\\\c\\n"'),
        ("[]", "[]"),
        ("[1,2,\n3]", "[1, 2, 3]"),
        ('[{"a":1}]', '[{\n        "a": 1\n    }]'),
        ("18446744073709551615", "18446744073709551615"),
        ("-9223372036854775808", "-9223372036854775808"),
        ("18446744073709551616", "18446744073709552000.0"),
        ("1e22", "1e22"),
        ("1e-7", "1e-7"),
        ("0.000001", "0.000001"),
        ("123456789.25", "123456789.25"),
    ]
]

_SIGNATURE_NAMES: list[Row] = [
    predict(
        f'{{"signature_name": {text}, "instances": [1]}}',
        bad(
            f"JSON Value: {shown} not formatted correctly. 'signature_name' key must be a string value."
        ),
    )
    for text, shown in [
        ("1", "1"),
        ("null", "null"),
        ("true", "true"),
        ("[]", "[]"),
        ('["serving_default"]', '["serving_default"]'),
        ('{"a": {"b": [1, 2]}}', '{\n    "a": {\n        "b": [1, 2]\n    }\n}'),
        ("{}", "{}"),
    ]
]

_LIMITS: list[Row] = [
    # Quotations end after some 256 bytes.
    predict(
        b'{"signature_name": ' + b"[" * 500_000 + b"]" * 500_000 + b"}",
        Answer(400, matches=r"JSON Value: \[\[\[\[.{200,300} not formatted correctly"),
    ),
    predict(
        '{"signature_name": [' + ", ".join(["12345"] * 10_000) + '], "instances": [1]}',
        Answer(400, matches=r'^{\n    "error": "JSON Value: \[12345, 12345.{200,300} not formatted correctly\.'),
    ),
    differing(
        "quotation",
        predict('"' + "x" * 5000 + '"', bad('JSON Value: "' + "x" * 5000 + '" Is not object')),
        Answer(400, matches='"JSON Value: .{200}x{400,1100}.{0,20} Is not object"'),
    ),
    differing(
        "bad-utf-8",
        predict(b'"a\xffb"', Answer(400, b'{\n    "error": "JSON Value: \\"a\xffb\\" Is not object"\n}')),
        bad('JSON Value: "a\ufffdb" Is not object'),
    ),
    # A syntax error comes before everything that is known about the model.
    Rest("POST", "/v1/models/no_such_model:predict", Answer(400, matches="JSON Parse error"), b"{"),
    Rest("POST", "/v1/models/no_such_model:predict", Answer(400, matches="Is not object"), b"[]"),
    Rest("POST", "/v1/models/no_such_model:predict", Answer(400, matches="must be a string"), b'{"signature_name": 1}'),
    Rest("POST", "/v1/models/no_such_model:predict", Answer(404, matches="Latest"), b"{}"),
    Rest("POST", "/v1/models/half_plus_two/labels/nobodys:predict", Answer(400, matches="nobodys"), b"{}"),
    Rest("POST", "/v1/models/half_plus_two/labels/nobodys:predict", Answer(400, matches="Parse error"), b"{"),
]

ROWS: list[Row] = [*_READ, *_TOKENS, *_SYNTAX, *_NOT_OBJECTS, *_SIGNATURE_NAMES, *_LIMITS]
