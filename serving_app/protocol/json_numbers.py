"""The numbers of a tensor as JSON text, digit by digit as TensorFlow Serving prints them.

Integers and booleans are plain. A float has six significant digits if they read back to the same value of the same
width, else nine (or seventeen, for a double), and `.0` at its end if it would look like an integer: `0.1`, `9e+06`,
`0.333333343`, `16777216.0` (json_tensor.cc, WriteDecimal). What is not finite is `NaN`, `Infinity` or `-Infinity`,
which is not JSON, but is what Python's json module writes and reads as well.

`float_text` says the rule for one value. `number_texts` formats thousands at once: arithmetic sorts out for which
values more than six digits are certain to be needed, and those are most where there are many.
"""

from __future__ import annotations

from math import isfinite, isnan
from struct import Struct
from typing import Any

import numpy as np
import orjson

Array = np.ndarray[Any, Any]

_SINGLE = Struct("f")
_AT_ONCE = 4096
"""Values formatted in one go; in between, other threads have their turn."""
_FEW = 16
"""Up to so many values, preparing the arithmetic would take longer than the formatting."""


def number_texts(array: Array) -> list[bytes]:
    """The text of each element in C order, of a tensor of floats, doubles, integers or booleans."""
    if array.dtype.kind == "f":
        values = np.ravel(array)
        is_single = array.dtype.itemsize == 4
        if values.size <= _FEW:
            return [float_text(value, is_single) for value in values.tolist()]
        texts: list[bytes] = []
        for start in range(0, values.size, _AT_ONCE):
            texts += _float_texts(values[start : start + _AT_ONCE], is_single)
        return texts
    if not array.size:
        return []
    values = np.ascontiguousarray(array.reshape(-1), dtype=array.dtype.newbyteorder("="))
    return orjson.dumps(values, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1].split(b",")


def float_text(value: float, is_single: bool) -> bytes:
    """The text of one value, of float if `is_single`, else of double."""
    if not isfinite(value):
        return b"NaN" if isnan(value) else b"Infinity" if value > 0 else b"-Infinity"
    text = b"%.6g" % value
    read: float = float(text)
    if is_single:
        (read,) = _SINGLE.unpack(_SINGLE.pack(read))
    if read != value:
        text = (b"%.9g" if is_single else b"%.17g") % value
    return text if b"." in text or b"e" in text else text + b".0"


def _float_texts(values: Array, is_single: bool) -> list[bytes]:
    exact = values.astype(np.float64)
    sizes = np.abs(exact)
    is_whole = np.rint(exact) == exact
    # Six digits are enough for these, and their exponent is not written.
    is_short_and_whole = is_whole & (sizes < 1e6)
    long_form = b"%.9g" if is_single else b"%.17g"
    if is_short_and_whole.any():
        forms = np.where(is_short_and_whole, b"%.1f", long_form).tolist()
        form = b"\n".join(forms)
    else:
        form = b"\n".join([long_form] * len(values))
    numbers = exact.tolist()
    texts = (form % tuple(numbers)).split(b"\n")
    is_other = ~is_short_and_whole & (is_whole | ~np.isfinite(exact) | _may_be_short(sizes, is_single))
    for index in np.flatnonzero(is_other).tolist():
        texts[index] = float_text(numbers[index], is_single)
    return texts


def _may_be_short(sizes: Array, is_single: bool) -> Array:
    """False for values that six digits cannot tell from their neighbours. Where it is close, the answer is True."""
    tolerance, smallest = (2.0**-23, 2.0**-126) if is_single else (2.0**-50, 1e-290)
    is_usual = (sizes >= smallest) & np.isfinite(sizes)
    usual = np.where(is_usual, sizes, 1.0)
    scale = 10.0 ** (5.0 - np.floor(np.log10(usual)))
    rounded = np.rint(usual * scale) / scale
    near: Array = ~is_usual | (np.abs(rounded - usual) <= usual * tolerance)
    return near
