"""A rollout: the requests of one target of one model move from the version that serves to another, step by step.

A rollout is a value. Time and evidence go in, by `advance`, and what people want, by the functions that are called as
their words are; out comes the rollout as it is then. What the target's requests are to get follows from the rollout
alone (`traffic_for`, `label_for`), so whoever carries it out may be interrupted anywhere, and looks again.

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

from serving_app.core.errors import FailedPrecondition
from serving_app.core.evidence import Series
from serving_app.core.gates import Outcome, Sides, Told, Verdict, judge
from serving_app.core.strategy import Analysis, Gate, Pause, SetMirror, SetWeight, Step, Strategy, can_know
from serving_app.core.traffic import DEFAULT_TARGET, WHOLE

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


@dataclass(frozen=True, slots=True)
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


@dataclass(frozen=True, slots=True)
class Sight:
    """What is seen of a rollout's candidate. `failure` tells why it will not be ready."""

    is_ready: bool
    failure: str | None = None
    series: Series = field(default_factory=Series)
    told: Told = field(default_factory=dict)


# --- what time and evidence do ----------------------------------------------------------------------------------------


def advance(rollout: Rollout, now: float, sight: Sight) -> Rollout:
    """The rollout as it is now that this is seen: the very same if nothing is to be done. To be called again and again;
    how often does not matter."""
    if not rollout.is_active:
        is_over = not rollout.settled and now - rollout.since >= rollout.strategy.keep_s
        return replace(rollout, settled=True) if is_over else rollout
    if sight.failure is not None:
        return _decide(rollout, now, Phase.FAILED, f"version {rollout.to_version} is not served: {sight.failure}")
    if not sight.is_ready:
        return _miss(rollout, now)
    if rollout.missed is not None:
        rollout = replace(rollout, missed=None)
    if rollout.phase is Phase.WAITING:
        rollout = _begin(rollout, now)
    rollout = _look(rollout, now, sight)
    while rollout.phase is Phase.RUNNING:
        later = _go_on(rollout, now, sight)
        if later is rollout:
            break
        rollout = later
    return rollout


def _miss(rollout: Rollout, now: float) -> Rollout:
    """Nothing goes on without the candidate, whose requests the other version gets meanwhile."""
    missed = now if rollout.missed is None else rollout.missed
    if now - missed >= rollout.strategy.ready_timeout_s:
        why = f"version {rollout.to_version} was not ready for {rollout.strategy.ready_timeout_s:g} s"
        return _decide(rollout, now, Phase.FAILED, why)
    return rollout if missed == rollout.missed else replace(rollout, missed=missed)


def _begin(rollout: Rollout, now: float) -> Rollout:
    begun = replace(rollout, phase=Phase.RUNNING, since=now, changed=now, step=-1, reason="")
    return _note(begun, now, f"version {rollout.to_version} is ready")


def _go_on(rollout: Rollout, now: float, sight: Sight) -> Rollout:
    """The rollout at its next step, if this one is over; else the very same."""
    step = rollout.current
    verdicts: tuple[Verdict, ...] = ()
    due = rollout.since + _duration(step)
    if now < due:
        return rollout
    if isinstance(step, Analysis):
        verdicts = _judge_all(rollout, step.gates, rollout.since, sight)
        if bad := _pick(verdicts, Outcome.FAIL):
            return _decide(rollout, now, Phase.FAILED, f"the analysis failed: {bad[0]}", verdicts)
        if doubtful := _pick(verdicts, Outcome.INCONCLUSIVE):
            return _pause(rollout, now, f"the analysis is inconclusive: {doubtful[0]}", verdicts)
    if gives_more(rollout, rollout.step + 1) and (open_gates := _find_open(rollout)):
        if now - due < rollout.strategy.patience_s:
            return rollout
        why = f"after {rollout.strategy.patience_s:g} s nothing can be said yet: {open_gates[0]}"
        return _pause(rollout, now, why, open_gates)
    return _enter(rollout, rollout.step + 1, now, verdicts or _last_verdicts(rollout))


