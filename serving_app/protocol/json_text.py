"""Tensors as JSON text.

Numbers go through orjson, which reads numpy's memory directly; strings are written here, since JSON text for bytes
that may not be UTF-8 is nobody else's business. Floats are written with the fewest digits that read back to the same
value of the same width, as `NaN`, `Infinity` and `-Infinity` where they are not finite (which is not JSON, but is
what TensorFlow Serving and Python's json module write and read). The layout is compact.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import numpy as np
import orjson

from serving_app.core.errors import InvalidArgument
from serving_app.core.signatures import DType
from serving_app.protocol import dtypes

Array = np.ndarray[Any, Any]

_NUMBERS = frozenset(
    {
        DType.FLOAT,
        DType.DOUBLE,
        DType.INT8,
        DType.INT16,
        DType.INT32,
        DType.INT64,
        DType.UINT8,
        DType.UINT32,
        DType.UINT64,
        DType.BOOL,
    }
)  # TensorFlow Serving writes these and strings, and no other type (json_tensor.cc).

_SPECIAL = re.compile(rb'["\\\x00-\x1f]')
_ESCAPES = {bytes([code]): b"\\u%04X" % code for code in range(0x20)} | {
    b'"': b'\\"',
    b"\\": b"\\\\",
    b"\b": b"\\b",
    b"\f": b"\\f",
    b"\n": b"\\n",
    b"\r": b"\\r",
    b"\t": b"\\t",
}


def string_text(raw: bytes) -> bytes:
    """A JSON string of these bytes. Only what must be escaped is, so what is not UTF-8 goes out as it came in."""
    return b'"' + _SPECIAL.sub(lambda match: _ESCAPES[match[0]], raw) + b'"'


def tensor_text(array: Array, *, base64: bool = False) -> bytes:
    """A tensor as nested lists, or as a bare value if it has no dimensions.

    Strings are written as JSON strings, or with `base64` as `{"b64": "…"}`, which keeps any bytes intact.
    """
    dtype = _writable(array)
    if dtype == DType.STRING:
        return _nested(array.shape, map(_string_writer(base64), array.ravel().tolist()))
    return _numbers(array)


def row_texts(array: Array, *, base64: bool = False) -> list[bytes]:
    """The texts of array[0], array[1] and so on, as `tensor_text` gives them; the tensor has at least one dimension."""
    dtype = _writable(array)
    if dtype == DType.STRING:
        elements = map(_string_writer(base64), array.ravel().tolist())
        return [_nested(array.shape[1:], elements) for _ in range(array.shape[0])]
    if array.ndim == 1 and array.size:
        return _numbers(array)[1:-1].split(b",")
    return [_numbers(row) for row in array]


def _writable(array: Array) -> DType:
    dtype = dtypes.from_numpy(array.dtype)
    if dtype not in _NUMBERS and dtype != DType.STRING:
        raise InvalidArgument(f"Failed to write JSON value for tensor type: {dtype.label}")
    return dtype


def _numbers(array: Array) -> bytes:
    if array.ndim == 0:
        return _numbers(array.reshape(1))[1:-1]
    if not (array.flags.c_contiguous and array.dtype.isnative):
        array = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("="))
    text = orjson.dumps(array, option=orjson.OPT_SERIALIZE_NUMPY)
    if b"null" not in text:
        return text
    # orjson writes null for each value that is not finite, in C order, and for no other value of a tensor.
    tokens = iter(array[~np.isfinite(array)].tolist())
    return _NULL.sub(lambda _: _NOT_FINITE[str(next(tokens))], text)


_NULL = re.compile(rb"null")
_NOT_FINITE = {"nan": b"NaN", "inf": b"Infinity", "-inf": b"-Infinity"}


def _nested(shape: tuple[int, ...], elements: Iterator[bytes]) -> bytes:
    """Lists nested as `shape` says, around element texts in C order."""
    if not shape:
        return next(elements)
    if len(shape) == 1:
        return b"[" + b",".join(islice(elements, shape[0])) + b"]"
    return b"[" + b",".join([_nested(shape[1:], elements) for _ in range(shape[0])]) + b"]"


def _string_writer(base64: bool) -> Callable[[bytes | str], bytes]:
    def write(element: bytes | str) -> bytes:
        raw = element.encode() if isinstance(element, str) else element
        return b'{"b64":"' + b64encode(raw) + b'"}' if base64 else string_text(raw)

    return write
