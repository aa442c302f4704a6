"""What gates put down to chance, of one look and of the many looks of a long rollout."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest

from serving_app.core.comparison import Comparison
from serving_app.core.evidence import Counts, Evidence, Series, Share
from serving_app.core.families import MIRROR_DIFFERENCE, MIRROR_OUTPUTS, MIRROR_REQUESTS, MIRROR_TOP
from serving_app.core.gates import HARDLY, Sides, Verdict, _is_above, _tail, doubt_of_look, judge
from serving_app.core.rollout import Phase, Rollout
from serving_app.core.rollout_course import Sight, advance
from serving_app.core.strategy import Bound, Gate, Measure, Pause, SetWeight, Strategy
from tests.core.rollout_world import buckets_of


def look(gate: Gate, evidence: Evidence, told: dict[tuple[str, int], float | str] | None = None) -> Verdict:
    """What is said of a gate; version 2 is the candidate, version 1 serves."""
    return judge(gate, evidence, Sides(2, 1), told or {})


def test_the_tail_is_exact_however_thin() -> None:
    """The probability of so many or more is right to the last digits, also where it is next to nothing."""
    for count, of, probability in ((3, 30, 0.01), (9, 10, 0.02), (1, 5, 0.1), (40, 1000, 0.02), (30, 30, 0.5)):
        ways = [math.comb(of, k) * probability**k * (1 - probability) ** (of - k) for k in range(count, of + 1)]
        assert _tail(count, of, probability) == pytest.approx(math.fsum(ways), rel=1e-6)
    assert _tail(11, 10, 0.5) == 0.0
    assert 0 < _tail(200, 1000, 0.02) < 1e-100
    assert not _is_above(Share(1_030, 100_000), 0.01, 1e-9)
    assert _is_above(Share(1_300, 100_000), 0.01, 1e-9)


def test_all_looks_together_have_one_doubt() -> None:
    """However many there are: so it is no use to look again until chance helps."""
    assert math.fsum(map(doubt_of_look, range(1, 100_000))) == pytest.approx(HARDLY, rel=1e-4)


def binomial(chance: random.Random, of: int, probability: float) -> int:
    """How many of so many have this probability."""
    return sum(chance.random() < probability for _ in range(of))


def watch_for_long(gate: Gate, error_rate: float, seed: str, hours: float = 6.0) -> Rollout:
    """A rollout that is paused for so long while both versions have this error rate, on a service with few requests."""
    chance = random.Random(seed)
    strategy = Strategy("s", (SetWeight(50.0), Pause(None)), (gate,))
    rollout = Rollout(1, "m", "default", 1, 2, strategy, begun=0.0, since=0.0, changed=0.0)
    series, counts, now = Series(), [0, 0, 0, 0], 0.0
    while now < hours * 3600 and rollout.phase is not Phase.FAILED:
        for at in (0, 2):  # six requests in ten seconds, of which each version gets a half, more or less
            requests = binomial(chance, 12, 0.25)
            counts[at] += binomial(chance, requests, error_rate)
            counts[at + 1] += requests
        series.add(now, Evidence(Counts(Share(*counts[:2])), Counts(Share(*counts[2:]))))
        series.thin((rollout.since, rollout.changed), now - strategy.window_s, grain=1.0)
        rollout = advance(rollout, now, Sight(True, series=series))
        now += strategy.interval_s
    return rollout


@pytest.mark.parametrize(
    ("gate", "error_rate"),
    [
        (Gate("half the limit", Measure.ERROR_RATE, Bound.MAX, 0.05, min_samples=10), 0.025),
        (Gate("on the limit", Measure.ERROR_RATE, Bound.MAX, 0.05, min_samples=10), 0.05),
        (Gate("increase", Measure.ERROR_RATE, Bound.MAX_INCREASE, 0.0, min_samples=10), 0.05),
        (Gate("ratio", Measure.ERROR_RATE, Bound.MAX_RATIO, 1.0, min_samples=10), 0.05),
    ],
    ids=lambda value: value.name if isinstance(value, Gate) else "",
)
def test_a_long_rollout_fails_no_version_by_chance(gate: Gate, error_rate: float) -> None:
    """A version on the limit, or as good as the one that serves, is not turned away in hours of looks; with the same
    level for every look most of those on the limit were."""
    for number in range(2):
        seed = f"{gate.name} {number}"
        rollout = watch_for_long(gate, error_rate, seed)
        assert rollout.phase is Phase.PAUSED, (seed, rollout)
        assert rollout.checks[gate.name].looks > 2_000


def test_a_version_that_turns_bad_late_is_still_caught() -> None:
    """After many looks it takes more, and not very much more: a few dozen requests where most fail."""
    gate = Gate("g", Measure.ERROR_RATE, Bound.MAX, 0.01, min_samples=10)
    late = doubt_of_look(100_000)
    verdict = judge(gate, Evidence(Counts(Share(15, 30))), Sides(2, 1), {}, late)
    assert verdict.outcome.value == "fail"
    assert judge(gate, Evidence(Counts(Share(3, 30))), Sides(2, 1), {}, late).outcome.value == "inconclusive"
    assert look(gate, Evidence(Counts(Share(3, 30)))).outcome.value == "fail"


def test_rare_slow_requests_of_both_are_no_fault_of_the_candidate() -> None:
    """Where one of twenty requests is slow by nature, thirty of each version say nothing of a high quantile: the other
    version, which had none of them among its thirty, is no worse for it. A candidate that is slow throughout is told
    from that at once."""
    gate = Gate("p99", Measure.LATENCY, Bound.MAX_RATIO, 2.0)
    present = buckets_of(*[10.0] * 30)
    for candidate, said in (
        (buckets_of(*[10.0] * 26, *[200.0] * 4), "inconclusive"),
        (buckets_of(*[200.0] * 30), "fail"),
        (buckets_of(*[10.0] * 30), "pass"),
    ):
        assert look(gate, Evidence(Counts(latency=candidate), Counts(latency=present))).outcome.value == said


def test_a_latency_below_its_limit_is_not_failed_by_the_width_of_a_bucket() -> None:
    """What may lie on the right side of a limit within its bucket is no failure for sure."""
    gate = Gate("p99", Measure.LATENCY, Bound.MAX, 20.0)
    for millis, said in ((16.0, "inconclusive"), (40.0, "fail"), (8.0, "pass")):
        evidence = Evidence(Counts(latency=buckets_of(*[millis] * 1000)))
        assert look(gate, evidence).outcome.value == said, millis


@pytest.mark.parametrize("bound", [Bound.MAX_RATIO, Bound.MIN_RATIO])
def test_of_less_than_nothing_there_is_no_ratio(bound: Bound) -> None:
    """A metric that is negative for the version that serves is not compared by a ratio, but well by a difference."""
    gate = Gate("m", Measure.METRIC, bound, 1.1 if bound is Bound.MAX_RATIO else 0.9)
    told: dict[tuple[str, int], float | str] = {("m", 1): -10.0, ("m", 2): -10.0}
    verdict = look(gate, Evidence(), told)
    assert (verdict.outcome.value, "there is no ratio" in verdict.why) == ("inconclusive", True)
    increase = replace(gate, bound=Bound.MAX_INCREASE, limit=1.0)
    assert look(increase, Evidence(), told).outcome.value == "pass"
    assert look(gate, Evidence(), {("m", 1): 0.0, ("m", 2): 0.0}).outcome.value == "pass"


def copies(compared: int, *outputs: tuple[str, int, int], bucket: int | None = None) -> Evidence:
    """So many copied requests; of each output how often its top class was the same and how often not."""
    cells = {
        MIRROR_REQUESTS.name: {("OK", "OK", "same"): compared},
        MIRROR_OUTPUTS.name: {("s", name, "same"): same + different for name, same, different in outputs},
        MIRROR_TOP.name: {
            ("s", name, said): count
            for name, same, different in outputs
            for said, count in (("same", same), ("different", different))
        },
    }
    if bucket is not None:
        places = range(len(MIRROR_DIFFERENCE.limits) + 2)
        cell = tuple(1.0 if place == bucket else 0.0 for place in places)
        cells[MIRROR_DIFFERENCE.name] = {("s", outputs[0][0], "absolute"): cell}  # type: ignore[dict-item]
    return Evidence(copies=Comparison(cells))  # type: ignore[arg-type]


def test_an_output_that_few_asked_for_hides_no_other() -> None:
    """Of several outputs the one that surely fails counts; one of which little is known passes nothing."""
    gate = Gate("top", Measure.TOP1_DISAGREEMENT, Bound.MAX, 0.05)
    assert look(gate, copies(1000, ("a", 500, 500), ("rare", 0, 3))).outcome.value == "fail"
    assert look(gate, copies(1000, ("a", 1000, 0), ("rare", 3, 0))).outcome.value == "inconclusive"
    assert look(gate, copies(1000, ("a", 1000, 0), ("b", 990, 10))).value == pytest.approx(0.01)


def test_the_largest_difference_is_as_fine_as_its_bucket() -> None:
    """It passes where the end of its bucket does, and fails where the beginning does; equal values do not differ."""
    gate = Gate("largest", Measure.MAX_DIFFERENCE, Bound.MAX, 0.0)
    output = ("a", 1000, 0)
    assert look(gate, copies(1000, output, bucket=0)).outcome.value == "pass"
    assert look(gate, copies(1000, output, bucket=9)).outcome.value == "fail"
    low, end = MIRROR_DIFFERENCE.limits[8], MIRROR_DIFFERENCE.limits[9]
    for limit, said in ((end, "pass"), ((low * end) ** 0.5, "inconclusive"), (low * 0.9, "fail")):
        assert look(replace(gate, limit=limit), copies(1000, output, bucket=9)).outcome.value == said, limit
