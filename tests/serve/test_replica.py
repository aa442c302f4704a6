"""A version's replica, outside of Serve: what it loads, and that every call of every hop gets exactly one reply."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from serving_app.core.batching import BatchingChoice
from serving_app.core.errors import (
    Code,
    DeadlineExceeded,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    NotFound,
    ServingError,
)
from serving_app.core.servable import ServableId
from serving_app.core.signatures import Signature
from serving_app.host import Assignment, Batching
from serving_app.protocol.calls import Answer, Call, Reply
from serving_app.serve.autoscaling import CALLS
from serving_app.serve.replica import ServableReplica
from serving_app.serve.reporting import Report, Wish
from tests.host.scripted import SCRIPTED_PLATFORM, Scripted, ScriptedLoader
from tests.stepping import PATIENCE_S, Actor, turns, until
from tests.zoo import Zoo

APP = "default:m@1"


class Controller:
    """What a replica asks and tells."""

    def __init__(self, assignment: Assignment) -> None:
        self._assignment = assignment
        self.loaded: list[Mapping[str, Signature]] = []
        self.progress: list[str] = []
        self.failed: list[tuple[Code, str]] = []
        self.farewells: list[Report] = []
        self.wishes: asyncio.Queue[Wish] = asyncio.Queue()

    async def assignment(self, app: str) -> Assignment:
        assert app == APP
        return self._assignment

    async def replica_loaded(self, app: str, _ticket: str, signatures: Mapping[str, Signature]) -> None:
        self.loaded.append(signatures)

    async def report_metrics(self, process: str, report: Report) -> Wish:
        if report.number > 1:
            return await self.wishes.get()
        return Wish()

    async def bid_farewell(self, process: str, report: Report) -> None:
        self.farewells.append(report)

    async def replica_failed(self, app: str, _ticket: str, code: Code, message: str) -> None:
        self.failed.append((code, message))


class ControllerActor(Actor):
    """The controller as an actor that may also be told something from a thread, as a load tells how far it is."""

    def __init__(self, controller: Controller) -> None:
        super().__init__(controller)
        self.replica_progress = SimpleNamespace(
            remote=lambda _app, _ticket, progress: controller.progress.append(progress)
        )


class TakenDown:
    """What a replica is in the end: outside of Serve the collector would call its coroutine method again."""


Scenario = Callable[[ServableReplica], Awaitable[None]]


class Stage:
    """Runs replicas as Serve does: constructs one on a loop, lets the test ask it, and takes it down."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch
        # The decorator has one queue per process, and its queue one loop: here each test has a loop of its own.
        self._queue = ServableReplica._collect.set_max_batch_size.__self__  # type: ignore[attr-defined]
        self._settings = dict(vars(self._queue))
        context = SimpleNamespace(_deployment_config=SimpleNamespace(
            max_ongoing_requests=1_000_000, graceful_shutdown_timeout_s=PATIENCE_S
        ))
        monkeypatch.setattr("ray.serve.get_replica_context", lambda: context)

    def run(self, assignment: Assignment, scenario: Scenario) -> Controller:
        """Start a replica with this assignment and ask it."""
        self.controller = controller = Controller(assignment)
        asyncio.run(self._play(controller, scenario))
        return controller

    async def _play(self, controller: Controller, scenario: Scenario) -> None:
        self._monkeypatch.setattr("ray.get_actor", lambda name, namespace: ControllerActor(controller))
        vars(self._queue).update(self._settings, _queue=None)
        replica = ServableReplica.__new__(ServableReplica)
        try:
            async with asyncio.timeout(PATIENCE_S):
                await replica.__init__("controller:default", APP, "ticket")  # type: ignore[misc]
                await scenario(replica)
        finally:
            await self._close_queue()
            await replica.__del__()
            replica.__class__ = TakenDown  # type: ignore[assignment]

    async def _close_queue(self) -> None:
        """End the decorator's queue while its loop runs; later it would make a loop for that and not close it."""
        queue, self._queue._queue = self._queue._queue, None
        if queue is not None:
            task, queue._handle_batch_task = queue._handle_batch_task, None
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def reset(self) -> None:
        """Leave the decorator as it was."""
        vars(self._queue).update(self._settings)


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    stage = Stage(monkeypatch)
    yield stage
    stage.reset()


