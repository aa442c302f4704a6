"""Answers of `:predict` laid out as TensorFlow Serving does it, byte by byte.

It prints with an indentation of four blanks. Whole tensors (`outputs`) have a line for each element. Rows
(`predictions`) are on one line each, for which it switches to another style and back while it prints: so the first
value follows its bracket at once, and the bracket that closes all rows is on a line of its own.

    {                                                  {
        "predictions": [[1.0, 2.0], [3.0, 4.0]             "outputs": [
        ]                                                      1.0,
    }                                                          2.0
                                                           ]
                                                       }

The objects that stand for binary strings have a line for their member in either style (json_tensor.cc).
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Mapping
from math import prod
from typing import Any

import numpy as np

from serving_app.protocol.json_numbers import number_texts
from serving_app.protocol.json_text import is_binary, string_text

Array = np.ndarray[Any, Any]
Marks = Callable[[int], tuple[bytes, bytes, bytes]]
"""What opens, separates and closes a list that so many containers are around."""

_INDENT = b"    "


def rows_text(outputs: Mapping[str, Array]) -> bytes:
    """The answer to a request by rows; the tensors have equally many, and elements that JSON can say."""
    columns = [_row_texts(name, array, 2 if len(outputs) == 1 else 3) for name, array in outputs.items()]
    if not columns[0]:
        return b'{\n    "predictions": []\n}'
    if len(columns) == 1:
        return b'{\n    "predictions": [' + b", ".join(columns[0]) + b"\n    ]\n}"
    names = [b"\n" + _INDENT * 3 + string_text(name.encode()) + b": " for name in outputs]
    rows = [
        b"\n        {" + b",".join([name + text for name, text in zip(names, texts, strict=True)]) + b"\n        }"
        for texts in zip(*columns, strict=True)
    ]
    return b'{\n    "predictions": [' + b",".join(rows) + b"\n    ]\n}"


def columns_text(outputs: Mapping[str, Array]) -> bytes:
    """The answer to a request by whole tensors, whose elements JSON can say."""
    if len(outputs) == 1:
        ((name, array),) = outputs.items()
        return b'{\n    "outputs": ' + _tensor_text(name, array, 1) + b"\n}"
    members = [
        b"\n        " + string_text(name.encode()) + b": " + _tensor_text(name, array, 2)
        for name, array in outputs.items()
    ]
    return b'{\n    "outputs": {' + b",".join(members) + b"\n    }\n}"


def _row_texts(name: str, array: Array, depth: int) -> list[bytes]:
    texts = _element_texts(name, array, depth + array.ndim - 1)
    return _nest(texts, array.shape[1:], array.shape[0], lambda level: (b"[", b", ", b"]"))


def _tensor_text(name: str, array: Array, depth: int) -> bytes:
    def marks(level: int) -> tuple[bytes, bytes, bytes]:
        outer = b"\n" + _INDENT * (depth + level)
        inner = outer + _INDENT
        return b"[" + inner, b"," + inner, outer + b"]"

    return _nest(_element_texts(name, array, depth + array.ndim), array.shape, 1, marks)[0]


def _nest(texts: list[bytes], shape: tuple[int, ...], count: int, marks: Marks) -> list[bytes]:
    """The texts of `count` tensors of this shape, from those of all their elements."""
    for level in reversed(range(len(shape))):
        opening, separator, closing = marks(level)
        size, lists = shape[level], count * prod(shape[:level])
        if size == 0:
            texts = [b"[]"] * lists
        else:
            starts = range(0, lists * size, size)
            texts = [opening + separator.join(texts[at : at + size]) + closing for at in starts]
    return texts


def _element_texts(name: str, array: Array, depth: int) -> list[bytes]:
    """The texts of the elements in C order, around each of which there are so many containers."""
    if array.dtype.kind not in "OSU":
        return number_texts(array)
    strings = [element.encode() if isinstance(element, str) else element for element in array.ravel().tolist()]
    if not is_binary(name):
        return [string_text(string) for string in strings]
    outer = b"\n" + _INDENT * depth
    return [b"{" + outer + _INDENT + b'"b64": "' + b64encode(string) + b'"' + outer + b"}" for string in strings]
