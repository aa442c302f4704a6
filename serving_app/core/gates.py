"""What the evidence says of a gate: passed, failed, or that it does not say.

A gate fails only beyond doubt: where chance alone would hardly make a candidate on the limit look so bad. A value on
the wrong side of the limit that could be chance is inconclusive, and so is everything that is known of too few
requests. So a service that nobody asks passes nothing, and a handful of unlucky requests fails nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from serving_app.core.comparison import OutputComparison, Side
from serving_app.core.evidence import Evidence, Share, count_above, count_buckets, find_quantile
from serving_app.core.strategy import Gate, Measure

_HARDLY = 0.005
"""The probability of what is not put down to chance."""
_SURE = 2.576
"""The same in standard deviations."""
_MANY = 1000


class Outcome(Enum):
    """What a look at a gate told."""

    PASS = "pass"
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, slots=True)
class Verdict:
    """One look at a gate. `samples` are the candidate's; `limit` is as it was for what it was compared with."""

    gate: str
    outcome: Outcome
    value: float | None = None
    limit: float | None = None
    samples: float | None = None
    why: str = ""

    def __str__(self) -> str:
        words = f"{self.gate} {self.outcome.value}"
        if self.value is not None and self.limit is not None:
            words += f": {self.value:.4g} where the limit is {self.limit:.4g}"
        if self.samples is not None:
            words += f", of {self.samples:.0f}"
        return f"{words} ({self.why})" if self.why else words


@dataclass(frozen=True, slots=True)
class Sides:
    """Which version is the candidate, and which serves now."""

    candidate: int
    present: int


Told = Mapping[tuple[str, int], float | str]
"""The metrics that were told lately, by their name and the version; in place of a number, why there is none."""


def judge(gate: Gate, evidence: Evidence, sides: Sides, told: Told) -> Verdict:
    """What is to be said of a gate by what happened in some stretch of time."""
    candidate, present, copies = evidence.candidate, evidence.present, evidence.copies
    match gate.measure:
        case Measure.ERROR_RATE:
            failed = Share(copies.failed, copies.answered)
            return _judge_share(gate, candidate.errors.plus(failed), present.errors)
        case Measure.LATENCY if any(candidate.latency):
            return _judge_latency(gate, candidate.latency, present.latency)
        case Measure.LATENCY:  # as long as there are only copies, they are held against what was copied
            return _judge_latency(gate, copies.latency(Side.CANDIDATE), copies.latency(Side.VERSION))
        case Measure.DISAGREEMENT:
            return _judge_share(gate, Share(copies.different, copies.compared), Share())
        case Measure.TOP1_DISAGREEMENT:
            shares = [Share(each.top_different, each.top_same + each.top_different) for each in copies.outputs.values()]
            return _judge_share(gate, max(shares, key=lambda share: share.value, default=Share()), Share())
        case Measure.MAX_DIFFERENCE:
            largest = [each.largest_absolute for each in copies.outputs.values() if each.largest_absolute is not None]
            return _judge_largest(gate, max(largest, default=0.0), copies.compared)
        case Measure.DRIFT:
            return _judge_drift(gate, list(copies.outputs.values()))
        case Measure.METRIC:
            return _judge_told(gate, sides, told)


def _too_few(gate: Gate, *samples: float) -> Verdict | None:
    if min(samples) >= gate.min_samples:
        return None
    who = "the candidate" if samples[0] < gate.min_samples else "the version that serves now"
    return Verdict(
        gate.name, Outcome.INCONCLUSIVE, samples=samples[0],
        why=f"{gate.min_samples} are needed, and {who} has {min(samples):.0f}",
    )


def _compared(gate: Gate, value: float, limit: float, samples: float, *, is_sure: bool) -> Verdict:
    if gate.holds(value, limit):
        return Verdict(gate.name, Outcome.PASS, value, limit, samples)
    if is_sure:
        return Verdict(gate.name, Outcome.FAIL, value, limit, samples)
    return Verdict(gate.name, Outcome.INCONCLUSIVE, value, limit, samples, "it could be chance")


