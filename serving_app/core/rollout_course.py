"""How a rollout goes on by itself: by the time, and by what is seen of its candidate."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from serving_app.core.evidence import Series
from serving_app.core.gates import Outcome, Told, Verdict, doubt_of_look, judge
from serving_app.core.rollout import Check, Phase, Rollout, decide, enter, note, pause
from serving_app.core.strategy import Analysis, Gate, Measure, Pause, SetWeight, Step, can_know


@dataclass(frozen=True, slots=True)
class Sight:
    """What is seen of a rollout's versions. `failure` tells why the candidate will not be ready."""

    is_ready: bool
    failure: str | None = None
    series: Series = field(default_factory=Series)
    told: Told = field(default_factory=dict)
    has_way_back: bool = True
    """Whether the version before could get the requests again."""


def advance(rollout: Rollout, now: float, sight: Sight) -> Rollout:
    """The rollout as it is now that this is seen: the very same if nothing is to be done. To be called again and again;
    how often does not matter."""
    if not rollout.is_active:
        is_over = not rollout.settled and now - rollout.since >= rollout.strategy.keep_s
        return replace(rollout, settled=True) if is_over else rollout
    if sight.failure is not None:
        return decide(rollout, now, Phase.FAILED, f"version {rollout.to_version} is not served: {sight.failure}")
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
        return decide(rollout, now, Phase.FAILED, why)
    return rollout if missed == rollout.missed else replace(rollout, missed=missed)


def _begin(rollout: Rollout, now: float) -> Rollout:
    begun = replace(rollout, phase=Phase.RUNNING, since=now, changed=now, step=-1, reason="")
    return note(begun, now, f"version {rollout.to_version} is ready")


def _go_on(rollout: Rollout, now: float, sight: Sight) -> Rollout:
    """The rollout at its next step, if this one is over; else the very same."""
    step = rollout.current
    verdicts: tuple[Verdict, ...] = ()
    due = rollout.since + duration(step)
    if now < due:
        return rollout
    if isinstance(step, Analysis):
        verdicts = _judge_analysis(rollout, step, sight)
        if bad := _pick(verdicts, Outcome.FAIL):
            return _turn_away(rollout, now, f"the analysis failed: {bad[0]}", verdicts, sight)
        if doubtful := _pick(verdicts, Outcome.INCONCLUSIVE):
            return pause(rollout, now, f"the analysis is inconclusive: {doubtful[0]}", verdicts)
    if gives_more(rollout, rollout.step + 1) and (open_gates := _find_open(rollout)):
        if now - due < rollout.strategy.patience_s:
            return rollout
        why = f"after {rollout.strategy.patience_s:g} s nothing can be said yet: {open_gates[0]}"
        return pause(rollout, now, why, open_gates)
    return enter(rollout, rollout.step + 1, now, verdicts or _last_verdicts(rollout))


def duration(step: Step | None) -> float:
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


# --- gates ------------------------------------------------------------------------------------------------------------


def _look(rollout: Rollout, now: float, sight: Sight) -> Rollout:
    """Measure what is watched, if it is time for that."""
    if now - rollout.measured < rollout.strategy.interval_s:
        return rollout
    verdicts = tuple(_watch(rollout, gate, now, sight) for gate in watched_gates(rollout))
    if isinstance(rollout.current, Analysis) and rollout.phase is Phase.RUNNING:
        verdicts += _judge_analysis(rollout, rollout.current, sight)
    checks = dict(rollout.checks)
    for verdict in verdicts:
        checks[verdict.gate] = _take_in(checks.get(verdict.gate, Check()), verdict, now)
    return _count_failures(replace(rollout, measured=now, checks=checks), now, verdicts, sight)


def _judge_analysis(rollout: Rollout, step: Analysis, sight: Sight) -> tuple[Verdict, ...]:
    """What all the requests since the analysis began say of its gates."""
    return tuple(_judge(rollout, gate, _not_counted(rollout, gate, rollout.since), sight) for gate in step.gates)


