"""The rollouts of an app: begun, carried out, kept, refused, and found again by the controller that comes next."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from serving_app.config import ServingConfig, parse
from serving_app.core.errors import (
    Code,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    ServingError,
    Unavailable,
)
from serving_app.core.families import REQUEST_COUNT
from serving_app.core.history import Happening
from serving_app.core.metrics import Snapshot
from serving_app.core.rollout import Phase, Rollout
from serving_app.core.servable import ServableId
from serving_app.core.states import State
from serving_app.core.views import Failure, ModelView
from serving_app.serve.editing import Editing
from serving_app.serve.kept_rollouts import newest_moment
from serving_app.serve.rollouts import Rollouts
from serving_app.serve.steady_clock import steady_clock
from serving_app.serve.told_metrics import ToldMetrics
from serving_app.serve.wanted import Applied, Wanted, decode_wanted, encode_wanted, redeploy
from tests.cli.views import model, version
from tests.stepping import until

BASE = {
    "models": {"m": {"base_path": "/models/m", "labels": {"stable": 1}}},
    "rollout_strategies": {"half": {"steps": [50, {"pause_s": "until_told"}], "keep_s": 100}},
}
WATCHED = {
    "steps": [50, {"pause_s": "until_told"}],
    "gates": [{"measure": "error_rate", "max": 0.05}],
    "interval_s": 10,
}


class App:
    """Rollouts of an app in whose store versions 1 to 3 lie, of which some are ready, at a time that tests move."""

    def __init__(self, *ready: int, **settings: Any) -> None:
        self.now = 1000.0
        self.versions = {number: version(number) for number in ready or (1, 2)}
        self.counts: dict[tuple[str, ...], int] = {}
        self.told: list[Happening] = []
        self.problems: dict[str, str] = {}
        self.answers: Callable[[str, str], float] = lambda address, query: 1.0
        self.kept: list[Wanted] = []
        self.is_full = False
        self.restart(redeploy(None, Applied(1, parse({**BASE, **settings}))))

    def restart(self, wanted: Wanted | None = None) -> None:
        """A controller comes, and finds what the one before has kept."""
        wanted = wanted or decode_wanted(encode_wanted("a", self.kept[-1]))
        self.editing = Editing(wanted, self, lambda _: self._ready(), self._enforce)  # type: ignore[arg-type]
        self.rollouts = Rollouts(
            self.editing, self._look, lambda servable: servable in {ServableId("m", each) for each in (1, 2, 3)},
            lambda families, models: self._count(), self.told.extend, self._tell_problem,
            told=ToldMetrics(lambda: self.now, lambda address, query: self.answers(address, query)),
            clock=lambda: self.now, appear_s=0.0,
        )  # fmt: skip

    async def keep(self, wanted: Wanted, *, may_lag: bool = False) -> None:
        await asyncio.sleep(0)
        if self.is_full and not may_lag:
            raise Unavailable("the disk is full")
        self.kept.append(wanted)

    async def _enforce(self, before: ServingConfig, after: ServingConfig) -> None:
        await asyncio.sleep(0)

    def _ready(self) -> set[int]:
        return {number for number, each in self.versions.items() if each.state is State.READY}

    def _look(self, name: str) -> ModelView | None:
        return model("m", *self.versions.values()) if name == "m" else None

    def _count(self) -> Snapshot:
        return {REQUEST_COUNT.name: dict(self.counts)}

    def _tell_problem(self, subject: str, problem: str | None) -> None:
        self.problems.pop(subject, None)
        if problem is not None:
            self.problems[subject] = problem

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run(work)

    def start(self, to: int = 2, target: str = "stable", strategy: Any = "half") -> Rollout:
        rollout: Rollout = self.run(self.rollouts.start("m", to, target, strategy))
        return rollout

    def tick(self, seconds: float = 1.0) -> Rollout:
        """Time passes; returns the newest rollout."""
        self.now += seconds
        self.run(self.rollouts.tick())
        return self.rollouts.find()[-1]

    def move(self, action: str, number: int = 1) -> Rollout:
        rollout: Rollout = self.run(self.rollouts.move(number, action))
        return rollout

    def weights(self, target: str = "stable") -> dict[int, float] | None:
        traffic = self.editing.config.models[0].traffic.get(target)
        return None if traffic is None else dict(traffic.weights)

    @property
    def labels(self) -> dict[str, int]:
        return dict(self.editing.config.models[0].labels)

    def refuses(self, error: type[ServingError], match: str, work: Callable[[], Any]) -> None:
        before = self.editing.wanted
        with pytest.raises(error, match=match):
            work()
        assert self.editing.wanted == before


def test_a_label_moves() -> None:
    """Its requests are shared step by step; in the end the label names the new version, and shares nothing."""
    app = App()
    assert app.start().phase is Phase.WAITING
    assert app.weights() == {1: 100, 2: 0}  # from now on both are served, whatever the policy says
    assert app.tick().phase is Phase.PAUSED
    assert app.weights() == {1: 50, 2: 50}
    assert app.labels == {"stable": 1}
    app.move("promote")
    assert (app.weights(), app.labels) == ({1: 0, 2: 100}, {"stable": 2})
    app.tick(99.0)
    assert app.weights() == {1: 0, 2: 100}
    assert app.tick(1.0).settled
    assert (app.weights(), app.labels) == (None, {"stable": 2})
    assert [str(each) for each in app.told][:2] == [
        "m@2: rollout 1, stable: started by strategy half, from version 1 to version 2",
        "m@2: rollout 1, stable: version 2 is ready",
    ]


def test_an_abort_is_in_force_when_it_returns() -> None:
    """The old version has all requests then, and the new one is kept for a while."""
    app = App()
    app.start()
    app.tick()
    assert app.move("abort").phase is Phase.ABORTED
    assert app.weights() == {1: 100, 2: 0}
    assert app.tick(100.0).settled
    assert (app.weights(), app.labels) == (None, {"stable": 1})


def test_evidence_fails_a_rollout() -> None:
    """What gateways count since the weight changed decides, and nothing from before."""
    app = App()
    app.counts = {("m", "INTERNAL", "2", "s"): 1000}
    app.start(strategy=WATCHED)
    app.tick()
    app.counts[("m", "OK", "2", "s")] = 100
    assert app.tick(10.0).phase is Phase.PAUSED
    app.counts[("m", "INTERNAL", "2", "s")] += 100
    rollout = app.tick(10.0)
    assert (rollout.phase, app.weights()) == (Phase.FAILED, {1: 100, 2: 0})
    assert "error_rate fail" in rollout.reason
    assert app.told[-1].what.startswith("rollout 1, stable: failed: error_rate fail: 0.5 where the limit is 0.05")


def test_what_is_reported_late_is_no_evidence_against_the_next_try() -> None:
    """Counts are a second old when they are known: those that come right after a change are of the time before it."""
    app = App()
    app.start(strategy=WATCHED)
    app.tick()
    app.counts = {("m", "INTERNAL", "2", "s"): 100}
    assert app.tick(0.9).phase is Phase.PAUSED
    app.counts[("m", "OK", "2", "s")] = 100
    rollout = app.tick(10.0)
    assert (rollout.phase, rollout.checks["error_rate"].last.value) == (Phase.PAUSED, 0.0)  # type: ignore[union-attr]


def test_it_goes_on_where_it_was_after_a_restart() -> None:
    """Also when the controller dies right after any of its changes; traffic and rollout are kept in one piece."""
    app = App()
    app.start()
    app.restart()
    assert app.tick().phase is Phase.PAUSED
    app.restart()
    assert app.weights() == {1: 50, 2: 50}
    app.move("promote")
    app.restart()
    assert app.rollouts.get(1).phase is Phase.PROMOTED
    assert app.move("undo").phase is Phase.UNDONE
    assert (app.weights(), app.labels) == ({1: 100, 2: 0}, {"stable": 1})
    app.restart()
    assert app.tick(100.0).settled
    assert [each.what for each in app.rollouts.get(1).transitions][-1].startswith("undone: by hand")


def test_what_cannot_be_kept_does_not_happen() -> None:
    """A step whose outcome cannot be kept is told as a problem, and taken when it can."""
    app = App()
    app.start()
    app.is_full = True
    app.refuses(Unavailable, "the disk is full", lambda: app.run(app.rollouts.start("m", 1, "default", "half")))
    assert app.tick().phase is Phase.WAITING
    assert app.weights() == {1: 100, 2: 0}
    assert "the disk is full" in app.problems["rollout 1"]
    app.is_full = False
    assert app.tick().phase is Phase.PAUSED
    assert app.problems == {}


def test_the_way_back_is_open_while_nothing_can_be_kept() -> None:
    """An abort, an undo and a failure by evidence take effect with a state's store that is down: the cluster knows."""
    app = App()
    app.start(strategy=WATCHED)
    app.tick()
    app.is_full = True
    app.counts = {("m", "INTERNAL", "2", "s"): 100}
    app.tick(10.0)
    app.counts = {("m", "INTERNAL", "2", "s"): 200}
    assert app.tick(10.0).phase is Phase.FAILED
    assert app.weights() == {1: 100, 2: 0}
    for goal, back in (("promote_full", "undo"), (None, "abort")):
        app.is_full = False
        app.move("retry")
        app.tick()
        if goal is not None:
            app.move(goal)
        app.is_full = True
        app.move(back)
        assert (app.weights(), app.labels) == ({1: 100, 2: 0}, {"stable": 1})
    app.restart()
    assert app.rollouts.get(1).phase is Phase.ABORTED


