"""What is known of the versions in a rollout: counts that only grow, looked at again and again, and their differences.

Latencies are histograms with the buckets of REQUEST_LATENCY, in microseconds there and milliseconds here. Within a
bucket values count as spread evenly over its logarithm, so what is said of quantiles is as fine as the buckets are.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

from serving_app.core.comparison import COPY_FAMILIES, Comparison, read_comparison
from serving_app.core.families import CALLER_LATENCY, CALLER_REQUESTS, REQUEST_COUNT, REQUEST_LATENCY
from serving_app.core.metrics import Family, Snapshot, Value
from serving_app.core.servable import BY_NUMBER

_LIMITS_MS = tuple(limit / 1000 for limit in REQUEST_LATENCY.limits)
_GROWTH = _LIMITS_MS[1] / _LIMITS_MS[0]


@dataclass(frozen=True, slots=True)
class Share:
    """So many of so many."""

    count: float = 0.0
    of: float = 0.0

    @property
    def value(self) -> float:
        """The part; 0 of nothing."""
        return self.count / self.of if self.of else 0.0

    def plus(self, other: Share) -> Share:
        """Both together."""
        return Share(self.count + other.count, self.of + other.of)

    def since(self, before: Share) -> Share:
        """What came since then. Counts that were forgotten meanwhile count as nothing, as does what they make no share.
        """
        grown = Share(max(0.0, self.count - before.count), max(0.0, self.of - before.of))
        return grown if grown.count <= grown.of else Share()


@dataclass(frozen=True, slots=True)
class Counts:
    """What one version was asked: its errors of its requests, and in which bucket the latency of each success fell."""

    errors: Share = Share()
    latency: tuple[float, ...] = ()

    def since(self, before: Counts) -> Counts:
        """What came since then."""
        if not self.latency:
            return Counts(self.errors.since(before.errors))
        earlier = before.latency or (0.0,) * len(self.latency)
        buckets = tuple(max(0.0, now - then) for now, then in zip(self.latency, earlier, strict=True))
        return Counts(self.errors.since(before.errors), buckets)


def count_buckets(latency: Sequence[float]) -> float:
    """How many values are in all buckets."""
    return sum(latency)


def find_quantile(latency: Sequence[float], quantile: float) -> float | None:
    """The value, in milliseconds, that this part of the requests did not exceed; None if there were none."""
    total = count_buckets(latency)
    if not total:
        return None
    rank, below = quantile * total, 0.0
    last = max(index for index, count in enumerate(latency) if count)
    for index, count in enumerate(latency):
        if count and (below + count >= rank or index == last):
            low, high = _edges(index)
            return low * math.exp(math.log(high / low) * min(1.0, max(0.0, (rank - below) / count)))
        below += count
    raise AssertionError("one of the buckets holds the last value")


def count_above(latency: Sequence[float], limit_ms: float) -> float:
    """How many of the values are above a limit, by what is known of them."""
    if limit_ms <= 0:
        return count_buckets(latency)
    index = min(bisect_right(_LIMITS_MS, limit_ms), len(latency) - 1)
    low, high = _edges(index)
    beyond = math.log(high / max(low, limit_ms)) / math.log(high / low) if limit_ms < high else 0.0
    return sum(latency[index + 1 :]) + latency[index] * beyond


def count_surely_above(latency: Sequence[float], limit_ms: float) -> float:
    """How many of the values are above a limit wherever they lie in their buckets."""
    return sum(latency[bisect_left(_LIMITS_MS, limit_ms) + 1 :])


def _edges(bucket: int) -> tuple[float, float]:
    low = _LIMITS_MS[bucket - 1] if bucket else _LIMITS_MS[0] / _GROWTH
    high = _LIMITS_MS[bucket] if bucket < len(_LIMITS_MS) else _LIMITS_MS[-1] * _GROWTH
    return low, high


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything that was counted until some moment, or in some stretch of time, of the two versions of a rollout."""

    candidate: Counts = Counts()
    present: Counts = Counts()
    """Of the version that serves now."""
    copies: Comparison = field(default_factory=Comparison)

    def since(self, before: Evidence) -> Evidence:
        """What came since then."""
        return Evidence(
            self.candidate.since(before.candidate),
            self.present.since(before.present),
            self.copies.since(before.copies),
        )


