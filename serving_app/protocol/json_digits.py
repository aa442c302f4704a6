"""Thousands of floats as text at once, by arithmetic on arrays instead of one `printf` after the other.

A float, as `json_numbers.float_text` writes it, is a whole number of six or nine digits (seventeen for a double), a
place for the point, and sometimes an exponent. Here the whole numbers are computed, cut into digits by tables, and the
digits are laid into rows of bytes that have a column for all that a text may have. What a text has not, is 0 there.

    - 0 . 0 0   1 2 3 4 5 6 7 8 9           the columns of -0.00123456789
              1 2 . 3 4 5                   digits before the point stand one to the left, so that there is room for it
              1 . 5               e - 0 7

The arithmetic is that of doubles. A float times a power of ten up to 1e12 has at most 52 bits, so the product is exact,
and so is its rounding; that of a double is computed in two parts whose sum is exact up to 1e22. Where a power is larger
or is to be divided by, the product is right but for a few parts in 1e16, and the few values for which that might matter
are left to `float_text`. So is what is not finite.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]

_SHORT = 6  # digits, where they tell a value from its neighbours
_LEAST_FIXED = -4  # the least decimal exponent that is not written

# --- powers of ten ---------------------------------------------------------------------------------------------------

_GREATEST = 80  # the power of ten; values so large or small that they need others are rare
_POWERS = np.array([float(f"1e{power}") for power in range(-_GREATEST, _GREATEST + 1)])
_POWER_RESTS = np.array(
    [float(Fraction(10) ** power - Fraction(float(f"1e{power}"))) for power in range(-_GREATEST, _GREATEST + 1)]
)
"""What is missing to the powers of ten, as doubles have them."""
_LARGEST_EXACT = 22

_GREATEST_EXPONENT = 50
_EXPONENTS = np.array(
    [int(np.floor(np.log10(2.0) * max(min(power, 170), -170))) for power in range(-1023, 1025)], np.intp
)
"""By the biased exponent of a double: the decimal exponent of the least value that has it."""

# --- columns ---------------------------------------------------------------------------------------------------------

_WORD = np.dtype("<u8")  # eight columns, the first in the lowest byte
_DIGITS_AT = 6  # the column of the first digit
_FOUR_DIGITS = np.array([int.from_bytes(b"%04d" % number, "little") for number in range(10**4)], np.uint64)
_ZEROS = np.array([len(text) - len(text.rstrip("0")) for text in (f"{n:04}" for n in range(10**4))], np.intp)
"""How many zeros a group of four digits ends with."""
_EXPONENT_TEXTS = np.array(
    [int.from_bytes(b"e%+03d" % exponent, "little") for exponent in range(-_GREATEST, _GREATEST + 1)], np.uint64
)
_ZERO = np.uint64(ord("0"))
_FIRST_DIGIT = np.uint64(8 * _DIGITS_AT)
_COLUMN, _THREE_COLUMNS, _SEVEN_COLUMNS = np.uint64(8), np.uint64(24), np.uint64(56)


class _Width(NamedTuple):
    """What there is to know of float or of double."""

    digits: int  # of a text that is not short: one and groups of four
    before: Array  # by word, and by form and zeros: a mask of the columns of digits before the point,
    after: Array  # of those after it,
    rest: Array  # and the text in other columns
    exact: range  # of decimal exponents: all products are exact

    @property
    def with_exponent(self) -> int:
        """The form whose exponent is written; those before it have an exponent each, from the least one on."""
        return self.digits - _LEAST_FIXED


def _make_width(digits: int, exact: range) -> _Width:
    columns = [
        _form_columns(digits, form, zeros) for form in range(digits - _LEAST_FIXED + 1) for zeros in range(digits)
    ]
    before, after, rest = (
        np.frombuffer(b"".join(column), _WORD).astype(np.uint64).reshape(len(columns), -1).T.copy()
        for column in zip(*columns, strict=True)
    )
    return _Width(digits, before, after, rest, exact)


def _form_columns(digits: int, form: int, zeros: int) -> tuple[bytes, bytes, bytes]:
    """The masks and the text of a form, for a number that ends with so many zeros."""
    size = -(-(_DIGITS_AT + digits + 1) // 8) * 8
    before, after, rest = bytearray(size), bytearray(size), bytearray(size)
    kept = digits - zeros
    if form == digits - _LEAST_FIXED:
        point = 1
    else:
        point = form + _LEAST_FIXED + 1
        kept = min(max(kept, point + 1), digits)  # a digit after the point, whatever it is
    for digit in range(kept):
        if digit < point:
            before[_DIGITS_AT - 1 + digit] = 0xFF
        else:
            after[_DIGITS_AT + digit] = 0xFF
    if point <= 0:
        rest[1 : 3 - point] = b"0." + b"0" * -point
    elif kept > point:
        rest[_DIGITS_AT - 1 + point] = ord(".")
    return bytes(before), bytes(after), bytes(rest)


_SINGLE = _make_width(9, range(-4, 6))
_DOUBLE = _make_width(17, range(-6, 6))


def text_rows(values: Array, float_text: Callable[[float, bool], str]) -> Array:
    """A row of bytes for each value of a vector of float or double: its text with zeros in and after it.

    The last column is 0 in every row.
    """
    is_single = values.dtype.itemsize == 4
    width = _SINGLE if is_single else _DOUBLE
    with np.errstate(invalid="ignore"):  # a NaN may be one that signals
        sizes = np.abs(values.astype(np.float64))
    is_zero = sizes == 0
    exponents = _EXPONENTS[sizes.view(np.int64) >> 52]
    is_unsure = (np.abs(exponents) > _GREATEST_EXPONENT) & ~is_zero
    is_other = is_zero | is_unsure
    sizes[is_other] = 1.0
    exponents[is_other] = 0
    exponents += sizes >= _POWERS[exponents + (1 + _GREATEST)]
    numbers, is_short = (_float_digits if is_single else _double_digits)(sizes, exponents, is_unsure)
    numbers[is_zero] = 0
    is_carried = numbers >= 10**width.digits  # rounded up to the next power of ten
    if is_carried.any():
        numbers[is_carried] = 10 ** (width.digits - 1)
        exponents += is_carried
    has_exponent = (exponents < _LEAST_FIXED) | (exponents >= np.where(is_short, _SHORT, width.digits))
    forms = np.where(has_exponent, width.with_exponent, exponents - _LEAST_FIXED)
    is_unsure |= forms == width.with_exponent - 1  # no column is left for the zero behind the point
    rows = _lay_out(width, numbers, forms, np.where(has_exponent, exponents, 0) if has_exponent.any() else None)
    rows[:, 0] = np.signbit(values) * np.uint8(ord("-"))
    for index in np.flatnonzero(is_unsure).tolist():
        text = float_text(float(values[index]), is_single).encode()
        if len(text) >= rows.shape[1]:
            rows = np.pad(rows, ((0, 0), (0, 8)))
        rows[index] = 0
        rows[index, : len(text)] = np.frombuffer(text, np.uint8)
    return rows


def _float_digits(sizes: Array, exponents: Array, is_unsure: Array) -> tuple[Array, Array]:
    """The nine digits of each size as a whole number, and whether the last three are zeros because six will do."""
    scaled, _ = _power(8 - exponents, sizes)
    short_scaled, short_power = _power(5 - exponents, sizes)
    long, short = np.rint(scaled), np.rint(short_scaled)
    read = short / short_power
    with np.errstate(over="ignore"):
        is_short = read.astype(np.float32) == sizes.astype(np.float32)
        is_inexact = _outside(exponents, _SINGLE.exact)
        if is_inexact.any():
            is_close = (read * (1 - 1e-14)).astype(np.float32) != (read * (1 + 1e-14)).astype(np.float32)
            for product in (scaled, short_scaled):
                is_close |= np.abs(product - np.floor(product) - 0.5) < 1e-5
            is_unsure |= is_inexact & is_close
    return np.where(is_short, short * 1e3, long).astype(np.uint32), is_short


def _double_digits(sizes: Array, exponents: Array, is_unsure: Array) -> tuple[Array, Array]:
    """The same with seventeen digits, of doubles."""
    short_scaled, short_power = _power(5 - exponents, sizes)
    short = np.rint(short_scaled)
    read = short / short_power
    is_short = read == sizes
    shifts = 16 - exponents
    scaled, power = _power(shifts, sizes)
    rest = _product_rest(sizes, power, scaled) + sizes * _POWER_RESTS[shifts + _GREATEST]
    # Beyond 2**53 doubles are even numbers, so the sum is rounded to even where its second part is.
    long = scaled.astype(np.int64) + np.rint(rest).astype(np.int64)
    is_unsure |= scaled < 2.0**53
    is_inexact = _outside(exponents, _DOUBLE.exact)
    if is_inexact.any():
        is_close = (np.abs(rest - np.floor(rest) - 0.5) < 1e-5) | (np.abs(read - sizes) < sizes * 1e-14)
        is_unsure |= is_inexact & is_close
    return np.where(is_short, short.astype(np.int64) * 10**11, long), is_short


def _power(shifts: Array, sizes: Array) -> tuple[Array, Array]:
    """The sizes times ten to these powers, and the powers."""
    powers = _POWERS[shifts + _GREATEST]
    return sizes * powers, powers


def _outside(exponents: Array, exact: range) -> Array:
    outside: Array = (exponents < exact.start) | (exponents >= exact.stop)
    return outside


def _product_rest(left: Array, right: Array, product: Array) -> Array:
    """What is missing to the exact product of doubles (Dekker's algorithm)."""
    left_high, left_low = _split(left)
    right_high, right_low = _split(right)
    rest: Array = left_low * right_low - (
        product - left_high * right_high - left_low * right_high - left_high * right_low
    )
    return rest


def _split(values: Array) -> tuple[Array, Array]:
    """Two halves of 26 bits whose sum is the value."""
    scaled = values * (2.0**27 + 1)
    high = scaled - (scaled - values)
    return high, values - high


def _lay_out(width: _Width, numbers: Array, forms: Array, exponents: Array | None) -> Array:
    """The rows of these numbers, whose exponents are written where they are not 0, without their signs."""
    groups: list[Array] = []
    while len(groups) * 4 < width.digits - 1:
        numbers, whole = numbers // 10**4, numbers
        groups.insert(0, (whole - numbers * 10**4).astype(np.intp))
    zeros = _ZEROS[groups[-1]]
    for count, group in enumerate(reversed(groups[:-1]), 1):
        is_round = np.flatnonzero(zeros == 4 * count)
        zeros[is_round] += _ZEROS[group[is_round]]
    index = forms * width.digits + zeros
    texts = [_FOUR_DIGITS[group] for group in groups]
    after = [((numbers.astype(np.uint64) + _ZERO) << _FIRST_DIGIT) | (texts[0] << _SEVEN_COLUMNS)]
    for at in range(0, len(texts), 2):
        word = (texts[at] >> _COLUMN) | (texts[at + 1] << _THREE_COLUMNS)
        after.append(word | (texts[at + 2] << _SEVEN_COLUMNS) if at + 2 < len(texts) else word)
    rows = np.zeros((len(forms), len(after) + (exponents is not None)), _WORD)
    for at, word in enumerate(after):
        before = word >> _COLUMN
        if at + 1 < len(after):
            before |= after[at + 1] << _SEVEN_COLUMNS
        rows[:, at] = (word & width.after[at][index]) | (before & width.before[at][index]) | width.rest[at][index]
    if exponents is not None:
        rows[:, -1] = np.where(exponents == 0, np.uint64(0), _EXPONENT_TEXTS[exponents + _GREATEST])
    return rows.view(np.uint8)
