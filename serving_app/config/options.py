"""What the drivers of stores are told: options as fsspec takes them, as far as they can be kept as text."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator

from serving_app.config.settings import Form

_MAX_DEPTH = 20


def _check_options(options: Mapping[str, Any]) -> Mapping[str, Any]:
    return {name: _check(name, value, _MAX_DEPTH) for name, value in options.items()}


def _check(place: str, value: Any, depth: int) -> Any:
    """The value in the types that JSON knows; the configuration is kept in that form and must come back the same.

    The error names the place and never the value, which may be a credential.
    """
    if depth == 0:
        raise ValueError(f"{place[:80]}… is nested more than {_MAX_DEPTH} levels deep, or contains itself")
    if isinstance(value, Mapping):
        for name in value:
            if not isinstance(name, str):
                raise ValueError(f"{place} has a name of type {type(name).__name__}; put it in quotes")
        return {name: _check(f"{place}.{name}", inner, depth - 1) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_check(f"{place}[{at}]", inner, depth - 1) for at, inner in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{place} is no finite number")
    if value is None or type(value) in (bool, int, float, str):
        return value
    raise ValueError(
        f"{place} is of type {type(value).__name__}; only texts, numbers, true, false, null, lists and mappings of "
        "them can be kept. Write it in quotes if it is meant as a text"
    )


Options = Annotated[Mapping[str, Any], AfterValidator(_check_options), Form("mapping from text to anything")]
"""Keyword arguments of a file system, or what one of them holds."""
