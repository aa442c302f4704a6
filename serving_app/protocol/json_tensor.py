"""One JSON value into one tensor, whose element type is known beforehand.

Nesting gives the shape: that of the first element at each level, which all others must have as well. No element is
converted to another JSON type: `1.0` is no int, `0` is no bool, `"1"` is no number. Strings are JSON strings, or
`{"b64": "…"}` for any bytes.

The work is described twice. `read_quickly` flattens nested lists and looks at the types of all elements at once; it
knows only right values, and leaves some of those to the other. `read` walks from element to element as TensorFlow
Serving does (json_tensor.cc), and so finds the same first mistake. Where the first gives an array, the second gives
an equal one.
"""

from __future__ import annotations

import binascii
import re
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any, NoReturn

import numpy as np

from serving_app.core.errors import InvalidArgument, Unimplemented
from serving_app.core.signatures import DType
from serving_app.protocol import dtypes
from serving_app.protocol.json_document import encode
from serving_app.protocol.json_excerpt import excerpt, kind
from serving_app.protocol.json_parser import JsonValue

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Elements:
    """A tensor's elements in C order, checked for its type, and the shape that they fill."""

    shape: tuple[int, ...]
    values: list[Any]


def decode(value: JsonValue, dtype: int) -> Array:
    """The tensor that a value says; InvalidArgument if it says none of this type, Unimplemented if JSON has none."""
    tensor = read_quickly(value, dtype)
    if tensor is None:
        elements = read(value, dtype)
        tensor = to_array(elements.values, elements.shape, dtype)
    return tensor


def is_base64(value: JsonValue) -> bool:
    """True for an object that stands for a string: one member, `b64`, which is a string."""
    return type(value) is dict and len(value) == 1 and type(value.get("b64")) is str


# --- which elements a type takes -------------------------------------------------------------------------------------

_INT32 = range(-(2**31), 2**31)
# The narrow types take what int32 takes and wrap, as in TensorFlow, which carries them as int32.
_INTEGERS: dict[int, tuple[range, np.dtype[Any]]] = {
    DType.INT8: (_INT32, np.dtype(np.int32)),
    DType.UINT8: (_INT32, np.dtype(np.int32)),
    DType.INT16: (_INT32, np.dtype(np.int32)),
    DType.INT32: (_INT32, np.dtype(np.int32)),
    DType.INT64: (range(-(2**63), 2**63), np.dtype(np.int64)),
    DType.UINT32: (range(2**32), np.dtype(np.uint32)),
    DType.UINT64: (range(2**64), np.dtype(np.uint64)),
}
_FLOATS = frozenset({DType.FLOAT, DType.DOUBLE})
_NUMBER_TYPES = {int, float}
_STRINGS = frozenset({str})
_LISTS = frozenset({list})
_FITTING: dict[int, frozenset[type]] = {
    **dict.fromkeys(_FLOATS, frozenset(_NUMBER_TYPES)),
    **dict.fromkeys(_INTEGERS, frozenset({int})),
    DType.BOOL: frozenset({bool}),
    DType.STRING: _STRINGS,
}
"""The Python types of all elements that `read_quickly` takes."""
_MAX_RANK = 64  # numpy's; TensorFlow has 254
_FLOAT = int(DType.FLOAT)  # a member of an enumeration takes longer to look up
_FLOAT_FORM = np.dtype(np.float32)


def read_quickly(value: JsonValue, dtype: int) -> Array | None:
    """The tensor that a value says, or None if that needs a closer look."""
    fitting = _FITTING.get(dtype)
    if fitting is None:
        return None
    if type(value) is list:
        shape: tuple[int, ...] = (len(value),)
        elements = value
    else:
        shape, elements = (), [value]
    while not fitting.issuperset(map(type, elements)):
        if len(shape) == _MAX_RANK or not _LISTS.issuperset(map(type, elements)):
            return None
        if len(elements) == 1:
            elements = elements[0]
            shape = (*shape, len(elements))
            continue
        sizes = set(map(len, elements))
        if len(sizes) != 1:
            return None
        shape = (*shape, *sizes)
        elements = list(chain.from_iterable(elements))
    if dtype == _FLOAT and elements:
        # As `to_array` does it, but that Python's array does not tell, and has not to be told not to tell, of what
        # float cannot hold.
        return np.ndarray(shape, _FLOAT_FORM, array("f", elements))
    if fitting is _STRINGS:
        elements = [element.encode("utf-8", "surrogateescape") for element in elements]
    try:
        return to_array(elements, shape, dtype)
    except OverflowError:  # an integer out of range
        return None


def convert(numbers: Array, dtype: int) -> Array | None:
    """The tensor that int64 or double numbers of a text say, or None if that needs a closer look."""
    if dtype in _FLOATS:
        with np.errstate(over="ignore"):
            return numbers.astype(np.float64, copy=False).astype(dtypes.to_numpy(dtype), copy=False)
    if dtype not in _INTEGERS or numbers.dtype != np.int64:
        return None
    allowed, carrier = _INTEGERS[dtype]
    if numbers.min() < allowed[0] or numbers.max() > allowed[-1]:
        return None
    return numbers.astype(carrier, copy=False).astype(dtypes.to_numpy(dtype), copy=False)


