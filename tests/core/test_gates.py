"""Gates: what passes, what fails beyond doubt, and of what nothing can be said."""

from __future__ import annotations

from typing import Any

import pytest

from serving_app.core.comparison import Comparison
from serving_app.core.evidence import (
    Counts,
    Evidence,
    Series,
    Share,
    count_above,
    find_quantile,
    read_evidence,
)
from serving_app.core.families import (
    CALLER_LATENCY,
    CALLER_REQUESTS,
    MIRROR_DIFFERENCE,
    MIRROR_LATENCY,
    MIRROR_OUTPUTS,
    MIRROR_REQUESTS,
    MIRROR_SCORES,
    MIRROR_TOP,
    REQUEST_COUNT,
    REQUEST_LATENCY,
)
from serving_app.core.gates import Sides, judge
from serving_app.core.metrics import Registry, Snapshot
from serving_app.core.strategy import Bound, Gate, Measure
from tests.core.rollout_world import buckets_of


def gate(measure: Measure = Measure.ERROR_RATE, bound: Bound = Bound.MAX, limit: float = 0.02, **more: Any) -> Gate:
    """A gate that is satisfied with ten samples."""
    return Gate("g", measure, bound, limit, **{"min_samples": 10, **more})


def outcome(wanted: Gate, evidence: Evidence, told: dict[tuple[str, int], float | str] | None = None) -> str:
    """What is said of it; version 2 is the candidate, version 1 serves."""
    return judge(wanted, evidence, Sides(2, 1), told or {}).outcome.value


def errors(candidate: tuple[int, int], present: tuple[int, int] = (0, 0)) -> Evidence:
    """So many errors of so many requests."""
    return Evidence(Counts(Share(*candidate)), Counts(Share(*present)))


def test_error_rates_against_a_number() -> None:
    """A rate passes up to the limit, fails where chance cannot explain it, and is inconclusive between and below the
    samples that are needed."""
    for counted, said in (
        ((0, 1000), "pass"), ((20, 1000), "pass"), ((25, 1000), "inconclusive"), ((60, 1000), "fail"),
        ((1, 10), "inconclusive"), ((8, 10), "fail"), ((0, 9), "inconclusive"), ((9, 9), "inconclusive"),
        ((0, 0), "inconclusive"), ((2_500, 100_000), "fail"), ((2_010, 100_000), "inconclusive"),
    ):  # fmt: skip
        assert outcome(gate(), errors(counted)) == said, counted
    assert outcome(gate(limit=0.0), errors((1, 1000))) == "fail"
    assert outcome(gate(limit=0.001), errors((1, 30))) == "inconclusive"


def test_error_rates_against_the_version_that_serves() -> None:
    """A candidate may be as bad as the version that serves, which needs its samples as well."""
    increase, ratio = gate(bound=Bound.MAX_INCREASE, limit=0.01), gate(bound=Bound.MAX_RATIO, limit=1.5)
    for wanted, candidate, present, said in (
        (increase, (100, 1000), (100, 1000), "pass"), (increase, (200, 1000), (100, 1000), "fail"),
        (increase, (5, 100), (10, 1000), "inconclusive"), (increase, (0, 1000), (0, 9), "inconclusive"),
        (ratio, (140, 1000), (100, 1000), "pass"), (ratio, (300, 1000), (100, 1000), "fail"),
        (ratio, (0, 100), (0, 100), "pass"), (ratio, (1, 100), (0, 100), "inconclusive"),
        (ratio, (50, 100), (0, 100), "fail"),
    ):  # fmt: skip
        assert outcome(wanted, errors(candidate, present)) == said, (wanted.bound, candidate, present)


def latencies(candidate: tuple[float, ...], present: tuple[float, ...] = ()) -> Evidence:
    """Histograms of requests with these latencies in milliseconds."""
    return Evidence(Counts(latency=candidate), Counts(latency=present))