def test_an_order_that_comes_twice_is_carried_out_once() -> None:
    """A controller that dies between the deed and the answer is asked again, with the same mark: no step is skipped, no
    second rollout begun, and nobody is told that he may not abort what he has aborted."""
    app = App()
    steps = {"steps": [10, {"pause_s": "until_told"}, 20, {"pause_s": "until_told"}]}

    def start() -> Rollout:
        rollout: Rollout = app.run(app.rollouts.start("m", 2, "stable", steps, order="a"))
        return rollout

    def move(action: str, order: str) -> Rollout:
        rollout: Rollout = app.run(app.rollouts.move(1, action, order))
        return rollout

    assert start() == start()
    app.tick()
    assert start().weight == 10
    assert move("promote", "b").step == 2
    app.restart()
    assert move("promote", "b").step == 2
    app.tick()
    assert move("promote", "c").phase is Phase.PROMOTED
    assert move("undo", "d") == move("undo", "d")
    assert sum("by hand" in each.what for each in app.rollouts.get(1).transitions) == 3
    app.refuses(FailedPrecondition, "only one that is promoted can be undone", lambda: move("undo", "e"))


def test_nobody_is_sent_where_nobody_is() -> None:
    """By hand a version that is not ready gets no more requests, and one that is gone gets none back by an undo; an
    abort is carried out in any case."""
    app = App()
    app.start()
    app.tick()
    app.versions[2] = version(2, State.LOADING)
    for action in ("promote", "promote_full"):
        app.refuses(FailedPrecondition, "version 2 of model m is not ready", lambda action=action: app.move(action))
    app.versions[2] = version(2)
    app.move("promote_full")
    app.versions[1] = version(1, State.ENDED)
    app.refuses(FailedPrecondition, "version 1 of model m is not ready, so no req", lambda: app.move("undo"))
    app = App()
    app.start(strategy={"steps": [100, {"pause_s": "until_told"}]})
    app.tick()
    app.versions[1] = version(1, State.LOADING)
    assert app.move("abort").phase is Phase.ABORTED
    assert app.weights() == {1: 100, 2: 0}


