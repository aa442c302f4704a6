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

from serving_app.protocol.json_numbers import FEW, float_text, mark, marked_texts, number_texts
from serving_app.protocol.json_text import is_binary, raw_strings, string_text, string_texts

Array = np.ndarray[Any, Any]
Marks = Callable[[int], tuple[bytes, bytes, bytes]]
"""What opens, separates and closes a list that so many lists are around."""

_INDENT = b"    "
_ROW_END = b"\xff"  # in no number, and no mark


def rows_text(outputs: Mapping[str, Array]) -> bytes:
    """The answer to a request by rows; the tensors have equally many, and elements that JSON can say."""
    if len(outputs) == 1:
        ((name, array),) = outputs.items()
        if not len(array):
            return b'{\n    "predictions": []\n}'
        if _is_long(array):
            pieces = _marked_pieces(array, lambda level: _on_one_line(level) if level else (b"", b", ", b""))
            return b"".join((b'{\n    "predictions": [', *pieces, b"\n    ]\n}"))
        return b'{\n    "predictions": [' + _short_rows_text(name, array) + b"\n    ]\n}"
    columns = [_row_texts(name, array) for name, array in outputs.items()]
    if not columns[0]:
        return b'{\n    "predictions": []\n}'
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
        return b"".join((b'{\n    "outputs": ', *_tensor_pieces(name, array, 1), b"\n}"))
    members = [
        b"".join((b"\n        ", string_text(name.encode()), b": ", *_tensor_pieces(name, array, 2)))
        for name, array in outputs.items()
    ]
    return b'{\n    "outputs": {' + b",".join(members) + b"\n    }\n}"


def _row_texts(name: str, array: Array) -> list[bytes]:
    """The rows of one output of several."""
    if _is_long(array):
        pieces = _marked_pieces(array, lambda level: _on_one_line(level) if level else (b"", _ROW_END, b""))
        return b"".join(pieces).split(_ROW_END)
    texts = _element_texts(name, array, array.ndim + 2)
    return _nest(texts, array.shape[1:], array.shape[0], _on_one_line)


def _tensor_pieces(name: str, array: Array, depth: int) -> list[bytes]:
    """The text of a whole tensor around which there are so many containers."""

    def marks(level: int) -> tuple[bytes, bytes, bytes]:
        outer = b"\n" + _INDENT * (depth + level)
        inner = outer + _INDENT
        return b"[" + inner, b"," + inner, outer + b"]"

    if _is_long(array):
        return _marked_pieces(array, marks)
    return _nest(_element_texts(name, array, depth + array.ndim), array.shape, 1, marks)


def _on_one_line(level: int) -> tuple[bytes, bytes, bytes]:
    return b"[", b", ", b"]"


# --- many numbers ----------------------------------------------------------------------------------------------------


def _is_long(array: Array) -> bool:
    return array.size > FEW and array.dtype.kind not in "OSU"


def _marked_pieces(array: Array, marks: Marks) -> list[bytes]:
    """The text of a tensor of numbers, of whose elements and lists there are no single texts.

    It may be many megabytes: it is put together once, as a part of the answer.
    """
    opening = closing = b""
    between: list[tuple[bytes, bytes]] = []
    for level in reversed(range(array.ndim)):
        before, separator, after = marks(level)
        between.append((mark(len(between)), closing + separator + opening))
        opening, closing = before + opening, closing + after
    pieces = []
    for piece in marked_texts(array):
        for place, text in between:
            piece = piece.replace(place, text)
        pieces.append(piece)
    return [opening, *pieces, closing]


# --- few numbers, and strings ----------------------------------------------------------------------------------------


def _short_rows_text(name: str, array: Array) -> bytes:
    """All rows of the only output, of which there is at least one."""
    kind = array.dtype.kind
    if kind == "f":
        return _few_text(array.tolist(), array.itemsize == 4).encode()
    if kind in "iu":
        return repr(array.tolist())[1:-1].encode()
    texts = _element_texts(name, array, array.ndim + 1)
    return b", ".join(_nest(texts, array.shape[1:], array.shape[0], _on_one_line))


def _few_text(values: list[Any], is_single: bool) -> str:
    """The elements of nested lists of floats, on one line."""
    if values and type(values[0]) is list:
        return ", ".join([f"[{_few_text(value, is_single)}]" for value in values])
    return ", ".join([float_text(value, is_single) for value in values])


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
    if not is_binary(name):
        return string_texts(array)
    outer = b"\n" + _INDENT * depth
    opening, closing = b"{" + outer + _INDENT + b'"b64": "', b'"' + outer + b"}"
    return [opening + b64encode(raw) + closing for raw in raw_strings(array)]
