"""What copies of requests have shown of a candidate, beside the version whose answers the clients got.

All of it is counted (the families MIRROR_* of core/families.py), so it adds up over gateways, and what happened in some
stretch of time is the difference of two looks. Two looks at a whole app give what is known of one pair of versions:

    window = read_comparison(after, "m", 3, 4).since(read_comparison(before, "m", 3, 4))
    window.failed / window.answered, window.different / window.compared, window.outputs[...]
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from serving_app.core.errors import Code
from serving_app.core.families import (
    MIRROR_DIFFERENCE,
    MIRROR_DROPPED,
    MIRROR_LATENCY,
    MIRROR_OUTPUTS,
    MIRROR_REQUESTS,
    MIRROR_SCORES,
    MIRROR_TOP,
)
from serving_app.core.metrics import Family, Labels, Snapshot, add_to, growth


class Agreement(StrEnum):
    """What two answers, or two values of one output, have to do with one another."""

    SAME = "same"
    DIFFERENT = "different"
    UNLIKE = "unlike"
    """There is nothing to compare: one is absent, or of another shape or type."""


class Side(StrEnum):
    """Who answered."""

    VERSION = "version"
    CANDIDATE = "candidate"


class Kind(StrEnum):
    """How a difference is measured."""

    ABSOLUTE = "absolute"
    RELATIVE = "relative"


class Dropped(StrEnum):
    """Why a copy was not made after all."""

    GATEWAY_BUSY = "gateway_busy"
    CANDIDATE_BUSY = "candidate_busy"
    TOO_LARGE = "too_large"
    GONE = "gone"


COPY_FAMILIES = (
    MIRROR_REQUESTS, MIRROR_LATENCY, MIRROR_DROPPED, MIRROR_OUTPUTS, MIRROR_DIFFERENCE, MIRROR_TOP, MIRROR_SCORES
)  # fmt: skip
_PAIR = 3  # labels that name the pair of versions

_OK = Code.OK.name


@dataclass(frozen=True)
class OutputComparison:
    """One output. A share or a drift is None while nothing is known of it."""

    same: float
    different: float
    unlike: float
    top_same: float
    top_different: float
    scores: tuple[float, ...]
    candidate_scores: tuple[float, ...]
    largest_absolute: float | None
    """An upper bound, as fine as the buckets are: no difference was larger, but for what is in the last bucket."""
    largest_relative: float | None

    @property
    def different_share(self) -> float | None:
        """The part of the requests whose values were not all within the tolerance."""
        return _share(self.different + self.unlike, self.same + self.different + self.unlike)

    @property
    def top_agreement(self) -> float | None:
        """The part of the rows in which both have given the highest score to the same."""
        return _share(self.top_same, self.top_same + self.top_different)

    @property
    def drift(self) -> float | None:
        """By how much the distributions of the scores differ; see `population_stability`."""
        return population_stability(self.scores, self.candidate_scores)


@dataclass(frozen=True)
class Comparison:
    """What was counted of one pair of versions: cells by family, whose labels tell the rest."""

    cells: Snapshot = field(default_factory=dict)

    def since(self, before: Comparison) -> Comparison:
        """What came since then. A cell that has shrunk was forgotten, and counted anew."""
        return Comparison(growth(before.cells, self.cells))

    def plus(self, other: Comparison) -> Comparison:
        """Both together."""
        summed: Snapshot = {}
        for each in (self, other):
            add_to(summed, each.cells)
        return Comparison(summed)

    @property
    def requests(self) -> float:
        """Requests of which the candidate got a copy, and both have an outcome."""
        return sum(self._counts(MIRROR_REQUESTS).values())

    @property
    def answered(self) -> float:
        """Those that the version succeeded in. Whatever the candidate does there is its own doing."""
        return self._requests(status=_OK)

    @property
    def failed(self) -> float:
        """Those of them in which the candidate failed."""
        return self.answered - self._requests(status=_OK, candidate=_OK)

    @property
    def only_candidate_answered(self) -> float:
        """Those in which the candidate succeeded and the version did not."""
        return self._requests(candidate=_OK) - self._requests(status=_OK, candidate=_OK)

    @property
    def compared(self) -> float:
        """Those that both succeeded in."""
        return self._requests(status=_OK, candidate=_OK)

    @property
    def different(self) -> float:
        """Those of them in which some output was not within its tolerance, or there was nothing to compare with."""
        return self._requests(status=_OK, candidate=_OK) - self._requests(agreement=Agreement.SAME)

    @property
    def dropped(self) -> Mapping[str, float]:
        """Copies that were not made after all, by why."""
        return {reason: count for (reason,), count in self._counts(MIRROR_DROPPED).items() if count}

    def latency(self, side: Side) -> tuple[float, ...]:
        """How many successes were in each bucket of MIRROR_LATENCY, in microseconds."""
        return self._buckets(MIRROR_LATENCY, (side.value,))

    @property
    def outputs(self) -> Mapping[tuple[str, str], OutputComparison]:
        """What is known of each output, by its signature and its name."""
        named = {labels[:2] for labels in self.cells.get(MIRROR_OUTPUTS.name, {})}
        return {(signature, output): self._output(signature, output) for signature, output in sorted(named)}

    def _output(self, signature: str, output: str) -> OutputComparison:
        counts, tops = self._counts(MIRROR_OUTPUTS), self._counts(MIRROR_TOP)
        same, different, unlike = (counts.get((signature, output, each.value), 0) for each in Agreement)
        scores = {side: self._buckets(MIRROR_SCORES, (signature, output, side.value)) for side in Side}
        largest = {kind: self._buckets(MIRROR_DIFFERENCE, (signature, output, kind.value)) for kind in Kind}
        return OutputComparison(
            same, different, unlike,
            top_same=tops.get((signature, output, Agreement.SAME.value), 0),
            top_different=tops.get((signature, output, Agreement.DIFFERENT.value), 0),
            scores=scores[Side.VERSION], candidate_scores=scores[Side.CANDIDATE],
            largest_absolute=_most(largest[Kind.ABSOLUTE]), largest_relative=_most(largest[Kind.RELATIVE]),
        )  # fmt: skip

    def _requests(
        self, *, status: str | None = None, candidate: str | None = None, agreement: str | None = None
    ) -> float:
        wanted = (status, candidate, agreement)
        return sum(
            count
            for labels, count in self._counts(MIRROR_REQUESTS).items()
            if all(each in (None, label) for each, label in zip(wanted, labels, strict=True))
        )

    def _counts(self, family: Family) -> dict[Labels, float]:
        return {
            labels: value
            for labels, value in self.cells.get(family.name, {}).items()
            if not isinstance(value, tuple)
        }

    def _buckets(self, family: Family, labels: Labels) -> tuple[float, ...]:
        cell = self.cells.get(family.name, {}).get(labels)
        return cell[:-1] if isinstance(cell, tuple) else ()


def read_comparison(snapshot: Snapshot, model: str, version: int, candidate: int) -> Comparison:
    """What is known of one pair of versions, of all that an app has counted."""
    pair = (model, str(version), str(candidate))
    cells: Snapshot = {}
    for family in COPY_FAMILIES:
        found = snapshot.get(family.name, {})
        cells[family.name] = {labels[_PAIR:]: value for labels, value in found.items() if labels[:_PAIR] == pair}
    return Comparison(cells)


def population_stability(expected: Sequence[float], found: Sequence[float]) -> float | None:
    """The population stability index of two histograms with the same buckets; None unless both have something.

    0 where they are alike; above 0.1 is commonly called a shift, above 0.25 a large one. Each bucket that either has is
    taken to have half a value more, so that none is empty.
    """
    used = [(before, now) for before, now in zip(expected, found, strict=False) if before or now]
    before_all, now_all = (sum(column) for column in zip(*used, strict=True)) if used else (0, 0)
    if not before_all or not now_all:
        return None
    index = 0.0
    for before, now in used:
        was = (before + 0.5) / (before_all + 0.5 * len(used))
        is_ = (now + 0.5) / (now_all + 0.5 * len(used))
        index += (is_ - was) * math.log(is_ / was)
    return index


def _share(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def _most(buckets: Sequence[float]) -> float | None:
    """The upper limit of the last bucket that has something; of the one above all limits their last one."""
    last = max((place for place, count in enumerate(buckets) if count), default=None)
    limits = MIRROR_DIFFERENCE.limits
    return None if last is None else limits[min(last, len(limits) - 1)]