def test_a_rollout_without_a_way_back_waits_for_a_person() -> None:
    """What has failed its gates stays where it is while the version before is not there: to have requests answered
    badly, or not at all, is nothing to choose by itself. It goes back as soon as there is where to."""
    app = App()
    app.start(strategy=WATCHED)
    app.tick()
    app.versions[1] = version(1, State.LOADING)
    for count in (100, 200, 300, 400):
        app.counts = {("m", "INTERNAL", "2", "s"): count}
        rollout = app.tick(10.0)
    assert rollout.phase is Phase.PAUSED
    assert rollout.reason.endswith("version 1, to which the requests would go back, is not ready")
    assert sum("not ready" in each.what for each in rollout.transitions) == 1
    app.versions[1] = version(1)
    app.counts = {("m", "INTERNAL", "2", "s"): 500}
    assert app.tick(10.0).phase is Phase.FAILED


def test_the_clock_may_be_set() -> None:
    """Time goes by as it does, whatever the clock on the wall says; what comes is never before what has been."""
    wall, monotonic = iter([1000.0, 5.0]), iter([10.0, 12.0, 13.0, 50.0, 51.0])
    clock = steady_clock(wall=lambda: next(wall), monotonic=lambda: next(monotonic))
    assert [clock(), clock()] == [1002.0, 1003.0]
    assert steady_clock(1003.0, wall=lambda: next(wall), monotonic=lambda: next(monotonic))() == 1004.0
    app = App()
    app.start()
    app.tick()
    moment = newest_moment(app.rollouts.find())
    app.restart()
    assert moment == app.now
    later = Rollouts(
        app.editing, app._look, lambda _: True, lambda *_: {}, app.told.extend, app._tell_problem
    )  # fmt: skip
    assert later._clock() > moment


