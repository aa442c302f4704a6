"""TensorProto to array and back, against TensorFlow's own conversions."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2

from serving_app.core.errors import InvalidArgument
from serving_app.core.signatures import DType
from serving_app.protocol import dtypes, messages, tensor_proto
from serving_app.protocol.tensor_proto import decode_tensor, encode_tensor

VALUE_TYPES = [dtype for dtype in DType if dtype not in (DType.INVALID, DType.RESOURCE, DType.VARIANT)]
SHAPES = [(), (1,), (0,), (3,), (2, 3), (0, 4), (2, 1, 5), (40,)]


def sample(dtype: DType, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """Varied values of a type, extremes and negative ones among them."""
    count = int(np.prod(shape))
    form = dtypes.to_numpy(dtype)
    if dtype is DType.STRING:
        array = np.empty(count, object)
        array[:] = [[b"", b"\xff\0x", "é".encode(), b"a" * 200][i % 4] for i in range(count)]
    elif form.kind == "c":
        array = (np.arange(count) * (1.5 - 2j) + 0.5).astype(form)
    elif form.kind == "b":
        array = np.arange(count) % 3 == 0
    elif form.names or form.kind in "iu":
        plain = form[0] if form.names else form
        info = np.iinfo(plain)
        values = [info.min, info.max, 0, 1, info.max // 3, info.min // 2, 127, 100]
        array = np.array([min(values[i % 8], info.max) for i in range(count)], plain).view(form)
    else:
        array = (np.arange(count) % 5 - 2.0).astype(form)
    return array.reshape(shape)


def same(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> bool:
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    return a.tolist() == b.tolist() if a.dtype.kind == "O" else a.tobytes() == b.tobytes()


def theirs(proto: Any) -> tensor_pb2.TensorProto:
    return tensor_pb2.TensorProto.FromString(proto.SerializeToString())


def ours(proto: tensor_pb2.TensorProto) -> Any:
    return messages.TensorProto.FromString(proto.SerializeToString())


def refusal(proto: Any) -> str:
    with pytest.raises(InvalidArgument) as caught:
        decode_tensor(proto, "x")
    assert caught.value.message.startswith("tensor parsing error: x")
    return caught.value.message


@pytest.mark.parametrize("as_content", [False, True])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", VALUE_TYPES, ids=lambda dtype: dtype.name)
def test_round_trip(dtype: DType, shape: tuple[int, ...], as_content: bool) -> None:
    """Every type in every shape comes back as it was, from lists and from tensor_content."""
    array = sample(dtype, shape)
    proto = encode_tensor(array, as_content=as_content)
    assert proto.dtype == dtype
    assert proto.HasField("tensor_shape")
    assert bool(proto.tensor_content) == (as_content and array.size > 0)
    assert same(decode_tensor(proto, "x"), array)


# For these tf.make_ndarray and tf.make_tensor_proto have no code; TensorFlow's runtime has, see below.
LACKED = {DType.FLOAT8_E4M3FNUZ, DType.FLOAT8_E4M3B11FNUZ, DType.FLOAT8_E5M2FNUZ}
PYTHON_TYPES = [dtype for dtype in VALUE_TYPES if dtype not in LACKED]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", PYTHON_TYPES, ids=lambda dtype: dtype.name)
def test_tensorflow_reads_what_we_write(dtype: DType, shape: tuple[int, ...]) -> None:
    """tf.make_ndarray makes the same array of our list as we do."""
    array = sample(dtype, shape)
    read = tf.make_ndarray(theirs(encode_tensor(array)))
    assert read.shape == array.shape
    if array.dtype.names:  # it gives each element of a quantized tensor its own record type
        assert read.astype(array.dtype).tobytes() == array.tobytes()
    else:
        assert same(read, array)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", PYTHON_TYPES, ids=lambda dtype: dtype.name)
def test_we_read_what_tensorflow_writes(dtype: DType, shape: tuple[int, ...]) -> None:
    """We make the same array of tf.make_tensor_proto's message as was put in."""
    array = sample(dtype, shape)
    if array.dtype.names:
        proto = tf.make_tensor_proto(array.view(array.dtype[0]))
        proto.dtype = int(dtype)
    else:
        proto = tf.make_tensor_proto(array, shape=shape, dtype=tf.as_dtype(int(dtype)))
    assert same(decode_tensor(ours(proto), "x"), array)


