"""Answers of `:predict` as compact JSON text.

Numbers go through orjson, which reads numpy's memory directly; strings are written here, since JSON text for bytes
that may not be UTF-8 is nobody else's business. Floats are written with the fewest digits that read back to the same
value of the same width, and as `NaN`, `Infinity` and `-Infinity` where they are not finite.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

import numpy as np
import orjson

from serving_app.core.signatures import DType

Array = np.ndarray[Any, Any]

WRITABLE = frozenset(
    {
        DType.STRING,
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
)
"""The types that TensorFlow Serving writes as JSON (json_tensor.cc); what is here is called with no others."""

_SPECIAL = re.compile(rb'["\\\x00-\x1f]')
# The backslash goes first: those of the others are not to be escaped.
_ESCAPES = {b"\\": b"\\\\"} | {bytes([code]): b"\\u%04X" % code for code in range(0x20)} | {
    b'"': b'\\"',
    b"\b": b"\\b",
    b"\f": b"\\f",
    b"\n": b"\\n",
    b"\r": b"\\r",
    b"\t": b"\\t",
}


def string_text(raw: bytes) -> bytes:
    """A JSON string of these bytes. Only what must be escaped is, so what is not UTF-8 goes out as it came in."""
    if _SPECIAL.search(raw):
        # Byte by byte of those that are there, and not place by place: there may be millions of places.
        for special, escape in _ESCAPES.items():
            if special in raw:
                raw = raw.replace(special, escape)
    return b'"' + raw + b'"'


_ORDINARY = bytes(code for code in range(0x20, 0x100) if code not in b'"\\')


def string_texts(array: Array) -> list[bytes]:
    """JSON strings of all elements of a string tensor, in C order."""
    raws = raw_strings(array)
    if b"".join(raws).translate(None, _ORDINARY):
        return list(map(string_text, raws))
    return [b'"%b"' % raw for raw in raws]


def raw_strings(array: Array) -> list[bytes]:
    """The bytes of all elements of a string tensor, in C order."""
    return [element.encode() if isinstance(element, str) else element for element in array.ravel().tolist()]


def is_binary(name: str) -> bool:
    """By this suffix of an output's name a model says that its strings are not text: `{"b64": "…"}` keeps any bytes."""
    return name.endswith("_bytes")


def rows_text(outputs: Mapping[str, Array]) -> bytes:
    """The answer to a request by rows; the tensors have equally many."""
    if len(outputs) == 1:
        ((name, array),) = outputs.items()
        return b'{"predictions":' + tensor_text(array, base64=is_binary(name)) + b"}"
    names = [string_text(name.encode()) + b":" for name in outputs]
    columns = [row_texts(array, base64=is_binary(name)) for name, array in outputs.items()]
    rows = [
        b"{" + b",".join([name + text for name, text in zip(names, texts, strict=True)]) + b"}"
        for texts in zip(*columns, strict=True)
    ]
    return b'{"predictions":[' + b",".join(rows) + b"]}"


def columns_text(outputs: Mapping[str, Array]) -> bytes:
    """The answer to a request by whole tensors."""
    texts = {name: tensor_text(array, base64=is_binary(name)) for name, array in outputs.items()}
    if len(texts) == 1:
        return b'{"outputs":' + next(iter(texts.values())) + b"}"
    members = [string_text(name.encode()) + b":" + text for name, text in texts.items()]
    return b'{"outputs":{' + b",".join(members) + b"}}"


def tensor_text(array: Array, *, base64: bool = False) -> bytes:
    """A tensor as nested lists, or as a bare value if it has no dimensions.

    Strings are written as JSON strings, or with `base64` as `{"b64": "…"}`.
    """
    if array.dtype.kind in "OSU":
        return _nested(array.shape, iter(_strings(array, base64)))
    return _numbers(array)


def row_texts(array: Array, *, base64: bool = False) -> list[bytes]:
    """The texts of array[0], array[1] and so on, as `tensor_text` gives them; the tensor has at least one dimension."""
    if array.dtype.kind in "OSU":
        elements = iter(_strings(array, base64))
        return [_nested(array.shape[1:], elements) for _ in range(array.shape[0])]
    if array.ndim == 1 and array.size:
        return _numbers(array)[1:-1].split(b",")
    return [_numbers(row) for row in array]


def _numbers(array: Array) -> bytes:
    try:
        text = orjson.dumps(array, option=orjson.OPT_SERIALIZE_NUMPY)
    except orjson.JSONEncodeError:  # its layout in memory is not what orjson reads
        if array.ndim == 0:
            return _numbers(array.reshape(1))[1:-1]
        array = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("="))
        text = orjson.dumps(array, option=orjson.OPT_SERIALIZE_NUMPY)
    if text.find(b"null") < 0:  # several times as fast as `in` where the text is short
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


def _strings(array: Array, base64: bool) -> list[bytes]:
    if base64:
        return [b'{"b64":"' + b64encode(raw) + b'"}' for raw in raw_strings(array)]
    return string_texts(array)