@pytest.fixture
def scripted(tmp_path: Path) -> Assignment:
    """A version that does what its inputs say (see Scripted), with batches of eight rows."""
    ScriptedLoader.ready.clear()
    limits = Batching(max_batch_size=8, max_enqueued_batches=100)
    return Assignment(ServableId("m", 1), str(tmp_path), SCRIPTED_PLATFORM, batching=limits)


def unbatched(assignment: Assignment) -> Assignment:
    return Assignment(assignment.servable, assignment.path, assignment.platform)


def zoo_version(zoo: Zoo, model: str, batching: Batching | None = None) -> Assignment:
    return Assignment(ServableId("m", 1), zoo.path(model), batching=batching)


def x(*values: float, **more: Any) -> Call:
    return Call("serving_default", {"x": np.array(values, np.float32)}, **more)


def seen(answer: Answer) -> list[Any]:
    """Of each reply the values, or the type of the error."""
    return [_seen(reply) for reply in answer.replies]


def _seen(reply: Reply) -> Any:
    return type(reply) if isinstance(reply, ServingError) else reply["y"].tolist()


def model() -> Scripted:
    """The servable that the replica has loaded."""
    return ScriptedLoader.ready[-1]


# --- coming and going ------------------------------------------------------------------------------------------------


def test_a_replica_loads_what_the_controller_says(stage: Stage, zoo: Zoo) -> None:
    """A replica asks what it is to hold, loads it, tells its signatures and answers."""
    told: list[Any] = []

    async def scenario(replica: ServableReplica) -> None:
        told.append(replica.describe().signatures)
        assert seen(await replica.predict_many([x(1, 2)])) == [[2.5, 3.0]]

    controller = stage.run(zoo_version(zoo, "half_plus_two"), scenario)
    assert controller.loaded == told
    assert "serving_default" in told[0]
    assert controller.failed == []


@pytest.mark.parametrize(
    ("platform", "code", "message"),
    [
        ("tensorflow", Code.NOT_FOUND, "saved_model.pb"),
        ("nope", Code.INVALID_ARGUMENT, "Unknown platform 'nope'"),
        (f"{__name__}:BrokenLoader", Code.INTERNAL, "KeyError: 'a mistake of the loader'"),
    ],
)
def test_a_load_that_fails_is_told_with_its_reason(
    stage: Stage, tmp_path: Path, platform: str, code: Code, message: str
) -> None:
    """The controller hears the code and the text of the failure, and Serve hears that there is no replica."""

    async def never(replica: ServableReplica) -> None:
        raise AssertionError("it has loaded")

    controllers: list[Controller] = []

    class Kept(Controller):
        def __init__(self, assignment: Assignment) -> None:
            super().__init__(assignment)
            controllers.append(self)

    stage._monkeypatch.setattr(f"{__name__}.Controller", Kept)
    with pytest.raises((ServingError, KeyError)):
        stage.run(Assignment(ServableId("m", 1), str(tmp_path), platform), never)
    ((told, text),) = controllers[0].failed
    assert told is code
    assert message in text
    assert controllers[0].loaded == []


class BrokenLoader:
    """Raises what a loader should not."""

    def load(self, path: str, options: Any) -> Any:
        raise KeyError("a mistake of the loader")


def test_a_replica_that_goes_closes_its_version(stage: Stage, scripted: Assignment) -> None:
    """Taking a replica down releases the version, once."""

    async def scenario(replica: ServableReplica) -> None:
        assert model().closed == 0

    stage.run(scripted, scenario)
    assert model().closed == 1


# --- without batching ------------------------------------------------------------------------------------------------