def _duration(step: Step | None) -> float:
    """How long a step takes; one that waits to be told has been told when this is asked."""
    match step:
        case Pause():
            return step.pause_s or 0.0
        case Analysis():
            return step.analysis_s
        case _:
            return 0.0


def gives_more(rollout: Rollout, step: int) -> bool:
    """Whether the candidate gets more requests by this step, or by the end of the rollout."""
    if step >= len(rollout.strategy.steps):
        return True
    coming = rollout.strategy.steps[step]
    return isinstance(coming, SetWeight) and coming.weight > rollout.weight


def _enter(rollout: Rollout, index: int, now: float, verdicts: tuple[Verdict, ...] = ()) -> Rollout:
    """The rollout at the beginning of a step, or at its end."""
    if index >= len(rollout.strategy.steps):
        return _decide(rollout, now, Phase.PROMOTED, "", verdicts)
    step = rollout.strategy.steps[index]
    analysed = {gate.name for gate in step.gates} if isinstance(step, Analysis) else set()
    checks = {name: check for name, check in rollout.checks.items() if name not in analysed}
    rollout = replace(
        rollout, phase=Phase.RUNNING, step=index, since=now, reason="", paused=None, checks=checks,
    )
    if isinstance(step, SetWeight):
        rollout = replace(_change(rollout, now), weight=step.weight)
    elif isinstance(step, SetMirror):
        rollout = replace(_change(rollout, now), mirror=step.mirror)
    elif step == Pause(None):
        rollout = replace(rollout, phase=Phase.PAUSED, paused=now, reason="a step of the strategy")
    return _note(rollout, now, f"step {index + 1}: {step}", verdicts)


def _change(rollout: Rollout, now: float) -> Rollout:
    """What was measured before says nothing any more; failures still count."""
    checks = {name: replace(check, last=None) for name, check in rollout.checks.items()}
    return replace(rollout, changed=now, measured=now, checks=checks)


# --- gates ------------------------------------------------------------------------------------------------------------


def _look(rollout: Rollout, now: float, sight: Sight) -> Rollout:
    """Measure what is watched, if it is time for that."""
    if now - rollout.measured < rollout.strategy.interval_s:
        return rollout
    rollout = replace(rollout, measured=now)
    start = max(rollout.changed, now - rollout.strategy.window_s)
    verdicts = _judge_all(rollout, watched_gates(rollout), start, sight)
    if isinstance(rollout.current, Analysis) and rollout.phase is Phase.RUNNING:
        verdicts += _judge_all(rollout, rollout.current.gates, rollout.since, sight)
    failed = _pick(verdicts, Outcome.FAIL)
    checks = dict(rollout.checks)
    for verdict in verdicts:
        failures = checks.get(verdict.gate, Check()).failures + (verdict in failed)
        checks[verdict.gate] = Check(failures, verdict)
    rollout = replace(rollout, checks=checks)
    for verdict in failed:
        if checks[verdict.gate].failures > rollout.strategy.failure_limit:
            return _decide(rollout, now, Phase.FAILED, str(verdict), verdicts)
    if failed:
        allowed = rollout.strategy.failure_limit
        rollout = _note(rollout, now, f"{failed[0]}; {allowed} failures are allowed of each gate", verdicts)
    return rollout


def watched_gates(rollout: Rollout) -> tuple[Gate, ...]:
    """The gates of the strategy of which something can be known by the present weights and copies."""
    return tuple(gate for gate in rollout.strategy.gates if can_know(gate, rollout.weight, rollout.mirror))


def _judge_all(rollout: Rollout, gates: tuple[Gate, ...], start: float, sight: Sight) -> tuple[Verdict, ...]:
    evidence = sight.series.since(start)
    return tuple(judge(gate, evidence, rollout.sides, sight.told) for gate in gates)


