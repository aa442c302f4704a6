"""Whole rollouts against simulated traffic: by its own evidence what is bad is turned away, what is good promoted."""

from __future__ import annotations

from collections import Counter

import pytest

from serving_app.core.rollout import Phase
from serving_app.core.strategy import Analysis, Bound, Gate, Measure, Pause, SetMirror, SetWeight, Strategy
from tests.core.rollout_world import Version, World

CAREFUL = Strategy(
    "careful",
    steps=(
        SetMirror(50.0),
        Analysis(30.0, (Gate("disagreement", Measure.DISAGREEMENT, Bound.MAX, 0.02),)),
        SetMirror(0.0),
        SetWeight(10.0),
        Pause(60.0),
        SetWeight(50.0),
        Pause(30.0),
    ),
    gates=(
        Gate("error_rate", Measure.ERROR_RATE, Bound.MAX_INCREASE, 0.02),
        Gate("latency", Measure.LATENCY, Bound.MAX_RATIO, 1.8, quantile=0.9),
    ),
)
TIMES = 50


def simulate(kind: str, number: int) -> World:
    """A rollout of one candidate; each is bad in its own measure."""
    seed = f"{kind} {number}"
    worlds = World(CAREFUL, Version(), seed=hash_of(seed))
    badness = 1.0 + worlds.chance.random()
    match kind:
        case "errors":
            worlds.candidate.error_rate = 0.08 * badness
        case "slow":
            worlds.candidate.latency_ms = 30.0 * badness
        case "wrong answers":
            worlds.candidate.wrong_rate = 0.08 * badness
        case "good":
            worlds.candidate.latency_ms = 10.0 * (0.7 + 0.3 * worlds.chance.random())
    worlds.run(3600.0)
    return worlds


def hash_of(text: str) -> int:
    """The same in every process, which `hash` of a text is not."""
    return int.from_bytes(text.encode(), "little")


@pytest.mark.parametrize("kind", ["errors", "slow", "wrong answers"])
def test_what_is_bad_is_turned_away(kind: str) -> None:
    """Each of many bad candidates fails, and the version before has all requests then."""
    for number in range(TIMES):
        world = simulate(kind, number)
        story = f"seed {kind} {number}: {world.stories()}"
        assert world.rollout.phase is Phase.FAILED, story
        assert world.rollout.weight == 0.0, story
    print(f"{TIMES} candidates with {kind} were turned away; seeds: '{kind} 0' to '{kind} {TIMES - 1}'")


def test_what_is_good_is_promoted() -> None:
    """Each of many good candidates gets all requests in the end."""
    for number in range(TIMES):
        world = simulate("good", number)
        assert world.rollout.phase is Phase.PROMOTED, f"seed good {number}: {world.stories()}"
    print(f"{TIMES} good candidates were promoted; seeds: 'good 0' to 'good {TIMES - 1}'")


@pytest.mark.parametrize(
    ("times", "phases"),
    [
        (0.5, {Phase.PROMOTED}),
        (1.5, {Phase.PROMOTED, Phase.PAUSED, Phase.FAILED}),
        (3.0, {Phase.FAILED}),
    ],
)
def test_what_is_near_the_limit(times: float, phases: set[Phase]) -> None:
    """With half of the errors that are allowed every candidate is promoted, and with three times as many none; in
    between a few are lucky, and most of them wait for a person or fail."""
    ended = Counter[Phase]()
    for number in range(10):
        world = World(CAREFUL, Version(0.002 + 0.02 * times), seed=hash_of(f"near {times} {number}"))
        world.run(3600.0)
        ended[world.rollout.phase] += 1
    print(f"{times} times the errors that are allowed: {ended}; seeds: 'near {times} 0' to 'near {times} 9'")
    assert set(ended) <= phases, ended
    if len(phases) > 1:
        assert ended[Phase.PROMOTED] <= 5, ended


def test_a_quiet_service_passes_nothing() -> None:
    """Without enough requests neither a good candidate nor a bad one goes on; a person is asked for."""
    for error_rate in (0.0, 0.5):
        world = World(CAREFUL, Version(error_rate), per_s=0.05)
        world.run(200.0, every_s=20.0)
        assert world.rollout.phase is Phase.PAUSED
        assert world.rollout.weight == 0.0
        assert "inconclusive" in world.rollout.reason
