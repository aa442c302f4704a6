"""TensorProto to numpy array and back.

The rules are those of tensorflow::Tensor::FromProto (tensor.cc):

- The values are in `tensor_content`, as the raw elements in row-major order, or else in the `*_val` list of the type.
- A list may be shorter than the tensor: its last value is repeated. An empty list means zeros (empty strings). A longer
  list is cut.
- `tensor_content` must have exactly the length of the tensor. For strings it holds all lengths as varints, then the
  bytes of all strings.
- No shape means a scalar. A size that is negative, and an unknown rank, are errors.

One rule is ours: repeating values may not make a tensor larger than MAX_FILLED_BYTES. A request of a few bytes could
otherwise claim any amount of memory. Values that were really sent are not limited here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from serving_app.core.errors import InvalidArgument
from serving_app.core.signatures import DType
from serving_app.protocol import dtypes, messages

MAX_FILLED_BYTES = 1 << 28
"""How large a tensor may become by repeating its last value: 256 MiB."""

_FEW = 16
"""Up to this many values, reading them one by one is faster than asking for a block."""

_AT_ONCE = 1 << 16
"""Values that go into a message at once, during which no other thread has a turn."""

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, slots=True)
class _Carrier:
    """How the values of one type travel in a `*_val` list.

    `listed` is the type of the list's elements. They are cast to `cast`, which then has the bits of the tensor's
    elements; a complex number is two of them.
    """

    field: str
    number: int
    listed: np.dtype[Any]
    cast: np.dtype[Any]
    form: np.dtype[Any]


def _carriers() -> dict[int, _Carrier]:
    rows: list[tuple[str, int, str, dict[DType, str | None]]] = [
        # field, its number, type of its elements, {tensor type: what an element is cast to, None for the form itself}
        ("float_val", 5, "f4", {DType.FLOAT: None}),
        ("double_val", 6, "f8", {DType.DOUBLE: None}),
        (
            "int_val",
            7,
            "i4",
            {
                **dict.fromkeys((DType.INT32, DType.UINT8, DType.INT16, DType.INT8, DType.UINT16)),
                **dict.fromkeys((DType.INT4, DType.UINT4, DType.INT2, DType.UINT2)),
                DType.QINT8: "i1",
                DType.QUINT8: "u1",
                DType.QINT16: "i2",
                DType.QUINT16: "u2",
                DType.QINT32: "i4",
            },
        ),
        ("scomplex_val", 9, "f4", {DType.COMPLEX64: "f4"}),
        ("int64_val", 10, "i8", {DType.INT64: None}),
        ("bool_val", 11, "?", {DType.BOOL: None}),
        ("dcomplex_val", 12, "f8", {DType.COMPLEX128: "f8"}),
        ("half_val", 13, "i4", {DType.HALF: "u2", DType.BFLOAT16: "u2"}),
        ("uint32_val", 16, "u4", {DType.UINT32: None}),
        ("uint64_val", 17, "u8", {DType.UINT64: None}),
        (
            "float8_val",
            18,
            "u1",
            {
                **dict.fromkeys((DType.FLOAT8_E5M2, DType.FLOAT8_E4M3FN, DType.FLOAT8_E4M3FNUZ), "u1"),
                **dict.fromkeys((DType.FLOAT8_E4M3B11FNUZ, DType.FLOAT8_E5M2FNUZ, DType.FLOAT4_E2M1FN), "u1"),
            },
        ),
    ]
    return {
        dtype: _Carrier(field, number, np.dtype(listed), np.dtype(cast) if cast else form, form)
        for field, number, listed, casts in rows
        for dtype, cast in casts.items()
        for form in [dtypes.to_numpy(dtype)]
    }


_CARRIERS = _carriers()


def decode_tensor(proto: Any, alias: str) -> Array:
    """The array that a TensorProto describes; InvalidArgument, naming the input `alias`, if it describes none.

    The array may be read-only: it then shares memory with the message's bytes.
    """
    dtype: int = proto.dtype
    carrier = _CARRIERS.get(dtype)
    if carrier is None and dtype != DType.STRING:
        raise _refused(alias, f"tensors of type {dtypes.proto_name(dtype)} cannot be sent")
    shape, count = _decode_shape(proto.tensor_shape, 8 if carrier is None else carrier.form.itemsize, alias)
    content: bytes = proto.tensor_content
    if carrier is None:
        strings = _split_strings(content, count, alias) if content and count else proto.string_val[:count]
        return _decode_strings(strings, count, alias).reshape(shape)
    if content and count:
        return _decode_content(content, count, carrier, alias).reshape(shape)
    values = _decode_values(proto, carrier)
    return _fill(values, count, carrier.form, alias).reshape(shape)


def decode_first(proto: Any, alias: str) -> Any:
    """The first element that a TensorProto describes, None if it has none; whatever its size, that costs the same, but
    for many strings in `tensor_content`. Errors as of `decode_tensor`, as far as they show in that one."""
    carrier = _CARRIERS.get(proto.dtype)
    _, count = _decode_shape(proto.tensor_shape, 8 if carrier is None else carrier.form.itemsize, alias)
    if not count:
        return None
    first = messages.TensorProto(dtype=proto.dtype)
    content: bytes = proto.tensor_content
    if content and carrier is None:
        first.string_val.append(_first_string(content, count, alias))
    elif content and carrier is not None:
        first.tensor_content = content[: carrier.form.itemsize]
    else:
        field = "string_val" if carrier is None else carrier.field
        listed = getattr(proto, field)
        # A complex number is two of them.
        some = listed[: 2 * carrier.listed.itemsize if isinstance(listed, bytes) and carrier is not None else 2]
        setattr(first, field, some) if isinstance(some, bytes) else getattr(first, field).extend(some)
    return decode_tensor(first, alias).flat[0]


def encode_tensor(array: Array, *, as_content: bool = False) -> Any:
    """The TensorProto of an array: all values in the list of its type, or in `tensor_content`.

    Strings are bytes, or text that is sent as UTF-8. InvalidArgument if TensorFlow has no such element type.
    """
    proto = messages.TensorProto()
    encode_tensor_into(proto, array, as_content=as_content)
    return proto


def encode_tensor_into(proto: Any, array: Array, *, as_content: bool = False) -> None:
    """As `encode_tensor`, into an empty TensorProto (a map's entry, say), which saves a copy."""
    array = np.asarray(array)
    dtype = dtypes.from_numpy(array.dtype)
    proto.dtype = int(dtype)
    shape = proto.tensor_shape
    shape.SetInParent()  # a scalar has a shape, too
    for size in array.shape:
        shape.dim.add(size=size)
    if dtype is DType.STRING:
        strings = [_to_bytes(element) for element in array.ravel().tolist()]
        if as_content:
            proto.tensor_content = _join_strings(strings)
        else:
            _extend(proto.string_val, strings)
        return
    carrier = _CARRIERS[dtype]
    flat = np.ascontiguousarray(array, dtype=carrier.form).reshape(-1)
    if as_content:
        proto.tensor_content = flat.tobytes()
    elif flat.size:
        _encode_values(proto, flat.view(carrier.cast).astype(carrier.listed, copy=False), carrier)


def _encode_values(proto: Any, values: Array, carrier: _Carrier) -> None:
    if values.dtype.kind == "f" or values.itemsize == 1:
        # On the wire these are the bytes that they are in memory. A message takes them from there in one piece, and
        # a list element by element, which takes fifty times as long.
        packed = values.tobytes()
        proto.MergeFromString(varint(carrier.number << 3 | 2) + varint(len(packed)) + packed)
    else:
        _extend(getattr(proto, carrier.field), values)


def _extend(listed: Any, values: Array | list[bytes]) -> None:
    """Adds values to a list of a message, piece by piece, so that others have their turn in between."""
    for start in range(0, len(values), _AT_ONCE):
        piece = values[start : start + _AT_ONCE]
        listed.extend(piece if isinstance(piece, list) else piece.tolist())


def _refused(alias: str, reason: str) -> InvalidArgument:
    return InvalidArgument(f"tensor parsing error: {alias}: {reason}")


def _decode_shape(shape: Any, itemsize: int, alias: str) -> tuple[tuple[int, ...], int]:
    """The size of every dimension, and the number of elements."""
    if shape.unknown_rank:
        raise _refused(alias, "the shape has an unknown rank; send every dimension's size")
    sizes = tuple([dim.size for dim in shape.dim])
    if len(sizes) > 64:
        raise _refused(alias, f"the shape has {len(sizes)} dimensions; at most 64 are supported")
    if sizes and min(sizes) < 0:
        raise _refused(alias, f"the shape {list(sizes)} has a negative size; send the real one")
    count = math.prod(sizes)
    # A dimension of 0 does not make the others harmless: strides are computed from them.
    spanned = count or math.prod(size or 1 for size in sizes)
    if spanned * itemsize >= 1 << 63:
        raise _refused(alias, f"the shape {list(sizes)} is too large for any memory")
    return sizes, count


def _decode_content(content: bytes, count: int, carrier: _Carrier, alias: str) -> Array:
    wanted = count * carrier.form.itemsize
    if len(content) != wanted:
        raise _refused(alias, f"tensor_content has {len(content)} bytes where the shape needs {wanted}")
    if carrier.form.kind == "b":
        # Only the bytes 0 and 1 are bools to numpy; whatever else is sent is a true one.
        return np.frombuffer(content, np.uint8).astype(np.bool_)
    return np.frombuffer(content, carrier.form)


def _decode_values(proto: Any, carrier: _Carrier) -> Array:
    listed = getattr(proto, carrier.field)
    if isinstance(listed, bytes):
        values = np.frombuffer(listed, carrier.listed)
    elif len(listed) <= _FEW:
        values = np.fromiter(listed, carrier.listed, len(listed))
    else:
        values = np.array(listed, carrier.listed)
    if carrier.form is carrier.listed:
        return values
    if carrier.form.kind == "c":
        values = values[: len(values) // 2 * 2]
    return values.astype(carrier.cast, copy=False).view(carrier.form)


def _fill(values: Array, count: int, form: np.dtype[Any], alias: str) -> Array:
    sent = len(values)
    if sent >= count:
        return values if sent == count else values[:count]
    _check_filled(sent, count, form.itemsize, alias)
    if not sent:
        return np.zeros(count, form)
    filled = np.empty(count, form)
    filled[:sent] = values
    filled[sent:] = values[-1]
    return filled


def _check_filled(sent: int, count: int, itemsize: int, alias: str) -> None:
    if count * itemsize > MAX_FILLED_BYTES:
        limit = MAX_FILLED_BYTES // itemsize
        raise _refused(
            alias, f"the shape has {count} elements but {sent} are there; only up to {limit} may be left to repetition"
        )


def _decode_strings(strings: list[bytes], count: int, alias: str) -> Array:
    if len(strings) < count:
        _check_filled(len(strings), count, 8, alias)
        strings = strings + [strings[-1] if strings else b""] * (count - len(strings))
    array = np.empty(count, object)
    array[:] = strings
    return array


def _split_strings(content: bytes, count: int, alias: str) -> list[bytes]:
    """Strings out of `tensor_content`: `count` varint lengths, then the bytes of all."""
    if count > len(content):
        raise _refused(alias, f"tensor_content has {len(content)} bytes, too few for {count} strings")
    lengths = []
    at = 0
    for _ in range(count):
        length = shift = 0
        while True:
            if at == len(content) or shift > 28:
                raise _refused(alias, "tensor_content has a broken string length")
            byte = content[at]
            at += 1
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        lengths.append(length)
    if at + sum(lengths) != len(content):
        raise _refused(
            alias, f"tensor_content has {len(content) - at} bytes of strings where their lengths sum to {sum(lengths)}"
        )
    strings = []
    for length in lengths:
        strings.append(content[at : at + length])
        at += length
    return strings


def _first_string(content: bytes, count: int, alias: str) -> bytes:
    ends = np.flatnonzero(np.frombuffer(content, np.uint8, min(len(content), 5 * count)) < 0x80)
    if len(ends) < count:
        raise _refused(alias, "tensor_content has a broken string length")
    length = sum((byte & 0x7F) << 7 * place for place, byte in enumerate(content[: int(ends[0]) + 1]))
    start = int(ends[count - 1]) + 1
    return content[start : start + length]


def _join_strings(strings: list[bytes]) -> bytes:
    return b"".join([varint(len(string)) for string in strings] + strings)


def _to_bytes(element: object) -> bytes:
    if isinstance(element, bytes):
        return element
    if isinstance(element, str):
        return element.encode()
    raise InvalidArgument(f"A string tensor holds bytes or text, not {type(element).__name__}: {element!r:.100}")


def varint(value: int) -> bytes:
    """A number as protobuf writes it."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
