"""The exact parser of the dialect of JSON that `json_document` describes: it knows the error for each place.

It goes letter by letter, which is slow: what other parsers read in the same way is kept from it. Messages and offsets
are those of RapidJSON.
"""

from __future__ import annotations

import re
from math import isinf
from typing import Any, TypeAlias

from serving_app.core.errors import InvalidArgument

JsonValue: TypeAlias = bool | int | float | str | list[Any] | dict[str, Any] | None

_BLANKS = re.compile(rb"[ \t\r\n]+")
_BLANK_BYTES = frozenset((b" ", b"\t", b"\r", b"\n"))
_NUMBER = re.compile(rb"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_TOKEN = re.compile(rb"-?(?:NaN|Inf(?:inity)?)")
_TOKEN_VALUES = {b"NaN": float("nan"), b"Inf": float("inf"), b"Infinity": float("inf")}
_WORDS: dict[int, tuple[bytes, JsonValue]] = {
    ord("t"): (b"true", True),
    ord("f"): (b"false", False),
    ord("n"): (b"null", None),
}
_STRING_PART = re.compile(rb'[^"\\\x00-\x1f]*')
_HEX4 = re.compile(rb"[0-9a-fA-F]{4}")
_UNESCAPED = {
    b'"': b'"',
    b"\\": b"\\",
    b"/": b"/",
    b"b": b"\b",
    b"f": b"\f",
    b"n": b"\n",
    b"r": b"\r",
    b"t": b"\t",
}
_DEEPEST = 1_000_000
_LONGEST_INTEGER = len(str(-(2**63)))

MISSING_COMMA_IN_OBJECT = "Missing a comma or '}' after an object member."
MISSING_COMMA_IN_ARRAY = "Missing a comma or ']' after an array element."
INVALID_VALUE = "Invalid value."
MISSING_NAME = "Missing a name for object member."
MISSING_COLON = "Missing a colon after a name of object member."


def parse_exactly(text: bytes) -> JsonValue:
    """The same as `parse`, slower, with the message and the byte offset of what is wrong."""
    if not text:
        raise InvalidArgument("JSON Parse error: The document is empty")
    text, _, _ = text.partition(b"\0")
    return _parse_value(text, _skip_byte_order_mark(text))


def _skip_byte_order_mark(text: bytes) -> int:
    """Where the text starts. RapidJSON skips the three bytes one by one, so a part of the mark is skipped as well."""
    at = 0
    for byte in b"\xef\xbb\xbf":
        if text[at : at + 1] == bytes([byte]):
            at += 1
    return at


def _parse_value(text: bytes, at: int) -> JsonValue:
    """One turn of the loop reads one value's beginning, and then every end and separator that follows it.

    `open_containers` holds the containers that are not closed yet, with the name under which the next value goes in
    (None in a list). It is a list and not the call stack because nesting is to be deep.
    """
    at = _skip_blanks(text, at)
    if at == len(text) or text[at] in b",:]}":
        raise _error("The document is empty.", at)
    open_containers: list[tuple[list[Any] | dict[str, Any], str | None]] = []
    while True:
        value: JsonValue
        if len(open_containers) > _DEEPEST:
            raise _error(f"More than {_DEEPEST:,} lists and objects are nested.", at)
        opening = text[at : at + 1]
        if opening == b"[":
            array: list[Any] = []
            at = _skip_blanks(text, at + 1)
            if text[at : at + 1] != b"]":
                open_containers.append((array, None))
                at = _expect_value(text, at)
                continue
            value, at = array, at + 1
        elif opening == b"{":
            members: dict[str, Any] = {}
            at = _skip_blanks(text, at + 1)
            if text[at : at + 1] != b"}":
                name, at = _parse_name(text, at)
                open_containers.append((members, name))
                continue
            value, at = members, at + 1
        else:
            value, at = _parse_scalar(text, at)

        while True:
            if not open_containers:
                return value
            container, name_or_none = open_containers[-1]
            at = _skip_blanks(text, at)
            following = text[at : at + 1]
            if isinstance(container, list):
                container.append(value)
                if following == b",":
                    at = _expect_value(text, _skip_blanks(text, at + 1))
                    break
                if following != b"]":
                    raise _error(MISSING_COMMA_IN_ARRAY, at)
            else:
                assert name_or_none is not None
                container.setdefault(name_or_none, value)
                if following == b",":
                    name, at = _parse_name(text, _skip_blanks(text, at + 1))
                    open_containers[-1] = (container, name)
                    break
                if following != b"}":
                    raise _error(MISSING_COMMA_IN_OBJECT, at)
            open_containers.pop()
            value, at = container, at + 1


def _skip_blanks(text: bytes, at: int) -> int:
    if text[at : at + 1] not in _BLANK_BYTES:
        return at
    match = _BLANKS.match(text, at)
    assert match is not None
    return match.end()


def _error(what: str, at: int) -> InvalidArgument:
    return InvalidArgument(f"JSON Parse error: {what} at offset: {at}")


def _expect_value(text: bytes, at: int) -> int:
    if at == len(text) or text[at] in b",:]}":
        raise _error(INVALID_VALUE, at)
    return at


def _parse_name(text: bytes, at: int) -> tuple[str, int]:
    """A member's name and its colon, up to the start of its value."""
    if text[at : at + 1] != b'"':
        raise _error(MISSING_NAME, at)
    name, at = _parse_string(text, at)
    at = _skip_blanks(text, at)
    if text[at : at + 1] != b":":
        raise _error(MISSING_COLON, at)
    return name, _expect_value(text, _skip_blanks(text, at + 1))


def _parse_scalar(text: bytes, at: int) -> tuple[JsonValue, int]:
    if text[at] == ord('"'):
        return _parse_string(text, at)
    if text[at] in _WORDS:
        word, value = _WORDS[text[at]]
        return value, _match_word(text, at, word)
    return _parse_number(text, at)


def _match_word(text: bytes, at: int, word: bytes) -> int:
    """The end of the word at this place; if it differs, the error is where it does."""
    for byte in word:
        if text[at : at + 1] != bytes([byte]):
            raise _error(INVALID_VALUE, at)
        at += 1
    return at


def _parse_number(text: bytes, at: int) -> tuple[int | float, int]:
    match = _NUMBER.match(text, at)
    if match is None:
        return _parse_token(text, at)
    literal, end = match[0], match.end()
    is_float = match.lastindex is not None
    following = text[end : end + 1]
    if following == b"." and not is_float:
        raise _error("Miss fraction part in number.", end + 1)
    if following in (b"e", b"E") and not match[2]:
        has_sign = text[end + 1 : end + 2] in (b"+", b"-")
        raise _error("Miss exponent in number.", end + 1 + has_sign)
    if not is_float and len(literal) <= _LONGEST_INTEGER:
        integer = int(literal)
        if -(2**63) <= integer < 2**64:
            return integer, end
    number = float(literal)
    if isinf(number):
        raise _error("Number too big to be stored in double.", at)
    return number, end


def _parse_token(text: bytes, at: int) -> tuple[float, int]:
    match = _TOKEN.match(text, at)
    if match is None:
        negative = text[at : at + 1] == b"-"
        start = at + negative
        for word in (b"NaN", b"Inf"):
            if text[start : start + 1] == word[:1]:
                _match_word(text, start, word)
        raise _error(INVALID_VALUE, start)
    literal, end = match[0], match.end()
    if literal.endswith(b"Inf") and text[end : end + 1] == b"i":
        _match_word(text, end, b"inity")
    value = _TOKEN_VALUES[literal.lstrip(b"-")]
    return (-value if literal.startswith(b"-") else value), end


def _parse_string(text: bytes, at: int) -> tuple[str, int]:
    """The string whose opening quotation mark is here, and the place after its closing one."""
    parts = []
    at += 1
    while True:
        match = _STRING_PART.match(text, at)
        assert match is not None  # the pattern also matches nothing
        parts.append(match[0])
        at = match.end()
        following = text[at : at + 1]
        if following == b'"':
            return b"".join(parts).decode("utf-8", "surrogateescape"), at + 1
        if following == b"":
            raise _error("Missing a closing quotation mark in string.", at)
        if following != b"\\":  # a control character
            raise _error("Invalid escape character in string.", at)
        raw, at = _parse_escape(text, at)
        parts.append(raw)


def _parse_escape(text: bytes, at: int) -> tuple[bytes, int]:
    """The UTF-8 of the escape sequence whose backslash is here, and the place after it.

    Errors are reported at the backslash. The second half of a surrogate pair may stand alone, as in RapidJSON 1.1: it
    becomes three bytes that are no UTF-8.
    """
    letter = text[at + 1 : at + 2]
    if letter != b"u":
        if letter not in _UNESCAPED:
            raise _error("Invalid escape character in string.", at)
        return _UNESCAPED[letter], at + 2
    code, end = _parse_hex(text, at + 2, at), at + 6
    if 0xD800 <= code <= 0xDBFF:
        if text[end : end + 2] != b"\\u":
            raise _error("The surrogate pair in string is invalid.", at)
        low, end = _parse_hex(text, end + 2, at), end + 6
        if not 0xDC00 <= low <= 0xDFFF:
            raise _error("The surrogate pair in string is invalid.", at)
        code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00)
    return chr(code).encode("utf-8", "surrogatepass"), end


def _parse_hex(text: bytes, at: int, backslash: int) -> int:
    match = _HEX4.match(text, at)
    if match is None:
        raise _error("Incorrect hex digit after \\u escape in string.", backslash)
    return int(match[0], 16)
