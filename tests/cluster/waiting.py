"""Waiting for a state, never for a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

PATIENCE_S = 240.0
"""How long anything may take before a test fails, on a machine that is slow and busy with other things."""


def wait_for(what: str, look: Callable[[], T], patience_s: float = PATIENCE_S) -> T:
    """What `look` returns as soon as that is true; fails with the last that was seen when it never is."""
    deadline = time.monotonic() + patience_s
    while not (seen := look()):
        assert time.monotonic() < deadline, f"waited {patience_s:.0f} s for {what}; last seen: {seen!r}"
        time.sleep(0.05)
    return seen
