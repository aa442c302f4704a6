"""JSON values in error messages."""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest

from serving_app.protocol.json_document import parse
from serving_app.protocol.json_excerpt import excerpt, kind


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        (False, "false"),
        (-5, "-5"),
        (2**64 - 1, "18446744073709551615"),
        ('a"\\\n\x01/é', '"a\\"\\\\\\n\\u0001/é"'),
        ([], "[]"),
        ({}, "{}"),
        ([1, "a", [2.5, []], None], '[1, "a", [2.5, []], null]'),
        ({"a": 1, "b": [True]}, '{\n    "a": 1,\n    "b": [true]\n}'),
        ({"a": {"b": {}}}, '{\n    "a": {\n        "b": {}\n    }\n}'),
        # A list is a level of indentation too, although it opens no line.
        ([{"a": 1}, {}], '[{\n        "a": 1\n    }, {}]'),
    ],
)
def test_a_small_value_is_quoted_whole(value: Any, text: str):
    """Objects have a line for each member, and lists are on one line."""
    assert excerpt(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.0, "1.0"),
        (-0.0, "-0.0"),
        (0.1, "0.1"),
        (123.456, "123.456"),
        (1e15, "1000000000000000.0"),
        (1e20, "100000000000000000000.0"),
        (1e21, "1e21"),
        (1.5e22, "1.5e22"),
        (0.000001, "0.000001"),
        (1e-7, "1e-7"),
        (-1.25e-10, "-1.25e-10"),
        (float("nan"), "NaN"),
        (float("inf"), "Infinity"),
        (float("-inf"), "-Infinity"),
    ],
)
def test_floats_are_quoted_with_their_shortest_digits(value: float, text: str):
    """A float has as few digits as possible, and an exponent only far from 1."""
    assert excerpt(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        # The token that reaches 256 bytes is the last; a value is one with the comma before it.
        ([1] * 200, "[" + ", ".join(["1"] * 86)),
        ([100] * 200, "[" + ", ".join(["100"] * 52)),
        (["é" * 42] * 5, '["' + '", "'.join(["é" * 42] * 3) + '"'),
        (["a" * 253, 1], '["' + "a" * 253 + '"'),
        (["a" * 252, 1, 2], '["' + "a" * 252 + '", 1'),
        ([["a" * 253]], '[["' + "a" * 253 + '"'),
        (["a" * 252], '["' + "a" * 252 + '"]'),
        # So is a name with the line before it, and a value with its colon.
        ({"a" * 247: 1}, '{\n    "' + "a" * 247 + '": 1'),
        ({"a" * 248: 1}, '{\n    "' + "a" * 248 + '"'),
        ({"a": "b" * 241, "c": 1}, '{\n    "a": "' + "b" * 241 + '",\n    "c"'),
        ({"a": "b" * 240}, '{\n    "a": "' + "b" * 240 + '"\n}'),
    ],
)
def test_a_large_value_is_cut_after_256_bytes(value: Any, text: str):
    """The excerpt ends with the token that reaches 256 bytes, whole."""
    assert excerpt(value) == text


@pytest.mark.parametrize("value", ["x" * 100_000, {"x" * 100_000: 1}, [["x" * 5000] * 1000]])
def test_a_long_string_is_cut_as_well(value: Any):
    """No message grows with the request."""
    assert len(excerpt(value)) == 1024


def test_a_long_string_is_not_read_to_its_end():
    """What is not quoted costs nothing, not even memory."""
    value = "\n" * 10_000_000
    tracemalloc.start()
    try:
        assert excerpt([value]) == '["' + "\\n" * 511
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_a_deep_value_needs_no_stack():
    """A hundred thousand levels are quoted like any other value."""
    assert excerpt(parse(b"[" * 100_000 + b"]" * 100_000)) == "[" * 256


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (None, "Null"),
        (True, "True"),
        (False, "False"),
        ({}, "Object"),
        ([], "Array"),
        ("", "String"),
        (1, "Number"),
        (1.5, "Number"),
    ],
)
def test_every_json_type_has_its_name(value: Any, name: str):
    """Types are called what RapidJSON calls them; true and false are types."""
    assert kind(value) == name