_OLD_LOOKS = 20
"""How many looks are kept, more or less, of each stretch of time that is twice as long ago as the one after it."""


class Series:
    """Evidence as it was at some moments, in this order."""

    def __init__(self) -> None:
        self._looks: list[tuple[float, Evidence]] = []

    def __len__(self) -> int:
        return len(self._looks)

    def add(self, at: float, evidence: Evidence) -> None:
        """At this moment everything that was ever counted came to this."""
        self._looks.append((at, evidence))

    def thin(self, marks: Collection[float], recent: float, grain: float) -> None:
        """Forget looks that nobody needs: those that follow another within the grain, or, of those before `recent`,
        within a part of their age, so that they are the fewer the longer ago they are. Those that tell what came since
        the marks stay."""
        needed = {self._find(moment) for moment in (*marks, recent)} | {len(self._looks) - 1}
        kept: list[tuple[float, Evidence]] = []
        for index, look in enumerate(self._looks):
            age = self._looks[-1][0] - look[0]
            apart = grain if look[0] > recent else max(grain, age / _OLD_LOOKS)
            if index in needed or not kept or look[0] - kept[-1][0] >= apart:
                kept.append(look)
        self._looks = kept

    def since(self, moment: float) -> Evidence:
        """What happened from the last look at or before this moment to the newest one; nothing if there is only one."""
        if not self._looks:
            return Evidence()
        return self._looks[-1][1].since(self._looks[self._find(moment)][1])

    def _find(self, moment: float) -> int:
        """The last look at or before a moment, else the first one."""
        return max(0, bisect_right(self._looks, moment, key=lambda look: look[0]) - 1)


_SEEN = (REQUEST_COUNT, REQUEST_LATENCY, CALLER_REQUESTS, CALLER_LATENCY, *COPY_FAMILIES)
FAMILIES = tuple(family.name for family in _SEEN)
"""What has to be known to read evidence. Each has the model as its first label."""

_NOBODYS_FAULT = "CANCELLED"
"""Requests whose clients have left say nothing of who was to answer."""


def read_evidence(snapshot: Snapshot, model: str, candidate: int, present: int) -> Evidence:
    """What was counted of the two versions, in all."""
    return Evidence(
        _read_counts(snapshot, model, str(candidate)),
        _read_counts(snapshot, model, str(present)),
        read_comparison(snapshot, model, present, candidate),
    )


def _read_counts(snapshot: Snapshot, model: str, version: str) -> Counts:
    errors = requests = 0.0
    for family in (REQUEST_COUNT, CALLER_REQUESTS):
        for status, value in _find_cells(snapshot, family, model, version):
            if not isinstance(value, tuple) and status != _NOBODYS_FAULT:
                requests += value
                errors += 0 if status == "OK" else value
    cells = [
        value[:-1]
        for family in (REQUEST_LATENCY, CALLER_LATENCY)
        for _, value in _find_cells(snapshot, family, model, version)
        if isinstance(value, tuple)
    ]
    return Counts(Share(errors, requests), tuple(map(sum, zip(*cells, strict=True))))


def _find_cells(snapshot: Snapshot, family: Family, model: str, version: str) -> Iterator[tuple[str, Value]]:
    """The cells of a version, by their second label. Callers that name versions by number are left out: nobody shares
    their requests, and scoring datasets, which does that, sends them by hundreds of rows."""
    at = family.labels.index("version")
    names_naming = family.labels[-1] == "named"
    for labels, value in snapshot.get(family.name, {}).items():
        if labels[0] == model and labels[at] == version and not (names_naming and labels[-1] == BY_NUMBER):
            yield labels[1], value