RUNTIME_TYPES = [dtype for dtype in VALUE_TYPES if dtype not in (DType.INT2, DType.UINT2, DType.FLOAT4_E2M1FN)]


@pytest.mark.parametrize("seed", range(60))
def test_the_runtime_reads_short_lists_the_same(seed: int) -> None:
    """Lists that are shorter or longer than the tensor, or empty, mean what they mean to TensorFlow's C++ code."""
    rng = random.Random(seed)
    dtype = rng.choice([DType.FLOAT, DType.DOUBLE, DType.INT32, DType.UINT8, DType.INT16, DType.INT64, DType.BOOL,
                        DType.HALF, DType.BFLOAT16, DType.COMPLEX64, DType.COMPLEX128, DType.STRING, DType.UINT32,
                        DType.UINT64, DType.INT8, DType.UINT16, DType.QINT8, DType.FLOAT8_E5M2])  # fmt: skip
    shape = rng.choice([(), (1,), (4,), (2, 3), (0,), (30,)])
    listed = sample(dtype, (rng.choice([0, 1, 2, 5, 7, 40]),))
    proto = encode_tensor(listed)
    proto.ClearField("tensor_shape")
    for size in shape:
        proto.tensor_shape.dim.add(size=size)
    if dtype in (DType.COMPLEX64, DType.COMPLEX128) and rng.random() < 0.5:  # half a number too much is ignored
        (proto.scomplex_val if dtype is DType.COMPLEX64 else proto.dcomplex_val).append(9.0)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        serialized = tf.io.parse_tensor(proto.SerializeToString(), tf.as_dtype(int(dtype)))
        expected = session.run(serialized)
    decoded = decode_tensor(proto, "x")
    assert decoded.shape == shape
    if dtype is DType.STRING:
        assert decoded.tolist() == np.asarray(expected, object).tolist()
    else:
        assert decoded.tobytes() == np.asarray(expected).tobytes()


@pytest.mark.parametrize("dtype", RUNTIME_TYPES, ids=lambda dtype: dtype.name)
def test_the_runtime_reads_tensor_content_the_same(dtype: DType) -> None:
    """tensor_content, that of strings included, is laid out as TensorFlow's C++ code expects it."""
    array = sample(dtype, (2, 3))
    proto = encode_tensor(array, as_content=True)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        parsed = session.run(tf.io.parse_tensor(proto.SerializeToString(), tf.as_dtype(int(dtype))))
    assert same(decode_tensor(proto, "x"), array)
    if dtype is DType.STRING:
        assert parsed.tolist() == array.tolist()
    else:
        assert parsed.tobytes() == array.tobytes()


@pytest.mark.parametrize(
    ("dtype", "field", "listed", "expected"),
    [
        (DType.FLOAT, "float_val", [1.5], [1.5, 1.5, 1.5]),
        (DType.FLOAT, "float_val", [1.0, 2.0], [1.0, 2.0, 2.0]),
        (DType.FLOAT, "float_val", [1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 3.0]),
        (DType.FLOAT, "float_val", [], [0.0, 0.0, 0.0]),
        (DType.STRING, "string_val", [b"a"], [b"a", b"a", b"a"]),
        (DType.STRING, "string_val", [], [b"", b"", b""]),
        (DType.UINT8, "int_val", [255, 256, -1], [255, 0, 255]),
        (DType.INT8, "int_val", [200], [-56, -56, -56]),
        (DType.HALF, "half_val", [0x3C00, 0x10000 + 0xBC00], [1.0, -1.0, -1.0]),
        (DType.BFLOAT16, "half_val", [0x3F80], [1.0, 1.0, 1.0]),
        (DType.COMPLEX64, "scomplex_val", [1.0, 2.0, 3.0], [1 + 2j, 1 + 2j, 1 + 2j]),
        (DType.COMPLEX64, "scomplex_val", [1.0], [0j, 0j, 0j]),
        (DType.FLOAT, "double_val", [1.0], [0.0, 0.0, 0.0]),
    ],
)
def test_lists(dtype: DType, field: str, listed: list[Any], expected: list[Any]) -> None:
    """The last value repeats, none means zeros, too many are cut, integers wrap, and other types' lists are ignored."""
    proto = messages.TensorProto(dtype=int(dtype), **{field: listed})
    proto.tensor_shape.dim.add(size=3)
    assert decode_tensor(proto, "x").tolist() == expected