def test_what_happens_is_told_once() -> None:
    """Also where one change waits for another."""
    app = App(1, 2)

    async def both() -> None:
        await app.rollouts.start("m", 2, "stable", "half")
        await app.rollouts.tick()
        await asyncio.gather(app.rollouts.move(1, "promote"), app.rollouts.start("m", 1, "default", "half"))

    app.run(both())
    told = list(map(str, app.told))
    assert len(told) == len(set(told))
    assert sum("sent to the next step" in each for each in told) == 1


def test_measurements_are_not_kept() -> None:
    """A rollout that only looks writes nothing."""
    app = App()
    app.start(strategy=WATCHED)
    app.tick()
    kept = len(app.kept)
    for _ in range(5):
        app.tick(10.0)
    assert len(app.kept) == kept


def test_it_waits_for_its_version() -> None:
    """A version that is not loaded yet is loaded, as the traffic names it, and gets requests when it is ready."""
    app = App(1)
    app.start(to=3)
    assert app.tick().phase is Phase.WAITING
    assert app.weights() == {1: 100, 3: 0}
    app.versions[3] = version(3)
    assert app.tick().phase is Phase.PAUSED
    failing = App(1)
    failing.start(to=3)
    failing.versions[3] = version(3, State.FAILED, error=Failure(Code.NOT_FOUND, "no saved_model.pb"))
    assert "no saved_model.pb" in failing.tick().reason
    assert failing.rollouts.get(1).phase is Phase.FAILED


