"""JSON values into tensors."""

from __future__ import annotations

from base64 import b64decode, b64encode
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving_app.core.errors import InvalidArgument, ServingError, Unimplemented
from serving_app.core.signatures import DType
from serving_app.protocol import dtypes
from serving_app.protocol.json_document import parse
from serving_app.protocol.json_tensor import decode, decode_base64, read, read_quickly, to_array

F, D, I8, U8, I16, I32 = DType.FLOAT, DType.DOUBLE, DType.INT8, DType.UINT8, DType.INT16, DType.INT32
I64, U32, U64, B, S = DType.INT64, DType.UINT32, DType.UINT64, DType.BOOL, DType.STRING
NAN, INFINITY = float("nan"), float("inf")

ACCEPTED = [
    (F, b"1", 1.0),
    (F, b"[1, 2.5, -3e2]", [1.0, 2.5, -300.0]),
    (F, b"[NaN, Inf, -Infinity]", [NAN, INFINITY, -INFINITY]),
    (F, b"[1e300, -1e300, 1e-300]", [INFINITY, -INFINITY, 0.0]),
    (F, b"[16777217, 18446744073709551615, 99999999999999999999]", [16777216.0, 2.0**64, 1e20]),
    (F, b"[]", []),
    (F, b"[[], []]", [[], []]),
    (F, b"[[[1], [2]], [[3], [4]]]", [[[1], [2]], [[3], [4]]]),
    (D, b"[0.1, 1, 9007199254740993, 18446744073709551615]", [0.1, 1.0, 9007199254740992.0, 2.0**64]),
    (D, b"[NaN, -Inf]", [NAN, -INFINITY]),
    (I32, b"[2147483647, -2147483648, -0]", [2**31 - 1, -(2**31), 0]),
    (I8, b"[127, 128, -129, 2147483647]", [127, -128, 127, -1]),
    (U8, b"[255, 300, -1]", [255, 44, 255]),
    (I16, b"[32768, -32769]", [-32768, 32767]),
    (I64, b"[9223372036854775807, -9223372036854775808]", [2**63 - 1, -(2**63)]),
    (U32, b"[0, 4294967295]", [0, 2**32 - 1]),
    (U64, b"[0, 18446744073709551615]", [0, 2**64 - 1]),
    (B, b"[true, false]", [True, False]),
    (B, b"true", True),
    (S, b'["a", "", "\xc3\xa9", "\xff", "\\u0000"]', [b"a", b"", "é".encode(), b"\xff", b"\0"]),
    (S, b'{"b64": "AP8="}', b"\x00\xff"),
    (S, b'[{"b64": "AP8"}, "a", {"b64": " A P\\n8 = "}, {"b64": ""}]', [b"\x00\xff", b"a", b"\x00\xff", b""]),
    (S, b"[[]]", [[]]),
    (DType.HALF, b"[]", []),
]


@pytest.mark.parametrize(("dtype", "text", "expected"), ACCEPTED)
def test_a_value_becomes_a_tensor(dtype: DType, text: bytes, expected: Any):
    """Each type takes its JSON values, with the type of the signature and the shape of the nesting."""
    form = dtypes.to_numpy(dtype)
    array = decode(parse(text), dtype)
    assert array.dtype == form
    wanted = np.array(expected, form)
    assert array.shape == wanted.shape
    if dtype is S:
        assert array.tolist() == wanted.tolist()
    else:
        np.testing.assert_array_equal(array, wanted)


@settings(max_examples=300)
@given(st.text("AQg/+= \n*é", max_size=10) | st.binary(max_size=6).map(lambda raw: b64encode(raw).decode()))
def test_base64_is_read_as_by_an_obvious_implementation(text: str):
    """Blanks do not count, and neither does whether it is filled up; anything else is refused."""
    unpadded = "".join(text.split()).rstrip("=")
    padding = len("".join(text.split())) - len(unpadded)
    try:
        expected = b64decode(unpadded + "=" * (-len(unpadded) % 4), validate=True)
    except ValueError:
        expected = None
    if padding and padding != -len(unpadded) % 4:
        expected = None
    try:
        found = decode_base64({"b64": text})
    except InvalidArgument:
        found = None
    assert found == expected