def test_calls_of_one_hop_are_answered_in_order(stage: Stage, scripted: Assignment) -> None:
    """However the calls of a hop are spread over threads, replies come in the order of the calls, one for each."""

    async def scenario(replica: ServableReplica) -> None:
        for count in (1, 2, 7, 50):
            for _ in range(30):  # the replica learns meanwhile that the model is quick, and spreads no more
                calls = [x(value) for value in range(count)]
                answer = await replica.predict_many(calls)
                assert seen(answer) == [[2 * value] for value in range(count)]
                assert answer.seconds >= 0
        assert set(model().runs) == {1}

    stage.run(unbatched(scripted), scenario)


def test_a_bad_call_fails_alone_without_batching_too(stage: Stage, scripted: Assignment) -> None:
    """Errors, expected or not, are the reply of their call; its neighbours are answered."""

    async def scenario(replica: ServableReplica) -> None:
        for _ in range(30):
            answer = await replica.predict_many([x(1), x(-1), x(2), x(-2), x(-3)])
            assert seen(answer) == [[2], FailedPrecondition, [4], Internal, DeadlineExceeded]

    stage.run(unbatched(scripted), scenario)


def test_a_call_whose_time_is_over_is_told_so(stage: Stage, zoo: Zoo) -> None:
    """TensorFlow stops a run whose time is over; calls with time left are answered."""

    async def scenario(replica: ServableReplica) -> None:
        long, short = np.array(10**7, np.int32), np.array(1, np.int32)
        calls = [
            Call("serving_default", {"steps": steps}, None, timeout)
            for steps, timeout in ((long, 0.05), (short, None), (short, 0.0), (short, PATIENCE_S))
        ]
        answer = await replica.predict_many(calls)
        codes = [reply.code if isinstance(reply, ServingError) else Code.OK for reply in answer.replies]
        assert codes == [Code.DEADLINE_EXCEEDED, Code.OK, Code.DEADLINE_EXCEEDED, Code.OK]
        assert 0 < answer.ran < len(calls) * answer.held

    stage.run(zoo_version(zoo, "slow"), scenario)


def test_calls_that_nobody_waits_for_are_not_run(stage: Stage, scripted: Assignment) -> None:
    """While all threads are busy a call's time passes: one that has none left is told so, and is never run. No call of
    a hop that was cancelled meanwhile is run either."""

    async def scenario(replica: ServableReplica) -> None:
        model().go.clear()
        busy = [asyncio.create_task(replica.predict_many([x(0)])) for _ in range(replica._runner._threads)]
        await until(lambda: len(model().runs) == replica._runner._threads)
        late = asyncio.create_task(replica.predict_many([x(1, timeout=0.002), x(2), x(3, timeout=PATIENCE_S)]))
        cancelled = asyncio.create_task(replica.predict_many([x(4)] * 10))
        await turns()
        waiting = time.monotonic()
        await until(lambda: time.monotonic() - waiting > 0.01)
        cancelled.cancel()
        await turns()
        model().go.set()
        assert seen(await late) == [DeadlineExceeded, [4], [6]]
        await asyncio.gather(*busy)
        assert seen(await replica.predict_many([x(5)])) == [[10]]
        assert len(model().runs) == replica._runner._threads + 3

    stage.run(unbatched(scripted), scenario)


# --- batching --------------------------------------------------------------------------------------------------------


def test_hops_that_arrive_together_share_runs(stage: Stage, scripted: Assignment) -> None:
    """Many hops at once run in full batches, never in larger ones, and each call gets its own rows."""

    async def scenario(replica: ServableReplica) -> None:
        hops = [[x(3 * hop), x(3 * hop + 1, 3 * hop + 2)] for hop in range(40)]
        answers = await asyncio.gather(*(replica.predict_many(hop) for hop in hops))
        for hop, answer in enumerate(answers):
            assert seen(answer) == [[6 * hop], [6 * hop + 2, 6 * hop + 4]]
        assert sum(model().runs) == 120
        assert max(model().runs) <= 8
        assert len(model().runs) <= 40  # two hops of three rows fit into a batch of eight, four calls into one run

    stage.run(scripted, scenario)


