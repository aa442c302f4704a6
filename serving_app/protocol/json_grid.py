"""Large requests that are one tensor of numbers, which is what large requests mostly are: images, embeddings, batches.

Read value by value, each number would become an object of 24 bytes, each innermost list one of 80, and while a parser
written in C makes them, nothing else in the process runs. Here the brackets and the numbers of the tensor are looked at
apart, piece by piece, so that other threads have their turn in between, and only an array of the numbers is kept.

That the text is right follows from three things. Without its numbers and blanks it is the one text of brackets and
commas that a tensor of this shape has. Without its brackets it is a list of numbers as orjson reads it: one between two
commas. And no number stands before an opening or after a closing bracket, so each is inside the innermost list.

Whatever does not fit, right or wrong, gives None: the parsers of `json_document` know all cases and all errors.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Grid:
    """A tensor of numbers that stands in a text."""

    values: Array
    """int64 if no number has a point or an exponent, else double."""
    before: bytes
    """The text before it."""
    after: bytes
    """The text after it."""


_PIECE = 1 << 18
_LONGEST_BEFORE = 1 << 12
_MAX_RANK = 64  # numpy's

_START = re.compile(rb"\[[\[ \t\r\n]*[-0-9]")
_BLANKS = b" \t\r\n"
_NUMBER = b"-+.eE0123456789"
_TO_ZEROS = bytes.maketrans(_NUMBER, b"0" * len(_NUMBER))
_TO_BLANKS = bytes.maketrans(b"[]", b"  ")


def find_grid(text: bytes, piece: int = _PIECE) -> Grid | None:
    """The tensor that a text has from its first bracket before a number to its last one after a number."""
    match = _START.search(text, 0, _LONGEST_BEFORE)
    end = _end(text)
    if match is None or match.start() >= end:
        return None
    start = match.start()
    brackets: list[bytes] = []
    numbers: list[Array] = []
    while start < end:
        cut = text.find(b",", start + piece, end)
        cut = end if cut < 0 else cut
        read = _read_piece(text[start:cut])
        if read is None:
            return None
        brackets.append(read[0])
        numbers.append(read[1])
        start = cut + 1
    shape = _shape(b",".join(brackets))
    if shape is None:
        return None
    # A double takes every int64 as the conversion of a single number does.
    values = numbers[0] if len(numbers) == 1 else np.concatenate(numbers)
    return Grid(values.reshape(shape), text[: match.start()], text[end:])


def _end(text: bytes) -> int:
    last = text.rfind(b"]")
    # In the row format, a tensor may be the member of an object that is in a list of its own.
    is_of_rows = text[max(last - 64, 0) : max(last, 0)].rstrip(_BLANKS).endswith(b"}")
    return (text.rfind(b"]", 0, last) if is_of_rows else last) + 1


def _read_piece(text: bytes) -> tuple[bytes, Array] | None:
    """The brackets and commas of a piece, and its numbers."""
    outline = text.translate(_TO_ZEROS, _BLANKS)
    brackets = outline.translate(None, b"0")
    if brackets.translate(None, b"[],") or not _are_numbers_inside(np.frombuffer(outline, np.uint8)):
        return None
    try:
        values = np.array(orjson.loads(b"[" + text.translate(_TO_BLANKS) + b"]"))
    except orjson.JSONDecodeError:
        return None
    has_floats = any(mark in text for mark in (b".", b"e", b"E"))
    # Integers beyond int64 have other types here, and rules of their own elsewhere.
    return (brackets, values) if values.dtype == (np.float64 if has_floats else np.int64) else None


def _are_numbers_inside(outline: Array) -> bool:
    """Whether no opening bracket follows a number, and no closing one precedes it."""
    opening = np.flatnonzero(outline[1:] == ord("["))
    closing = np.flatnonzero(outline[:-1] == ord("]")) + 1
    return not ((outline[opening] == ord("0")).any() or (outline[closing] == ord("0")).any())


def _shape(brackets: bytes) -> tuple[int, ...] | None:
    """The shape of the tensor that has these brackets and commas."""
    rank = len(brackets) - len(brackets.lstrip(b"["))
    if rank > _MAX_RANK:
        return None
    shape: list[int] = []
    length = 0  # of the text of the list one level further in
    for level in range(1, rank + 1):
        end = brackets.find(b"]" * level) + level
        if end < level:
            return None
        size = (end - (rank - level) - 1) // (length + 1)
        shape.insert(0, size)
        length = size * (length + 1) + 1
    if length != len(brackets):
        return None
    expected = b""
    for size in reversed(shape):
        expected = b"[" + (expected + b",") * (size - 1) + expected + b"]"
    return tuple(shape) if expected == brackets else None