def _pick(verdicts: tuple[Verdict, ...], outcome: Outcome) -> tuple[Verdict, ...]:
    return tuple(each for each in verdicts if each.outcome is outcome)


def _find_open(rollout: Rollout) -> tuple[Verdict, ...]:
    """The watched gates that were not passed at the last look, or not looked at since something changed."""
    found = []
    for gate in watched_gates(rollout):
        last = rollout.checks.get(gate.name, Check()).last
        if last is None or last.outcome is not Outcome.PASS:
            found.append(last or Verdict(gate.name, Outcome.INCONCLUSIVE, why="not measured yet"))
    return tuple(found)


def _last_verdicts(rollout: Rollout) -> tuple[Verdict, ...]:
    return tuple(check.last for check in rollout.checks.values() if check.last is not None)


# --- what people do ---------------------------------------------------------------------------------------------------


def promote(rollout: Rollout, now: float) -> Rollout:
    """On to the next step, or the end, whatever gates say."""
    _expect(rollout, "promoted", Phase.RUNNING, Phase.PAUSED)
    return _enter(_note(rollout, now, "sent to the next step by hand"), rollout.step + 1, now)


def promote_full(rollout: Rollout, now: float) -> Rollout:
    """To the end at once, whatever gates say."""
    _expect(rollout, "promoted", Phase.RUNNING, Phase.PAUSED)
    return _decide(rollout, now, Phase.PROMOTED, "by hand")


def pause(rollout: Rollout, now: float) -> Rollout:
    """Stay at this step until told; gates that are watched all along can still fail the rollout."""
    _expect(rollout, "paused", Phase.RUNNING)
    return _pause(rollout, now, "by hand")


def resume(rollout: Rollout, now: float) -> Rollout:
    """Go on. Of a step that was cut short the rest follows; what was inconclusive is measured again."""
    _expect(rollout, "resumed", Phase.PAUSED)
    assert rollout.paused is not None
    if rollout.current == Pause(None):
        return _enter(_note(rollout, now, "resumed by hand"), rollout.step + 1, now)
    takes = _duration(rollout.current)
    if rollout.paused - rollout.since < takes:
        since = rollout.since + now - rollout.paused
    else:
        since = now if isinstance(rollout.current, Analysis) else now - takes
    return _note(replace(rollout, phase=Phase.RUNNING, since=since, paused=None, reason=""), now, "resumed by hand")


def abort(rollout: Rollout, now: float) -> Rollout:
    """Back to the version before, at once."""
    _expect(rollout, "aborted", *ACTIVE)
    return _decide(rollout, now, Phase.ABORTED, "by hand")


def retry(rollout: Rollout, now: float) -> Rollout:
    """Once more, from the first step."""
    _expect(rollout, "tried again", Phase.FAILED, Phase.ABORTED, Phase.UNDONE)
    again = replace(
        rollout, phase=Phase.WAITING, step=-1, since=now, changed=now, weight=0.0, mirror=0.0, reason="",
        settled=False, measured=0.0, paused=None, missed=None, checks={},
    )
    return _note(again, now, "tried again by hand")


def undo(rollout: Rollout, now: float) -> Rollout:
    """Back to the version before, without steps, while that is still kept."""
    _expect(rollout, "undone", Phase.PROMOTED)
    if rollout.settled:
        raise FailedPrecondition(
            f"rollout {rollout.id} was promoted more than {rollout.strategy.keep_s:g} s ago (keep_s), or the requests "
            f"were changed since; start a rollout to version {rollout.from_version} to go back"
        )
    return _decide(rollout, now, Phase.UNDONE, "by hand")


def release(rollout: Rollout, now: float, why: str) -> Rollout:
    """Leave the target to somebody else, as it is."""
    if rollout.is_active:
        rollout = _decide(rollout, now, Phase.ABORTED, why)
    return replace(rollout, settled=True)


