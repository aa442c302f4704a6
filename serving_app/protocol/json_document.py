"""The dialect of JSON that requests may be written in: text in, Python values out.

It is JSON with these differences, which are those of the parser in TensorFlow Serving (RapidJSON, iterative, with
"NaN and Infinity" and "stop when done"); clients rely on some and can see the others:

- `NaN`, `Inf` and `Infinity` are numbers, with or without `-`.
- What follows the first complete value is not looked at. A NUL byte ends the text.
- A UTF-8 byte order mark at the start is skipped. UTF-8 is not checked.
- An integer is an int as long as int64 or uint64 can hold it; any other number is a float: `1.0`, `1e3`, 2**64. A
  number that no double can hold is an error.
- Of several members with one name, the first counts.
- Nesting goes as deep as a million levels, each of which takes about a hundred bytes.

`json_parser` follows these rules letter by letter and knows the error for each place. It is slow, so two parsers come
before it, on texts that they cannot read differently. orjson knows none of the above and refuses most of it; the only
text that it accepts and reads in another way is one with duplicate names. Python's json takes `NaN` and `Infinity`,
which is how Python clients send missing values; texts with what it is lenient about are kept from it.

Strings are `str`; bytes that are not UTF-8 are surrogate escapes in it, so `encode(value)` gives them back.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

import orjson

from serving_app.protocol import collector
from serving_app.protocol.json_parser import JsonValue, parse_exactly


def parse(text: bytes) -> JsonValue:
    """The value that the text begins with; InvalidArgument if it is none."""
    if len(text) < _LARGE:
        return _parse(text)
    with collector.paused():
        return _parse(text)


_LARGE = 1 << 18


def _parse(text: bytes) -> JsonValue:
    value: JsonValue
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        is_read, value = _parse_with_tokens(text)
    else:
        # Usually there is an object of a few members, and colons nowhere else.
        if type(value) is dict and text.count(b":") == len(value):
            return value
        is_read = not _has_duplicate_names(text, value)
    return value if is_read else parse_exactly(text)


def encode(string: str) -> bytes:
    """The bytes of a parsed string, as they were in the text (escape sequences apart)."""
    return string.encode("utf-8", "surrogateescape")


# Where Python's json is lenient: integers of any size, floats that become infinite, halves of surrogate pairs.
_LENIENCY = re.compile(rb"[0-9]{19}|[eE][+]?[0-9]{3}|\\u")


def _parse_with_tokens(text: bytes) -> tuple[bool, JsonValue]:
    """Whether Python's json can be trusted with this text, and the value that it reads."""
    if not (b"NaN" in text or b"Infinity" in text) or _LENIENCY.search(text):
        return False, None
    try:
        return True, json.loads(text.decode(), object_pairs_hook=_keep_first)
    except (ValueError, RecursionError):
        return False, None


def _keep_first(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for name, value in pairs:
        members.setdefault(name, value)
    return members


_STRING_OR_COLON = re.compile(rb'"(?:[^"\\]++|\\.)*+"|(:)', re.DOTALL)


def _has_duplicate_names(text: bytes, value: JsonValue) -> bool:
    """True if a well-formed text has more members than its value, which orjson made with the last of each name.

    A member has one colon, so no string needs to be compared.
    """
    colons = text.count(b":")
    if colons == _count_near_members(value):  # there are no fewer in the value, and no more in the text
        return False
    members = _count_members(value)
    return colons != members and sum(1 for match in _STRING_OR_COLON.finditer(text) if match[1]) != members


def _count_near_members(value: JsonValue) -> int:
    """The members of an object, and of the objects that are its members or in a list that is: usually that is all."""
    if type(value) is not dict:
        return 0
    count = len(value)
    for item in value.values():
        if type(item) is dict:
            count += len(item)
        elif type(item) is list and item and type(item[0]) is dict:
            count += sum([len(row) for row in item if type(row) is dict])
    return count


def _count_members(value: JsonValue) -> int:
    count = 0
    containers: list[Any] = [value]
    while containers:
        container = containers.pop()
        if type(container) is dict:
            count += len(container)
            values: Iterable[Any] = container.values()
        elif type(container) is list:
            values = container
        else:
            continue
        if not _CONTAINERS.isdisjoint(map(type, values)):
            containers.extend(values)
    return count


_CONTAINERS = frozenset({list, dict})
