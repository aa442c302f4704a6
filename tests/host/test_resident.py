"""A version in the process of those who ask it: quick calls at once, others on threads, batched ones together."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from serving_app.core.batching import Batching
from serving_app.core.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    ResourceExhausted,
    Unavailable,
)
from serving_app.core.metrics import Registry
from serving_app.core.servable import ServableId
from serving_app.core.stages import Leg
from serving_app.host import Assignment, Host, resident
from serving_app.host.pace import Pace, Paces
from serving_app.host.resident import Resident
from serving_app.protocol.calls import Call, Outputs
from tests.host.scripted import SCRIPTED_PLATFORM, Scripted, ScriptedLoader
from tests.stepping import PATIENCE_S, turns, until

ONE = ServableId("m", 1)


def x(*values: float, timeout: float | None = None) -> Call:
    return Call("serving_default", {"x": np.array(values, np.float32)}, None, timeout)


class Stage:
    """A resident, and the model behind it."""

    def __init__(self, path: str, batching: Batching | None) -> None:
        self.host = Host()
        self.assignment = Assignment(ONE, path, SCRIPTED_PLATFORM, batching=batching)
        self.host.load(self.assignment)
        self.model: Scripted = ScriptedLoader.ready[-1]
        self.resident = Resident(self.host, ONE, Registry())

    async def ask(self, call: Call) -> list[float]:
        begun = self.resident.begin(call)
        outputs: Outputs = begun if isinstance(begun, dict) else await begun
        values: list[float] = outputs["y"].tolist()
        return values

    def make_quick(self) -> None:
        """Have the model known as quick, as if some calls had been seen."""
        self.resident._paces["serving_default", None] = _Quick()


class _Quick(Pace):
    def is_quick(self, size: int) -> bool:
        return size <= 400


Scenario = Callable[[Stage], Awaitable[None]]


@pytest.fixture
def play(tmp_path: Any) -> Callable[..., None]:
    async def run(scenario: Scenario, batching: Batching | None) -> None:
        stage = Stage(str(tmp_path), batching)
        async with asyncio.timeout(PATIENCE_S):
            await scenario(stage)
        stage.model.go.set()
        stage.resident.close()

    return lambda scenario, batching=None: asyncio.run(run(scenario, batching))


def test_what_is_quick_is_answered_at_once(play: Callable[..., None]) -> None:
    """Such a call needs no turn of the loop: its outputs are returned, or its error is raised."""

    async def scenario(stage: Stage) -> None:
        stage.make_quick()
        outputs = stage.resident.begin(x(1, 2))
        assert isinstance(outputs, dict)
        assert outputs["y"].tolist() == [2, 4]
        for value, error in ((-1, FailedPrecondition), (-2, Internal), (-3, DeadlineExceeded)):
            with pytest.raises(error):
                stage.resident.begin(x(value))
        assert stage.resident.in_hand == 0

    play(scenario)


def test_a_model_becomes_quick_by_being_so(play: Callable[..., None]) -> None:
    """The first calls run on threads; inputs much larger than any that was seen do so again."""

    async def scenario(stage: Stage) -> None:
        assert isinstance(stage.resident.begin(x(1)), asyncio.Future)
        while not isinstance(begun := stage.resident.begin(x(1)), dict):
            assert (await begun)["y"].tolist() == [2]
        large = stage.resident.begin(x(*range(100)))
        assert isinstance(large, asyncio.Future)
        assert len((await large)["y"]) == 100

    play(scenario)


@pytest.mark.parametrize("batching", [None, Batching(max_batch_size=32)])
def test_what_may_be_endless_never_runs_on_the_loop(play: Callable[..., None], batching: Batching | None) -> None:
    """Where a request decides how long a run takes, it runs on a thread however quick all others were."""

    async def scenario(stage: Stage) -> None:
        stage.model.may_loop = True  # type: ignore[attr-defined]
        stage.resident = Resident(stage.host, ONE, Registry())
        here = threading.get_ident()
        threads: list[int] = []
        run = stage.model.run
        stage.model.run = lambda *call: threads.append(threading.get_ident()) or run(*call)  # type: ignore[method-assign]
        for _ in range(20):
            assert await stage.ask(x(1)) == [2]
        assert len(threads) == 20
        assert here not in threads

    play(scenario, batching)


def test_slow_calls_run_beside_one_another(play: Callable[..., None]) -> None:
    """The loop waits for none of them, each brings its own outcome, and what is in hand is counted."""

    async def scenario(stage: Stage) -> None:
        stage.model.go.clear()
        begun = [stage.resident.begin(x(value)) for value in (1, -1, 3)]
        assert all(isinstance(each, asyncio.Future) for each in begun)
        assert stage.resident.in_hand == 3
        await until(stage.model.running.is_set)
        stage.model.go.set()
        first, bad, last = await asyncio.gather(*begun, return_exceptions=True)  # type: ignore[arg-type]
        assert (first["y"].tolist(), last["y"].tolist()) == ([2], [6])
        assert isinstance(bad, FailedPrecondition)
        assert stage.resident.in_hand == 0

    play(scenario)


def test_who_is_given_up_does_not_run(play: Callable[..., None]) -> None:
    """A call that nobody waits for any more, or whose time is over, leaves the queue before the threads."""

    async def scenario(stage: Stage) -> None:
        stage.model.go.clear()
        threads = stage.resident._pool._max_workers
        busy = [asyncio.ensure_future(stage.ask(x(1))) for _ in range(threads)]
        await until(lambda: len(stage.model.runs) == threads)
        given_up, late = stage.resident.begin(x(5)), stage.resident.begin(x(6, timeout=1e-6))
        assert isinstance(given_up, asyncio.Future)
        assert isinstance(late, asyncio.Future)
        given_up.cancel()
        await turns()
        stage.model.go.set()
        with pytest.raises(DeadlineExceeded, match="while waiting for others to run"):
            await late
        assert await asyncio.gather(*busy) == [[2]] * threads
        assert len(stage.model.runs) == threads
        await until(lambda: stage.resident.in_hand == 0)

    play(scenario)


def test_too_many_are_refused(play: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits for threads is bounded, and who comes then is told to come later."""
    monkeypatch.setattr(resident, "MAX_WAITING", 3)

    async def scenario(stage: Stage) -> None:
        stage.model.go.clear()
        begun = [asyncio.ensure_future(stage.ask(x(1))) for _ in range(3)]
        await until(lambda: stage.resident.in_hand == 3)
        with pytest.raises(ResourceExhausted, match="3 requests wait for this model already"):
            stage.resident.begin(x(1))
        stage.model.go.set()
        assert await asyncio.gather(*begun) == [[2]] * 3
        assert await stage.ask(x(1)) == [2]

    play(scenario)