def test_what_makes_no_sense_is_refused() -> None:
    """The sentence says what to do; nothing is changed."""
    app = App()
    for error, match, arguments in (
        (NotFound, "There is no model x; the models are: m", ("x", 2, "stable", "half")),
        (NotFound, "no label gold; a rollout can move the requests for: default, stable", ("m", 2, "gold", "half")),
        (FailedPrecondition, "Version 1 gets the requests for stable of model m already", ("m", 1, "stable", "half")),
        (FailedPrecondition, "Version 2 gets the requests for default", ("m", 2, "default", "half")),
        (NotFound, "There is no version 9 of model m under its base path", ("m", 9, "stable", "half")),
        (NotFound, "no rollout strategy slow; those are: half", ("m", 2, "stable", "slow")),
        (InvalidArgument, "there is no such setting", ("m", 2, "stable", {"stepps": [1]})),
    ):
        app.refuses(error, match, lambda arguments=arguments: app.run(app.rollouts.start(*arguments)))
    app.versions[3] = version(3, State.FAILED, error=Failure(Code.NOT_FOUND, "no saved_model.pb"))
    app.refuses(FailedPrecondition, "Version 3 of model m cannot be served: .* no saved_model", lambda: app.start(3))
    app.refuses(NotFound, "There is no rollout 7", lambda: app.move("abort", 7))
    app.start()
    app.refuses(FailedPrecondition, "rollout 1 of m, stable.*abort it, or wait", app.start)
    app.refuses(InvalidArgument, "'destroy' cannot be done", lambda: app.move("destroy"))
    app.refuses(FailedPrecondition, "only one that is promoted can be undone", lambda: app.move("undo"))


def test_shared_requests_have_no_version_to_move_from() -> None:
    """A target that several versions answer is to be given to one of them first."""
    app = App(1, 2, 3)
    app.run(app.editing.set_traffic("m", "stable", {"weights": {1: 50, 2: 50}}))
    app.refuses(FailedPrecondition, r"are shared \(version 1 50 %, version 2 50 %\)", lambda: app.start(3))
    app.run(app.editing.set_traffic("m", "stable", {"weights": {1: 100, 3: 0}, "sticky": "x-user"}))
    app.start(3)
    app.tick()
    assert app.weights() == {1: 50, 3: 50}
    app.move("promote_full")
    app.tick(100.0)
    traffic = app.editing.config.models[0].traffic["stable"]
    assert (dict(traffic.weights), traffic.sticky) == ({3: 100}, "x-user")


def test_nobody_else_changes_a_target_meanwhile() -> None:
    """Orders about it are refused, and a configuration that leaves it out does not take it away."""
    app = App()
    app.start()
    app.tick()
    for work in (
        lambda: app.editing.set_traffic("m", "stable", {"weights": {2: 100}}),
        lambda: app.editing.delete_traffic("m", "stable"),
        lambda: app.editing.set_label("m", "stable", 2),
        lambda: app.editing.delete_label("m", "stable"),
    ):
        app.refuses(FailedPrecondition, "abort it, or wait for its end", lambda work=work: app.run(work()))
    app.run(app.editing.apply("{models: {m: {base_path: /models/m, labels: {stable: 1}}}}", "the text", False))
    assert app.weights() == {1: 50, 2: 50}
    app.run(app.editing.deploy(Applied(2, parse({**BASE, "poll_interval_s": 7.0}))))
    assert app.weights() == {1: 50, 2: 50}
    app.move("promote_full")
    edit = app.editing.set_label
    app.refuses(FailedPrecondition, "version 9", lambda: app.run(edit("m", "stable", 9)))  # nor is undo lost by that
    app.run(edit("m", "stable", 1))  # which ends what the rollout still does
    assert app.rollouts.get(1).settled
    assert (app.weights(), app.labels) == (None, {"stable": 1})
    app.start()
    app.move("abort", 2)
    app.run(app.editing.delete_traffic("m", "stable"))
    assert (app.weights(), app.rollouts.get(2).settled) == (None, True)


def test_a_target_that_is_gone_ends_its_rollout() -> None:
    """A model or a label that is taken out of the configuration takes its rollout along."""
    app = App()
    app.start()
    app.run(app.editing.apply("{models: {m: {base_path: /models/m, labels: {}}}}", "the text", False))
    rollout = app.tick()
    assert (rollout.phase, rollout.settled) == (Phase.ABORTED, True)
    assert "not configured with this target" in rollout.reason