def mismatch(quoted: str, kind: str, dtype: str) -> str:
    return f"JSON Value: {quoted} Type: {kind} is not of expected type: {dtype}"


REFUSED = [
    (F, b"true", mismatch("true", "True", "float")),
    (F, b"[1, false]", mismatch("false", "False", "float")),
    (F, b'["1"]', mismatch('"1"', "String", "float")),
    (F, b"[null]", mismatch("null", "Null", "float")),
    (F, b'{"b64": "aa"}', mismatch('{\n    "b64": "aa"\n}', "Object", "float")),
    (D, b'[1.5, {"a": 1}]', mismatch('{\n    "a": 1\n}', "Object", "double")),
    (I32, b"1.0", mismatch("1.0", "Number", "int32")),
    (I32, b"[1, 1e3]", mismatch("1000.0", "Number", "int32")),
    (I32, b"2147483648", mismatch("2147483648", "Number", "int32")),
    (I32, b"[1, true]", mismatch("true", "True", "int32")),
    (U8, b"2147483648", mismatch("2147483648", "Number", "uint8")),
    (I8, b"-2147483649", mismatch("-2147483649", "Number", "int8")),
    (I16, b"0.5", mismatch("0.5", "Number", "int16")),
    (I64, b"9223372036854775808", mismatch("9223372036854775808", "Number", "int64")),
    (I64, b"-9223372036854775809", mismatch("-9223372036854776000.0", "Number", "int64")),
    (U32, b"4294967296", mismatch("4294967296", "Number", "uint32")),
    (U32, b"-1", mismatch("-1", "Number", "uint32")),
    (U64, b"-1", mismatch("-1", "Number", "uint64")),
    (U64, b"18446744073709551616", mismatch("18446744073709552000.0", "Number", "uint64")),
    (B, b"[true, 1]", mismatch("1", "Number", "bool")),
    (B, b'"true"', mismatch('"true"', "String", "bool")),
    (S, b"1", mismatch("1", "Number", "string")),
    (S, b"[null]", mismatch("null", "Null", "string")),
    (S, b"[true]", mismatch("true", "True", "string")),
    (S, b'{"b64": "a"}', "Unable to base64 decode"),
    (S, b'{"b64": "a*aa"}', "Unable to base64 decode"),
    (S, b'{"b64": "AP8=="}', "Unable to base64 decode"),
    (S, b'{"b64": "AP-_"}', "Unable to base64 decode"),
    (S, b'{"b64": "A=P8"}', "Unable to base64 decode"),
    (S, b'{"b64": "\xff"}', "Unable to base64 decode"),
    (S, b'{"b64": 1}', 'JSON Value: {\n    "b64": 1\n} not formatted correctly for base64 data'),
    (S, b"{}", "JSON Value: {} not formatted correctly for base64 data"),
    (
        S,
        b'[{"b64": "aa", "x": 1}]',
        'JSON Value: {\n    "b64": "aa",\n    "x": 1\n} not formatted correctly for base64 data',
    ),
    # Shapes: the first element at each level decides.
    (F, b"[1, [2]]", "Encountered list at unexpected level: 1 expected < 1"),
    (F, b"[[1, 2], [3]]", "Encountered list at unexpected size: 1 at level: 1 expected size: 2"),
    (F, b"[[], [1]]", "Encountered list at unexpected size: 1 at level: 1 expected size: 0"),
    (F, b"[[1], 2]", "JSON Value: 2 found at incorrect level: 2 in the JSON DOM. Expected at level: 2"),
    (F, b"[[[1]], [2]]", "JSON Value: 2 found at incorrect level: 3 in the JSON DOM. Expected at level: 3"),
    (F, b"[[], {}]", "JSON Value: {} found at incorrect level: 2 in the JSON DOM. Expected at level: 2"),
    (F, b"[[[]], [[], []]]", "Encountered list at unexpected size: 2 at level: 1 expected size: 1"),
    # The first mistake in reading order is the one that is told.
    (I32, b"[[1, 2.5], [3]]", mismatch("2.5", "Number", "int32")),
    (F, b"[" * 65 + b"]" * 65, "JSON Value nests lists 65 deep; send a tensor of at most 64 dimensions."),
    (F, b"[" * 100_000 + b"]" * 100_000, "JSON Value nests lists 100000 deep; send a tensor of at most 64 dimensions."),
]