def _watch(rollout: Rollout, gate: Gate, now: float, sight: Sight) -> Verdict:
    """What the requests of the window say of a gate, and those of the later half of the time since weights or copies
    have changed, when that is longer.

    The window alone would be passed sooner or later by a version that is above its limit, if one waits for its luck;
    and it may never have requests enough. The longer time alone would see nothing of a fault that has just begun. So
    both have to be passed; where the window has too few requests, the longer time decides, and where it leaves a doubt,
    that may resolve it. What was slow or failed in the first moments is forgotten in time.
    """
    start = _not_counted(rollout, gate, rollout.changed)
    recent = max(start, now - rollout.strategy.window_s)
    later_half = start + (now - start) / 2
    if later_half >= recent or gate.measure is Measure.METRIC:
        return _judge(rollout, gate, recent, sight)
    lately = _judge(rollout, gate, recent, sight, parts=2)
    longer = _judge(rollout, gate, later_half, sight, parts=2)
    if lately.value is None or lately.outcome is Outcome.PASS:
        return _held(longer) if lately.outcome is Outcome.PASS else longer
    return longer if longer.outcome is Outcome.FAIL else lately


def _held(longer: Verdict) -> Verdict:
    """What has been bad for long and is well now is neither failed nor passed."""
    if longer.outcome is not Outcome.FAIL:
        return longer
    return replace(longer, outcome=Outcome.INCONCLUSIVE, why="it has been better lately")


def _not_counted(rollout: Rollout, gate: Gate, since: float) -> float:
    """From when on nothing has been counted as a failure of a gate yet."""
    failed = rollout.checks.get(gate.name, Check()).failed
    return since if failed is None else max(since, failed)


def _judge(rollout: Rollout, gate: Gate, since: float, sight: Sight, parts: int = 1) -> Verdict:
    """A look at a gate. However many there are, chance fails the candidate in all of them no more often than it may in
    one; a look may have several parts."""
    doubt = doubt_of_look(rollout.checks.get(gate.name, Check()).looks + 1) / parts
    return judge(gate, sight.series.since(since), rollout.sides, sight.told, doubt)


def _take_in(check: Check, verdict: Verdict, now: float) -> Check:
    is_fail = verdict.outcome is Outcome.FAIL
    return Check(
        failures=check.failures + is_fail,
        last=verdict,
        looks=check.looks + (verdict.value is not None),
        failed=now if is_fail else check.failed,
    )


def _count_failures(rollout: Rollout, now: float, verdicts: tuple[Verdict, ...], sight: Sight) -> Rollout:
    """Fail the rollout if a gate has failed too often, and tell of failures that are allowed."""
    allowed = rollout.strategy.failure_limit
    failed = _pick(verdicts, Outcome.FAIL)
    for verdict in failed:
        if rollout.checks[verdict.gate].failures > allowed:
            return _turn_away(rollout, now, str(verdict), verdicts, sight)
    if failed:
        return note(rollout, now, f"{failed[0]}; {allowed} failures are allowed of each gate", verdicts)
    return rollout


def _turn_away(rollout: Rollout, now: float, why: str, verdicts: tuple[Verdict, ...], sight: Sight) -> Rollout:
    """Back to the version before, unless that is not there: then a person has to say what is the lesser evil."""
    if sight.has_way_back or not rollout.weight:
        return decide(rollout, now, Phase.FAILED, why, verdicts)
    nowhere = f"version {rollout.from_version}, to which the requests would go back, is not ready"
    if rollout.paused is not None and rollout.reason.endswith(nowhere):
        return rollout
    since = rollout.paused
    paused = pause(rollout, now, f"{why}; {nowhere}", verdicts)
    return paused if since is None else replace(paused, paused=since)


def watched_gates(rollout: Rollout) -> tuple[Gate, ...]:
    """The gates of the strategy of which something can be known by the present weights and copies."""
    return tuple(gate for gate in rollout.strategy.gates if can_know(gate, rollout.weight, rollout.mirror))


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