def _judge_share(gate: Gate, candidate: Share, present: Share) -> Verdict:
    samples = (candidate.of, present.of) if gate.is_relative else (candidate.of,)
    if few := _too_few(gate, *samples):
        return few
    limit = gate.limit_for(present.value)
    highest = gate.limit_for(_utmost(present)) if gate.is_relative else limit
    return _compared(gate, candidate.value, limit, candidate.of, is_sure=_is_above(candidate, highest))


def _judge_latency(gate: Gate, candidate: tuple[float, ...], present: tuple[float, ...]) -> Verdict:
    """A quantile is above a limit if more than the rest of the requests took longer than that."""
    count, compared = count_buckets(candidate), count_buckets(present)
    if few := _too_few(gate, *((count, compared) if gate.is_relative else (count,))):
        return few
    value = find_quantile(candidate, gate.quantile)
    assert value is not None
    limit = highest = gate.limit
    if gate.is_relative:
        reference = find_quantile(present, gate.quantile)
        spread = _SURE * math.sqrt(gate.quantile * (1 - gate.quantile) / compared)
        utmost = find_quantile(present, min(1.0, gate.quantile + spread))
        assert reference is not None
        assert utmost is not None
        limit, highest = gate.limit_for(reference), gate.limit_for(utmost)
    slower = Share(count_above(candidate, highest), count)
    return _compared(gate, value, limit, count, is_sure=_is_above(slower, 1 - gate.quantile))


def _judge_largest(gate: Gate, largest: float, compared: float) -> Verdict:
    return _too_few(gate, compared) or _compared(gate, largest, gate.limit, compared, is_sure=True)


def _judge_drift(gate: Gate, outputs: Sequence[OutputComparison]) -> Verdict:
    """Two samples of one distribution differ too: what they do so on average, and some more, is no drift for sure."""
    drifts = [(each.drift, each) for each in outputs if each.drift is not None]
    if not drifts:
        return Verdict(gate.name, Outcome.INCONCLUSIVE, samples=0, why="no scores were compared")
    drift, output = max(drifts, key=lambda each: each[0])
    counts = sum(output.candidate_scores), sum(output.scores)
    if few := _too_few(gate, *counts):
        return few
    freedoms = sum(any(pair) for pair in zip(output.scores, output.candidate_scores, strict=False)) - 1
    by_chance = (freedoms + _SURE * math.sqrt(2 * freedoms)) * sum(1 / count for count in counts)
    return _compared(gate, drift, gate.limit, counts[0], is_sure=drift - by_chance > gate.limit)


def _judge_told(gate: Gate, sides: Sides, told: Told) -> Verdict:
    values = []
    for version in (sides.candidate, sides.present) if gate.is_relative else (sides.candidate,):
        value = told.get((gate.name, version), f"nobody has told it of version {version} lately")
        if isinstance(value, str):
            return Verdict(gate.name, Outcome.INCONCLUSIVE, why=value)
        values.append(value)
    verdict = _compared(gate, values[0], gate.limit_for(values[-1]), 1, is_sure=True)
    return replace(verdict, samples=None)


def _utmost(share: Share) -> float:
    """The largest probability that a share may come from (the end of Wilson's interval)."""
    if not share.of:
        return 1.0
    z2 = _SURE * _SURE
    middle = share.count + z2 / 2
    spread = _SURE * math.sqrt(share.value * (1 - share.value) * share.of + z2 / 4)
    return min(1.0, (middle + spread) / (share.of + z2))


def _is_above(share: Share, limit: float) -> bool:
    """Whether chance would hardly make a share of what comes with this probability."""
    if limit <= 0 or limit >= 1:
        return share.count > 0 and limit <= 0
    if share.count > _MANY:
        return share.count - limit * share.of > _SURE * math.sqrt(limit * (1 - limit) * share.of)
    # Exactly, as few of many are far from a normal distribution: the probability of fewer.
    log_term, fewer = share.of * math.log1p(-limit), 0.0
    for count in range(math.floor(share.count)):
        fewer += math.exp(log_term)
        log_term += math.log((share.of - count) / (count + 1)) + math.log(limit / (1 - limit))
    return 1 - fewer < _HARDLY
