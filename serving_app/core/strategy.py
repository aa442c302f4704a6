"""How a rollout is to go: its steps, and the gates that a candidate has to pass on the way.

A *gate* compares one measure of the candidate with a limit, which is a number or follows from the same measure of the
version that serves now. Gates of the strategy are watched all along; those of an analysis only while it lasts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from serving_app.core.traffic import WHOLE


class Measure(Enum):
    """What a gate looks at."""

    ERROR_RATE = "error_rate"
    """The part of a version's requests that did not succeed, copies included."""
    LATENCY = "latency"
    """A quantile of what its requests took, in milliseconds."""
    DISAGREEMENT = "disagreement"
    """The part of the copied requests that it answered otherwise than the version that serves, beyond tolerances."""
    TOP1_DISAGREEMENT = "top1_disagreement"
    """The part of the rows copied to it for which another class has the highest score."""
    MAX_DIFFERENCE = "max_difference"
    """The largest difference between two values of the same output."""
    DRIFT = "drift"
    """How far the distribution of scores has moved (the population stability index)."""
    METRIC = "metric"
    """A number that somebody tells: by Prometheus, or from Python."""


OF_COPIES = frozenset({Measure.DISAGREEMENT, Measure.TOP1_DISAGREEMENT, Measure.MAX_DIFFERENCE, Measure.DRIFT})
"""Measures of which there are none unless requests are copied."""


class Bound(Enum):
    """What a limit says."""

    MAX = "max"
    """The value itself may not be above it."""
    MIN = "min"
    """The value itself may not be below it."""
    MAX_RATIO = "max_ratio"
    """The value may not be above so many times that of the version that serves now."""
    MIN_RATIO = "min_ratio"
    """The value may not be below so many times that."""
    MAX_INCREASE = "max_increase"
    """The value may not be above that by more than so much."""


RELATIVE = frozenset({Bound.MAX_RATIO, Bound.MIN_RATIO, Bound.MAX_INCREASE})
"""Bounds that need the version that serves now for a comparison."""


@dataclass(frozen=True, slots=True)
class Gate:
    """One condition. `min_samples` are the requests (copies, rows) below which nothing can be said."""

    name: str
    measure: Measure
    bound: Bound
    limit: float
    min_samples: int = 30
    quantile: float = 0.99
    query: str | None = None
    prometheus: str | None = None
    """Where the query is asked; without, the metric is told by somebody."""

    @property
    def is_relative(self) -> bool:
        """Whether it needs the version that serves now for a comparison."""
        return self.bound in RELATIVE

    def limit_for(self, reference: float) -> float:
        """The limit, where the version that serves now has this value."""
        match self.bound:
            case Bound.MAX_RATIO | Bound.MIN_RATIO:
                return self.limit * reference
            case Bound.MAX_INCREASE:
                return self.limit + reference
            case _:
                return self.limit

    def holds(self, value: float, limit: float) -> bool:
        """Whether a value is on the right side of a limit."""
        return value >= limit if self.bound in (Bound.MIN, Bound.MIN_RATIO) else value <= limit


@dataclass(frozen=True, slots=True)
class SetWeight:
    """The candidate gets so many percent of the requests."""

    weight: float

    def __str__(self) -> str:
        return f"weight {self.weight:g} %"


@dataclass(frozen=True, slots=True)
class SetMirror:
    """The candidate gets copies of so many percent of the requests; 0 ends that."""

    mirror: float

    def __str__(self) -> str:
        return f"mirror {self.mirror:g} %"


@dataclass(frozen=True, slots=True)
class Pause:
    """Nothing happens for so many seconds; None: until somebody says that it goes on."""

    pause_s: float | None

    def __str__(self) -> str:
        return "pause until told" if self.pause_s is None else f"pause of {self.pause_s:g} s"


@dataclass(frozen=True, slots=True)
class Analysis:
    """Nothing happens for so many seconds, and then it goes on if all these gates are passed over the whole of it."""

    analysis_s: float
    gates: tuple[Gate, ...]

    def __str__(self) -> str:
        return f"analysis of {self.analysis_s:g} s"


Step = SetWeight | SetMirror | Pause | Analysis


