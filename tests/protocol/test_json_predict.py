"""Requests of :predict."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving_app.core.errors import InvalidArgument, ServingError, Unimplemented
from serving_app.core.signatures import DType, Signature, TensorSpec
from serving_app.protocol import dtypes
from serving_app.protocol.json_grid import DEFAULT_READER, ReadPiece, find_grid, read_by_orjson
from serving_app.protocol.json_parser import parse_exactly
from serving_app.protocol.json_predict import (
    decode_inputs,
    decode_rows_exactly,
    decode_rows_quickly,
    find_signature,
    parse_predict,
)


def signature(**inputs: DType) -> Signature:
    return Signature({name: TensorSpec(f"{name}:0", dtype, None) for name, dtype in inputs.items()}, {})


X = signature(x=DType.FLOAT)
INTS = signature(x=DType.INT32)
STRINGS = signature(s=DType.STRING)
B64 = signature(b64=DType.STRING)
B64_FLOAT = signature(b64=DType.FLOAT)
TWO = signature(b=DType.STRING, a=DType.FLOAT)
HALF = signature(x=DType.HALF)

DECODED: list[tuple[Signature, str, dict[str, Any]]] = [
    # Row format, names left out: one more dimension than each instance.
    (X, '{"instances": [1, 2.5, 5]}', {"x": [1.0, 2.5, 5.0]}),
    (X, '{"instances": [[1, 2], [3, 4]]}', {"x": [[1.0, 2.0], [3.0, 4.0]]}),
    (X, '{"instances": [[]]}', {"x": np.zeros((1, 0), np.float32)}),
    (STRINGS, '{"instances": ["a", {"b64": "AP8="}]}', {"s": [b"a", b"\x00\xff"]}),
    (STRINGS, '{"instances": [{"b64": "YQ=="}, "b"]}', {"s": [b"a", b"b"]}),
    (STRINGS, '{"instances": [["a", "b"]]}', {"s": [[b"a", b"b"]]}),
    # Row format, named, also with a single input.
    (X, '{"instances": [{"x": 1}, {"x": 2}]}', {"x": [1.0, 2.0]}),
    (X, '{"instances": [{"x": [[1, 2]]}, {"x": [[3, 4]]}]}', {"x": [[[1.0, 2.0]], [[3.0, 4.0]]]}),
    (TWO, '{"instances": [{"a": 1, "b": "p"}, {"b": "q", "a": 2}]}', {"b": [b"p", b"q"], "a": [1.0, 2.0]}),
    (TWO, '{"instances": [{"a": [1, 2], "b": {"b64": "YQ"}}]}', {"b": [b"a"], "a": [[1.0, 2.0]]}),
    (TWO, '{"instances": [{"a": 1, "b": "p", "a": "ignored"}]}', {"b": [b"p"], "a": [1.0]}),
    # An input called b64 can be given by name, but a plain string under it is a base64 object.
    (B64, '{"instances": [{"b64": "YQ=="}]}', {"b64": [b"a"]}),
    (B64, '{"instances": [{"b64": ["YQ=="]}]}', {"b64": [[b"YQ=="]]}),
    (B64_FLOAT, '{"instances": [{"b64": 1}]}', {"b64": [1.0]}),
    # A first base64 object gets past the check for names; the number of inputs will not do.
    (TWO, '{"instances": [{"b64": "YQ=="}, "c"]}', {"b": [b"a", b"c"]}),
    # Columnar format.
    (X, '{"inputs": 1}', {"x": 1.0}),
    (X, '{"inputs": [[1], [2]]}', {"x": [[1.0], [2.0]]}),
    (X, '{"inputs": []}', {"x": []}),
    (X, '{"inputs": {"x": [1, 2]}}', {"x": [1.0, 2.0]}),
    (X, '{"inputs": {"x": [1], "extra": {"is": "ignored"}}}', {"x": [1.0]}),
    (STRINGS, '{"inputs": {"b64": "AP8="}}', {"s": b"\x00\xff"}),
    (STRINGS, '{"inputs": {"s": {"b64": "AP8="}}}', {"s": b"\x00\xff"}),
    (TWO, '{"inputs": {"a": [[1, 2]], "b": ["p", "q", "r"]}}', {"b": [b"p", b"q", b"r"], "a": [[1.0, 2.0]]}),
    # Unknown keys and what follows the body are ignored.
    (X, '{"instances": [1], "other": {"inputs": 2}} trailing', {"x": [1.0]}),
    (X, '{"instances": [NaN, -Infinity]}', {"x": [float("nan"), float("-inf")]}),
]


@pytest.mark.parametrize(("signature", "text", "expected"), DECODED)
def test_a_body_becomes_tensors(signature: Signature, text: str, expected: Mapping[str, Any]):
    """Each form of a request gives the tensors that the signature names, with its types."""
    inputs = decode_inputs(parse_predict(text.encode()), signature)
    assert inputs.keys() == expected.keys()
    for name, array in inputs.items():
        wanted = np.array(expected[name], array.dtype)
        assert array.shape == wanted.shape
        assert repr(array.tolist()) == repr(wanted.tolist())
        assert array.dtype == (object if signature.inputs[name].dtype == DType.STRING else np.float32)


def plain(index: int, message: str) -> str:
    return f"Failed to process element: {index} of 'instances' list. Error: INVALID_ARGUMENT: {message}"


def named(index: int, name: str, message: str) -> str:
    return f"Failed to process element: {index} key: {name} of 'instances' list. Error: INVALID_ARGUMENT: {message}"


REFUSED = [
    (X, "{}", "Missing 'inputs' or 'instances' key"),
    (
        X,
        '{"instances": [1], "inputs": 2}',
        'JSON Value: {\n    "instances": [1],\n    "inputs": 2\n} Not formatted correctly expecting only one of'
        " 'inputs' or 'instances' keys to exist ",
    ),
    (X, '{"instances": 1}', "JSON Value: 1 Expecting 'instances' to be an list/array"),
    (X, '{"instances": {"x": 1}}', 'JSON Value: {\n    "x": 1\n} Expecting \'instances\' to be an list/array'),
    (X, '{"instances": null}', "JSON Value: null Expecting 'instances' to be an list/array"),
    (X, '{"instances": []}', "JSON Value: [] No values in 'instances' array"),
    (
        TWO,
        '{"instances": [1, 2]}',
        "instances is a plain list, but expecting list of objects as multiple input tensors required"
        " as per tensorinfo_map",
    ),
    (X, '{"instances": [{"x": 1}, 2]}', "Expecting object but got list at item 1 of input list"),
    (STRINGS, '{"instances": [{"s": "a"}, {"b64": ""}]}', "Expecting object but got list at item 1 of input list"),
    (X, '{"instances": [1, {"x": 2}]}', "Expecting value/list but got object at item 1 of input list"),
    (STRINGS, '{"instances": ["a", {}]}', "Expecting value/list but got object at item 1 of input list"),
    (X, '{"instances": [{"x": 1, "y": 2}]}', named(0, "y", "JSON object: does not have named input: y")),
    (
        TWO,
        '{"instances": [{"a": 1, "b": "p"}, {"a": 1}]}',
        "Failed to process element: 1 of 'instances' list. JSON object: {\n    \"a\": 1\n} keys must be equal to: a,b",
    ),
    (
        X,
        '{"instances": [{}]}',
        "Failed to process element: 0 of 'instances' list. JSON object: {} keys must be equal to: x",
    ),
    (
        X,
        '{"instances": [1, "2"]}',
        plain(1, 'JSON Value: "2" Type: String is not of expected type: float'),
    ),
    (INTS, '{"instances": [1, true]}', plain(1, "JSON Value: true Type: True is not of expected type: int32")),
    (INTS, '{"instances": [[1], [2.0]]}', plain(1, "JSON Value: 2.0 Type: Number is not of expected type: int32")),
    (
        TWO,
        '{"instances": [{"a": null, "b": "p"}]}',
        named(0, "a", "JSON Value: null Type: Null is not of expected type: float"),
    ),
    (STRINGS, '{"instances": [{"b64": "!"}]}', plain(0, "Unable to base64 decode")),
    (X, '{"instances": [[1, 2], [3]]}', plain(1, "Expecting tensor size: 2 but got: 1")),
    (X, '{"instances": [1, [2, 3]]}', plain(1, "Expecting tensor size: 1 but got: 2")),
    (X, '{"instances": [[1, 2], [3, 4], [[5], [6]]]}', plain(2, "Expecting shape [2] but got: [2,1]")),
    (X, '{"instances": [1, [2]]}', plain(1, "Expecting shape [] but got: [1]")),
    (X, '{"instances": [{"x": [[1, 2]]}, {"x": [1, 2]}]}', named(1, "x", "Expecting shape [1,2] but got: [2]")),
    (
        X,
        '{"instances": [[1, [2]]]}',
        plain(0, "Encountered list at unexpected level: 1 expected < 1"),
    ),
    (
        HALF,
        '{"instances": [1]}',
        "Failed to process element: 0 of 'instances' list. Error: UNIMPLEMENTED:"
        " Conversion of JSON Value: 1 to type: half",
    ),
    (
        TWO,
        '{"inputs": [1]}',
        "inputs is a plain value/list, but expecting an object as multiple input tensors required"
        " as per tensorinfo_map",
    ),
    (
        TWO,
        '{"inputs": {"b64": "YQ=="}}',
        "inputs is a plain value/list, but expecting an object as multiple input tensors required"
        " as per tensorinfo_map",
    ),
    (TWO, '{"inputs": {"a": 1}}', "Missing named input: b in 'inputs' object."),
    (X, '{"inputs": {}}', "Missing named input: x in 'inputs' object."),
    (X, '{"inputs": "a"}', 'JSON Value: "a" Type: String is not of expected type: float'),
    (X, '{"inputs": {"x": [1, [2]]}}', "Encountered list at unexpected level: 1 expected < 1"),
    (Signature({}, {}), '{"instances": 1}', "Failed to get input map for signature: DEFAULT"),
    (Signature({}, {}), '{"signature_name": "init"}', "Failed to get input map for signature: init"),
]


@pytest.mark.parametrize(("signature", "text", "message"), REFUSED)
def test_a_wrong_body_is_refused_with_its_first_mistake(signature: Signature, text: str, message: str):
    """Each rule has its message, and of several mistakes the first is told."""
    body = parse_predict(text.encode())
    with pytest.raises(InvalidArgument) as caught:
        decode_inputs(body, signature)
    assert caught.value.message == message


def test_an_unsayable_type_is_unimplemented_in_columns():
    """In the columnar format, errors keep their own code."""
    with pytest.raises(Unimplemented, match=r"^Conversion of JSON Value: 1 to type: half$"):
        decode_inputs(parse_predict(b'{"inputs": 1}'), HALF)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "JSON Parse error: The document is empty"),
        (b'{"instances": [1', "JSON Parse error: Missing a comma or ']' after an array element. at offset: 16"),
        (b"[1]", "JSON Value: [1] Is not object"),
        (b"1 {}", "JSON Value: 1 Is not object"),
        (
            b'{"signature_name": 5}',
            "JSON Value: 5 not formatted correctly. 'signature_name' key must be a string value.",
        ),
        (
            b'{"signature_name": null, "instances": 0}',
            "JSON Value: null not formatted correctly. 'signature_name' key must be a string value.",
        ),
    ],
)
def test_the_first_step_needs_no_model(text: bytes, message: str):
    """Syntax, the top level and the signature's name are judged before anything is known of the model."""
    with pytest.raises(InvalidArgument) as caught:
        parse_predict(text)
    assert caught.value.message == message


