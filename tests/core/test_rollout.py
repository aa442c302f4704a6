"""A rollout: what time, evidence and people make of it, and what follows for the target's requests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from serving_app.core.errors import FailedPrecondition
from serving_app.core.rollout import Phase, Rollout, is_news
from serving_app.core.rollout_orders import abort, pause, promote, promote_full, release, resume, retry, undo
from serving_app.core.rollout_outcome import final_traffic, traffic_for
from serving_app.core.strategy import (
    Analysis,
    Bound,
    Gate,
    Measure,
    Pause,
    SetMirror,
    SetWeight,
    Step,
    Strategy,
    find_mistakes,
)
from tests.core.rollout_world import Version, World

ERRORS = Gate("errors", Measure.ERROR_RATE, Bound.MAX, 0.05)
DIFFERENCES = Gate("differences", Measure.DISAGREEMENT, Bound.MAX, 0.05)
REVENUE = Gate("revenue", Measure.METRIC, Bound.MIN, 1.0)


def strategy(*steps: Step, gates: tuple[Gate, ...] = (), **more: Any) -> Strategy:
    return Strategy("s", steps, gates, **more)


def world(*steps: Step, gates: tuple[Gate, ...] = (), candidate: Version | None = None, **more: Any) -> World:
    return World(strategy(*steps, gates=gates, **more), candidate or Version(0.0))


# --- time and evidence ------------------------------------------------------------------------------------------------


def test_steps_are_taken_in_their_order() -> None:
    """Weights hold from their step on, pauses take their time, and after the last step all requests have moved."""
    seen = world(SetWeight(10.0), Pause(30.0), SetWeight(50.0), Pause(10.0))
    assert (seen.rollout.weight, seen.rollout.step) == (10.0, 1)
    assert seen.run(29.0).weight == 10.0
    assert seen.run(1.0).weight == 50.0
    assert seen.run(10.0).phase is Phase.PROMOTED
    assert seen.rollout.weight == 100.0
    assert seen.stories() == [
        "version 2 is ready", "step 1: weight 10 %", "step 2: pause of 30 s", "step 3: weight 50 %",
        "step 4: pause of 10 s", "promoted; version 2 gets all requests",
    ]  # fmt: skip


def test_a_candidate_is_waited_for() -> None:
    """Until it is ready it gets nothing; if it takes too long, or will not be ready, the rollout fails."""
    late = World(strategy(SetWeight(10.0), Pause(None), ready_timeout_s=60.0), Version())
    late.rollout = replace(late.rollout, phase=Phase.WAITING, weight=0.0, step=-1, transitions=())
    late.is_ready = False
    assert late.run(59.0).phase is Phase.WAITING
    late.is_ready = True
    assert late.run(1.0).weight == 10.0
    late.is_ready = False
    assert late.run(60.0).weight == 10.0
    assert late.run(1.0).phase is Phase.FAILED
    assert "not ready for 60 s" in late.rollout.reason
    broken = world(SetWeight(10.0), Pause(None))
    broken.failure = "NOT_FOUND: no saved_model.pb"
    assert broken.run(1.0).phase is Phase.FAILED
    assert "no saved_model.pb" in broken.rollout.reason


def test_no_step_gives_more_before_gates_are_passed() -> None:
    """What is watched all along has to be passed by the present weight before the candidate gets more."""
    seen = world(SetWeight(10.0), SetWeight(50.0), gates=(ERRORS,))
    assert seen.run(9.0).weight == 10.0  # the first look is after the interval
    assert seen.run(11.0).weight == 50.0
    assert seen.run(10.0).phase is Phase.PROMOTED
    assert all(each.verdicts for each in seen.rollout.transitions[2:])


def test_what_gives_no_more_need_not_wait() -> None:
    """A step back, and an end of copies, come without a word of the gates."""
    seen = world(SetWeight(50.0), SetWeight(10.0), SetMirror(5.0), SetMirror(0.0), Pause(None), gates=(ERRORS,))
    assert (seen.rollout.weight, seen.rollout.phase) == (10.0, Phase.PAUSED)


def test_a_watched_gate_fails_a_rollout_at_any_step() -> None:
    """Also while it is paused; all requests are back then, with the evidence."""
    seen = world(SetWeight(50.0), Pause(None), gates=(ERRORS,))
    assert seen.run(30.0).phase is Phase.PAUSED
    seen.candidate.error_rate = 0.9
    rollout = seen.run(60.0)
    assert (rollout.phase, rollout.weight) == (Phase.FAILED, 0.0)
    assert "errors fail" in rollout.reason
    assert rollout.transitions[-1].verdicts[0].gate == "errors"


def test_failures_are_counted_up_to_the_limit() -> None:
    """Each gate may fail so often, over the whole rollout."""
    seen = world(SetWeight(50.0), Pause(None), gates=(ERRORS,), failure_limit=2, candidate=Version(0.9))
    assert seen.run(29.0).phase is Phase.PAUSED
    assert seen.rollout.checks["errors"].failures == 2
    assert sum("2 failures are allowed" in each for each in seen.stories()) == 2
    assert seen.run(1.0).phase is Phase.FAILED


def test_what_has_been_counted_as_a_failure_is_not_counted_again() -> None:
    """One bad moment is one failure, however long the window holds it."""
    seen = world(SetWeight(50.0), Pause(None), gates=(ERRORS,), failure_limit=1)
    seen.candidate.error_rate = 1.0
    seen.run(10.0)
    seen.candidate.error_rate = 0.0
    assert seen.run(600.0).phase is Phase.PAUSED
    assert seen.rollout.checks["errors"].failures == 1
    seen.candidate.error_rate = 1.0
    assert seen.run(20.0).phase is Phase.FAILED


def test_a_failure_that_an_analysis_may_have_does_not_end_it() -> None:
    """What was counted against a gate, and allowed, is not held against it again at the end."""
    seen = world(SetWeight(50.0), Analysis(60.0, (ERRORS,)), failure_limit=1)
    seen.candidate.error_rate = 1.0
    seen.run(10.0)
    seen.candidate.error_rate = 0.0
    assert seen.run(50.0).phase is Phase.PROMOTED
    assert seen.rollout.checks["errors"].failures == 1


@pytest.mark.parametrize(("error_rate", "phase"), [(0.0, Phase.PROMOTED), (0.4, Phase.FAILED)])
def test_a_small_share_is_enough_in_time(error_rate: float, phase: Phase) -> None:
    """Where the window never has requests enough, all since the weight has changed decide."""
    seen = world(SetWeight(5.0), SetWeight(100.0), gates=(ERRORS,), candidate=Version(error_rate), patience_s=3600.0)
    seen.per_s = 2.0  # six requests a minute for the candidate, where thirty are needed
    assert seen.run(60.0).weight == 5.0
    assert seen.run(3600.0).phase is phase


def test_a_doubt_that_lasts_is_resolved() -> None:
    """A candidate that is a little worse than its limit is found out by all its requests, where those of one window
    leave it open for ever."""
    seen = world(SetWeight(10.0), Pause(None), gates=(ERRORS,), candidate=Version(0.12))
    assert seen.run(3600.0).phase is Phase.FAILED


def test_failures_of_one_weight_count_at_the_next() -> None:
    """A change of weights makes older evidence void, and not what it led to."""
    seen = world(SetWeight(25.0), Pause(None), SetWeight(50.0), Pause(None), gates=(ERRORS,), failure_limit=1,
                 candidate=Version(0.9))  # fmt: skip
    seen.run(10.0)
    assert seen.rollout.checks["errors"].failures == 1
    seen.rollout = promote(seen.rollout, seen.now)
    seen.look()
    assert seen.rollout.checks["errors"].last is None
    assert seen.run(10.0).phase is Phase.FAILED


def test_an_analysis_needs_all_its_gates() -> None:
    """At its end what was measured over the whole of it must have passed."""
    analysis = Analysis(30.0, (ERRORS,))
    good = world(SetWeight(20.0), analysis)
    assert good.run(29.0).phase is Phase.RUNNING
    assert good.run(1.0).phase is Phase.PROMOTED
    bad = world(SetWeight(20.0), analysis, candidate=Version(0.5))
    assert bad.run(30.0).phase is Phase.FAILED
    quiet = world(SetWeight(20.0), analysis)
    quiet.per_s = 0.0
    assert quiet.run(30.0).phase is Phase.PAUSED
    assert "inconclusive" in quiet.rollout.reason


def test_an_inconclusive_analysis_is_repeated_when_it_is_resumed() -> None:
    """It takes its whole time again; a person may also go on without it."""
    seen = world(SetWeight(20.0), Analysis(30.0, (ERRORS,)))
    seen.per_s = 0.0
    seen.run(30.0)
    again = resume(seen.rollout, seen.now)
    seen.rollout, seen.per_s = again, 20.0
    assert seen.run(29.0).phase is Phase.RUNNING
    assert seen.run(1.0).phase is Phase.PROMOTED
    assert promote(replace(again, phase=Phase.PAUSED, paused=0.0), 99.0).phase is Phase.PROMOTED


def test_a_quiet_service_pauses_after_some_patience() -> None:
    """A step that waits for gates of which nothing can be said asks a person in the end, and waits as long again when
    it is resumed."""
    seen = world(SetWeight(10.0), Pause(10.0), SetWeight(50.0), gates=(ERRORS,), patience_s=100.0)
    seen.per_s = 0.0
    assert seen.run(109.0).phase is Phase.RUNNING
    assert seen.run(1.0).phase is Phase.PAUSED
    assert "after 100 s nothing can be said yet" in seen.rollout.reason
    seen.rollout = resume(seen.rollout, seen.now)
    assert seen.run(99.0).phase is Phase.RUNNING
    assert seen.run(1.0).phase is Phase.PAUSED
    assert promote(seen.rollout, seen.now).weight == 50.0


def test_told_metrics_take_part() -> None:
    """A gate over a metric passes by what is told, and never by an error."""
    seen = world(SetWeight(10.0), SetWeight(50.0), Pause(None), gates=(REVENUE,), patience_s=50.0)
    seen.told["revenue", 2] = "Prometheus gave no answer"
    assert seen.run(60.0).phase is Phase.PAUSED
    assert "Prometheus gave no answer" in seen.rollout.reason
    seen.rollout = resume(seen.rollout, seen.now)
    seen.told["revenue", 2] = 2.0
    seen.run(10.0)
    assert seen.rollout.weight == 50.0
    seen.told["revenue", 2] = 0.5
    assert seen.run(10.0).phase is Phase.FAILED


def test_copies_are_judged_before_any_request_moves() -> None:
    """A candidate that answers otherwise fails by copies, before anybody got its answers."""
    steps = (SetMirror(50.0), Analysis(20.0, (DIFFERENCES,)), SetMirror(0.0), SetWeight(10.0), Pause(None))
    bad = world(*steps, candidate=Version(0.0, wrong_rate=0.5))
    assert bad.run(20.0).phase is Phase.FAILED
    assert bad.candidate.requests == 0
    good = world(*steps, candidate=Version(0.0, wrong_rate=0.0))
    assert good.run(20.0).weight == 10.0


def test_a_decided_rollout_is_settled_after_a_while() -> None:
    """Until then the other version is kept; nothing else happens to it any more."""
    seen = world(SetWeight(50.0), keep_s=100.0)
    assert seen.rollout.phase is Phase.PROMOTED
    decided = seen.rollout
    seen.now = 99.0
    seen.look()
    assert seen.rollout is decided
    seen.now = 100.0
    seen.look()
    assert seen.rollout.settled
    assert is_news(decided, seen.rollout)


# --- people -----------------------------------------------------------------------------------------------------------


def at_phase(phase: Phase) -> Rollout:
    """A rollout in this phase, at its second step."""
    paused = 0.0 if phase is Phase.PAUSED else None
    steps = (SetWeight(10.0), Pause(60.0), SetWeight(50.0))
    return Rollout(
        1, "m", "default", 1, 2, strategy(*steps), 0.0, 0.0, 0.0, phase=phase, step=1, weight=10.0, paused=paused
    )


ALLOWED: dict[Callable[[Rollout, float], Rollout], tuple[dict[Phase, Phase], str]] = {
    promote: ({Phase.RUNNING: Phase.RUNNING, Phase.PAUSED: Phase.RUNNING}, "promoted"),
    promote_full: ({Phase.RUNNING: Phase.PROMOTED, Phase.PAUSED: Phase.PROMOTED}, "promoted"),
    pause: ({Phase.RUNNING: Phase.PAUSED}, "paused"),
    resume: ({Phase.PAUSED: Phase.RUNNING}, "resumed"),
    abort: (dict.fromkeys((Phase.WAITING, Phase.RUNNING, Phase.PAUSED), Phase.ABORTED), "aborted"),
    retry: (dict.fromkeys((Phase.FAILED, Phase.ABORTED, Phase.UNDONE), Phase.WAITING), "tried again"),
    undo: ({Phase.PROMOTED: Phase.UNDONE}, "undone"),
}


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("action", ALLOWED, ids=lambda action: action.__name__)
def test_what_people_may_do_depends_on_the_phase(action: Callable[[Rollout, float], Rollout], phase: Phase) -> None:
    """Each order leads from its phases to the next, and is refused in the others, by a sentence that says why."""
    allowed, word = ALLOWED[action]
    if phase in allowed:
        after = action(at_phase(phase), 5.0)
        assert after.phase is allowed[phase]
        assert after.transitions
    else:
        with pytest.raises(FailedPrecondition, match=f"rollout 1 is {phase.value}, and only one that is .* {word}"):
            action(at_phase(phase), 5.0)


def test_a_pause_by_hand_takes_nothing_from_a_step() -> None:
    """A pause of the strategy that was cut short goes on where it was."""
    seen = world(SetWeight(10.0), Pause(60.0), SetWeight(50.0), Pause(None))
    seen.run(20.0)
    seen.rollout = pause(seen.rollout, seen.now)
    assert seen.run(500.0).weight == 10.0
    seen.rollout = resume(seen.rollout, seen.now)
    assert seen.run(39.0).weight == 10.0
    assert seen.run(1.0).weight == 50.0


def test_resuming_ends_a_pause_until_told() -> None:
    """What waits to be told has been told."""
    seen = world(SetWeight(10.0), Pause(None), SetWeight(50.0), Pause(None))
    assert seen.rollout.phase is Phase.PAUSED
    seen.rollout = resume(seen.rollout, seen.now)
    seen.look()
    assert (seen.rollout.weight, seen.rollout.phase) == (50.0, Phase.PAUSED)


def test_resuming_is_no_way_around_gates() -> None:
    """What waited to be told goes on as soon as its gates are passed; only to promote is to overrule them."""
    seen = world(SetWeight(10.0), Pause(None), SetWeight(50.0), Pause(None), gates=(ERRORS,), patience_s=60.0)
    seen.per_s = 0.0
    seen.rollout = resume(seen.run(5.0), seen.now)
    assert seen.run(59.0).weight == 10.0
    assert seen.run(1.0).phase is Phase.PAUSED
    seen.rollout, seen.per_s = resume(seen.rollout, seen.now), 100.0
    assert seen.run(20.0).weight == 50.0


def test_a_retry_begins_anew() -> None:
    """Failures and steps of the first time are forgotten, its story is not."""
    seen = world(SetWeight(50.0), Pause(None), gates=(ERRORS,), candidate=Version(0.9))
    assert seen.run(60.0).phase is Phase.FAILED
    seen.candidate.error_rate = 0.0
    told = len(seen.rollout.transitions)
    seen.rollout = retry(seen.rollout, seen.now)
    rollout = seen.run(30.0)
    assert (rollout.phase, rollout.weight) == (Phase.PAUSED, 50.0)
    assert rollout.checks["errors"].failures == 0
    assert len(rollout.transitions) > told


def test_what_is_settled_is_not_undone() -> None:
    """The old version may be gone; the sentence says what to do instead."""
    settled = replace(at_phase(Phase.PROMOTED), settled=True)
    with pytest.raises(FailedPrecondition, match="start a rollout to version 1 to go back"):
        undo(settled, 5.0)


def test_a_target_can_be_left_to_others() -> None:
    """A rollout that goes on counts as aborted then, and does nothing any more."""
    left = release(at_phase(Phase.RUNNING), 5.0, "the model is gone")
    assert (left.phase, left.settled, left.reason) == (Phase.ABORTED, True, "the model is gone")
    assert release(at_phase(Phase.PROMOTED), 5.0, "").phase is Phase.PROMOTED


# --- what follows -----------------------------------------------------------------------------------------------------

OWN = {"weights": {"1": 100.0}, "sticky": "x-user", "audience": [{"attribute": "a", "equals": "b", "version": 1}]}
COPIED = {**OWN, "mirror": {"version": 3, "share": 5.0}}


def shares(phase: Phase, **more: Any) -> Rollout:
    weight = {Phase.PROMOTED: 100.0, Phase.RUNNING: 10.0}.get(phase, 0.0)
    return replace(at_phase(phase), weight=weight, **more)


def test_both_versions_are_named_until_the_end() -> None:
    """The weights are those of the step, or all on one side; so both versions stay loaded."""
    for phase, weights in (
        (Phase.WAITING, {1: 100.0, 2: 0.0}), (Phase.RUNNING, {1: 90.0, 2: 10.0}), (Phase.PROMOTED, {1: 0.0, 2: 100.0}),
        (Phase.FAILED, {1: 100.0, 2: 0.0}), (Phase.ABORTED, {1: 100.0, 2: 0.0}), (Phase.UNDONE, {1: 100.0, 2: 0.0}),
    ):  # fmt: skip
        assert traffic_for(shares(phase)) == {"weights": weights, "mirror": None}


def test_what_the_target_had_of_its_own_is_kept() -> None:
    """The sticky attribute and the audience hold throughout; copies are the strategy's."""
    seen = traffic_for(shares(Phase.RUNNING, before=COPIED, mirror=20.0))
    assert (seen["sticky"], seen["audience"]) == ("x-user", OWN["audience"])
    assert seen["mirror"] == {"version": 2, "share": 20.0, "tolerances": {}}
    assert traffic_for(shares(Phase.RUNNING, before=COPIED))["mirror"] is None