def to_array(values: list[Any], shape: tuple[int, ...], dtype: int) -> Array:
    """An array of checked elements."""
    _check_rank(shape)
    if dtype == DType.FLOAT:
        # What float cannot hold becomes infinite, silently, as in TensorFlow Serving.
        with np.errstate(over="ignore"):
            return np.array(values, np.float32).reshape(shape)
    if dtype in _INTEGERS:
        return np.array(values, _INTEGERS[dtype][1]).astype(dtypes.to_numpy(dtype), copy=False).reshape(shape)
    if dtype != DType.STRING:
        return np.array(values, dtypes.to_numpy(dtype)).reshape(shape)
    strings: Array = np.empty(len(values), np.object_)
    strings[:] = values
    return strings.reshape(shape)


# --- element by element ----------------------------------------------------------------------------------------------


def read(value: JsonValue, dtype: int) -> Elements:
    """The elements that a value says, each checked; or the error for the first mistake."""
    convert = _converter(dtype)
    shape = _first_shape(value)
    _check_rank(shape)
    rank = len(shape)
    values: list[Any] = []
    levels: list[Iterator[JsonValue]] = [iter((value,))]
    while levels:
        level = len(levels) - 1
        for item in levels[-1]:
            if type(item) is not list:
                if level != rank:
                    raise InvalidArgument(
                        f"JSON Value: {excerpt(item)} found at incorrect level: {level + 1} in the JSON DOM."
                        f" Expected at level: {rank}"
                    )
                values.append(convert(item))
                continue
            if level >= rank:
                raise InvalidArgument(f"Encountered list at unexpected level: {level} expected < {rank}")
            if len(item) != shape[level]:
                raise InvalidArgument(
                    f"Encountered list at unexpected size: {len(item)} at level: {level} expected size: {shape[level]}"
                )
            levels.append(iter(item))
            break
        else:
            levels.pop()
    return Elements(shape, values)


def _check_rank(shape: tuple[int, ...]) -> None:
    if len(shape) > _MAX_RANK:
        raise InvalidArgument(
            f"JSON Value nests lists {len(shape)} deep; send a tensor of at most {_MAX_RANK} dimensions."
        )


def _first_shape(value: JsonValue) -> tuple[int, ...]:
    """The sizes found by always following the first element."""
    shape = []
    while type(value) is list:
        shape.append(len(value))
        value = value[0] if value else None
    return tuple(shape)


def _converter(dtype: int) -> Callable[[JsonValue], Any]:
    """What turns one JSON value into an element of this type, or refuses it."""

    def mismatch(value: JsonValue) -> NoReturn:
        raise InvalidArgument(
            f"JSON Value: {excerpt(value)} Type: {kind(value)} is not of expected type: {dtypes.label(dtype)}"
        )

    def number(value: JsonValue) -> Any:
        return value if type(value) in _NUMBER_TYPES else mismatch(value)

    def boolean(value: JsonValue) -> Any:
        return value if type(value) is bool else mismatch(value)

    def string(value: JsonValue) -> Any:
        if type(value) is dict:
            return decode_base64(value)
        return encode(value) if type(value) is str else mismatch(value)

    def unsupported(value: JsonValue) -> NoReturn:
        raise Unimplemented(f"Conversion of JSON Value: {excerpt(value)} to type: {dtypes.label(dtype)}")

    if dtype in _INTEGERS:
        allowed = _INTEGERS[dtype][0]
        return lambda value: value if type(value) is int and value in allowed else mismatch(value)
    if dtype in _FLOATS:
        return number
    if dtype == DType.BOOL:
        return boolean
    return string if dtype == DType.STRING else unsupported


_BLANKS = re.compile(rb"[ \t\n\v\f\r]+")


def decode_base64(value: dict[str, Any]) -> bytes:
    """The bytes that an object stands for; InvalidArgument if it stands for none."""
    if not is_base64(value):
        raise InvalidArgument(f"JSON Value: {excerpt(value)} not formatted correctly for base64 data")
    try:
        return binascii.a2b_base64(value["b64"], strict_mode=True)
    except ValueError:  # it may still be right: blanks may be in it, and what fills it up may be missing
        return _decode_loose_base64(encode(value["b64"]))


def _decode_loose_base64(text: bytes) -> bytes:
    text = _BLANKS.sub(b"", text)
    unpadded = text.rstrip(b"=")
    padding = len(text) - len(unpadded)
    complete = -len(unpadded) % 4
    try:
        if padding not in (0, complete):
            raise ValueError("wrong padding")
        return binascii.a2b_base64(unpadded + b"=" * complete, strict_mode=True)
    except ValueError as error:
        raise InvalidArgument("Unable to base64 decode") from error
