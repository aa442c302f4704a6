"""What is read out of the counts of mirrored requests."""

from __future__ import annotations

import pickle

import pytest

from serving_app.core.comparison import Agreement, Comparison, Dropped, Side, population_stability, read_comparison
from serving_app.core.families import MIRROR_DROPPED, MIRROR_LATENCY, MIRROR_OUTPUTS, MIRROR_REQUESTS, REQUEST_COUNT
from serving_app.core.metrics import Registry, Snapshot

PAIR = ("m", "3", "4")


def outcomes(registry: Registry, *counts: tuple[str, str, str, int], pair: tuple[str, ...] = PAIR) -> Snapshot:
    for status, candidate, agreement, by in counts:
        registry.count(MIRROR_REQUESTS, (*pair, status, candidate, agreement), by)
    return registry.counts()


def read(snapshot: Snapshot) -> Comparison:
    return read_comparison(snapshot, "m", 3, 4)


def test_outcomes() -> None:
    """Errors count against the candidate where the version succeeded, differences where both did."""
    registry = Registry()
    found = read(
        outcomes(
            registry, ("OK", "OK", "same", 80), ("OK", "OK", "different", 10), ("OK", "INTERNAL", "", 5),
            ("OK", "DEADLINE_EXCEEDED", "", 1), ("INVALID_ARGUMENT", "INVALID_ARGUMENT", "", 3),
            ("INVALID_ARGUMENT", "OK", "", 1),
        )
    )
    assert (found.requests, found.answered, found.failed, found.compared, found.different) == (100, 96, 6, 90, 10)
    assert found.only_candidate_answered == 1


def test_a_pair_is_told_from_others() -> None:
    """The same versions of another model, and the same pair the other way round, are not meant; nor other metrics."""
    registry = Registry()
    for pair in (("n", "3", "4"), ("m", "4", "3"), ("m", "3", "5")):
        outcomes(registry, ("OK", "OK", "same", 7), pair=pair)
    registry.count(REQUEST_COUNT, ("m", "OK", "3", ""), 7)
    assert read(registry.counts()).requests == 0
    assert read({}) == read(Registry().counts())
    assert dict(read({}).outputs) == dict(read({}).dropped) == {}


def test_a_stretch_of_time() -> None:
    """Two looks differ by what came between; a cell that has shrunk was counted anew. Both stretches make the whole."""
    registry = Registry()
    first = read(outcomes(registry, ("OK", "OK", "same", 5)))
    registry.observe(MIRROR_LATENCY, (*PAIR, Side.CANDIDATE.value), 1000.0)
    registry.count(MIRROR_DROPPED, (*PAIR, Dropped.TOO_LARGE.value), 2)
    registry.count(MIRROR_OUTPUTS, (*PAIR, "sig", "y", Agreement.SAME.value), 2)
    second = read(outcomes(registry, ("OK", "OK", "same", 2), ("OK", "OK", "different", 1)))
    window = second.since(first)
    assert (window.requests, window.compared, window.different) == (3, 3, 1)
    assert sum(window.latency(Side.CANDIDATE)) == 1
    assert window.latency(Side.VERSION) == ()
    assert window.dropped == {"too_large": 2}
    assert window.outputs["sig", "y"].different_share == 0.0
    assert first.plus(window).requests == second.requests
    assert second.since(second).requests == 0
    assert first.since(second).requests == 5
    assert sum(second.since(second).latency(Side.CANDIDATE)) == 0
    assert pickle.loads(pickle.dumps(window)) == window


@pytest.mark.parametrize(
    ("expected", "found", "least", "most"),
    [
        ((10, 20, 30), (10, 20, 30), 0.0, 0.0),
        ((100, 200, 300), (10, 20, 30), 0.0, 0.01),
        ((100, 200, 300), (110, 195, 295), 0.0, 0.01),
        ((100, 0, 0), (0, 0, 100), 5.0, 20.0),
        ((100, 100), (50, 150), 0.25, 0.3),
    ],
)
def test_population_stability(
    expected: tuple[float, ...], found: tuple[float, ...], least: float, most: float
) -> None:
    """Nothing where both are alike, however many there are, and more the less they have in common."""
    index = population_stability(expected, found)
    assert index is not None
    assert least <= index <= most


@pytest.mark.parametrize(("expected", "found"), [((), ()), ((0, 0), (0, 0)), ((1, 0), (0, 0)), ((), (1, 1))])
def test_nothing_is_known_of_nothing(expected: tuple[float, ...], found: tuple[float, ...]) -> None:
    """Where either has no values there is no index."""
    assert population_stability(expected, found) is None
