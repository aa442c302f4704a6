"""Numbers as TensorFlow Serving prints them."""

from __future__ import annotations

import sys
from decimal import Context, Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from serving_app.protocol.json_numbers import float_text, number_texts

F, D = np.float32, np.float64
NAN, INFINITY = float("nan"), float("inf")

FLOATS: list[tuple[Any, float, str]] = [
    (F, 0.1, "0.1"),
    (F, 2.5, "2.5"),
    (F, 3, "3.0"),
    (F, 1 / 3, "0.333333343"),
    (F, -2 / 3, "-0.666666687"),
    (F, 16777216, "16777216.0"),
    (F, 123456792, "123456792.0"),
    (F, 1234567.5, "1234567.5"),
    (F, 999999, "999999.0"),
    (F, 1000000, "1e+06"),
    (F, 1000001, "1000001.0"),
    (F, 9000000, "9e+06"),
    (F, 2**30, "1.07374182e+09"),
    (F, 0.0001, "0.0001"),
    (F, 0.00001, "1e-05"),
    (F, 3e-05, "3e-05"),
    (F, 1.17549435e-38, "1.17549435e-38"),
    (F, 1e-45, "1.4013e-45"),
    (F, 3.40282347e38, "3.40282347e+38"),
    (F, 0, "0.0"),
    (F, -0.0, "-0.0"),
    (F, NAN, "NaN"),
    (F, INFINITY, "Infinity"),
    (F, -INFINITY, "-Infinity"),
    (D, 0.1, "0.1"),
    (D, 1 / 3, "0.33333333333333331"),
    (D, 0.1 + 0.2, "0.30000000000000004"),
    (D, 0.1234567, "0.1234567"),
    (D, 1234567, "1234567.0"),
    (D, 2**53, "9007199254740992.0"),
    (D, 12345678901234568, "12345678901234568.0"),
    (D, 1e16, "1e+16"),
    (D, 123456789012345680000, "1.2345678901234568e+20"),
    (D, 1e22, "1e+22"),
    (D, 5e-324, "4.94066e-324"),
    (D, 1.7976931348623157e308, "1.7976931348623157e+308"),
    (D, -0.0, "-0.0"),
    (D, NAN, "NaN"),
]


@pytest.mark.parametrize(("width", "value", "text"), FLOATS)
def test_a_float_has_this_text(width: Any, value: float, text: str):
    """Six digits where they suffice, else nine or seventeen, and never the look of an integer."""
    assert float_text(float(width(value)), width is F) == text
    assert number_texts(np.full(200, value, width)) == [text.encode()] * 200


@pytest.mark.parametrize(
    ("array", "texts"),
    [
        (np.array([[1, 2], [3, 4]], np.int32).T, [b"1", b"3", b"2", b"4"]),
        (np.array([-(2**63), 2**63 - 1]), [b"-9223372036854775808", b"9223372036854775807"]),
        (np.array([2**64 - 1], np.uint64), [b"18446744073709551615"]),
        (np.array([-128, 127], ">i2"), [b"-128", b"127"]),
        (np.array(5, np.int8), [b"5"]),
        (np.array([True, False]), [b"true", b"false"]),
        (np.array([1.5, NAN], ">f4"), [b"1.5", b"NaN"]),
        (np.arange(40.0)[::-20], [b"39.0", b"19.0"]),
        (np.array([], np.float32), []),
        (np.array([], np.int64), []),
    ],
)
def test_elements_come_in_c_order(array: np.ndarray[Any, Any], texts: list[bytes]):
    """Whatever the tensor's type and layout in memory, its elements are written in C order."""
    assert number_texts(array) == texts


def obvious_text(value: float, is_single: bool) -> str:
    """The rule once more, slowly: with decimal arithmetic, and rounding to the width by exact fractions."""
    if value != value:
        return "NaN"
    if abs(value) == INFINITY:
        return "Infinity" if value > 0 else "-Infinity"
    for digits in (6, 9 if is_single else 17):
        short = Context(prec=digits).create_decimal(Decimal(value))
        if is_nearest(short, value, is_single):
            break
    sign, figures, shift = (short.normalize() if short else short * 0).as_tuple()
    assert isinstance(shift, int)
    written = "".join(map(str, figures))
    point = len(written) + shift
    minus = "-" if sign else ""
    if short and not -4 < point <= digits:
        mantissa = written[0] + ("." + written[1:] if written[1:] else "")
        return f"{minus}{mantissa}e{'-' if point < 1 else '+'}{abs(point - 1):02}"
    if shift >= 0:
        return f"{minus}{written}{'0' * shift}.0"
    return f"{minus}{written.rjust(1 - shift, '0')[:shift]}.{written.rjust(1 - shift, '0')[shift:]}"


def is_nearest(short: Decimal, value: float, is_single: bool) -> bool:
    """Whether a decimal number is read as this value of this width: it is nearest, or the even one of two as near."""
    width = F if is_single else D
    exact, distance = Fraction(short), abs(Fraction(short) - Fraction(value))
    with np.errstate(over="ignore"):
        neighbours = [float(np.nextafter(width(value), width(end))) for end in (-INFINITY, INFINITY)]
    others = [
        abs(exact - Fraction(other)) for other in neighbours if abs(other) != INFINITY and other != value
    ]
    is_even = int.from_bytes(width(value).tobytes(), sys.byteorder) % 2 == 0
    return all(distance < other or (distance == other and is_even) for other in others)


def widths(is_single: bool) -> st.SearchStrategy[float]:
    """Floats of every kind, of one width."""
    width = 32 if is_single else 64
    narrow = F if is_single else D
    kinds = (
        st.floats(width=width)
        | st.integers(-(2**60), 2**60).map(float)
        | st.integers(-12, 18).map(lambda exponent: 10.0**exponent)
        | st.builds(lambda digits, exponent: float(f"{digits}e{exponent}"), st.integers(0, 2 * 10**6),
                    st.integers(-44, 32))
        | st.builds(lambda digits, exponent: np.nextafter(narrow(float(f"{digits}e{exponent}")), narrow(0)),
                    st.integers(1, 10**6), st.integers(-44, 32))
        | st.sampled_from([0.0, -0.0, 999999.5, 999999.4, 9.999995, 99999.95, 0.00009999995])
    )  # fmt: skip
    return kinds.map(lambda value: float(narrow(value)))


@settings(max_examples=150)
@example((False, [2.363e21]))  # as near to one double as to the next
@given(st.booleans().flatmap(lambda is_single: st.tuples(st.just(is_single), st.lists(widths(is_single), min_size=1))))
def test_the_text_is_that_of_an_obvious_implementation(case: tuple[bool, list[float]]):
    """One by one and thousands at once, the texts are those of decimal arithmetic."""
    is_single, values = case
    right = [obvious_text(value, is_single).encode() for value in values]
    assert [float_text(value, is_single).encode() for value in values] == right
    many = np.array(values * 130, F if is_single else D)
    assert number_texts(many) == right * 130


@settings(max_examples=100)
@given(st.sampled_from([F, D]).flatmap(lambda width: arrays.arrays(width, st.integers(0, 60))))
@example(np.full(5000, 1 / 3, np.float32))
def test_numbers_read_back_to_the_same_values(array: np.ndarray[Any, Any]):
    """Every text reads back to the value that it was made of, at the tensor's width."""
    read = np.array([float(text) for text in number_texts(array)], array.dtype)
    assert repr(read.tolist()) == repr(array.tolist())
