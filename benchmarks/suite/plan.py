"""How much is measured: of everything, or of what a short run has time for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Chapter:
    """A model, the concurrencies of its closed loops, and whether its open loops are run."""

    work: str
    concurrencies: tuple[int, ...]
    has_open: bool = False
    contenders: tuple[str, ...] | None = None
    """None means all that take the work."""
    stretch: float = 1.0
    """Windows are so much longer where a request takes long, so that enough of them end within one."""


OURS_ALONE = ("serving_app",)

FULL = (
    Chapter("half_plus_two", (1, 8, 32, 64, 256), True),
    Chapter("image_mean", (1, 8, 32, 64, 256), True, stretch=2.0),
    Chapter("mobilenet", (1, 8, 32), contenders=OURS_ALONE, stretch=2.0),
    Chapter("per_call", (1, 8, 64), contenders=OURS_ALONE),
    Chapter("wide", (1, 8, 32, 64, 256)),
    Chapter("text", (1, 8, 32, 64, 256)),
    Chapter("examples", (1, 8, 32, 64, 256), contenders=OURS_ALONE),
)
"""Every model with every server that takes it."""

QUICK = (
    Chapter("half_plus_two", (1, 64, 256), True),
    Chapter("image_mean", (2, 8), stretch=2.0),
    Chapter("mobilenet", (8, 16), contenders=OURS_ALONE, stretch=2.0),
    Chapter("per_call", (64,), contenders=OURS_ALONE),
)
"""What the table of ratios needs."""

FIXED_RATES = (100, 500, 2000)
"""Requests per second of open loops, besides half of the best throughput."""
