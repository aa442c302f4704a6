"""What each version of a model got over time: looks at what was counted, and the stretches of time between them.

A look has everything that was counted until then, so the difference of any two tells what came in between: a look that
is missed, or thrown away to save memory, costs detail and nothing else. What is read of the counts is what gates of
rollouts judge by (`core.evidence`).
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from serving_app.core.comparison import Comparison, read_comparison
from serving_app.core.evidence import Counts, find_quantile, read_evidence
from serving_app.core.families import CALLER_REQUESTS, MIRROR_LATENCY, MIRROR_REQUESTS, REQUEST_COUNT
from serving_app.core.metrics import Snapshot
from serving_app.core.states import PublicState, public_state
from serving_app.core.traffic import DEFAULT_TARGET, WHOLE
from serving_app.core.views import ModelView

MOST_LOOKS = 2000
"""Looks that are kept: of more, every second one of the older half is thrown away."""

Pair = tuple[int, int]
"""A version, and the one that gets copies of its requests."""


@dataclass(frozen=True, slots=True)
class Look:
    """What was known at one moment, in seconds since the epoch.

    `weights` say, by target, which percentage of its requests each version was to get.
    """

    at: float
    counts: Mapping[int, Counts] = field(default_factory=dict)
    copies: Mapping[Pair, Comparison] = field(default_factory=dict)
    weights: Mapping[str, Mapping[int, float]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Stretch:
    """What versions got from one look to the next."""

    begin: float
    end: float
    counts: Mapping[int, Counts]

    def requests(self, version: int) -> float:
        """How many requests a version answered, or failed to."""
        return self._of(version).errors.of

    def rate(self, version: int) -> float:
        """Requests for each second."""
        return self.requests(version) / (self.end - self.begin)

    def share(self, version: int) -> float | None:
        """The part of the model's requests that a version got; None if there were none."""
        everything = sum(each.errors.of for each in self.counts.values())
        return self.requests(version) / everything if everything else None

    def error_share(self, version: int) -> float | None:
        """The part of its requests that failed; None if it had none."""
        errors = self._of(version).errors
        return errors.value if errors.of else None

    def latency(self, version: int, quantile: float) -> float | None:
        """Milliseconds that this part of its successful requests did not exceed; None if there were none."""
        return find_quantile(self._of(version).latency, quantile)

    def _of(self, version: int) -> Counts:
        return self.counts.get(version, Counts())


class Recording:
    """Looks at one model, in the order of time. Any thread may add to it, and any read."""

    def __init__(self, model: str, most_looks: int = MOST_LOOKS) -> None:
        self.model = model
        self._most = most_looks
        self._lock = threading.Lock()
        self._looks: list[Look] = []

    def __repr__(self) -> str:
        looks = self.looks
        took = f", {looks[-1].at - looks[0].at:.0f} s" if looks else ""
        return f"Recording({self.model!r}, {len(looks)} looks{took})"

    @property
    def looks(self) -> Sequence[Look]:
        """Those that are kept, the oldest first."""
        with self._lock:
            return tuple(self._looks)

    @property
    def versions(self) -> Sequence[int]:
        """Every version that was ever seen, in the order in which they came."""
        return list(dict.fromkeys(version for look in self.looks for version in look.counts))

    def add(self, look: Look) -> None:
        """Keep a look; one that is not newer than the last tells nothing."""
        with self._lock:
            if self._looks and look.at <= self._looks[-1].at:
                return
            self._looks.append(look)
            if len(self._looks) > self._most:
                older = self._looks[: len(self._looks) // 2]
                self._looks[: len(older)] = older[::2]

    def stretches(self, begin: float | None = None, end: float | None = None, most: int = 100) -> Sequence[Stretch]:
        """What came between looks, as far as they lie between two moments; long times are cut into at most so many."""
        looks = _thin(self.between(begin, end), most + 1)
        return [Stretch(before.at, after.at, _growth(before, after)) for before, after in pairwise(looks)]

    def between(self, begin: float | None = None, end: float | None = None) -> Sequence[Look]:
        """The looks from one moment to another."""
        return [look for look in self.looks if (begin is None or begin <= look.at) and (end is None or look.at <= end)]

    def total(self, version: int) -> Counts:
        """What a version got from the first look to the last."""
        looks = self.looks
        return _growth(looks[0], looks[-1]).get(version, Counts()) if looks else Counts()

    def copies(self, version: int, candidate: int) -> Comparison:
        """What copies showed from the first look to the last."""
        looks = self.looks
        if not looks:
            return Comparison()
        return copies_of(looks[-1], version, candidate).since(copies_of(looks[0], version, candidate))


def copies_of(look: Look, version: int, candidate: int) -> Comparison:
    """What copies had shown of a pair of versions until a look."""
    return look.copies.get((version, candidate), Comparison())


def _thin(looks: Sequence[Look], most: int) -> Sequence[Look]:
    """At most so many of them, the first and the last included, at even distances."""
    if len(looks) <= most:
        return looks
    places = {round(place * (len(looks) - 1) / (most - 1)) for place in range(most)}
    return [looks[place] for place in sorted(places)]


def _growth(before: Look, after: Look) -> Mapping[int, Counts]:
    return {version: counts.since(before.counts.get(version, Counts())) for version, counts in after.counts.items()}


def read_look(at: float, view: ModelView, counted: Snapshot) -> Look:
    """A look at a model, by what its serving app knows and has counted."""
    versions = {version.servable.version for version in view.versions} | _asked(counted, view.name)
    pairs = {
        (int(labels[1]), int(labels[2]))
        for family in (MIRROR_REQUESTS, MIRROR_LATENCY)
        for labels in counted.get(family.name, {})
        if labels[0] == view.name
    }
    return Look(
        at,
        counts={version: _counts_of(counted, view.name, version) for version in sorted(versions)},
        copies={pair: read_comparison(counted, view.name, *pair) for pair in sorted(pairs)},
        weights=_weights(view),
    )


def _asked(counted: Snapshot, model: str) -> set[int]:
    """The versions that ever got a request: some of them may be gone."""
    found = set()
    for family in (REQUEST_COUNT, CALLER_REQUESTS):
        at = family.labels.index("version")
        found |= {labels[at] for labels in counted.get(family.name, {}) if labels[0] == model}
    return {int(version) for version in found if version.isdecimal()}


def _counts_of(counted: Snapshot, model: str, version: int) -> Counts:
    return read_evidence(counted, model, version, version).candidate


def _weights(view: ModelView) -> Mapping[str, Mapping[int, float]]:
    whole: dict[str, Mapping[int, float]] = {label: {version: WHOLE} for label, version in view.labels.items()}
    ready = [each.servable.version for each in view.versions if public_state(each.state) is PublicState.AVAILABLE]
    if ready:
        whole[DEFAULT_TARGET] = {max(ready): WHOLE}
    return whole | {target or DEFAULT_TARGET: dict(traffic.weights) for target, traffic in view.traffic.items()}