def test_a_large_hop_is_several_runs_and_a_large_call_is_refused(stage: Stage, scripted: Assignment) -> None:
    """A hop of more rows than a batch may have becomes several runs; one call of more rows is refused by itself."""

    async def scenario(replica: ServableReplica) -> None:
        answer = await replica.predict_many([x(value) for value in range(20)])
        assert seen(answer) == [[2 * value] for value in range(20)]
        assert sorted(model().runs) == [4, 8, 8]
        answer = await replica.predict_many([x(1), x(*range(30)), x(2)])
        assert seen(answer) == [[2], InvalidArgument, [4]]

    stage.run(scripted, scenario)


def test_a_bad_member_fails_alone(stage: Stage, scripted: Assignment) -> None:
    """One bad call among those of several hops gets the error; everyone else in the batch is answered."""

    async def scenario(replica: ServableReplica) -> None:
        answers = await asyncio.gather(
            replica.predict_many([x(1), x(-1)]), replica.predict_many([x(2)]), replica.predict_many([x(-2), x(3)])
        )
        assert [seen(answer) for answer in answers] == [[[2], FailedPrecondition], [[4]], [Internal, [6]]]

    stage.run(scripted, scenario)


def test_a_model_that_answers_too_few_rows_hurts_nobody_else(stage: Stage, scripted: Assignment) -> None:
    """When a joined run has not one row per row, its members are run one by one, and nobody waits for ever."""

    async def scenario(replica: ServableReplica) -> None:
        answers = await asyncio.gather(replica.predict_many([x(1)]), replica.predict_many([x(-4), x(5)]))
        assert [seen(answer) for answer in answers] == [[[2]], [[-4], [10]]]

    stage.run(scripted, scenario)


def test_a_hop_that_is_cancelled_disturbs_nobody(stage: Stage, scripted: Assignment) -> None:
    """Hops that are cancelled while they wait or run are dropped; those around them, and later ones, are answered."""

    async def scenario(replica: ServableReplica) -> None:
        for cancel_while_running in (False, True):
            model().go.clear()
            model().running.clear()
            hops = [asyncio.create_task(replica.predict_many([x(value)])) for value in range(5)]
            if cancel_while_running:
                await until(model().running.is_set)
            else:
                await asyncio.sleep(0)
            hops[1].cancel()
            hops[4].cancel()
            await turns()
            model().go.set()
            outcomes = await asyncio.gather(*hops, return_exceptions=True)
            assert [seen(outcomes[hop]) for hop in (0, 2, 3)] == [[[0]], [[4]], [[6]]]
            assert [type(outcomes[hop]) for hop in (1, 4)] == [asyncio.CancelledError] * 2
            assert seen(await replica.predict_many([x(9)])) == [[18]]
            assert replica.record_autoscaling_stats() == {CALLS: 0}

    stage.run(scripted, scenario)


def test_a_batch_that_raises_answers_everyone(stage: Stage, scripted: Assignment) -> None:
    """When a batch cannot be run at all, each call of each hop gets the reason, and later ones are tried anew."""

    async def scenario(replica: ServableReplica) -> None:
        assert replica._runner._batcher is not None

        def broken(calls: list[Call], limits: Batching) -> Answer:
            raise KeyError("no batch today")

        works = replica._runner._batcher._run
        replica._runner._batcher._run = broken
        answers = await asyncio.gather(replica.predict_many([x(1), x(2)]), replica.predict_many([x(3)]))
        assert [seen(answer) for answer in answers] == [[Internal, Internal], [Internal]]
        assert str(answers[0].replies[0]) == "KeyError: 'no batch today'"
        replica._runner._batcher._run = works
        assert seen(await replica.predict_many([x(3)])) == [[6]]

    stage.run(scripted, scenario)


def test_a_version_that_is_gone_says_so(stage: Stage, scripted: Assignment) -> None:
    """A hop that comes after its version was unloaded is answered with that."""

    async def scenario(replica: ServableReplica) -> None:
        replica._host.unload(scripted.servable)
        assert seen(await replica.predict_many([x(1), x(2)])) == [NotFound, NotFound]

    stage.run(scripted, scenario)