def test_deep_nesting_is_no_danger():
    """A hundred thousand levels are ignored under an unknown key, and quoted under a known one."""
    deep = b"[" * 100_000 + b"]" * 100_000
    body = parse_predict(b'{"other": ' + deep + b', "instances": [1]}')
    assert decode_inputs(body, X)["x"].tolist() == [1.0]
    with pytest.raises(InvalidArgument, match="'signature_name' key must be a string value"):
        parse_predict(b'{"signature_name": ' + deep + b"}")
    with pytest.raises(InvalidArgument, match=r"element: 0 of .* nests lists 99999 deep"):
        decode_inputs(parse_predict(b'{"instances": ' + deep + b"}"), INTS)


def test_a_signature_is_found_by_name_or_by_default():
    """No name and an empty name mean `serving_default`; a wrong one is quoted."""
    signatures = {"serving_default": X, "other": TWO}
    assert find_signature(parse_predict(b"{}"), signatures) is X
    assert find_signature(parse_predict(b'{"signature_name": ""}'), signatures) is X
    assert find_signature(parse_predict(b'{"signature_name": "other"}'), signatures) is TWO
    for text, name in ((b"{}", "serving_default"), (b'{"signature_name": "other"}', "other")):
        with pytest.raises(InvalidArgument) as caught:
            find_signature(parse_predict(text), {})
        assert caught.value.message == f'Serving signature name: "{name}" not found in signature def'