def test_latencies() -> None:
    """A quantile is held against a number or that of the version that serves."""
    fast, slow = buckets_of(*[10.0] * 990, *[20.0] * 10), buckets_of(*[10.0] * 900, *[200.0] * 100)
    few_slow = buckets_of(*[10.0] * 98, *[200.0] * 2)
    fixed = gate(Measure.LATENCY, Bound.MAX, 50.0)
    relative = gate(Measure.LATENCY, Bound.MAX_RATIO, 2.0)
    for wanted, candidate, present, said in (
        (fixed, fast, (), "pass"), (fixed, slow, (), "fail"), (fixed, few_slow, (), "inconclusive"),
        (fixed, buckets_of(*[500.0] * 9), (), "inconclusive"), (fixed, (), (), "inconclusive"),
        (relative, fast, fast, "pass"), (relative, slow, fast, "fail"), (relative, slow, slow, "pass"),
        (relative, fast, (), "inconclusive"), (relative, fast, buckets_of(10.0), "inconclusive"),
    ):  # fmt: skip
        assert outcome(wanted, latencies(candidate, present)) == said, (wanted.bound, sum(candidate), sum(present))


def test_quantiles_are_as_fine_as_the_buckets() -> None:
    """A quantile lies in the bucket of the value that it stands for, and the values above it are the rest."""
    for millis in (0.001, 0.01, 0.5, 10.0, 1000.0, 1e9):
        found = find_quantile(buckets_of(*[millis] * 100), 0.5)
        assert found is not None
        if millis < 1e6:
            assert millis / 1.8 <= found <= max(millis * 1.8, 0.01)
        assert count_above(buckets_of(*[millis] * 100), found) == pytest.approx(50)
    assert find_quantile((), 0.5) is None
    assert find_quantile(buckets_of(1.0, 1000.0), 1.0) == pytest.approx(1000.0, rel=0.8)
    assert count_above(buckets_of(1.0, 100.0), 10.0) == 1
    assert count_above(buckets_of(1.0, 100.0), 0.0) == 2


def copied(**outputs: Any) -> Evidence:
    """What copies have shown, by the cells of families."""
    cells: Snapshot = {MIRROR_OUTPUTS.name: {("s", "y", "same"): 1}}
    for family in (MIRROR_REQUESTS, MIRROR_TOP, MIRROR_DIFFERENCE, MIRROR_SCORES, MIRROR_LATENCY):
        cells[family.name] = outputs.get(family.name.removeprefix("serving_app_mirror_"), {})
    return Evidence(copies=Comparison(cells))


def requests(same: int, different: int = 0, failed: int = 0) -> dict[tuple[str, ...], int]:
    return {("OK", "OK", "same"): same, ("OK", "OK", "different"): different, ("OK", "INTERNAL", ""): failed}


def test_predictions() -> None:
    """Copies tell how often answers differ, how often the top class does, and by how much at most."""
    disagreement, top = gate(Measure.DISAGREEMENT, limit=0.01), gate(Measure.TOP1_DISAGREEMENT, limit=0.05)
    largest = gate(Measure.MAX_DIFFERENCE, limit=0.5)
    tops = {("s", "y", "same"): 900, ("s", "y", "different"): 100}
    differences = {("s", "y", "absolute"): tuple(1.0 if place == 25 else 0.0 for place in range(33))}
    for wanted, evidence, said in (
        (disagreement, copied(requests=requests(1000)), "pass"),
        (disagreement, copied(requests=requests(900, 100)), "fail"),
        (disagreement, copied(requests=requests(9)), "inconclusive"),
        (disagreement, copied(), "inconclusive"),
        (top, copied(top=tops), "fail"),
        (top, copied(), "inconclusive"),
        (largest, copied(requests=requests(100), difference=differences), "fail"),
        (largest, copied(requests=requests(100)), "pass"),
        (largest, copied(difference=differences), "inconclusive"),
    ):
        assert outcome(wanted, evidence) == said, (wanted.measure, evidence.copies.cells)