def test_calls_without_rows_are_refused_alone(stage: Stage, zoo: Zoo) -> None:
    """Scalars, calls without inputs and such of uneven rows are refused, among others that are answered."""

    async def scenario(replica: ServableReplica) -> None:
        uneven = Call("serving_default", {"x": np.ones(2, np.float32), "z": np.ones(3, np.float32)})
        calls = [Call("scalar", {"x": np.array(4, np.float32)}), Call("nothing", {}), uneven, x(), x(1)]
        answers = await asyncio.gather(*(replica.predict_many(calls * 3) for _ in range(3)))
        for answer in answers:
            assert seen(answer) == [InvalidArgument, InvalidArgument, InvalidArgument, [], [3]] * 3

    stage.run(zoo_version(zoo, "several", Batching(max_batch_size=4)), scenario)


def test_a_version_without_its_own_limits_is_not_batched(stage: Stage, scripted: Assignment) -> None:
    """Where limits come with the version, one that brings none runs each call by itself, of whatever size."""

    async def scenario(replica: ServableReplica) -> None:
        assert seen(await replica.predict_many([x(*range(9)), x(1)])) == [list(range(0, 18, 2)), [2]]
        assert sorted(model().runs) == [1, 9]

    stage.run(replace(scripted, batching_from_version=True), scenario)


def test_a_replica_is_batched_as_the_controller_wishes(stage: Stage, scripted: Assignment, tmp_path: Path) -> None:
    """Settings of batching that change reach a replica with its reports: what waits is answered, nothing is loaded
    again, and a file of the version that cannot be obeyed leaves everything as it is."""
    file = tmp_path / "batching_params.pbtxt"
    file.write_text("nonsense")

    async def scenario(replica: ServableReplica) -> None:
        async def wish(choice: BatchingChoice | None) -> None:
            stage.controller.wishes.put_nowait(Wish(batching=choice))
            # The second one is taken when the first one was followed.
            stage.controller.wishes.put_nowait(Wish())
            await until(stage.controller.wishes.empty)
            await turns()

        waiting = asyncio.create_task(replica.answer([x(1), x(2)]))
        await turns()
        await wish(BatchingChoice(Batching(max_batch_size=2)))
        assert seen(await waiting) == [[2], [4]]
        assert (await replica.answer([x(1)])).most_rows == 2
        await wish(BatchingChoice(Batching(max_batch_size=3), from_version=True))
        assert (await replica.answer([x(1)])).most_rows == 2
        await wish(None)
        assert (await replica.predict_many([x(1)])).most_rows == 2
        await wish(BatchingChoice())
        assert (await replica.answer([x(1)])).most_rows == 0
        await wish(BatchingChoice(Batching()))
        assert (await replica.predict_many([x(1)])).most_rows == 1000
        assert len(ScriptedLoader.ready) == 1

    stage.run(replace(scripted, batching=Batching(batch_timeout_micros=10**12)), scenario)


def test_no_hop_waits_for_the_answer_to_another(stage: Stage, scripted: Assignment) -> None:
    """Hops that arrived together are answered one by one, as their own runs end."""

    async def scenario(replica: ServableReplica) -> None:
        model().go.clear()
        slow = asyncio.create_task(replica.predict_many([x(1)]))
        refused = asyncio.create_task(replica.predict_many([x(*range(9))]))
        assert seen(await refused) == [InvalidArgument]
        assert not slow.done()
        model().go.set()
        assert seen(await slow) == [[2]]

    stage.run(scripted, scenario)


def test_calls_in_hand_are_counted(stage: Stage, scripted: Assignment) -> None:
    """What a replica has in hand, by which Serve scales, are calls, not hops; it is nothing when all are answered."""

    async def scenario(replica: ServableReplica) -> None:
        assert replica.record_autoscaling_stats() == {CALLS: 0}
        model().go.clear()
        hops = [asyncio.create_task(replica.predict_many([x(1)] * 3)) for _ in range(2)]
        await until(model().running.is_set)
        assert replica.record_autoscaling_stats() == {CALLS: 6}
        model().go.set()
        await asyncio.gather(*hops)
        assert replica.record_autoscaling_stats() == {CALLS: 0}

    stage.run(scripted, scenario)
