"""Large requests that are one tensor of numbers, which is what large requests mostly are: images, embeddings, batches.

Read value by value, each number would become an object of 24 bytes, each innermost list one of 80, and while a parser
written in C makes them, nothing else in the process runs. Here the tensor is read piece by piece, so that other threads
have their turn in between, and of each piece only an array of its numbers is kept, and its brackets and commas.

A piece ends before a comma. With as many brackets put before it as are open there, and closed after it as then are, it
is a list that a parser can judge. That the whole text is right follows from three things: each piece is a list of lists
and numbers and of nothing else; the brackets and commas of all are the one text that a tensor of this shape has; and
there are as many numbers as it has elements, so that none is missing beside a comma or in a list.

The parser is simdjson, which makes an array of numbers without an object for each. Where it is not installed, orjson
reads the piece as a flat list, and the places of numbers are compared with those of brackets.

Whatever does not fit, right or wrong, gives None: the parsers of `json_document` know all cases and all errors.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import orjson

try:
    import simdjson

    _HAS_SIMDJSON = True
except ImportError:  # there are platforms without it
    _HAS_SIMDJSON = False

Array = np.ndarray[Any, Any]
ReadPiece = Callable[[bytes, int, int], Array | None]
"""The numbers of a piece before which so many lists are open, and after it so many; None if it is not right, or too
special. Double if one has a point or an exponent, else int64."""


@dataclass(frozen=True, slots=True)
class Grid:
    """A tensor of numbers that stands in a text."""

    values: Array
    """int64 if no number has a point or an exponent, else double."""
    before: bytes
    """The text before it."""
    after: bytes
    """The text after it."""


_PIECE = 1 << 17
_LONGEST_BEFORE = 1 << 12
_MAX_RANK = 64  # numpy's

_START = re.compile(rb"\[[\[ \t\r\n]*[-0-9]")
_BLANKS = b" \t\r\n"
_NUMBER = b"-+.eE0123456789"


def find_grid(text: bytes, piece: int = _PIECE, read_piece: ReadPiece | None = None) -> Grid | None:
    """The tensor that a text has from its first bracket before a number to its last one after a number."""
    match = _START.search(text, 0, _LONGEST_BEFORE)
    end = _end(text)
    if match is None or match.start() >= end:
        return None
    read_piece = read_piece or DEFAULT_READER()
    start = match.start()
    outlines: list[bytes] = []
    numbers: list[Array] = []
    opened = 0
    while start < end:
        cut = text.find(b",", start + piece, end)
        cut = end if cut < 0 else cut
        part = text[start:cut]
        outline = part.translate(None, _NUMBER + _BLANKS)
        still_open = opened + outline.count(b"[") - outline.count(b"]")
        if not 0 <= still_open <= _MAX_RANK:
            return None
        read = read_piece(part, opened, still_open)
        if read is None:
            return None
        outlines.append(outline)
        numbers.append(read)
        start, opened = cut + 1, still_open
    shape = _shape(b",".join(outlines))
    if shape is None or prod(shape) != sum(map(len, numbers)):
        return None
    # A double takes every int64 as the conversion of a single number does.
    values = numbers[0] if len(numbers) == 1 else np.concatenate(numbers)
    return Grid(values.reshape(shape), text[: match.start()], text[end:])


def _end(text: bytes) -> int:
    last = text.rfind(b"]")
    # In the row format, a tensor may be the member of an object that is in a list of its own.
    is_of_rows = text[max(last - 64, 0) : max(last, 0)].rstrip(_BLANKS).endswith(b"}")
    return (text.rfind(b"]", 0, last) if is_of_rows else last) + 1


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


# --- pieces ----------------------------------------------------------------------------------------------------------


def _has_floats(piece: bytes) -> bool:
    return any(mark in piece for mark in (b".", b"e", b"E"))


def make_simdjson_reader() -> ReadPiece:
    """A reader for the pieces of one text, which shares its memory among them."""
    parser = simdjson.Parser()

    def read(piece: bytes, opened: int, still_open: int) -> Array | None:
        has_floats = _has_floats(piece)
        try:
            nested: Any = parser.parse(b"[" * opened + piece + b"]" * still_open)
            numbers = nested.as_buffer(of_type="d" if has_floats else "i")
        except (ValueError, TypeError, RuntimeError):  # no JSON, no numbers, integers beyond int64
            return None
        return np.frombuffer(numbers, np.float64 if has_floats else np.int64)

    return read


_TO_ZEROS = bytes.maketrans(_NUMBER, b"0" * len(_NUMBER))
_TO_BLANKS = bytes.maketrans(b"[]", b"  ")


def read_by_orjson(piece: bytes, opened: int, still_open: int) -> Array | None:
    """The same without simdjson, which takes three times as long."""
    outline = np.frombuffer(piece.translate(_TO_ZEROS, _BLANKS), np.uint8)
    # Inside of lists: no opening bracket follows a number, and no closing one precedes it.
    opening = np.flatnonzero(outline[1:] == ord("["))
    closing = np.flatnonzero(outline[:-1] == ord("]")) + 1
    if (outline[opening] == ord("0")).any() or (outline[closing] == ord("0")).any():
        return None
    try:
        values = np.array(orjson.loads(b"[" + piece.translate(_TO_BLANKS) + b"]"))
    except orjson.JSONDecodeError:
        return None
    # Integers beyond int64 have other types here, and rules of their own elsewhere.
    return values if values.dtype == (np.float64 if _has_floats(piece) else np.int64) else None


DEFAULT_READER: Callable[[], ReadPiece] = make_simdjson_reader if _HAS_SIMDJSON else lambda: read_by_orjson
"""What reads pieces here."""