scalars = st.sampled_from([0, 1, -1, 2**31, 1.0, 0.5, True, None, "", "é", {"b64": "aaaa"}, {"b64": "!"}, {}, []])
values = st.recursive(scalars, lambda inner: st.lists(inner, min_size=1, max_size=2), max_leaves=4)
rows = values | st.dictionaries(st.sampled_from(["x", "y", "b64", "z"]), values, max_size=3)
batches = st.lists(rows, min_size=1, max_size=4) | st.builds(lambda row, n: [row] * n, rows, st.integers(1, 3))
types = st.sampled_from([DType.FLOAT, DType.INT32, DType.STRING, DType.BOOL])
signatures = st.dictionaries(st.sampled_from(["x", "y", "b64"]), types, min_size=1, max_size=2).map(
    lambda inputs: signature(**inputs)
)


@settings(max_examples=400)
@given(batches, signatures)
def test_the_quick_way_through_rows_agrees_with_the_exact_one(instances: list[Any], signature: Signature):
    """Where the quick way gives tensors, the exact one gives equal ones, and not an error."""
    quick = decode_rows_quickly(instances, signature.inputs)
    try:
        exact = decode_rows_exactly(instances, signature.inputs)
    except ServingError:
        assert quick is None
        return
    if quick is not None:
        assert quick.keys() == exact.keys()
        for name in quick:
            assert (quick[name].dtype, quick[name].shape) == (exact[name].dtype, exact[name].shape)
            assert quick[name].tolist() == exact[name].tolist()