def test_the_next_rollout_ends_what_the_last_still_does() -> None:
    """It begins at the version that was promoted, which no longer shares with the one before."""
    app = App(1, 2, 3)
    app.start()
    app.tick()
    app.move("promote_full")
    app.start(3)
    assert app.rollouts.get(1).settled
    assert (app.weights(), app.labels) == ({2: 100, 3: 0}, {"stable": 2})


def test_a_settled_rollout_can_be_tried_again_as_long_as_its_version_serves() -> None:
    """A retry begins with the target as it is now; it is refused where another version has the requests."""
    app = App(1, 2, 3)
    app.start()
    app.move("abort")
    app.tick(100.0)
    assert app.move("retry").phase is Phase.WAITING
    assert app.tick().phase is Phase.PAUSED
    app.move("abort")
    app.tick(100.0)
    app.run(app.editing.set_label("m", "stable", 3))
    app.refuses(FailedPrecondition, "version 3 gets the requests now", lambda: app.move("retry"))


def test_old_rollouts_are_forgotten() -> None:
    """A model keeps its last ten, and numbers are not used again."""
    app = App()
    for number in range(1, 25):
        app.start()
        app.move("abort", number)
    assert len(app.rollouts.find("m")) <= 12
    assert app.rollouts.find()[-1].id == 24
    assert app.rollouts.find("n") == ()


def test_a_fault_with_one_does_not_stop_the_others() -> None:
    """It is told as a problem; the rollout can be aborted, and others go on."""
    app = App()
    app.start()
    look = app.rollouts._versions._look
    app.rollouts._versions._look = lambda name: 1 / 0  # type: ignore[assignment,return-value]
    app.tick()
    assert "a fault of the controller: ZeroDivisionError" in app.problems["rollout 1"]
    app.rollouts._versions._look = look
    assert app.move("abort").phase is Phase.ABORTED
    app.tick()
    assert app.problems == {}
    app.start()
    app.rollouts._versions._look = lambda name: 1 / 0  # type: ignore[assignment,return-value]
    app.tick()
    assert list(app.problems) == ["rollout 2"]
    app.run(app.editing.apply("{models: {n: {base_path: /models/n}}}", "the text", False))
    app.rollouts._versions._look = look
    app.tick()
    app.tick()
    assert app.problems == {}


AUTOMATIC = {"models": {"m": {"base_path": "/models/m", "rollout": "half"}}}


def test_new_versions_come_by_rollouts() -> None:
    """The first version is held; each newer one is rolled out, to the newest, when the last rollout has ended."""
    app = App(1, **AUTOMATIC)
    app.run(app.rollouts.tick())
    assert app.weights("default") == {1: 100}
    app.versions[2] = version(2)
    rollout = app.tick()
    assert (rollout.to_version, rollout.is_automatic) == (2, True)
    app.tick()
    assert app.weights("default") == {1: 50, 2: 50}
    app.versions[3] = version(3)
    app.tick()
    assert app.weights("default") == {1: 50, 2: 50}  # the newer one waits
    app.move("promote_full")
    assert app.tick().to_version == 3
    assert app.weights("default") == {2: 50, 3: 50}


def test_what_was_turned_away_does_not_come_back_by_itself() -> None:
    """After an abort the old version holds the requests, through deployments too, and another version may come."""
    app = App(1, 2, **AUTOMATIC)
    app.versions = {1: version(1)}
    app.run(app.rollouts.tick())
    app.versions[2] = version(2)
    app.tick()
    app.move("abort")
    assert app.tick(100.0).settled
    assert app.weights("default") == {1: 100}
    changed = {"models": {"m": {**AUTOMATIC["models"]["m"], "num_cpus": 2}}}
    app.run(app.editing.deploy(Applied(2, parse({**BASE, **changed}))))
    assert app.weights("default") == {1: 100}
    app.tick()
    assert len(app.rollouts.find()) == 1
    delete = app.editing.delete_traffic
    app.refuses(FailedPrecondition, "set its `rollout` to null", lambda: app.run(delete("m", "default")))
    app.versions[3] = version(3)
    assert app.tick().to_version == 3


