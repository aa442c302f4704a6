"""What the evidence says of a gate: passed, failed, or that it does not say.

A gate fails only beyond doubt: where chance alone would hardly make a candidate on the limit look so bad. A value on
the wrong side of the limit that could be chance is inconclusive, and so is everything that is known of too few
requests. So a service that nobody asks passes nothing, and a handful of unlucky requests fails nothing.

Whoever looks often enough sees the unlikeliest things by chance. So the n-th look at a gate has a part of 1 / n (n + 1)
of all the doubt that there may be: together they have the whole, however long a rollout lasts (`doubt_of_look`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from statistics import NormalDist

from serving_app.core.comparison import OutputComparison, Side
from serving_app.core.evidence import Evidence, Share, count_above, count_buckets, count_surely_above, find_quantile
from serving_app.core.families import MIRROR_DIFFERENCE
from serving_app.core.proportions import wilson
from serving_app.core.strategy import Bound, Gate, Measure

HARDLY = 0.005
"""The probability of what is not put down to chance."""
_MANY = 1000
_WORST = ("fail", "inconclusive", "pass")
_DIFFERENCES_APART = MIRROR_DIFFERENCE.limits[1] / MIRROR_DIFFERENCE.limits[0]


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


def doubt_of_look(number: int) -> float:
    """How probable a look may be by chance, the first of them being number 1, that still fails a candidate."""
    return HARDLY / (number * (number + 1))


def judge(gate: Gate, evidence: Evidence, sides: Sides, told: Told, doubt: float = HARDLY) -> Verdict:
    """What is to be said of a gate by what happened in some stretch of time. What a candidate on the limit would show
    with a probability below `doubt` fails it."""
    candidate, present, copies = evidence.candidate, evidence.present, evidence.copies
    outputs = list(copies.outputs.values())
    match gate.measure:
        case Measure.ERROR_RATE:
            failed = Share(copies.failed, copies.answered)
            return _judge_share(gate, candidate.errors.plus(failed), present.errors, doubt)
        case Measure.LATENCY if any(candidate.latency):
            return _judge_latency(gate, candidate.latency, present.latency, doubt)
        case Measure.LATENCY:  # as long as there are only copies, they are held against what was copied
            return _judge_latency(gate, copies.latency(Side.CANDIDATE), copies.latency(Side.VERSION), doubt)
        case Measure.DISAGREEMENT:
            return _judge_share(gate, Share(copies.different, copies.compared), Share(), doubt)
        case Measure.TOP1_DISAGREEMENT:
            shares = [Share(each.top_different, each.top_same + each.top_different) for each in outputs]
            known = [share for share in shares if share.of] or [Share()]
            return _worst(_judge_share(gate, share, Share(), doubt / len(known)) for share in known)
        case Measure.MAX_DIFFERENCE:
            largest = [each.largest_absolute for each in outputs if each.largest_absolute is not None]
            return _judge_largest(gate, max(largest, default=0.0), copies.compared)
        case Measure.DRIFT:
            return _judge_drift(gate, outputs, doubt)
        case Measure.METRIC:
            return _judge_told(gate, sides, told)


def _worst(verdicts: Iterable[Verdict]) -> Verdict:
    """Of several outputs: what surely fails, else what is not known, else the one that is nearest to the limit."""
    return min(verdicts, key=lambda each: (_WORST.index(each.outcome.value), -(each.value or 0.0)))


def _too_few(gate: Gate, *samples: float) -> Verdict | None:
    if min(samples) >= gate.min_samples:
        return None
    who = "the candidate" if samples[0] < gate.min_samples else "the version that serves now"
    return Verdict(
        gate.name, Outcome.INCONCLUSIVE, samples=samples[0],
        why=f"{gate.min_samples} are needed, and {who} has {min(samples):.0f}",
    )


def _compared(
    gate: Gate, value: float, limit: float, samples: float, *, is_sure: bool, why: str = "it could be chance"
) -> Verdict:
    if gate.holds(value, limit):
        return Verdict(gate.name, Outcome.PASS, value, limit, samples)
    if is_sure:
        return Verdict(gate.name, Outcome.FAIL, value, limit, samples)
    return Verdict(gate.name, Outcome.INCONCLUSIVE, value, limit, samples, why)


def _judge_share(gate: Gate, candidate: Share, present: Share, doubt: float) -> Verdict:
    samples = (candidate.of, present.of) if gate.is_relative else (candidate.of,)
    if few := _too_few(gate, *samples):
        return few
    limit = highest = gate.limit_for(present.value)
    if gate.is_relative:  # both may have had bad luck, each with half of the probability
        doubt /= 2
        highest = gate.limit_for(_utmost(present, doubt))
    is_sure = _is_above(candidate, highest, doubt)
    return _compared(gate, candidate.value, limit, candidate.of, is_sure=is_sure)


def _judge_latency(
    gate: Gate, candidate: tuple[float, ...], present: tuple[float, ...], doubt: float
) -> Verdict:
    """A quantile is above a limit if more than the rest of the requests took longer than that.

    Against the other version it takes more: that the part of the requests beyond the limit is larger than that of the
    other version's beyond its own quantile. Few requests tell next to nothing of a quantile, but much of such parts.
    """
    count, compared = count_buckets(candidate), count_buckets(present)
    if few := _too_few(gate, *((count, compared) if gate.is_relative else (count,))):
        return few
    value = find_quantile(candidate, gate.quantile)
    assert value is not None
    if not gate.is_relative:
        slower = Share(count_surely_above(candidate, gate.limit), count)
        is_sure = _is_above(slower, 1 - gate.quantile, doubt)
        return _compared(gate, value, gate.limit, count, is_sure=is_sure, why="it could be chance, or a hair's breadth")
    reference = find_quantile(present, gate.quantile)
    assert reference is not None
    limit = gate.limit_for(reference)
    beyond = Share(count_above(present, reference), compared)
    slower = Share(count_above(candidate, limit), count)
    is_sure = _is_above(slower, _utmost(beyond, doubt / 2), doubt / 2)
    return _compared(gate, value, limit, count, is_sure=is_sure)


def _judge_largest(gate: Gate, largest: float, compared: float) -> Verdict:
    """The largest difference is known by its bucket, whose end counts for a pass, and whose beginning for a fail."""
    largest = 0.0 if largest <= MIRROR_DIFFERENCE.limits[0] else largest  # the first bucket has the zeros
    is_sure = largest > gate.limit * _DIFFERENCES_APART
    why = "so coarsely are differences counted"
    return _too_few(gate, compared) or _compared(gate, largest, gate.limit, compared, is_sure=is_sure, why=why)


def _judge_drift(gate: Gate, outputs: Sequence[OutputComparison], doubt: float) -> Verdict:
    drifts = [(each, each.drift) for each in outputs if each.drift is not None]
    if not drifts:
        return Verdict(gate.name, Outcome.INCONCLUSIVE, samples=0, why="no scores were compared")
    return _worst(_judge_output(gate, output, drift, doubt / len(drifts)) for output, drift in drifts)


def _judge_output(gate: Gate, output: OutputComparison, drift: float, doubt: float) -> Verdict:
    """Two samples of one distribution differ too: what they do so on average, and some more, is no drift for sure."""
    counts = sum(output.candidate_scores), sum(output.scores)
    if few := _too_few(gate, *counts):
        return few
    freedoms = sum(any(pair) for pair in zip(output.scores, output.candidate_scores, strict=False)) - 1
    by_chance = (freedoms + _deviations(doubt) * math.sqrt(2 * freedoms)) * sum(1 / count for count in counts)
    return _compared(gate, drift, gate.limit, counts[0], is_sure=drift - by_chance > gate.limit)


def _judge_told(gate: Gate, sides: Sides, told: Told) -> Verdict:
    values = []
    for version in (sides.candidate, sides.present) if gate.is_relative else (sides.candidate,):
        value = told.get((gate.name, version), f"nobody has told it of version {version} lately")
        if isinstance(value, str):
            return Verdict(gate.name, Outcome.INCONCLUSIVE, why=value)
        values.append(value)
    if gate.bound in (Bound.MAX_RATIO, Bound.MIN_RATIO) and values[-1] < 0:
        why = f"it is {values[-1]:.4g} for version {sides.present}, and of less than nothing there is no ratio"
        return Verdict(gate.name, Outcome.INCONCLUSIVE, values[0], why=why)
    verdict = _compared(gate, values[0], gate.limit_for(values[-1]), 1, is_sure=True)
    return replace(verdict, samples=None)


def _deviations(doubt: float) -> float:
    """So many standard deviations above the mean values come with this probability."""
    return -NormalDist().inv_cdf(doubt)


def _utmost(share: Share, doubt: float) -> float:
    """The largest probability that a share may come from."""
    return wilson(share, _deviations(doubt)).high


def _is_above(share: Share, limit: float, doubt: float) -> bool:
    """Whether chance would hardly make a share of what comes with this probability."""
    if limit <= 0 or limit >= 1:
        return share.count > 0 and limit <= 0
    expected = limit * share.of
    if share.count <= expected:
        return False
    if share.count > _MANY:
        return share.count - expected > _deviations(doubt) * math.sqrt(expected * (1 - limit))
    return _tail(math.floor(share.count), share.of, limit) < doubt


def _tail(count: int, of: float, probability: float) -> float:
    """The probability of so many or more, which are more than are to be expected. Exact, as few of many are far from a
    normal distribution, and summed from its largest term on, as what is left of 1 by the others has no digits."""
    if count > of:
        return 0.0
    odds = math.log(probability) - math.log1p(-probability)
    ways = math.lgamma(of + 1) - math.lgamma(count + 1) - math.lgamma(of - count + 1)
    term = math.exp(ways + count * odds + of * math.log1p(-probability))
    total = 0.0
    while term > total * 1e-9:
        total += term
        term *= (of - count) / (count + 1) * math.exp(odds)
        count += 1
    return total