@pytest.mark.parametrize(
    ("signature", "text"),
    [
        (X, b'{"instances": [1.0, 2, 5]}'),
        (X, b'{"instances": [{"x": [1, 2]}, {"x": [3, 4]}]}'),
        (TWO, b'{"instances": [{"a": 1, "b": "p"}, {"b": "q", "a": 2}]}'),
        (STRINGS, b'{"instances": ["a", "b"]}'),
    ],
)
def test_ordinary_rows_go_the_quick_way(signature: Signature, text: bytes):
    """The quick way takes every ordinary list of examples."""
    assert decode_rows_quickly(json.loads(text)["instances"], signature.inputs) is not None


# --- compared with an obvious implementation -------------------------------------------------------------------------

_INT32 = range(-(2**31), 2**31)
OBVIOUS_INTEGERS = {
    DType.INT32: _INT32,
    DType.UINT8: _INT32,
    DType.INT64: range(-(2**63), 2**63),
    DType.UINT32: range(2**32),
    DType.UINT64: range(2**64),
}


def obvious_element(value: Any, dtype: DType) -> Any:
    """What one JSON value is as an element; ValueError if it is none."""
    if dtype in (DType.FLOAT, DType.DOUBLE) and type(value) in (int, float):
        with np.errstate(over="ignore"):
            return dtypes.to_numpy(dtype).type(np.float64(value))
    if type(value) is int and value in OBVIOUS_INTEGERS.get(dtype, ()):
        return np.array(value).astype(dtypes.to_numpy(dtype))[()]
    if dtype == DType.BOOL and type(value) is bool:
        return value
    if dtype == DType.STRING and type(value) is str:
        return value.encode("utf-8", "surrogateescape")
    if dtype == DType.STRING and is_obvious_base64(value):
        return base64.b64decode(value["b64"] + "=" * (-len(value["b64"]) % 4), validate=True)
    raise ValueError(value)


def is_obvious_base64(value: Any) -> bool:
    return isinstance(value, dict) and list(value) == ["b64"] and isinstance(value["b64"], str)