def test_requests_that_were_moved_back_stay_there() -> None:
    """A rollout to an earlier version is no occasion to roll the newest one out again, nor is traffic by hand that
    names it; the next version is."""
    app = App(1, 2, **AUTOMATIC)
    app.run(app.rollouts.tick())
    assert app.weights("default") == {2: 100}
    app.start(1, "default")
    app.tick()
    app.move("promote_full")
    assert app.tick(100.0).settled
    for _ in range(3):
        assert app.tick().id == 1
    assert app.weights("default") == {1: 100}
    app.versions[3] = version(3)
    assert app.tick().to_version == 3
    by_hand = App(1, 2, **AUTOMATIC)
    by_hand.run(by_hand.rollouts.tick())
    by_hand.run(by_hand.editing.set_traffic("m", "default", {"weights": {1: 100, 2: 0}}))
    by_hand.run(by_hand.rollouts.tick())
    assert by_hand.rollouts.find() == ()


METRIC = {
    "steps": [50, 60, {"pause_s": "until_told"}],
    "gates": [{"measure": "metric", "name": "revenue", "min_ratio": 0.9}],
    "interval_s": 10,
}


def test_metrics_are_reported() -> None:
    """A value counts until it is older than the window; what no gate wants is refused."""
    app = App()
    app.start(strategy=METRIC)
    app.tick()
    report = app.rollouts.report_value
    app.refuses(NotFound, "no gate of rollout 1 is called profit.*: revenue", lambda: report(1, "profit", 1.0))
    app.refuses(InvalidArgument, "nan is no value", lambda: report(1, "revenue", float("nan")))
    app.refuses(InvalidArgument, "None is no value", lambda: report(1, "revenue", None))  # type: ignore[arg-type]
    app.refuses(NotFound, "compares versions 2 and 1, and not 3", lambda: report(1, "revenue", 1.0, 3))
    app.now += 1.0
    app.rollouts.report_value(1, "revenue", 10.0)
    assert app.tick(10.0).weight == 50
    app.rollouts.report_value(1, "revenue", 10.0, 1)
    assert app.tick(10.0).weight == 60
    app.rollouts.report_value(1, "revenue", 5.0)
    app.rollouts.report_value(1, "revenue", 10.0, 1)
    app.now += 61.0
    assert app.tick(0.0).phase is Phase.PAUSED  # what was told is too old to say anything


def test_prometheus_is_asked() -> None:
    """A query is asked about each version that it is needed of; an error makes the gate inconclusive, and says why."""
    app = App()
    asked: list[tuple[str, str]] = []

    def answer(address: str, query: str) -> float:
        asked.append((address, query))
        if query.endswith("2"):
            raise Unavailable("Prometheus gave no answer")
        return 1.0

    app.answers = answer
    gate = {**METRIC["gates"][0], "prometheus": "http://p:9090", "query": "r_$model_$version"}  # type: ignore[index]
    app.start(strategy={**METRIC, "gates": [gate], "patience_s": 20})

    async def go_on() -> None:
        for _ in range(4):
            before = len(asked)
            app.now += 10.0
            await app.rollouts.tick()
            await until(lambda before=before: len(asked) >= before + 2)
            await until(lambda: not app.rollouts._told._asking)

    asyncio.run(go_on())
    assert set(asked) == {("http://p:9090", "r_m_1"), ("http://p:9090", "r_m_2")}
    rollout = app.rollouts.get(1)
    assert rollout.phase is Phase.PAUSED
    assert "Prometheus gave no answer" in rollout.reason