def scores(version: tuple[float, ...], candidate: tuple[float, ...]) -> Evidence:
    """Scores of both in buckets."""
    return copied(scores={("s", "y", "version"): (*version, 0.0), ("s", "y", "candidate"): (*candidate, 0.0)})


def test_drift_is_told_from_chance() -> None:
    """Distributions that differ as two samples of the same one do are no drift for sure."""
    wanted = gate(Measure.DRIFT, limit=0.25)
    for version, candidate, said in (
        ((500, 500), (500, 500), "pass"), ((500, 500), (50, 950), "fail"),
        ((10, 5, 5), (5, 10, 5), "inconclusive"), ((5,), (5,), "inconclusive"), ((), (), "inconclusive"),
    ):
        assert outcome(wanted, scores(version, candidate)) == said, (version, candidate)


def test_errors_and_latencies_of_copies_count() -> None:
    """A candidate that gets copies alone is judged by these."""
    assert outcome(gate(), copied(requests=requests(50, failed=50))) == "fail"
    assert outcome(gate(), copied(requests=requests(100))) == "pass"
    fast, slow = (*buckets_of(*[10.0] * 500), 0.0), (*buckets_of(*[100.0] * 500), 0.0)
    wanted = gate(Measure.LATENCY, Bound.MAX_RATIO, 2.0)
    assert outcome(wanted, copied(latency={("version",): fast, ("candidate",): slow})) == "fail"
    assert outcome(wanted, copied(latency={("version",): fast, ("candidate",): fast})) == "pass"


def test_metrics_that_are_told() -> None:
    """A number that somebody tells passes or fails; what nobody tells, or an error in its place, never passes."""
    least, ratio = gate(Measure.METRIC, Bound.MIN, 5.0), gate(Measure.METRIC, Bound.MIN_RATIO, 0.9)
    for wanted, told, said in (
        (least, {("g", 2): 5.0}, "pass"), (least, {("g", 2): 4.9}, "fail"), (least, {}, "inconclusive"),
        (least, {("g", 1): 9.0}, "inconclusive"), (least, {("g", 2): "no answer"}, "inconclusive"),
        (least, {("h", 2): 9.0}, "inconclusive"),
        (ratio, {("g", 1): 10.0, ("g", 2): 9.5}, "pass"), (ratio, {("g", 1): 10.0, ("g", 2): 8.0}, "fail"),
        (ratio, {("g", 2): 8.0}, "inconclusive"), (ratio, {("g", 1): "no answer", ("g", 2): 8.0}, "inconclusive"),
    ):  # fmt: skip
        assert outcome(wanted, Evidence(), dict(told)) == said, told
    assert "no answer" in str(judge(least, Evidence(), Sides(2, 1), {("g", 2): "no answer"}))


def test_evidence_is_what_came_in_between() -> None:
    """Of counts that only grow, a stretch of time is the difference of two looks; what was forgotten counts as nothing.
    """
    series = Series()
    assert series.since(0.0) == Evidence()
    for at, candidate in ((10.0, (1, 10)), (20.0, (1, 30)), (30.0, (5, 70))):
        series.add(at, errors(candidate, (0, 100)))
    for moment, counted in ((30.0, (0, 0)), (25.0, (4, 40)), (20.0, (4, 40)), (10.0, (4, 60)), (0.0, (4, 60))):
        assert series.since(moment).candidate.errors == Share(*counted), moment
    series.add(40.0, errors((0, 5)))
    assert series.since(30.0).candidate.errors == Share(0, 0)
    assert series.since(30.0).present.errors == Share(0, 0)


