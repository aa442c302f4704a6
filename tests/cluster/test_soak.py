"""A short soak: everything that can happen to a serving app, once at least, while every promise is checked."""

from __future__ import annotations

import math

import pytest

from benchmarks.soak.churn import DECK
from benchmarks.soak.soak import Options, soak

pytestmark = pytest.mark.cluster


def test_soak(door_port: int) -> None:
    """While versions come and go, stores fail, labels move, and controllers and replicas are killed, no promise to
    those who ask is broken."""
    report = soak(Options(seconds=20, models=4, seed=7, every_s=1.0, kill_controllers_until=math.inf, sample_s=1.0))
    assert not report.violations, str(report)
    assert report.played.keys() == DECK.keys(), str(report)