@pytest.mark.parametrize(("dtype", "text", "message"), REFUSED)
def test_a_value_that_does_not_fit_is_refused(dtype: DType, text: bytes, message: str):
    """Nothing is converted and nothing guessed: the message quotes the value and says what was expected."""
    with pytest.raises(InvalidArgument) as caught:
        decode(parse(text), dtype)
    assert caught.value.message == message


@pytest.mark.parametrize(
    "dtype", [DType.HALF, DType.BFLOAT16, DType.UINT16, DType.COMPLEX64, DType.QINT8, DType.VARIANT, DType.INVALID]
)
def test_types_that_json_cannot_say_are_unimplemented(dtype: DType):
    """No JSON value stands for an element of these types."""
    with pytest.raises(Unimplemented) as caught:
        decode([1], dtype)
    assert caught.value.message == f"Conversion of JSON Value: 1 to type: {dtype.label}"


def test_a_type_from_the_future_is_unimplemented():
    """A number that no known type has is refused, too."""
    with pytest.raises(Unimplemented, match="to type: unknown type 999"):
        decode([1], 999)


def test_64_dimensions_are_enough():
    """The deepest nesting that numpy has dimensions for is a tensor."""
    assert decode(parse(b"[" * 64 + b"1" + b"]" * 64), F).shape == (1,) * 64


numbers = st.sampled_from([0, 1, -1, 255, 2**31, -(2**31), 2**32, 2**63, 2**64 - 1, 0.5, -0.0, 1e39, NAN, INFINITY])
scalars = numbers | st.sampled_from([None, True, False, "", "é", "\udcff", {"b64": "aaaa"}, {"b64": "!"}, {}])
rectangles = st.builds(
    lambda shape, pool: [[[pool[(i + j + k) % len(pool)] for k in range(shape[2])] for j in range(shape[1])]
                         for i in range(shape[0])],
    st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(0, 3)),
    st.lists(numbers, min_size=1, max_size=4) | st.lists(scalars, min_size=1, max_size=3),
)  # fmt: skip
nested = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3), max_leaves=8)


@settings(max_examples=400)
@given(nested | rectangles, st.sampled_from([F, D, I8, U8, I16, I32, I64, U32, U64, B, S, DType.HALF]))
def test_what_the_quick_way_takes_the_exact_way_takes(value: Any, dtype: DType):
    """Where the quick way gives a tensor, the exact one gives an equal one, and not an error."""
    quick = read_quickly(value, dtype)
    try:
        elements = read(value, dtype)
    except ServingError:
        assert quick is None
        return
    if quick is not None:
        exact = to_array(elements.values, elements.shape, dtype)
        assert (quick.dtype, quick.shape) == (exact.dtype, exact.shape)
        assert repr(quick.tolist()) == repr(exact.tolist())


@pytest.mark.parametrize(
    ("dtype", "value"),
    [(F, [[1, 2.5]]), (D, 1), (I32, [1]), (U8, [300]), (U64, [2**64 - 1]), (B, [True]), (S, [["a"]]), (F, [[]])],
)
def test_ordinary_values_go_the_quick_way(dtype: DType, value: Any):
    """The quick way is not an ornament: it takes every ordinary value."""
    assert read_quickly(value, dtype) is not None