def test_what_comes_in_one_turn_runs_as_one(play: Callable[..., None]) -> None:
    """Where the version is batched, requests of one kind share a run, and a bad one among them fails alone."""

    async def scenario(stage: Stage) -> None:
        assert await stage.ask(x(9)) == [18]
        stage.model.runs.clear()
        assert await asyncio.gather(*(stage.ask(x(value, value)) for value in (1, 2, 3))) == [[2, 2], [4, 4], [6, 6]]
        assert stage.model.runs == [6]
        outcomes = await asyncio.gather(*(stage.ask(x(value)) for value in (1, -1, 3)), return_exceptions=True)
        assert (outcomes[0], outcomes[2]) == ([2], [6])
        assert isinstance(outcomes[1], FailedPrecondition)
        with pytest.raises(InvalidArgument, match="at least one dimension"):
            await stage.ask(Call("serving_default", {"x": np.array(1.0, np.float32)}))
        assert stage.resident.in_hand == 0

    play(scenario, Batching(max_batch_size=32))


def test_who_left_before_the_turn_ended_is_not_run(play: Callable[..., None]) -> None:
    """A request that is cancelled while it waits for its company takes no part in the run."""

    async def scenario(stage: Stage) -> None:
        stays, leaves = stage.resident.begin(x(1)), stage.resident.begin(x(2))
        assert isinstance(stays, asyncio.Future)
        assert isinstance(leaves, asyncio.Future)
        leaves.cancel()
        assert (await stays)["y"].tolist() == [2]
        only = stage.resident.begin(x(3))
        assert isinstance(only, asyncio.Future)
        only.cancel()
        assert await stage.ask(x(4)) == [8]
        assert stage.model.runs == [1, 1]

    play(scenario, Batching(max_batch_size=32))


