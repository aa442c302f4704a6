"""A rollout: the requests of one target of one model move from the version that serves to another, step by step.

A rollout is a value. Time and evidence go in (`rollout_course`), and what people want (`rollout_orders`); out comes the
rollout as it is then. What the target's requests are to get follows from the rollout alone (`rollout_outcome`), so
whoever carries it out may be interrupted anywhere, and looks again. Here is the value, and how it gets from one place
to the next, whoever wants it to.

    waiting -> running <-> paused -> promoted -> undone
                  \\__________\\____-> failed, aborted -> (retry) waiting

While it lasts the target names the two versions and no others: one that is newer gets none of these requests, and both
stay loaded, whatever the version policy says. When it is decided, the version that got no requests stays loaded for a
while, for `undo` and `retry`; then the rollout is *settled*, and the target is what it is without one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

from serving_app.core.gates import Sides, Verdict
from serving_app.core.strategy import Analysis, Pause, SetMirror, SetWeight, Step, Strategy
from serving_app.core.traffic import WHOLE

_MOST_TRANSITIONS = 200


class Phase(Enum):
    """Where a rollout stands."""

    WAITING = "waiting"
    """For the candidate to be ready."""
    RUNNING = "running"
    PAUSED = "paused"
    """For a person; gates that are watched all along can still fail it."""
    PROMOTED = "promoted"
    """The candidate has all requests."""
    FAILED = "failed"
    """By its evidence: the version before has all requests."""
    ABORTED = "aborted"
    """By a person, likewise."""
    UNDONE = "undone"
    """By a person, after it was promoted."""


ACTIVE = frozenset({Phase.WAITING, Phase.RUNNING, Phase.PAUSED})
"""The phases in which nothing is decided."""


@dataclass(frozen=True, slots=True)
class Transition:
    """Something that a rollout did, and what led to it."""

    at: float
    what: str
    phase: Phase
    weight: float
    verdicts: tuple[Verdict, ...] = ()


@dataclass(frozen=True, slots=True)
class Check:
    """How a gate has fared."""

    failures: int = 0
    last: Verdict | None = None
    """The newest verdict since weights or copies changed last."""
    looks: int = 0
    """How often it was looked at and had samples enough: the more often, the less is put down to chance."""
    failed: float | None = None
    """When it failed last: what was seen until then has been counted, and is not held against the candidate again."""


@dataclass(frozen=True, slots=True, repr=False)
class Rollout:
    """One rollout, as it is at some moment. `before` is how the target's requests were shared, None for not at all."""

    id: int
    model: str
    target: str
    from_version: int
    to_version: int
    strategy: Strategy
    begun: float
    since: float
    """When it came to where it stands: into its phase, or to its step."""
    changed: float
    """When weights or copies changed last: evidence from before says nothing of what is now."""
    phase: Phase = Phase.WAITING
    step: int = -1
    weight: float = 0.0
    mirror: float = 0.0
    reason: str = ""
    """Why it stands there, for people."""
    before: Mapping[str, Any] | None = None
    is_automatic: bool = False
    settled: bool = False
    measured: float = 0.0
    paused: float | None = None
    """Since when it is paused."""
    missed: float | None = None
    """Since when the candidate is not ready, while requests are to go there."""
    checks: Mapping[str, Check] = field(default_factory=dict)
    transitions: tuple[Transition, ...] = ()
    orders: tuple[str, ...] = ()
    """Marks of the last orders that were carried out: one that comes twice is carried out once."""

    @property
    def is_active(self) -> bool:
        """Whether nothing is decided yet."""
        return self.phase in ACTIVE

    @property
    def current(self) -> Step | None:
        """The step that it is at; None before the first and after the last."""
        return self.strategy.steps[self.step] if 0 <= self.step < len(self.strategy.steps) else None

    @property
    def sides(self) -> Sides:
        """Which version is the candidate, and which serves now."""
        return Sides(self.to_version, self.from_version)

    def __str__(self) -> str:
        where = f"{self.model}, {self.target}: version {self.from_version} to {self.to_version}"
        why = f" ({self.reason})" if self.reason else ""
        return f"rollout {self.id} of {where}, {self.phase.value} at {self.weight:g} %{why}"

    def __repr__(self) -> str:
        return f"<{self}>"


def is_news(before: Rollout, after: Rollout) -> bool:
    """Whether the change between the two must not be forgotten."""
    return before.transitions != after.transitions or before.settled != after.settled


def is_mine(rollout: Rollout, model: str, target: str) -> bool:
    """Whether the target's requests are this rollout's to share."""
    return not rollout.settled and (rollout.model, rollout.target) == (model, target)


# --- moves ------------------------------------------------------------------------------------------------------------


def decide(
    rollout: Rollout, now: float, phase: Phase, why: str, verdicts: tuple[Verdict, ...] = ()
) -> Rollout:
    is_up = phase is Phase.PROMOTED
    decided = replace(
        rollout, phase=phase, since=now, changed=now, weight=float(WHOLE) if is_up else 0.0, mirror=0.0, reason=why,
        paused=None, missed=None,
    )
    has_all = rollout.to_version if is_up else rollout.from_version
    what = f"{phase.value}{': ' if why else ''}{why}; version {has_all} gets all requests"
    return note(decided, now, what, verdicts)


def pause(rollout: Rollout, now: float, why: str, verdicts: tuple[Verdict, ...] = ()) -> Rollout:
    paused = replace(rollout, phase=Phase.PAUSED, paused=now, reason=why)
    return note(paused, now, f"paused: {why}", verdicts)


def note(rollout: Rollout, now: float, what: str, verdicts: tuple[Verdict, ...] = ()) -> Rollout:
    transition = Transition(now, what, rollout.phase, rollout.weight, verdicts)
    return replace(rollout, transitions=(*rollout.transitions, transition)[-_MOST_TRANSITIONS:])


def enter(rollout: Rollout, index: int, now: float, verdicts: tuple[Verdict, ...] = ()) -> Rollout:
    """The rollout at the beginning of a step, or at its end."""
    if index >= len(rollout.strategy.steps):
        return decide(rollout, now, Phase.PROMOTED, "", verdicts)
    step = rollout.strategy.steps[index]
    analysed = {gate.name for gate in step.gates} if isinstance(step, Analysis) else set()
    checks = {name: check for name, check in rollout.checks.items() if name not in analysed}
    rollout = replace(
        rollout, phase=Phase.RUNNING, step=index, since=now, reason="", paused=None, checks=checks,
    )
    if isinstance(step, SetWeight):
        rollout = replace(change(rollout, now), weight=step.weight)
    elif isinstance(step, SetMirror):
        rollout = replace(change(rollout, now), mirror=step.mirror)
    elif step == Pause(None):
        rollout = replace(rollout, phase=Phase.PAUSED, paused=now, reason="a step of the strategy")
    return note(rollout, now, f"step {index + 1}: {step}", verdicts)


def change(rollout: Rollout, now: float) -> Rollout:
    """What was measured before says nothing any more; failures still count."""
    checks = {name: replace(check, last=None) for name, check in rollout.checks.items()}
    return replace(rollout, changed=now, measured=now, checks=checks)
