"""What the suite computes from its measurements."""

from __future__ import annotations

import dataclasses
import math

import pytest

from benchmarks.suite import ratios, report
from benchmarks.suite.contenders import (
    BARE_UVICORN,
    COLOCATED,
    KSERVE,
    LITSERVE,
    NAIVE,
    OFF,
    ON,
    OURS,
    PYTRITON,
)
from benchmarks.suite.ratios import HALF, IMAGE, IN_PROCESS_CPU, MOBILENET, NEW_VERSION, PER_CALL
from benchmarks.suite.results import CLOSED, OPEN, Key, Record, Results, Spread


def record(work: str, contender: str, setup: str, protocol: str, load: float | str, rate: float, p50: float = 1.0,
           p99: float = 2.0, cpu: float | None = None, loop: str = CLOSED, failed: int = 0) -> Record:  # fmt: skip
    return Record(Key(work, contender, setup, protocol, loop, load), rate, p50, p99, failed, cpu)


WHOLE = Results(
    [
        record(HALF, OURS, ON, "rest", 64, 8000.0),
        record(HALF, OURS, ON, "rest", 64, 9000.0),
        record(HALF, OURS, ON, "rest", 64, 2000.0),
        record(HALF, OURS, ON, "rest", 256, 10_000.0),
        record(HALF, OURS, OFF, "rest", 64, 5000.0),
        record(HALF, OURS, OFF, "rest", 1, 500.0, p50=1.5),
        record(HALF, OURS, COLOCATED, "rest", 64, 20_000.0),
        record(HALF, OURS, COLOCATED, "rest", 1, 5000.0, p50=0.2),
        record(HALF, OURS, ON, "grpc", 64, 3000.0),
        record(HALF, OURS, OFF, "grpc", 64, 2500.0),
        record(HALF, OURS, COLOCATED, "grpc", 64, 6000.0),
        record(HALF, NAIVE, "", "rest", 64, 100.0),
        record(HALF, KSERVE, "", "rest", 64, 1000.0),
        record(HALF, KSERVE, "", "rest", 1, 1000.0, p50=0.5),
        record(HALF, LITSERVE, "", "rest", 64, 2000.0),
        record(HALF, PYTRITON, "", "rest", 64, 4000.0),
        record(HALF, PYTRITON, "", "rest", 256, 5000.0),
        record(HALF, PYTRITON, "", "rest", 1, 500.0, p50=2.0),
        record(HALF, PYTRITON, "", "grpc", 64, 3000.0),
        record(HALF, BARE_UVICORN, "", "rest", 64, 40_000.0),
        record(IMAGE, OURS, OFF, "rest", 1, 100.0),
        record(IMAGE, OURS, COLOCATED, "rest", 8, 150.0),
        record(IMAGE, OURS, OFF, "grpc", 8, 600.0),
        record(IMAGE, KSERVE, "", "rest", 1, 10.0),
        record(IMAGE, LITSERVE, "", "rest", 8, 5.0),
        record(IMAGE, PYTRITON, "", "rest", 8, 100.0),
        record(IMAGE, PYTRITON, "", "grpc", 32, 500.0),
        record(MOBILENET, OURS, ON, "grpc", 8, 20.0, cpu=60.0),
        record(MOBILENET, OURS, ON, "grpc", 16, 30.0, cpu=44.0),
        record(PER_CALL, OURS, ON, "rest", 64, 4000.0),
        record(PER_CALL, OURS, OFF, "rest", 64, 1000.0),
        record(HALF, OURS, ON, "rest", "half", 4000.0, p50=2.0, p99=5.0, loop=OPEN),
        record(HALF, OURS, OFF, "rest", "half", 2500.0, p50=1.0, p99=3.0, loop=OPEN),
    ],
    {NEW_VERSION: [0.1, 0.4, 0.2], IN_PROCESS_CPU: [40.0, 41.0, 39.0]},
)


def test_every_row_from_measurements() -> None:
    """Each row is the ratio that it says: of medians, of the best where it says so, and of the worst in open loops."""
    found = {ratio.work: ratio.values for ratio in ratios.compute(WHOLE)}
    assert list(found.values()) == [
        (pytest.approx(80.0),),
        (pytest.approx(4.0),),
        (pytest.approx(2.0),),
        (pytest.approx(2.0),),
        (pytest.approx(1.25),),
        (pytest.approx(0.75),),
        (pytest.approx(5.0),),
        (pytest.approx(0.5),),
        (pytest.approx(0.4),),
        (pytest.approx(0.2),),
        (pytest.approx(1.0), pytest.approx(2.0)),
        (pytest.approx(15.0), pytest.approx(1.5)),
        (pytest.approx(1.2),),
        (pytest.approx(1.1),),
        (pytest.approx(1.6), pytest.approx(4.0)),
        (pytest.approx(3.0),),
    ]


def test_verdicts() -> None:
    """A row is reached when all of its targets are, and missed when one is."""
    verdicts = [ratio.verdict for ratio in ratios.compute(WHOLE)]
    missed = {1, 3, 4, 7}
    assert [verdict == "missed" for verdict in verdicts] == [number in missed for number in range(16)]
    assert set(verdicts) == {"reached", "missed"}


def test_what_was_not_measured_is_said() -> None:
    """Without the peer that a row compares with, the row is not measured; nothing is made up for it."""
    without = Results([each for each in WHOLE.records if each.key.contender != PYTRITON], WHOLE.figures)
    rows = ratios.compute(without)
    concerned = [row for row in rows if "PyTriton" in row.work or row.work == "… the same at c=256"]
    assert len(concerned) == 8
    assert all(row.verdict == "not measured" for row in concerned)
    assert {row.verdict for row in ratios.compute(Results())} == {"not measured"}
    assert "not measured" in report.ratio_table(rows)


def test_spread() -> None:
    """Rounds are summed up by their median, least and most; one without any answer has no latency."""
    assert Spread.of([3.0, 1.0, 2.0]) == Spread(2.0, 1.0, 3.0)
    silent = record(HALF, KSERVE, "", "rest", 64, 0.0, p50=math.nan)
    results = Results([*WHOLE.records, silent])
    assert results.p50(HALF, KSERVE, "", "rest", CLOSED, 64) == 1.0
    assert Results([silent]).p50(*dataclasses.astuple(silent.key)) is None


def test_results_are_kept_whole() -> None:
    """What is written as JSON is read again as it was."""
    results = Results(WHOLE.records, WHOLE.figures, ["a peer did not start"])
    assert Results.from_json(results.to_json()) == results


def test_report_names_failures_and_troubles() -> None:
    """The page has every server that was measured, failures of requests, and what could not be measured."""
    broken = record(HALF, KSERVE, "", "rest", 8, 10.0, failed=3)
    results = Results([*WHOLE.records, broken], WHOLE.figures, ["MLServer: its process has ended"])
    page = report.write(results, ratios.compute(results), {"processor": "two cores"})
    assert "**3 failed**" in page
    assert "MLServer: its process has ended" in page
    assert "| serving_app, batching on, REST |  |  | 8,000 ± 44 % (1.00 ms) |" in page.replace("|  |  |  |", "|  |  |")
    assert "| serving_app, batching on, REST | half of the best | 4,000 | 2.00 ms | 5.00 ms | 2.5 |  |" in page