def _expect(rollout: Rollout, done: str, *phases: Phase) -> None:
    if rollout.phase not in phases:
        wanted = " or ".join(sorted(phase.value for phase in phases))
        raise FailedPrecondition(
            f"rollout {rollout.id} is {rollout.phase.value}, and only one that is {wanted} can be {done}"
        )


# --- moves ------------------------------------------------------------------------------------------------------------


def _decide(
    rollout: Rollout, now: float, phase: Phase, why: str, verdicts: tuple[Verdict, ...] = ()
) -> Rollout:
    is_up = phase is Phase.PROMOTED
    decided = replace(
        rollout, phase=phase, since=now, changed=now, weight=float(WHOLE) if is_up else 0.0, mirror=0.0, reason=why,
        paused=None, missed=None,
    )
    has_all = rollout.to_version if is_up else rollout.from_version
    what = f"{phase.value}{': ' if why else ''}{why}; version {has_all} gets all requests"
    return _note(decided, now, what, verdicts)


def _pause(rollout: Rollout, now: float, why: str, verdicts: tuple[Verdict, ...] = ()) -> Rollout:
    paused = replace(rollout, phase=Phase.PAUSED, paused=now, reason=why)
    return _note(paused, now, f"paused: {why}", verdicts)


def _note(rollout: Rollout, now: float, what: str, verdicts: tuple[Verdict, ...] = ()) -> Rollout:
    transition = Transition(now, what, rollout.phase, rollout.weight, verdicts)
    return replace(rollout, transitions=(*rollout.transitions, transition)[-_MOST_TRANSITIONS:])


# --- what follows -----------------------------------------------------------------------------------------------------


def traffic_for(rollout: Rollout) -> dict[str, Any]:
    """How the target's requests are to be shared until the rollout is settled, as a configuration says it."""
    weights = {rollout.from_version: WHOLE - rollout.weight, rollout.to_version: rollout.weight}
    mirror: dict[str, Any] = {}
    if rollout.mirror:
        mirror = {"version": rollout.to_version, "share": rollout.mirror, "tolerances": rollout.strategy.tolerances}
    return {**_rest(rollout), "weights": weights, "mirror": mirror or None}


def winner(rollout: Rollout) -> int:
    """The version that the target is to have in the end, as things stand."""
    return rollout.to_version if rollout.phase is Phase.PROMOTED else rollout.from_version


def final_traffic(rollout: Rollout, *, is_latest: bool, is_held: bool) -> dict[str, Any] | None:
    """How they are to be shared when it is settled; None if not at all.

    A label names the winner then. Requests that name nothing get the latest version unless they are shared: they stay
    so where that is another (`is_latest`), or where newer versions are to come by rollouts (`is_held`).
    """
    own = _rest(rollout) | _own_mirror(rollout)
    pinned = {**own, "weights": {winner(rollout): WHOLE}}
    if rollout.target != DEFAULT_TARGET:
        return pinned if own else None
    return None if rollout.before is None and is_latest and not is_held else pinned


def _rest(rollout: Rollout) -> dict[str, Any]:
    """What of the target's own settings is none of the rollout's business."""
    before = rollout.before or {}
    return {name: before[name] for name in ("sticky", "audience") if before.get(name)}


def _own_mirror(rollout: Rollout) -> dict[str, Any]:
    """The mirror that the target had before, unless that version answers itself now."""
    mirror = rollout.before.get("mirror") if rollout.before else None
    return {"mirror": mirror} if mirror and mirror["version"] != winner(rollout) else {}


def is_news(before: Rollout, after: Rollout) -> bool:
    """Whether the change between the two must not be forgotten."""
    return before.transitions != after.transitions or before.settled != after.settled


def is_mine(rollout: Rollout, model: str, target: str) -> bool:
    """Whether the target's requests are this rollout's to share."""
    return not rollout.settled and (rollout.model, rollout.target) == (model, target)
