"""The numbers of a tensor as JSON text, digit by digit as TensorFlow Serving prints them.

Integers and booleans are plain. A float has six significant digits if they read back to the same value of the same
width, else nine (or seventeen, for a double), and `.0` at its end if it would look like an integer: `0.1`, `9e+06`,
`0.333333343`, `16777216.0` (json_tensor.cc, WriteDecimal). What is not finite is `NaN`, `Infinity` or `-Infinity`,
which is not JSON, but is what Python's json module writes and reads as well.

`float_text` says the rule for one value; for thousands at once, see `json_digits`.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from struct import Struct
from typing import Any

import numpy as np
import orjson

from serving_app.protocol.json_digits import text_rows

Array = np.ndarray[Any, Any]

_SINGLE = Struct("f")
_AT_ONCE = 8192
"""Values formatted in one go; in between, other threads have their turn."""
FEW = 128
"""Up to so many values, arithmetic on arrays would take longer than the formatting of each."""


def number_texts(array: Array) -> list[bytes]:
    """The text of each element in C order, of a tensor of floats, doubles, integers or booleans."""
    if not array.size:
        return []
    if array.dtype.kind == "f" and array.size <= FEW:
        is_single = array.dtype.itemsize == 4
        return [float_text(value, is_single).encode() for value in array.ravel().tolist()]
    return b"".join(marked_texts(array.reshape(-1))).split(b",")


def mark(ending: int) -> bytes:
    """What stands in `marked_texts` after an element with which so many lists end, of which others follow.

    It is no part of any number.
    """
    return b"," if ending == 0 else bytes((0x80 + ending,))


def marked_texts(array: Array) -> Iterator[bytes]:
    """Pieces of the text of all elements in C order, of which there is at least one; a mark after each but the last."""
    if array.dtype.kind == "f":
        return _marked_floats(array)
    return iter((_marked_integers(array),))


def _marked_floats(array: Array) -> Iterator[bytes]:
    values = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("=")).reshape(-1)
    marks = np.full(array.size, ord(","), np.uint8)
    for ending in range(1, array.ndim):
        size = prod(array.shape[-ending:])
        marks[size - 1 :: size] = mark(ending)[0]
    marks[-1] = 0
    for start in range(0, values.size, _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        rows = text_rows(values[part], float_text)
        rows[:, -1] = marks[part]
        yield rows.tobytes().translate(None, b"\0")


def _marked_integers(array: Array) -> bytes:
    text = orjson.dumps(
        np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("=")), option=orjson.OPT_SERIALIZE_NUMPY
    )
    for ending in reversed(range(1, array.ndim)):
        text = text.replace(b"]" * ending + b"," + b"[" * ending, mark(ending))
    return text[array.ndim : -array.ndim]


def float_text(value: float, is_single: bool) -> str:
    """The text of one value, of float if `is_single`, else of double."""
    if value.is_integer() and -1e6 < value < 1e6:
        return repr(value)  # the same, and soonest done
    text = "%.6g" % value  # noqa: UP031  # half the time of an f-string
    read = float(text)
    if read != value:
        if value != value:
            return "NaN"
        distance = read - value
        # Two floats are at least so far apart, but for those with few bits.
        is_far = distance * distance > value * value * 2.0**-48 > 2.0**-300
        if not is_single or is_far or _SINGLE.unpack(_SINGLE.pack(read))[0] != value:
            text = ("%.9g" if is_single else "%.17g") % value
    elif value - value:
        return "Infinity" if value > 0 else "-Infinity"
    return text if not value.is_integer() or "." in text or "e" in text else text + ".0"