@dataclass(frozen=True, slots=True)
class Strategy:
    """How requests move from one version to another. After the last step the candidate has them all."""

    name: str
    steps: tuple[Step, ...]
    gates: tuple[Gate, ...] = ()
    interval_s: float = 10.0
    """Between two looks at the gates."""
    window_s: float = 60.0
    """How far back a look goes, of what is watched all along, and never beyond the last change of weights or copies."""
    failure_limit: int = 0
    """How often each gate may fail before the rollout does."""
    patience_s: float = 600.0
    """How long a step waits for gates of which nothing can be said yet, before it waits for a person."""
    ready_timeout_s: float = 600.0
    """How long the candidate may take to be ready."""
    keep_s: float = 300.0
    """How long the version that got no requests in the end stays loaded, so that undo and retry take effect at once."""
    tolerances: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """How far outputs may differ; as in the configuration of a mirror."""

    @property
    def all_gates(self) -> tuple[Gate, ...]:
        """Those that are watched all along, and those of analyses."""
        analysed = [gate for step in self.steps if isinstance(step, Analysis) for gate in step.gates]
        return (*self.gates, *analysed)

    @property
    def told_gates(self) -> tuple[Gate, ...]:
        """Those whose values somebody reports."""
        return tuple(gate for gate in self.all_gates if gate.measure is Measure.METRIC and gate.query is None)


def can_know(gate: Gate, weight: float, mirror: float) -> bool:
    """Whether there is anything to measure while the candidate gets so much, and copies of so much."""
    if gate.measure in OF_COPIES:
        return mirror > 0
    if gate.is_relative and weight >= WHOLE:
        return False
    return weight > 0 or (mirror > 0 and gate.measure is not Measure.METRIC)


def find_mistakes(strategy: Strategy) -> Iterator[str]:
    """What makes no sense about a strategy, in sentences."""
    weight = mirror = most_mirrored = 0.0
    gates = list(strategy.gates)
    if strategy.window_s < strategy.interval_s:
        yield (
            f"gates are looked at every {strategy.interval_s:g} s (interval_s), and only at what happened in the last "
            f"{strategy.window_s:g} s (window_s); make the window at least as long, or nobody sees the rest"
        )
    for number, step in enumerate(strategy.steps, 1):
        match step:
            case SetWeight():
                weight = step.weight
            case SetMirror():
                mirror = step.mirror
                most_mirrored = max(most_mirrored, mirror)
            case Analysis():
                gates += step.gates
                for gate in step.gates:
                    if not can_know(gate, weight, mirror):
                        yield f"step {number} analyses {gate.name}, {_MISSING[_lack(gate, weight)]}"
        following = strategy.steps[number] if number < len(strategy.steps) else SetWeight(WHOLE)
        is_watched = any(can_know(gate, weight, mirror) for gate in strategy.gates)
        if _is_over_at_once(step, following, is_watched=is_watched):
            yield (
                f"step {number} ({step}) would be over at once, as there is nothing to wait for; add a step such as "
                "{pause_s: 600} or an analysis after it" + ("" if isinstance(step, SetMirror) else ", or gates")
            )
    for gate in strategy.gates:
        if gate.measure in OF_COPIES and not most_mirrored:
            yield f"there is a gate {gate.name}, {_MISSING['copies']}"
    names = [gate.name for gate in gates]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f"several gates are called {name}; give each a `name` of its own"


def _is_over_at_once(step: Step, following: Step, *, is_watched: bool) -> bool:
    """Whether nothing of a step is ever seen. Only gates hold up a step that gives more requests, and none that does
    anything else."""
    match step, following:
        case SetWeight(weight), SetWeight(more):
            return not (is_watched and more > weight) and 0 < weight < WHOLE
        case SetMirror(mirror), SetMirror():
            return mirror > 0
        case SetMirror(mirror), SetWeight():
            return mirror > 0 and not is_watched
        case _:
            return False


_MISSING = {
    "copies": "which needs copies of requests, and there are none; add a step such as {mirror: 20} before it",
    "requests": "which needs requests for the new version, and it has none there; give it a weight before",
    "comparison": "which compares with the old version, and that has no requests there; use an absolute limit",
}


def _lack(gate: Gate, weight: float) -> str:
    if gate.measure in OF_COPIES:
        return "copies"
    return "comparison" if gate.is_relative and weight >= WHOLE else "requests"
