"""The bodies of `:classify` and `:regress`, against what gRPC clients send and get."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tensorflow.core.example import example_pb2
from tensorflow_serving.apis import classification_pb2

from serving_app.core.errors import InvalidArgument
from serving_app.core.servable import ModelSpec
from serving_app.protocol.calls import Call
from serving_app.protocol.example_requests import (
    CLASSIFY_METHOD,
    REGRESS_METHOD,
    ExampleQuery,
    Task,
    decode_classification,
)
from serving_app.protocol.json_examples import encode_results, parse_examples

SPEC = ModelSpec("m", version=3)


def parse(body: Any) -> ExampleQuery:
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    return parse_examples(text, SPEC, CLASSIFY_METHOD)


def example(body: Any) -> Any:
    """The only example of a body, as TensorFlow's class reads it."""
    (encoded,) = parse(body).examples
    return example_pb2.Example.FromString(encoded)


def features(body: Any) -> dict[str, tuple[str | None, list[Any]]]:
    """The kind and the values of each feature of the only example."""
    found = {}
    for name, feature in example(body).features.feature.items():
        which = feature.WhichOneof("kind")
        found[name] = (which, list(getattr(feature, which).value) if which else [])
    return found


@pytest.mark.parametrize(
    ("value", "which", "values"),
    [
        ("1", "int64_list", [1]),
        ("[]", None, []),
        ("[1, -2]", "int64_list", [1, -2]),
        ("9223372036854775807", "int64_list", [2**63 - 1]),
        ("[-9223372036854775808]", "int64_list", [-(2**63)]),
        ("true", "int64_list", [1]),
        ("[true, false, 7]", "int64_list", [1, 0, 7]),
        ("[7, true]", "int64_list", [7, 1]),
        ("1.0", "float_list", [1.0]),
        ("[1e3, 0.5]", "float_list", [1000.0, 0.5]),
        ("[18446744073709551616]", "float_list", [2.0**64]),
        ("[1e300, -1e300, 1e-300]", "float_list", [math.inf, -math.inf, 0.0]),
        ("[Infinity, -Inf]", "float_list", [math.inf, -math.inf]),
        ('"a"', "bytes_list", [b"a"]),
        ('["", "\u00fc"]', "bytes_list", [b"", "ü".encode()]),
        ('{"b64": "/w=="}', "bytes_list", [b"\xff"]),
        ('["a", {"b64": "AAE"}]', "bytes_list", [b"a", b"\0\1"]),
        ('[{"b64": "AAE="}, "a"]', "bytes_list", [b"\0\1", b"a"]),
    ],
)
def test_the_first_value_says_what_a_feature_is(value: str, which: str | None, values: list[Any]) -> None:
    """Integers and truth values are int64, numbers with a point or an exponent float, strings and base64 bytes."""
    assert features(f'{{"examples": [{{"x": {value}}}]}}'.encode()) == {"x": (which, values)}


def test_not_a_number_is_a_float() -> None:
    """NaN is a value like others."""
    which, (value,) = features(b'{"examples": [{"x": NaN}]}')["x"]
    assert which == "float_list"
    assert math.isnan(value)


def test_bytes_that_are_not_utf8_are_kept() -> None:
    """A string goes to the model with the bytes that it had in the body."""
    assert features(b'{"examples": [{"x": "\xff"}]}') == {"x": ("bytes_list", [b"\xff"])}


def test_large_features_are_read_like_small_ones() -> None:
    """Neither the size of a feature nor what :predict would make of other members changes what is read."""
    values = [0.5] * 10_000
    for more in ({}, {"instances": None}, {"inputs": None}):
        assert features({**more, "examples": [{"x": values}]}) == {"x": ("float_list", values)}


@pytest.mark.parametrize(
    ("context", "expected"),
    [
        ({}, {"x": 1, "y": 2}),
        ({"z": 9}, {"x": 1, "y": 2, "z": 9}),
        ({"x": 5, "z": 9}, {"x": 1, "y": 2, "z": 9}),
    ],
)
def test_a_context_holds_for_every_example(context: dict[str, int], expected: dict[str, int]) -> None:
    """Each example has the features of the context, but for those that it has itself."""
    query = parse({"context": context, "examples": [{"x": 1, "y": 2}, {"x": 1, "y": 2}]})
    for encoded in query.examples:
        found = example_pb2.Example.FromString(encoded).features.feature
        assert {name: found[name].int64_list.value[-1] for name in found} == expected