def obvious_tensor(value: Any, dtype: DType) -> np.ndarray[Any, Any]:
    """The stack of the tensors of what a list holds; ValueError if they differ in shape."""
    form = dtypes.to_numpy(dtype)
    if isinstance(value, list):
        parts = [obvious_tensor(item, dtype) for item in value]
        return np.stack(parts) if parts else np.empty(0, form)
    element = np.empty((), form)
    element[()] = obvious_element(value, dtype)
    return element


def obvious_inputs(text: bytes, inputs: Mapping[str, TensorSpec]) -> dict[str, np.ndarray[Any, Any]]:
    """The tensors of a request, read by the slow parser; ValueError if it is not right."""
    document: Any = parse_exactly(text)
    if not isinstance(document, dict) or not isinstance(document.get("signature_name", ""), str):
        raise ValueError(text)
    if ("instances" in document) == ("inputs" in document):
        raise ValueError(text)
    dtype_of = {name: DType(spec.dtype) for name, spec in inputs.items()}
    if "inputs" in document:
        value = document["inputs"]
        if not isinstance(value, dict) or is_obvious_base64(value):
            (name,) = inputs
            return {name: obvious_tensor(value, dtype_of[name])}
        if not inputs.keys() <= value.keys():
            raise ValueError(text)
        return {name: obvious_tensor(value[name], dtype) for name, dtype in dtype_of.items()}
    rows = document["instances"]
    if not isinstance(rows, list) or not rows:
        raise ValueError(text)
    are_named = {isinstance(row, dict) and not is_obvious_base64(row) for row in rows}
    if are_named == {True} and all(row.keys() == inputs.keys() for row in rows):
        return {name: obvious_tensor([row[name] for row in rows], dtype) for name, dtype in dtype_of.items()}
    if are_named != {False} or (len(inputs) > 1 and not isinstance(rows[0], dict)):
        raise ValueError(text)
    first = next(iter(inputs))  # of several, TensorFlow Serving fills one as well, if the first row is a base64 object
    return {first: obvious_tensor(rows, dtype_of[first])}


def outcome(read: Any) -> Any:
    """What can be compared of tensors, or None if there are none."""
    try:
        inputs = read()
    except (ValueError, ServingError):
        return None
    return {name: (array.dtype, array.shape, repr(array.tolist())) for name, array in inputs.items()}


def quickly(text: bytes, signature: Signature, large: int) -> Any:
    return outcome(lambda: decode_inputs(parse_predict(text, large=large), signature))


NEVER = 1 << 60
number_texts = st.sampled_from(
    b"0 -0 1 -1 300 2147483648 -2147483649 9223372036854775807 9223372036854775808 18446744073709551615 1e20 "
    b"9999999999999999999999 1.0 -0.0 0.1 1e39 1e-320 1E+2 16777217 9007199791611905 1.0000000596046448 "
    b"1. .5 01 1e400 NaN".split()
)
ordinary = st.sampled_from(b"0 1 -7 2.5 1e3 123456789 0.1".split())
other_texts = st.sampled_from([b'"a"', b'{"b64":"YWI="}', b"true", b"null", b'"\xff"', b"[]", b"{}"])


@st.composite
def tensor_texts(draw: st.DrawFn) -> bytes:
    """Nested lists of numbers as text, mostly rectangular, with blanks and sometimes a slip of the pen."""
    elements = draw(st.sampled_from([ordinary, ordinary, number_texts, other_texts]))
    shape = draw(st.lists(st.integers(1, 3), min_size=1, max_size=3))
    blank = draw(st.sampled_from([b"", b"", b" ", b"\n\t"]))

    def write(level: int) -> bytes:
        if level == len(shape):
            return draw(elements)
        return b"[" + (blank + b"," + blank).join(write(level + 1) for _ in range(shape[level])) + blank + b"]"

    text = write(0)
    if draw(st.booleans()):
        at = draw(st.integers(0, len(text)))
        text = text[:at] + draw(st.sampled_from([b"", b"[", b"]", b",", b"1", b" ", b"-", b'"'])) + text[at + 1 :]
    return text


