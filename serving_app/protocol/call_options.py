"""What Python callers say of a call besides its inputs, checked before anything is done."""

from __future__ import annotations

import math
from collections.abc import Iterable
from numbers import Real
from typing import Any, cast

from serving_app.core.errors import InvalidArgument

FOREVER_S = 1e8
"""Three years. The clocks of systems and libraries do not count much further, and nobody waits so long."""


def seconds_of(timeout: Any) -> float | None:
    """The seconds that a call may take; None means that there is no limit. InvalidArgument if that is no number."""
    if timeout is None:
        return None
    seconds = float(min(cast(float, timeout), FOREVER_S)) if isinstance(timeout, Real) else math.nan
    if not seconds >= 0:
        raise InvalidArgument(f"timeout must be a number of seconds, or None for no limit, and not {timeout!r}")
    return seconds if seconds < FOREVER_S else None


def names_of(what: str, names: Iterable[str]) -> tuple[str, ...]:
    """Names as a tuple. InvalidArgument for a single text, which Python takes for a list of its letters."""
    if isinstance(names, str):
        raise InvalidArgument(f"{what} is a list of names; put a single one into a list: {what}=[{names!r}]")
    return tuple(names)