@pytest.mark.parametrize(("given_name", "name"), [({}, "serving_default"), ({"signature_name": ""}, "serving_default"),
                                                  ({"signature_name": "s"}, "s")])
def test_what_is_asked(given_name: dict[str, str], name: str) -> None:
    """The URL says which servable and which method, the body which signature; other members are not looked at."""
    query = parse({**given_name, "examples": [{}], "instances": 3})
    assert query == ExampleQuery(SPEC, (Task("m", name, CLASSIFY_METHOD),), [b""])


VALUES = st.one_of(
    st.lists(st.integers(-(2**63), 2**63 - 1), max_size=5),
    st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), max_size=5),
    st.lists(st.text(st.characters(codec="utf-8"), max_size=5), max_size=5),
)
ROWS = st.lists(st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=5), VALUES, max_size=4), min_size=1,
                max_size=3)


def fill(message: Any, row: dict[str, list[Any]]) -> None:
    """An Example as a gRPC client makes it."""
    for name, values in row.items():
        feature = message.features.feature[name]
        if values and type(values[0]) is int:
            feature.int64_list.value.extend(values)
        elif values and type(values[0]) is float:
            feature.float_list.value.extend(values)
        elif values:
            feature.bytes_list.value.extend(value.encode() for value in values)


@given(rows=ROWS, context=st.none() | ROWS.map(lambda rows: rows[0]))
def test_rest_and_grpc_mean_the_same(rows: list[dict[str, list[Any]]], context: dict[str, list[Any]] | None) -> None:
    """The same examples reach the model as the same messages, whether they were written in JSON or as protos."""
    body: dict[str, Any] = {"signature_name": "s", "examples": rows}
    request = classification_pb2.ClassificationRequest()
    request.model_spec.name, request.model_spec.signature_name = "m", "s"
    request.model_spec.version.value = 3
    examples = request.input.example_list.examples
    if context is not None:
        body["context"] = context
        examples = request.input.example_list_with_context.examples
        fill(request.input.example_list_with_context.context, context)
    for row in rows:
        fill(examples.add(), row)
    by_rest, by_grpc = parse(body), decode_classification(request.SerializeToString())
    assert (by_rest.spec, by_rest.tasks) == (by_grpc.spec, by_grpc.tasks)
    assert [canonical(each) for each in by_rest.examples] == [canonical(each) for each in by_grpc.examples]


def canonical(encoded: bytes) -> bytes:
    """Serialized in the one form that the order of features does not change; a feature given twice counts once."""
    return example_pb2.Example.FromString(encoded).SerializeToString(deterministic=True)


DUMP = '{\n    "signature_name": "s"\n}'
WRONG = [
    (b"", "JSON Parse error: The document is empty"),
    (b"[1]", "JSON Value: [1] Is not object"),
    (
        b'{"signature_name": 1, "examples": 2}',
        "JSON Value: 1 not formatted correctly. 'signature_name' key must be a string value.",
    ),
    (
        b'{"signature_name": "s"}',
        f"JSON Value: {DUMP} When method is classify, key 'examples' is expected and was not found",
    ),
    (b'{"examples": {"x": 1}}', 'JSON Value: {\n    "x": 1\n} Expecting \'examples\' value to be an list/array'),
    (b'{"examples": []}', "JSON Value: [] 'examples' value is an empty array"),
    *(
        (f'{{"examples": [{{}}, {value}]}}'.encode(), f"Example must be JSON object but got JSON {name}")
        for value, name in (
            ("null", "Null"), ("true", "True"), ("false", "False"), ("[{}]", "Array"), ('"x"', "String"),
            ("1", "Number"),
        )
    ),
    *(
        (f'{{"examples": [{{"f": {value}}}]}}'.encode(), f"Feature: f {message}")
        for value, message in (
            ("null", "has element with unexpected JSON type: Null"),
            ("[1, null]", "has element with unexpected JSON type: Null"),
            ('{"a": 1}', "has element with unexpected JSON type: Object"),
            ("[[1]]", "has element with unexpected JSON type: Array"),
            ("9223372036854775808", "has uint64_t element. Only int64_t is supported."),
            ("[true, 18446744073709551615]", "has uint64_t element. Only int64_t is supported."),
        )
    ),
    *(
        (f'{{"examples": [{{"f": {value}}}]}}'.encode(),
         f"Unexpected element type in feature: f expecting type: {expected}")
        for value, expected in (
            ("[1, 2.0]", "int64"), ("[1.0, 2]", "float"), ("[1.0, true]", "float"), ('["a", 1]', "bytes"),
            ('[1, "a"]', "int64"), ('[1.5, {"b64": ""}]', "float"), ("[1.5, 9223372036854775808]", "float"),
        )
    ),
    (b'{"examples": [{"f": {"b64": "?"}}]}', "Unable to base64 decode"),
    (b'{"context": 1, "examples": []}', "Example must be JSON object but got JSON Number"),
    (b'{"context": {"f": null}, "examples": [{}]}', "Feature: f has element with unexpected JSON type: Null"),
    (b'{"examples": [{"\xff": 1}]}', "Feature: \udcff has a name that is not UTF-8; rename it"),
]