@pytest.mark.parametrize(
    ("target", "phase", "before", "is_latest", "is_held", "final"),
    [
        ("default", Phase.PROMOTED, None, True, False, None),
        ("default", Phase.PROMOTED, None, False, False, {"weights": {2: 100}}),
        ("default", Phase.PROMOTED, None, True, True, {"weights": {2: 100}}),
        ("default", Phase.PROMOTED, {"weights": {"1": 100}}, True, False, {"weights": {2: 100}}),
        ("default", Phase.FAILED, {"weights": {"1": 100}}, False, False, {"weights": {1: 100}}),
        ("default", Phase.ABORTED, None, False, False, {"weights": {1: 100}}),
        ("stable", Phase.PROMOTED, None, False, False, None),
        ("stable", Phase.UNDONE, {"weights": {"1": 100}}, False, False, None),
        ("stable", Phase.PROMOTED, {"weights": {"1": 100}, "sticky": "u"}, False, False,
         {"weights": {2: 100}, "sticky": "u"}),
        ("stable", Phase.PROMOTED, {"weights": {"1": 100}, "mirror": {"version": 2, "share": 5}}, False, False, None),
        ("stable", Phase.FAILED, {"weights": {"1": 100}, "mirror": {"version": 2, "share": 5}}, False, False,
         {"weights": {1: 100}, "mirror": {"version": 2, "share": 5}}),
    ],
)  # fmt: skip
def test_the_target_is_given_back(
    target: str, phase: Phase, before: Any, is_latest: bool, is_held: bool, final: Any
) -> None:
    """A label names the winner by itself; other requests stay shared where the latest version is not the winner, or
    newer ones are to come by rollouts."""
    rollout = shares(phase, before=before, target=target)
    assert final_traffic(rollout, is_latest=is_latest, is_held=is_held) == final


