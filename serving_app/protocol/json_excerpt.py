"""JSON values as error messages quote them.

Objects have one member per line, indented by four blanks per level, and lists are on one line. Nothing more is written
once there are 256 bytes, so the excerpt of a large value is not complete JSON; it ends with a whole token, which is a
value with the separator before it, a name, or a bracket (json_tensor.cc does the same with RapidJSON's PrettyWriter).
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from serving_app.protocol.json_document import encode
from serving_app.protocol.json_parser import JsonValue

_ENOUGH = 256
_LIMIT = 1024  # a single string may still be long; TensorFlow Serving would quote all of an image
_INDENT = "    "
_ESCAPES = {code: f"\\u{code:04X}" for code in range(0x20)} | {
    ord(char): escape
    for char, escape in zip('"\\\b\f\n\r\t', ('\\"', "\\\\", "\\b", "\\f", "\\n", "\\r", "\\t"), strict=True)
}


def excerpt(value: JsonValue) -> str:
    """The beginning of a value's text, or all of it if it is small."""
    tokens, size = [], 0
    for token in _tokens(value):
        tokens.append(token[:_LIMIT])
        size += len(encode(tokens[-1]))
        if size >= _ENOUGH:
            break
    return "".join(tokens)[:_LIMIT]


def kind(value: JsonValue) -> str:
    """The name of a value's JSON type, as messages have it."""
    if isinstance(value, bool):
        return str(value)
    names = {type(None): "Null", dict: "Object", list: "Array", str: "String"}
    return names.get(type(value), "Number")


def _tokens(value: JsonValue) -> Iterator[str]:
    """The text token by token, made on demand and without recursion: values can be huge, and deep."""
    open_containers: list[tuple[list[Any] | dict[str, Any], Iterator[tuple[str, str, Any]]]] = []
    separator = ""
    while True:
        if isinstance(value, list | dict):
            yield separator + ("[" if isinstance(value, list) else "{")
            open_containers.append((value, _entries(value, len(open_containers) + 1)))
        else:
            yield separator + _scalar_text(value)
        while open_containers:
            container, entries = open_containers[-1]
            entry = next(entries, None)
            if entry is not None:
                name, separator, value = entry
                if name:
                    yield name
                break
            open_containers.pop()
            yield _closing(container, len(open_containers))
        else:
            return


def _entries(container: list[Any] | dict[str, Any], level: int) -> Iterator[tuple[str, str, Any]]:
    """Each value of a container, with its name as text (none in a list) and what separates it from what is before."""
    if isinstance(container, list):
        for index, item in enumerate(container):
            yield "", (", " if index else ""), item
    else:
        for index, (name, item) in enumerate(container.items()):
            yield ("," if index else "") + "\n" + _INDENT * level + _scalar_text(name), ": ", item


def _closing(container: list[Any] | dict[str, Any], level: int) -> str:
    if isinstance(container, list):
        return "]"
    return "\n" + _INDENT * level + "}" if container else "}"


def _scalar_text(value: bool | int | float | str | None) -> str:
    if isinstance(value, str):
        return '"' + value[:_LIMIT].translate(_ESCAPES) + '"'  # it ends there in any case
    if isinstance(value, float):
        return _float_text(value)
    if value is None:
        return "null"
    return str(value).lower()


def _float_text(value: float) -> str:
    """The shortest digits that read back, in RapidJSON's layout: 21 digits before an exponent appears, 1e-7, 1e21."""
    if value != value:
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "Infinity" if value > 0 else "-Infinity"
    if value == 0:
        return repr(value)
    sign, figures, shift = Decimal(repr(value)).normalize().as_tuple()
    assert isinstance(shift, int)  # the value is finite
    digits = "".join(map(str, figures))
    point = len(digits) + shift
    minus = "-" if sign else ""
    if shift >= 0 and point <= 21:
        return f"{minus}{digits}{'0' * shift}.0"
    if 0 < point <= 21:
        return f"{minus}{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return f"{minus}0.{'0' * -point}{digits}"
    return f"{minus}{digits[0]}{'.' if len(digits) > 1 else ''}{digits[1:]}e{point - 1}"