def test_no_shape_is_a_scalar() -> None:
    """A TensorProto without shape is a scalar."""
    decoded = decode_tensor(messages.TensorProto(dtype=1, float_val=[2.5]), "x")
    assert (decoded.shape, decoded.item()) == ((), 2.5)


def test_content_comes_without_a_copy() -> None:
    """An array from tensor_content looks into the message's bytes; it is read-only."""
    decoded = decode_tensor(encode_tensor(np.arange(6.0).reshape(2, 3), as_content=True), "x")
    assert not decoded.flags.writeable
    assert not decoded.flags.owndata


def test_content_of_bools_becomes_bools() -> None:
    """A byte that is neither 0 nor 1 is true, not a bool that is neither."""
    proto = messages.TensorProto(dtype=int(DType.BOOL), tensor_content=b"\x00\x01\x02")
    proto.tensor_shape.dim.add(size=3)
    assert decode_tensor(proto, "x").tobytes() == b"\x00\x01\x01"


def proto_of(dtype: int, sizes: list[int], **fields: Any) -> Any:
    proto = messages.TensorProto(dtype=dtype, **fields)
    proto.tensor_shape.SetInParent()
    for size in sizes:
        proto.tensor_shape.dim.add(size=size)
    return proto


@pytest.mark.parametrize(
    ("proto", "reason"),
    [
        (proto_of(0, [1]), "DT_INVALID"),
        (proto_of(DType.RESOURCE, []), "DT_RESOURCE"),
        (proto_of(DType.VARIANT, []), "DT_VARIANT"),
        (proto_of(101, [1], float_val=[1.0]), "DataType 101"),
        (proto_of(4711, [1]), "DataType 4711"),
        (proto_of(1, [-1], float_val=[1.0]), "negative size"),
        (proto_of(1, [2, -3]), "negative size"),
        (proto_of(1, [1] * 65), "65 dimensions"),
        (proto_of(1, [10**12], float_val=[1.0]), "only up to"),
        (proto_of(1, [10**12]), "only up to"),
        (proto_of(DType.STRING, [10**12], string_val=[b"a"]), "only up to"),
        (proto_of(1, [10**12], tensor_content=b"abcd"), "tensor_content has 4 bytes"),
        (proto_of(DType.STRING, [10**12], tensor_content=b"abcd"), "too few for"),
        (proto_of(1, [2**62, 2]), "too large"),
        (proto_of(1, [2**62, 0]), "too large"),
        (proto_of(1, [2**40] * 20), "too large"),
        (proto_of(1, [2], tensor_content=b"1234567"), "7 bytes where the shape needs 8"),
        (proto_of(1, [2], tensor_content=b"123456789"), "9 bytes where the shape needs 8"),
        (proto_of(DType.STRING, [2], tensor_content=b"\x01\x02a"), "lengths sum to 3"),
        (proto_of(DType.STRING, [1], tensor_content=b"\x81"), "broken string length"),
        (proto_of(DType.STRING, [1], tensor_content=b"\xff" * 9), "broken string length"),
        (proto_of(DType.STRING, [1], tensor_content=b"\x01ab"), "lengths sum to 1"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_lies_are_refused(proto: Any, reason: str) -> None:
    """What is no tensor is refused by name and reason, before any memory is taken for it."""
    assert reason in refusal(proto)


def test_unknown_rank_is_refused() -> None:
    """A shape of unknown rank cannot hold values."""
    proto = messages.TensorProto(dtype=1, float_val=[1.0])
    proto.tensor_shape.unknown_rank = True
    assert "unknown rank" in refusal(proto)


def test_only_repetition_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    """Above the limit, values that are really there are fine, and repeated ones are not."""
    monkeypatch.setattr(tensor_proto, "MAX_FILLED_BYTES", 40)
    assert decode_tensor(proto_of(1, [10], float_val=[1.0]), "x").nbytes == 40
    assert decode_tensor(proto_of(1, [11], float_val=[1.0] * 11), "x").nbytes == 44
    assert "11 elements but 10 are there" in refusal(proto_of(1, [11], float_val=[1.0] * 10))


@pytest.mark.parametrize(
    ("array", "dtype"),
    [
        (np.array(["é", "x"]), DType.STRING),
        (np.array([b"ab", b"c"]), DType.STRING),
        (np.array(["é", b"x"], object), DType.STRING),
        (np.array([1.0, 2.0], ">f4"), DType.FLOAT),
        (np.arange(12).reshape(3, 4)[:, ::2], DType.INT64),
        (np.arange(12, dtype=np.uint16).reshape(3, 4).T, DType.UINT16),
        ((np.arange(8) * 1j).astype(np.complex64)[::2], DType.COMPLEX64),
        (np.float32(3.5), DType.FLOAT),
    ],
)
def test_other_layouts(array: Any, dtype: DType) -> None:
    """Text, foreign byte order, slices, transposed arrays and numpy scalars are written as what they mean."""
    for as_content in (False, True):
        proto = encode_tensor(array, as_content=as_content)
        assert proto.dtype == dtype
        decoded = decode_tensor(proto, "x").tolist()
        expected = np.asarray(array).tolist()
        if dtype is DType.STRING:
            expected = [value.encode() if isinstance(value, str) else value for value in expected]
        assert decoded == expected


@pytest.mark.parametrize("value", [1, None, [b"x"]])
def test_no_strings(value: object) -> None:
    """An object array that holds something else than strings is refused with the type's name."""
    array = np.empty(2, object)
    array[:] = [b"fine", value]
    with pytest.raises(InvalidArgument, match=type(value).__name__):
        encode_tensor(array)


@pytest.mark.parametrize("dtype", [DType.INT32, DType.INT64, DType.UINT32, DType.UINT64], ids=lambda dtype: dtype.name)
def test_integers_of_every_length(dtype: DType) -> None:
    """Integers of one to ten bytes on the wire are written as protobuf writes them."""
    info = np.iinfo(dtypes.to_numpy(dtype))
    values = sorted({v for k in range(65) for v in (2**k - 1, 2**k, -(2**k)) if info.min <= v <= info.max})
    proto = encode_tensor(np.array(values, dtypes.to_numpy(dtype)))
    field = {DType.INT32: "int_val", DType.INT64: "int64_val", DType.UINT32: "uint32_val", DType.UINT64: "uint64_val"}
    assert list(getattr(proto, field[dtype])) == values
    again = messages.TensorProto(dtype=int(dtype), tensor_shape=proto.tensor_shape, **{field[dtype]: values})
    assert again.SerializeToString() == proto.SerializeToString()


@pytest.mark.parametrize("dtype", [DType.STRING, DType.INT64, DType.BOOL, DType.HALF, DType.COMPLEX64])
@pytest.mark.parametrize("at_once", [20, 39, 40, 41])
def test_values_are_moved_in_pieces(monkeypatch: pytest.MonkeyPatch, dtype: DType, at_once: int) -> None:
    """Values in lists arrive complete and in order, however many go at once."""
    monkeypatch.setattr(tensor_proto, "_AT_ONCE", at_once)
    array = sample(dtype, (2, 20))
    proto = encode_tensor(array)
    assert same(tf.make_ndarray(theirs(proto)), array)
    assert same(decode_tensor(proto, "x"), array)