def test_counts_that_were_forgotten_fail_nobody() -> None:
    """Where the requests of some callers are not known any more, what is left of the difference is no share of errors.
    """
    before, after = Share(0, 1050), Share(40, 1060)  # a thousand came, and nearly as many were forgotten
    assert after.since(before) == Share()
    assert Share(0, 20).since(before) == Share()
    assert Share(40, 1090).since(before) == Share(40, 40)


def test_a_series_keeps_what_is_needed() -> None:
    """However long it goes on, what came since the marks and in the recent past is told, by a bounded number of looks.
    """
    series = Series()
    for at in range(10_000):
        series.add(float(at), errors((0, at)))
        series.thin((2000.0, 3000.0), recent=at - 60.0, grain=2.0)
    assert len(series) <= 120
    for moment in (2000.0, 3000.0):
        assert series.since(moment).candidate.errors.of == 9999 - moment
    assert 50 <= series.since(9999 - 50.0).candidate.errors.of <= 52
    assert 60 <= series.since(9999 - 60.0).candidate.errors.of <= 62
    for age in (200.0, 1000.0, 3500.0):  # what is long ago is told the more coarsely
        assert age <= series.since(9999 - age).candidate.errors.of <= age * 1.1 + 2


def test_evidence_is_read_from_what_gateways_count() -> None:
    """Of one model the two versions are read, over all signatures; requests whose clients left are nobody's fault."""
    registry = Registry()
    for model, status, version, count in (
        ("m", "OK", "1", 90), ("m", "INTERNAL", "1", 10), ("m", "OK", "2", 5), ("m", "CANCELLED", "2", 7),
        ("m", "OK", "3", 50), ("n", "OK", "1", 50), ("m", "NOT_FOUND", "", 3),
    ):  # fmt: skip
        registry.count(REQUEST_COUNT, (model, status, version, "s"), count)
    registry.count(REQUEST_COUNT, ("m", "OK", "2", "t"), 5)
    for signature in ("s", "t"):
        registry.observe(REQUEST_LATENCY, ("m", "predict", "REST", "2", signature), 10_000, 5)
    evidence = read_evidence(registry.counts(), "m", candidate=2, present=1)
    assert (evidence.candidate.errors, evidence.present.errors) == (Share(0, 10), Share(10, 100))
    assert evidence.candidate.latency == buckets_of(*[10.0] * 10)
    assert evidence.present.latency == ()


def test_evidence_is_read_from_what_callers_count() -> None:
    """Requests of Python callers count as those of gateways do, added to them, but for those that name a version by its
    number, which nobody shares."""
    registry = Registry()
    for status, version, signature, named, count in (
        ("OK", "1", "s", "latest", 9), ("OK", "2", "s", "label", 3), ("UNAVAILABLE", "2", "t", "label", 4),
        ("INVALID_ARGUMENT", "2", "", "latest", 1), ("CANCELLED", "2", "s", "latest", 7),
        ("OK", "2", "s", "number", 50), ("INTERNAL", "1", "s", "number", 50), ("NOT_FOUND", "", "", "latest", 5),
    ):  # fmt: skip
        registry.count(CALLER_REQUESTS, ("m", status, version, signature, named), count)
    registry.count(CALLER_REQUESTS, ("n", "INTERNAL", "2", "s", "latest"), 5)
    registry.count(REQUEST_COUNT, ("m", "OK", "2", "number"), 2)
    registry.observe(CALLER_LATENCY, ("m", "Predict", "2", "s", "label"), 1_000, 3)
    registry.observe(CALLER_LATENCY, ("m", "Predict", "2", "s", "number"), 9_000_000, 50)
    registry.observe(REQUEST_LATENCY, ("m", "predict", "REST", "2", "number"), 10_000, 2)
    evidence = read_evidence(registry.counts(), "m", candidate=2, present=1)
    assert (evidence.candidate.errors, evidence.present.errors) == (Share(5, 10), Share(0, 9))
    assert evidence.candidate.latency == buckets_of(*[1.0] * 3, *[10.0] * 2)