def test_what_has_nothing_to_do_stays_the_very_same() -> None:
    """So nobody has to look at what did not change: between two looks at gates, in a pause, and after its end."""
    seen = world(SetWeight(10.0), Pause(100.0), gates=(ERRORS,), keep_s=1000.0)
    for seconds in (10.0, 500.0):
        seen.run(seconds)
        before = seen.rollout
        seen.look()
        assert seen.rollout is before
    assert seen.rollout.phase is Phase.PROMOTED


def test_measurements_are_no_news() -> None:
    """What may be forgotten when the controller dies is told from what may not."""
    rollout = at_phase(Phase.RUNNING)
    assert not is_news(rollout, replace(rollout, measured=9.0, missed=3.0))
    assert is_news(rollout, pause(rollout, 1.0))


@pytest.mark.parametrize(
    ("wanted", "mistake"),
    [
        (strategy(SetWeight(10.0), gates=(DIFFERENCES,)), "there is a gate differences, which needs copies"),
        (strategy(SetWeight(10.0), Analysis(5.0, (DIFFERENCES,))), "step 2 analyses differences, which needs copies"),
        (strategy(Analysis(5.0, (ERRORS,))), "step 1 analyses errors, which needs requests for the new version"),
        (strategy(SetMirror(5.0), Analysis(5.0, (REVENUE,))), "step 2 analyses revenue, which needs requests"),
        (strategy(SetWeight(10.0), gates=(ERRORS, ERRORS)), "several gates are called errors"),
        (
            strategy(SetWeight(100.0), Analysis(5.0, (replace(ERRORS, bound=Bound.MAX_RATIO),))),
            "step 2 analyses errors, which compares with the old version",
        ),
        (strategy(SetMirror(5.0), Analysis(5.0, (ERRORS,)), SetWeight(5.0), gates=(DIFFERENCES,)), None),
    ],
)
def test_strategies_that_make_no_sense(wanted: Strategy, mistake: str | None) -> None:
    """What could never be measured is told before anything is rolled out."""
    found = list(find_mistakes(wanted))
    assert found == [] if mistake is None else any(each.startswith(mistake) for each in found), found
