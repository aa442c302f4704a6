"""Amounts of memory, as people write them."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from serving_app.config.settings import Form

_UNITS = {"": 1, "b": 1}
for _power, _letter in enumerate("kmgt", start=1):
    _UNITS[f"{_letter}b"] = 1000**_power
    _UNITS[f"{_letter}ib"] = 1024**_power

_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", re.IGNORECASE)


def parse_bytes(value: object) -> object:
    """A number of bytes for a text such as `2GiB` or `500 MB`; anything that is no text is handed back as it is."""
    if not isinstance(value, str):
        return value
    match = _SIZE.fullmatch(value)
    if match is None or match[2].lower() not in _UNITS:
        raise ValueError(f"{value!r} is no amount of memory; write bytes, or a number with a unit: 500MB, 2GiB")
    return int(Decimal(match[1]) * _UNITS[match[2].lower()])


Bytes = Annotated[int, BeforeValidator(parse_bytes), Field(ge=1), Form("bytes, or text such as `2GiB`")]
"""A number of bytes, at least one."""


def _parse_reservation(value: object) -> object:
    return value if value == "estimate" else parse_bytes(value)


Reservation = Annotated[
    Annotated[int, Field(ge=1)] | Literal["estimate"],
    BeforeValidator(_parse_reservation),
    Form("bytes, or text such as `2GiB`, or `estimate`"),
]
"""A number of bytes to reserve, or that it is to be estimated."""