@pytest.mark.parametrize(("body", "message"), WRONG)
def test_what_is_no_query(body: bytes, message: str) -> None:
    """What is wrong with a body is said in TensorFlow Serving's words, and the same for both methods."""
    for method in (CLASSIFY_METHOD, REGRESS_METHOD):
        with pytest.raises(InvalidArgument) as caught:
            parse_examples(body, SPEC, method)
        assert caught.value.message == message


LABELS = np.array([[b"red", b'"\xff']], np.object_)
SCORES = np.array([[0.5, np.inf]], np.float32)


@pytest.mark.parametrize(
    ("method", "outputs", "right"),
    [
        (CLASSIFY_METHOD, {"classes": LABELS, "scores": SCORES}, b'{"results":[[["red",0.5],["\\"\xff",Infinity]]]}'),
        (CLASSIFY_METHOD, {"classes": LABELS}, b'{"results":[[["red",0.0],["\\"\xff",0.0]]]}'),
        (CLASSIFY_METHOD, {"scores": SCORES}, b'{"results":[[["",0.5],["",Infinity]]]}'),
        (CLASSIFY_METHOD, {"scores": np.zeros((1, 0), np.float32)}, b'{"results":[[]]}'),
        (REGRESS_METHOD, {"outputs": SCORES[:, :1]}, b'{"results":[0.5]}'),
        (REGRESS_METHOD, {"outputs": SCORES[:, 1]}, b'{"results":[Infinity]}'),
    ],
)
def test_answers(method: str, outputs: dict[str, np.ndarray], right: bytes) -> None:
    """Classifications are lists of pairs, with "" and 0.0 for what the signature lacks; regressions are numbers."""
    query = ExampleQuery(SPEC, (Task("m", "s", method),), [b""])
    assert encode_results(query, Call("s", {}, tuple(outputs)), outputs, style="compact") == right
    exact = encode_results(query, Call("s", {}, tuple(outputs)), outputs, style="exact")
    assert exact.replace(b" ", b"").replace(b"\n", b"") == right


def test_exact_answers_are_laid_out_as_rows() -> None:
    """The exact form has its digits and blanks where those of :predict are: each example on one line."""
    query = ExampleQuery(SPEC, (Task("m", "s", CLASSIFY_METHOD),), [b"", b""])
    outputs = {"scores": np.array([[1 / 3, 9e6], [0, -0.0]], np.float32)}
    assert encode_results(query, Call("s", {}, ("scores",)), outputs, style="exact") == (
        b'{\n    "results": [[["", 0.333333343], ["", 9e+06]], [["", 0.0], ["", -0.0]]\n    ]\n}'
    )
    query = ExampleQuery(SPEC, (Task("m", "s", REGRESS_METHOD),), [b"", b""])
    outputs = {"outputs": np.array([1 / 3, 2], np.float32)}
    assert encode_results(query, Call("s", {}, ("outputs",)), outputs, style="exact") == (
        b'{\n    "results": [0.333333343, 2.0\n    ]\n}'
    )


def test_several_examples_have_a_list_each() -> None:
    """There is one list per example, in order."""
    query = ExampleQuery(SPEC, (Task("m", "s", CLASSIFY_METHOD),), [b"", b""])
    outputs = {"scores": np.array([[1, 2], [3, 4]], np.float32)}
    text = encode_results(query, Call("s", {}, ("scores",)), outputs, style="compact")
    assert json.loads(text) == {"results": [[["", 1], ["", 2]], [["", 3], ["", 4]]]}
    with pytest.raises(InvalidArgument, match=r"^Expected scores output batch size of 2\. Got: 1$"):
        encode_results(query, Call("s", {}, ("scores",)), {"scores": SCORES}, style="exact")