frames = st.sampled_from(
    [
        b'{"instances":%s}',
        b'{"signature_name":"s","instances": %s} ]',
        b'{"inputs":%s,"signature_name":""}',
        b'{"inputs":{"x":%s}}',
        b'{"inputs":{"x":%s,"y":1}}',
        b'{"instances":[{"x":%s}]}',
        b'{"instances":[{"x":%s},{"x":%s}]}',
        b'{"instances":[{"x":%s,"y":%s}]}',
        b'{"instances":[%s,%s]}',
        b'{"instances":%s,"instances":[1]}',
        b'{"instances":%s,"inputs":[1]}',
        b'{"other":%s,"instances":[1]}',
        b'{"other":%s,"instances":null}',
        b'{"instances":null,"other":%s}',
        b'{"inputs":{"x":null},"other":%s}',
        b'{"instances":[{"x":null,"y":%s}]}',
        b'{"signature_name":null,"inputs":%s}',
        b'{"signature_name":%s,"instances":[1]}',
        b'\xef\xbb\xbf{"inputs":%s}',
        b"%s",
    ]
)
many_types = st.sampled_from([DType.FLOAT, DType.FLOAT, DType.DOUBLE, DType.STRING, DType.BOOL, *OBVIOUS_INTEGERS])
many_signatures = st.dictionaries(st.sampled_from(["x", "y"]), many_types, min_size=1, max_size=2).map(
    lambda inputs: signature(**inputs)
)


@settings(max_examples=500)
@given(frames, st.lists(tensor_texts(), min_size=2, max_size=2), many_signatures)
def test_every_way_agrees_with_an_obvious_implementation(frame: bytes, parts: list[bytes], signature: Signature):
    """Read as a grid of numbers, as a document or step by step: the tensors are the same, or there are none."""
    text = frame % tuple(parts[: frame.count(b"%s")])
    right = outcome(lambda: obvious_inputs(text, signature.inputs))
    assert quickly(text, signature, NEVER) == right
    assert quickly(text, signature, 0) == right


@settings(max_examples=300)
@given(frames, st.lists(tensor_texts(), min_size=2, max_size=2), many_signatures)
def test_a_grid_has_the_errors_of_a_document(frame: bytes, parts: list[bytes], signature: Signature):
    """A text with a mistake is refused with the same message, whichever way was tried first."""
    text = frame % tuple(parts[: frame.count(b"%s")])
    messages = []
    for large in (0, NEVER):
        try:
            decode_inputs(parse_predict(text, large=large), signature)
        except ServingError as error:
            messages.append((type(error), error.message))
        else:
            messages.append(None)
    assert messages[0] == messages[1]


@settings(max_examples=300)
@given(tensor_texts(), st.integers(1, 20), st.booleans())
def test_what_is_found_as_a_grid_is_in_the_text(part: bytes, piece: int, has_simdjson: bool):
    """In whatever pieces it was read, a grid has the numbers and the shape of the text that it was found in."""
    text = b'{"x":' + part + b"}"
    grid = find_grid(text, piece, DEFAULT_READER() if has_simdjson else read_by_orjson)
    if grid is not None:
        found = text[len(grid.before) : len(text) - len(grid.after)]
        assert grid.before + found + grid.after == text
        (value,) = parse_exactly(b"[" + found + b"]")  # type: ignore[misc, union-attr]  # it is a list of one
        assert repr(np.array(value, grid.values.dtype).tolist()) == repr(grid.values.tolist())


@pytest.mark.parametrize(
    "text",
    [
        b'{"instances":[[1,2],[3,4]]}',
        b'{"signature_name": "s", "instances": [[[1.5]], [[-2e-3]]]}\n',
        b'{"inputs": {"x": [1, 2.5]}}',
        b'{"instances": [{"x": [ 1 , 2 ]}]}',
    ],
)
@pytest.mark.parametrize("read_piece", [DEFAULT_READER(), read_by_orjson])
def test_large_tensors_are_found_as_grids(text: bytes, read_piece: ReadPiece):
    """Every usual form of a request with one large tensor of numbers goes that way, whichever parser there is."""
    assert parse_predict(text, large=0).grid is not None
    assert find_grid(text, 1, read_piece) is not None