def test_batching_is_switched_at_run_time(play: Callable[..., None]) -> None:
    """From one request to the next, without a load, in both directions."""

    async def scenario(stage: Stage) -> None:
        for limits in (Batching(max_batch_size=2), None, Batching(max_batch_size=4)):
            stage.host.set_batching(ONE, limits, False)
            stage.resident.follow_limits()
            assert await asyncio.gather(*(stage.ask(x(value)) for value in (1, 2))) == [[2], [4]]

    play(scenario)


@pytest.mark.parametrize("batching", [None, Batching(max_batch_size=32)])
def test_lists_of_calls_are_answered_in_order(play: Callable[..., None], batching: Batching | None) -> None:
    """What other processes bring runs by the same rules."""

    async def scenario(stage: Stage) -> None:
        answer = await stage.resident.answer([x(1), x(-1), x(3)])
        first, bad, last = answer.replies
        assert isinstance(first, dict)
        assert isinstance(last, dict)
        assert (first["y"].tolist(), type(bad), last["y"].tolist()) == ([2], FailedPrecondition, [6])

    play(scenario, batching)


@pytest.mark.parametrize("batching", [None, Batching(max_batch_size=32)])
def test_nothing_begins_after_the_end(play: Callable[..., None], batching: Batching | None) -> None:
    """A version that goes answers what runs, and refuses what comes."""

    async def scenario(stage: Stage) -> None:
        stage.model.go.clear()
        running = asyncio.ensure_future(stage.ask(x(1)))
        await until(stage.model.running.is_set)
        stage.resident.close()
        with pytest.raises(Unavailable, match="is being unloaded"):
            stage.resident.begin(x(2))
        stage.model.go.set()
        assert await running == [2]
        assert stage.model.runs == [1]

    play(scenario, batching)


@pytest.mark.parametrize("batching", [None, Batching(max_batch_size=4)])
def test_who_waits_gets_to_know_of_its_leg(play: Callable[..., None], batching: Batching | None) -> None:
    """Before its outputs are there a request knows how long it waited and ran, and that there was no hop."""

    async def scenario(stage: Stage) -> None:
        traveller = SimpleNamespace(leg=None)
        begun = stage.resident.begin(x(1), traveller)
        assert isinstance(begun, asyncio.Future)
        begun.add_done_callback(lambda _: seen.append(traveller.leg))
        seen: list[Leg] = []
        await begun
        [leg] = seen
        assert leg.hop == 0
        assert leg.run > 0
        assert leg.batch_wait + leg.run == pytest.approx(leg.back - leg.left)

    play(scenario, batching)


def test_a_batched_request_that_is_alone_runs_at_once(play: Callable[..., None]) -> None:
    """As long as each turn of the loop brings one request it is answered there and then; with company it is joined,
    and so are the first ones of the turns after that."""

    async def scenario(stage: Stage) -> None:
        await stage.ask(x(0.0))

        def begun(*values: float) -> list[bool]:
            """Of requests that come in one turn whether each is answered already."""
            return [isinstance(stage.resident.begin(x(value)), dict) for value in values]

        stage.resident._runner._batcher._paces = _AllQuick()  # type: ignore[union-attr]
        assert begun(1.0) == [True]
        await turns()
        assert begun(1.0, 2.0, 3.0) == [True, False, False]
        await turns()
        assert begun(1.0) == [False]
        await turns()
        assert begun(1.0) == [True]

    play(scenario, Batching(max_batch_size=64))


class _AllQuick(Paces):
    def __missing__(self, _kind: Any) -> Pace:
        return _Quick()
