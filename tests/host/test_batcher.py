"""Batches on threads: every call of every hop gets exactly one reply, whatever happens around it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from threading import Event, Lock, current_thread
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving_app.core.batching import Batching
from serving_app.core.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    ServingError,
    Unavailable,
)
from serving_app.core.families import BATCHES
from serving_app.core.metrics import Registry
from serving_app.core.servable import ServableId
from serving_app.host import Assignment, Batcher, Host
from serving_app.host.batch_queue import Release
from serving_app.host.batching import kind_of, row_count
from serving_app.host.meter import RunMeter
from serving_app.host.pace import Pace
from serving_app.protocol.calls import Answer, Call, Reply
from serving_app.protocol.joined_calls import join_requests, send_apart
from tests.host.scripted import SCRIPTED_PLATFORM, ScriptedLoader
from tests.stepping import PATIENCE_S, until


def x(*values: Any, dtype: Any = np.float32, **more: Any) -> Call:
    """A call with one vector."""
    return Call("serving_default", {"x": np.array(values, dtype)}, **more)


class Model:
    """Doubles the rows of all calls that run together, when the test lets it, and keeps account.

    Each run waits for the `go` that was there when it began, however late its thread gets to that.
    """

    def __init__(self) -> None:
        self.runs: list[list[Call]] = []
        self.limits: list[Batching] = []
        self.threads: set[str] = set()
        self.go = Event()
        self.go.set()
        self._lock = Lock()

    def hold(self) -> None:
        """Runs that begin from now on wait until `go` is set."""
        self.go = Event()

    def run(self, calls: list[Call], limits: Batching) -> Answer:
        with self._lock:
            self.runs.append(calls)
            self.limits.append(limits)
            self.threads.add(current_thread().name)
            go = self.go
        assert go.wait(PATIENCE_S)
        counts = tuple(call.requests for call in calls)
        return Answer([self._reply(call) for call in calls], 0.0, counts if set(counts) != {1} else ())

    def _reply(self, call: Call) -> Reply:
        values = call.inputs["x"]
        return FailedPrecondition("a bad member") if (values == -1).any() else {"y": values * 2}

    @property
    def rows(self) -> list[int]:
        """Of each run the number of rows."""
        return [sum(row_count(call) for call in calls) for calls in self.runs]


def play(limits: Batching, scenario: Callable[[Model, Batcher], Awaitable[None]]) -> None:
    """Run a scenario with a model and its batcher, on a loop of their own."""

    async def run() -> None:
        model = Model()
        batcher = Batcher(limits, model.run)
        try:
            async with asyncio.timeout(PATIENCE_S):
                await scenario(model, batcher)
        finally:
            model.go.set()
            batcher.close()

    asyncio.run(run())


@asynccontextmanager
async def busy(model: Model, batcher: Batcher, threads: int = 1) -> AsyncIterator[None]:
    """While this lasts all threads are taken by runs of a kind of their own."""
    model.hold()
    before = len(model.runs)
    batcher.submit([[Call("busy", {"x": np.zeros(1)}, (str(index),))] for index in range(threads)])
    await until(lambda: len(model.runs) == before + threads)
    yield
    model.go.set()


async def replies(answers: Sequence[Awaitable[Answer]]) -> list[list[Any]]:
    """Of each hop the values of its replies, or the types of the errors."""
    return [[_seen(reply) for reply in (await answer).replies] for answer in answers]


def _seen(reply: Reply) -> Any:
    return type(reply) if isinstance(reply, ServingError) else reply["y"].tolist()


def test_what_comes_while_threads_are_busy_runs_together() -> None:
    """With no timeout a call runs as soon as a thread is free, and then with all that has come meanwhile."""

    async def scenario(model: Model, batcher: Batcher) -> None:
        assert await replies(batcher.submit([[x(1)]])) == [[[2]]]
        async with busy(model, batcher):
            answers = [batcher.submit([[x(value), x(value, value)]])[0] for value in range(3)]
        assert await replies(answers) == [[[0], [0, 0]], [[2], [2, 2]], [[4], [4, 4]]]
        assert model.rows == [1, 1, 7, 2]

    play(Batching(max_batch_size=8, num_batch_threads=1), scenario)


class _Known(Pace):
    """A kind that is known to be quick."""

    def is_quick(self, size: int) -> bool:
        return True


def make_quick(batcher: Batcher, call: Call) -> None:
    batcher._paces[kind_of(call, pad=False)] = _Known()


def test_a_request_that_comes_alone_need_not_wait() -> None:
    """One of a quick kind is a batch of its own at once, and counts as one; its error is its reply."""

    async def scenario(model: Model, batcher: Batcher) -> None:
        assert batcher.run_at_once(x(1)) is None  # not known to be quick
        make_quick(batcher, x(1))
        for call, reply in ((x(1, 2), [2, 4]), (x(-1), FailedPrecondition)):
            answer = batcher.run_at_once(call)
            assert answer is not None
            assert [_seen(each) for each in answer.replies] == [reply]
            assert answer.most_rows == 4
        assert (model.rows, model.threads) == ([2, 1], {current_thread().name})

    play(Batching(max_batch_size=4), scenario)


@pytest.mark.parametrize(
    ("limits", "call"),
    [
        (Batching(batch_timeout_micros=1), x(1)),
        (Batching(max_batch_size=2), x(1, 2, 3)),
        (Batching(), Call("serving_default", {"x": np.float32(1)})),
        (Batching(), Call("serving_default", {})),
    ],
)
def test_some_requests_are_never_run_at_once(limits: Batching, call: Call) -> None:
    """Those that company is waited for, and those that are refused or cut, go the common way."""

    async def scenario(model: Model, batcher: Batcher) -> None:
        make_quick(batcher, x(1))
        assert batcher.run_at_once(call) is None
        assert not model.runs

    play(limits, scenario)


def test_nothing_overtakes_what_waits() -> None:
    """While a request waits, or all threads are busy, or the batcher is closed, none is run at once."""

    async def scenario(model: Model, batcher: Batcher) -> None:
        make_quick(batcher, x(1))
        [answer] = batcher.submit([[x(1)]])
        assert batcher.run_at_once(x(2)) is None
        await answer
        async with busy(model, batcher):
            assert batcher.run_at_once(x(2)) is None
        await until(lambda: batcher.run_at_once(x(2)) is not None)
        batcher.close()
        assert batcher.run_at_once(x(2)) is None

    play(Batching(num_batch_threads=1), scenario)


def test_an_open_batch_waits_for_its_time() -> None:
    """While a thread is free a batch that is not full waits for others, and no longer than the timeout."""

    async def scenario(model: Model, batcher: Batcher) -> None:
        answers = [batcher.submit([[x(value)]])[0] for value in (1, 2)]
        assert await replies(answers) == [[[2]], [[4]]]
        assert model.rows == [2]

    play(Batching(batch_timeout_micros=20_000), scenario)


def test_a_full_batch_waits_for_nothing() -> None:
    """A batch that is full runs at once, however long the timeout, and leaves what did not fit waiting."""

    async def scenario(model: Model, batcher: Batcher) -> None:
        full, more = batcher.submit([[x(1), x(2)], [x(3)]])
        assert await replies([full]) == [[[2], [4]]]
        assert not more.done()
        batcher.close()
        assert await replies([more]) == [[Unavailable]]

    play(Batching(max_batch_size=2, batch_timeout_micros=10**12), scenario)


def test_threads_are_as_many_and_named_as_is_set() -> None:
    """So many batches run at once, on threads of the name that is set."""

    async def scenario(model: Model, batcher: Batcher) -> None:
        model.hold()
        answers = batcher.submit([[x(value)] for value in range(5)])
        await until(lambda: len(model.runs) == 3)
        assert len(model.threads) == 3
        assert all(name.startswith("mine") for name in model.threads)
        model.go.set()
        assert await replies(answers) == [[[2 * value]] for value in range(5)]
        assert len(model.threads) == 3

    play(Batching(max_batch_size=1, num_batch_threads=3, thread_pool_name="mine"), scenario)


def test_no_kind_waits_behind_another() -> None:
    """A signature with one call gets its turn after one batch of another one with many."""

    async def scenario(model: Model, batcher: Batcher) -> None:
        async with busy(model, batcher):
            many = batcher.submit([[x(value)] for value in range(8)])
            one = batcher.submit([[Call("other", {"x": np.array([7])})]])
        assert await replies([*one, *many]) == [[[14]], *([[2 * value]] for value in range(8))]
        signatures = [calls[0].signature_name for calls in model.runs]
        assert signatures == ["busy", "serving_default", "other", *["serving_default"] * 3]

    play(Batching(max_batch_size=2, num_batch_threads=1), scenario)


def test_kinds_never_share_a_run() -> None:
    """Signatures, outputs, dtypes and shapes that come in turns each run with their like."""
    shapes = [Call("s", {"x": np.full((1, width), 3.0)}) for width in (2, 3)]
    kinds = [x(1), x(1, outputs=("y",)), x(1, dtype=np.int64), x(1)._replace(signature_name="t"), *shapes]

    async def scenario(model: Model, batcher: Batcher) -> None:
        async with busy(model, batcher):
            answers = batcher.submit([kinds] * 3)
        right = [_seen({"y": call.inputs["x"] * 2}) for call in kinds]
        assert await replies(answers) == [right] * 3
        assert model.rows == [1, *[3] * len(kinds)]

    play(Batching(num_batch_threads=1), scenario)


def test_a_full_queue_refuses_calls_not_hops() -> None:
    """The call for which there is no room is refused at once; others of its hop, and other kinds, are not."""

    async def scenario(model: Model, batcher: Batcher) -> None:
        async with busy(model, batcher):
            waiting = batcher.submit([[x(1, 2), x(3)]])
            mixed, refused = batcher.submit([[x(1), x(9, 9), Call("other", {"x": np.zeros(2)})], [x(5)]])
            assert await replies([refused]) == [[Unavailable]]
            assert not mixed.done()
        assert await replies([*waiting, mixed]) == [[[2, 4], [6]], [[2], Unavailable, [0, 0]]]
        assert await replies(batcher.submit([[x(5)]])) == [[[10]]]

    play(Batching(max_batch_size=2, max_enqueued_batches=2, num_batch_threads=1), scenario)


def test_free_threads_make_room() -> None:
    """As long as threads are free a queue is not full, however much comes at once."""

    async def scenario(model: Model, batcher: Batcher) -> None:
        model.hold()
        answers = batcher.submit([[x(value) for value in range(4)]])
        await until(lambda: len(model.runs) == 3)
        model.go.set()
        assert await replies(answers) == [[[0], [2], [4], [6]]]

    play(Batching(max_batch_size=1, max_enqueued_batches=1, num_batch_threads=3), scenario)


def test_time_that_is_over_while_waiting() -> None:
    """A call whose time is over before its run is told so and not run; the others have what is left of theirs."""

    async def scenario(model: Model, batcher: Batcher) -> None:
        async with busy(model, batcher):
            answers = batcher.submit([[x(1, timeout=1e-6), x(2, timeout=900.0), x(3)], [x(4, timeout=1e-6)]])
        assert await replies(answers) == [[DeadlineExceeded, [4], [6]], [DeadlineExceeded]]
        assert "while waiting in batching queue" in str((await answers[0]).replies[0])
        (_, run) = model.runs
        assert [call.inputs["x"].tolist() for call in run] == [[2], [3]]
        assert run[0].timeout is not None
        assert run[0].timeout < 900
        assert run[1].timeout is None

    play(Batching(num_batch_threads=1), scenario)


def test_a_hop_that_is_cancelled_while_it_waits_is_not_run() -> None:
    """Cancelled answers leave their batch, a batch of them alone is no run, and nobody else notices."""

    async def scenario(model: Model, batcher: Batcher) -> None:
        async with busy(model, batcher):
            answers = batcher.submit([[x(value)] for value in range(6)])
            for index in (0, 1, 4):
                answers[index].cancel()
        assert await replies([answers[index] for index in (2, 3, 5)]) == [[[4]], [[6]], [[10]]]
        assert [[call.inputs["x"].tolist() for call in run] for run in model.runs[1:]] == [[[2], [3]], [[5]]]
        assert await replies(batcher.submit([[x(9)]])) == [[[18]]]

    play(Batching(max_batch_size=2, num_batch_threads=1), scenario)


def test_a_hop_that_is_cancelled_while_it_runs_is_forgotten() -> None:
    """The end of a run whose hop is gone answers the others and frees its thread."""

    async def scenario(model: Model, batcher: Batcher) -> None:
        async with busy(model, batcher):
            gone, other = batcher.submit([[x(1)], [x(2)]])
            taken = model.go
            model.hold()
            taken.set()
            await until(lambda: len(model.runs) == 2)
        gone.cancel()
        model.go.set()
        assert await replies([other, *batcher.submit([[x(3)]])]) == [[[4]], [[6]]]

    play(Batching(num_batch_threads=1), scenario)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_wrong_number_of_replies_is_an_error_of_each(count: int, caplog: pytest.LogCaptureFixture) -> None:
    """When a run brings more or fewer replies than it got calls, nobody gets another one's, and all are told."""

    async def scenario(model: Model, batcher: Batcher) -> None:
        batcher._run = lambda calls, limits: Answer([{"y": np.zeros(1)}] * count, 0.0)
        answers = batcher.submit([[x(1), x(2)]])
        assert await replies(answers) == [[Internal, Internal]]
        assert str((await answers[0]).replies[0]) == f"2 calls were answered by {count} replies"
        batcher._run = model.run
        assert await replies(batcher.submit([[x(1)]])) == [[[2]]]

    play(Batching(), scenario)
    assert "a batch of 2 calls failed" in caplog.text


def test_a_run_that_raises_is_an_error_of_each(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever a run raises is the reply to each of its calls; threads stay free for later ones."""

    async def scenario(model: Model, batcher: Batcher) -> None:
        def broken(calls: list[Call], limits: Batching) -> Answer:
            raise KeyError("no batch today")

        for _ in range(3):
            batcher._run = broken
            assert await replies(batcher.submit([[x(1)], [x(2)]])) == [[Internal], [Internal]]
            batcher._run = model.run
            assert await replies(batcher.submit([[x(1)]])) == [[[2]]]

    with caplog.at_level(logging.ERROR):
        play(Batching(num_batch_threads=1), scenario)
    assert caplog.text.count("KeyError: 'no batch today'") == 3


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (Call("s", {}), "must have at least one input tensor"),
        (Call("s", {"x": np.zeros(())}), "must have at least one dimension"),
        (Call("s", {"x": np.zeros(1), "z": np.zeros(2)}), "must have equal 0th-dimension size"),
        (x(*range(9)), "Task size 9 is larger than maximum input batch size 8"),
    ],
)
def test_what_cannot_be_batched_is_refused_alone(call: Call, message: str) -> None:
    """A call without rows, or with too many, is refused without a run, and its neighbours are answered."""

    async def scenario(model: Model, batcher: Batcher) -> None:
        (answer,) = batcher.submit([[x(1), call, x(), x(2)]])
        assert await replies([answer]) == [[[2], InvalidArgument, [], [4]]]
        assert message in str((await answer).replies[1])
        assert await replies(batcher.submit([[call]])) == [[InvalidArgument]]
        assert model.rows == [2]

    play(Batching(max_batch_size=8), scenario)


def test_an_empty_hop_is_answered() -> None:
    """A hop without calls has its answer at once."""

    async def scenario(model: Model, batcher: Batcher) -> None:
        assert batcher.submit([]) == []
        assert await replies(batcher.submit([[]])) == [[]]
        assert model.runs == []

    play(Batching(), scenario)


def test_a_large_call_is_cut_and_put_together() -> None:
    """With splitting a call fills up the batch of others, runs in pieces, and gets all its rows, in order."""

    async def scenario(model: Model, batcher: Batcher) -> None:
        async with busy(model, batcher):
            answers = batcher.submit([[x(0, 0, 0), x(*range(10)), x(7)]])
        assert await replies(answers) == [[[0, 0, 0], [2 * value for value in range(10)], [14]]]
        assert model.rows == [1, 4, 4, 4, 2]

    limits = Batching(
        max_batch_size=16, max_execution_batch_size=4, enable_large_batch_splitting=True, num_batch_threads=1
    )
    play(limits, scenario)


def test_a_large_call_fails_as_a_whole() -> None:
    """When one piece fails the call has failed, its remaining pieces are not run, and its neighbours are answered."""

    async def scenario(model: Model, batcher: Batcher) -> None:
        async with busy(model, batcher):
            answers = batcher.submit([[x(5), x(1, 2, 3, -1, 4, 5, 6, 7, 8, 9), x(6)]])
        assert await replies(answers) == [[[10], FailedPrecondition, [12]]]
        assert model.rows == [1, 4, 4, 1]

    limits = Batching(
        max_batch_size=16, max_execution_batch_size=4, enable_large_batch_splitting=True, num_batch_threads=1
    )
    play(limits, scenario)


def test_closing_refuses_what_waits_and_answers_what_runs() -> None:
    """A batcher that is closed gives every call a reply: what runs is answered, what waits or comes is refused."""

    async def scenario(model: Model, batcher: Batcher) -> None:
        model.hold()
        (running,) = batcher.submit([[x(1)]])
        await until(lambda: len(model.runs) == 1)
        (waiting,) = batcher.submit([[x(2), x(3)]])
        batcher.close()
        assert await replies([waiting, *batcher.submit([[x(4)]])]) == [[Unavailable] * 2, [Unavailable]]
        model.go.set()
        assert await replies([running]) == [[[2]]]

    play(Batching(num_batch_threads=1), scenario)


def test_the_time_of_runs_is_told() -> None:
    """An answer says how long its calls took; what was never run took nothing."""

    async def scenario(model: Model, batcher: Batcher) -> None:
        run, refused = batcher.submit([[x(1)], [x(*range(9))]])
        assert (await run).seconds > 0
        assert (await refused).seconds == 0

    play(Batching(max_batch_size=8), scenario)


# --- joined calls ----------------------------------------------------------------------------------------------------


def together(*requests: Call, timeouts: Sequence[float | None] = ()) -> Call:
    """One call with the rows of all of these."""
    (call,) = join_requests(requests, timeouts or [None] * len(requests), 1000).calls
    return call


def test_a_joined_call_is_one_run_and_one_reply() -> None:
    """Where all of its members run together it is never taken apart: the model sees its arrays, and one reply with
    all rows comes back."""

    async def scenario(model: Model, batcher: Batcher) -> None:
        call = together(x(1), x(2, 3), x(4))
        answer = await batcher.submit([[call]])[0]
        assert [_seen(reply) for reply in answer.replies] == [[2, 4, 6, 8]]
        assert answer.counts == (3,)
        assert answer.most_rows == 8
        assert model.runs[0][0].inputs is call.inputs

    play(Batching(max_batch_size=8), scenario)


def test_joined_calls_meet_others_in_a_batch() -> None:
    """Hops of joined calls and of single ones of the same kind share a run; each gets its own rows."""

    async def scenario(model: Model, batcher: Batcher) -> None:
        async with busy(model, batcher):
            answers = batcher.submit([[together(x(1), x(2))], [x(3)], [together(x(4), x(5)), x(6)]])
        assert await replies(answers) == [[[2, 4]], [[6]], [[8, 10], [12]]]
        assert [(await answer).counts for answer in answers] == [(2,), (), (2, 1)]
        assert model.rows == [1, 6]

    play(Batching(num_batch_threads=1), scenario)


def test_members_fill_batches_as_if_they_came_alone() -> None:
    """What of a joined call does not fit into the open batch goes into the next one, cut between members."""

    async def scenario(model: Model, batcher: Batcher) -> None:
        async with busy(model, batcher):
            first, second = batcher.submit([[x(0)], [together(x(1, 1), x(2, 2), x(3, 3), x(4))]])
        assert await replies([first, second]) == [[[0]], [[2, 2], [4, 4, 6, 6], [8]]]
        assert (await second).counts == (1, 2, 1)
        assert model.rows == [1, 3, 4, 1]

    play(Batching(max_batch_size=4, num_batch_threads=1), scenario)


def test_members_are_refused_one_by_one() -> None:
    """A member that is too large, or finds its queue full, is refused by itself and in its place."""

    async def scenario(model: Model, batcher: Batcher) -> None:
        async with busy(model, batcher):
            answers = batcher.submit([[together(x(1, 2), x(3), x(4, 5, 6), x(7), x(8), x(9))]])
        assert await replies(answers) == [[[2, 4], [6], InvalidArgument, [14], Unavailable, Unavailable]]
        assert (await answers[0]).counts == (1,) * 6
        assert model.rows == [1, 2, 2]

    play(Batching(max_batch_size=2, max_enqueued_batches=2, num_batch_threads=1), scenario)


def test_members_have_times_of_their_own() -> None:
    """Only the members whose time is over while they wait are left out of the run; the others have what is left."""

    async def scenario(model: Model, batcher: Batcher) -> None:
        async with busy(model, batcher):
            late = together(x(1), x(2), x(3), x(4), timeouts=[900.0, 1e-6, None, 1e-6])
            fine = together(x(5), x(6), timeouts=[800.0, 900.0])
            answers = batcher.submit([[late], [fine]])
        assert await replies(answers) == [[[2], DeadlineExceeded, [6], DeadlineExceeded], [[10, 12]]]
        (_, run) = model.runs
        assert [call.inputs["x"].tolist() for call in run] == [[1], [3], [5, 6]]
        assert [call.timeout is not None and 500 < call.timeout < 900 for call in run] == [True, False, True]
        assert [len(call.timeouts) for call in run] == [0, 0, 2]

    play(Batching(num_batch_threads=1), scenario)


def test_a_joined_hop_that_is_cancelled_is_not_run() -> None:
    """To cancel the answer gives up all members that do not run yet."""

    async def scenario(model: Model, batcher: Batcher) -> None:
        async with busy(model, batcher):
            gone, other = batcher.submit([[together(x(1), x(2))], [together(x(3), x(4))]])
            gone.cancel()
        assert await replies([other]) == [[[6, 8]]]
        assert model.rows == [1, 2]

    play(Batching(num_batch_threads=1), scenario)


def test_a_large_member_is_cut_and_its_neighbours_are_not() -> None:
    """With splitting the rows of one member may run in several batches; it gets one reply, in its place."""

    async def scenario(model: Model, batcher: Batcher) -> None:
        async with busy(model, batcher):
            answers = batcher.submit([[together(x(0), x(*range(1, 8)), x(8), x(9))]])
        assert await replies(answers) == [[[0], [2 * value for value in range(1, 8)], [16], [18]]]
        assert (await answers[0]).counts == (1, 1, 1, 1)
        assert model.rows == [1, 4, 4, 2]

    limits = Batching(
        max_batch_size=16, max_execution_batch_size=4, enable_large_batch_splitting=True, num_batch_threads=1
    )
    play(limits, scenario)


def test_a_large_member_that_is_late_is_told_once() -> None:
    """When the time of a member that was cut is over, all of its pieces are given up, and it has one reply."""

    async def scenario(model: Model, batcher: Batcher) -> None:
        async with busy(model, batcher):
            call = together(x(0), x(*range(1, 8)), x(8), timeouts=[None, 1e-6, None])
            answers = batcher.submit([[call]])
        assert await replies(answers) == [[[0], DeadlineExceeded, [16]]]
        assert model.rows == [1, 1, 1]

    limits = Batching(
        max_batch_size=16, max_execution_batch_size=4, enable_large_batch_splitting=True, num_batch_threads=1
    )
    play(limits, scenario)


@pytest.mark.parametrize(
    "call",
    [
        x(1, 2)._replace(members=(1, 2)),
        x(1, 2)._replace(members=(2, 0)),
        Call("s", {"x": np.zeros(2), "z": np.zeros(3)}, members=(1, 1)),
    ],
)
def test_a_joined_call_that_makes_no_sense_is_refused(call: Call) -> None:
    """Rows that do not add up, members without any and inputs that disagree are an error of each member."""

    async def scenario(model: Model, batcher: Batcher) -> None:
        answer = await batcher.submit([[call]])[0]
        assert [type(reply) for reply in answer.replies] == [InvalidArgument]
        assert answer.counts == (2,)
        assert model.runs == []

    play(Batching(), scenario)


# --- limits that change ----------------------------------------------------------------------------------------------


def test_limits_change_under_way() -> None:
    """What waits runs as it was gathered and under the limits that it came under; what comes obeys the new ones."""

    async def scenario(model: Model, batcher: Batcher) -> None:
        old = batcher.limits
        new = Batching(max_batch_size=2, num_batch_threads=1, batch_timeout_micros=10**12)
        async with busy(model, batcher):
            waiting = batcher.submit([[x(value)] for value in range(3)])
            batcher.adjust(new)
            later = batcher.submit([[x(5)], [x(6)], [x(7, 8, 9)]])
        assert await replies([*waiting, *later]) == [[[0]], [[2]], [[4]], [[10]], [[12]], [InvalidArgument]]
        assert model.rows == [1, 3, 2]
        assert model.limits == [old, old, new]
        assert (await later[0]).most_rows == 2

    play(Batching(max_batch_size=8, num_batch_threads=1), scenario)


def test_a_wait_that_is_shortened_ends() -> None:
    """What waits for a timeout runs at once when the limits change."""

    async def scenario(model: Model, batcher: Batcher) -> None:
        answers = batcher.submit([[x(1)]])
        batcher.adjust(Batching())
        assert await replies(answers) == [[[2]]]

    play(Batching(batch_timeout_micros=10**12), scenario)


def test_threads_change_under_way() -> None:
    """More threads take up what waits; with fewer what runs goes on, and no more begins than there are."""

    async def scenario(model: Model, batcher: Batcher) -> None:
        model.hold()
        answers = batcher.submit([[x(value)] for value in range(6)])
        await until(lambda: len(model.runs) == 1)
        batcher.adjust(Batching(max_batch_size=1, num_batch_threads=3, thread_pool_name="more"))
        await until(lambda: len(model.runs) == 3)
        batcher.adjust(Batching(max_batch_size=1, num_batch_threads=2))
        model.go.set()
        assert await replies(answers) == [[[2 * value]] for value in range(6)]
        model.hold()
        answers = batcher.submit([[x(value, dtype=np.int64)] for value in range(4)])
        await until(lambda: len(model.runs) == 8)
        model.go.set()
        assert await replies(answers) == [[[2 * value]] for value in range(4)]

    play(Batching(max_batch_size=1, num_batch_threads=1), scenario)


def test_finishing_runs_what_waits() -> None:
    """A batcher that is told to finish answers everything that came, however long that was to wait, and then closes."""

    async def scenario(model: Model, batcher: Batcher) -> None:
        answers = batcher.submit([[x(1)], [together(x(2), x(3))]])
        batcher.finish()
        assert await replies(answers) == [[[2]], [[4, 6]]]
        assert (await answers[0]).most_rows == 0
        assert await replies(batcher.submit([[x(4)]])) == [[Unavailable]]

    play(Batching(num_batch_threads=1, batch_timeout_micros=10**12), scenario)


def test_why_batches_were_released_is_counted() -> None:
    """Each batch that is run counts for one reason; what nobody waits for any more counts for none."""
    registry = Registry()

    async def run() -> None:
        model = Model()
        limits = Batching(max_batch_size=2, num_batch_threads=1)
        batcher = Batcher(limits, model.run, RunMeter(registry, ServableId("m", 1)))
        async with asyncio.timeout(PATIENCE_S):
            async with busy(model, batcher):
                answers = batcher.submit([[x(1), x(2)], [x(3)], [x(4, 5)], [x(6)]])
                batcher.submit([[Call("nobody", {"x": np.zeros(1)})]])[0].cancel()
            await replies(answers)
            batcher.adjust(Batching(num_batch_threads=1, batch_timeout_micros=1000))
            await replies(batcher.submit([[x(7)]]))
            batcher.adjust(Batching(num_batch_threads=1, batch_timeout_micros=10**12))
            answers = batcher.submit([[x(8)]])
            batcher.adjust(limits)
            await replies(answers)
        batcher.close()

    asyncio.run(run())
    counted = {labels[-1]: count for labels, count in registry.counts()[BATCHES.name].items()}
    assert counted == {"thread_free": 2, "full": 2, "no_fit": 1, "timeout": 1, "closed": 1}
    assert set(counted) == {why.value for why in Release}


# --- by chance -------------------------------------------------------------------------------------------------------

DTYPES: list[Any] = [np.float32, np.int64, object]


def made_up(signature: str, dtype: Any, inner: tuple[int, ...], count: int, is_bad: bool) -> Call:
    """A call of that shape, whose values tell where they stand; a bad one of numbers is refused by the model."""
    values = np.arange(count * int(np.prod(inner))).reshape(count, *inner)
    if is_bad and values.size:
        values.flat[values.size // 2] = -1
    return Call(signature, {"x": values.astype("S").astype(object) if dtype is object else values.astype(dtype)})


CALLS = st.builds(
    made_up,
    st.sampled_from("ab"),
    st.sampled_from(DTYPES),
    st.sampled_from([(), (2,), (3,), (2, 0)]),
    st.integers(0, 6),
    st.sampled_from([False] * 5 + [True]),
)
LIMITS = st.builds(
    lambda most, run, sizes, enqueued, splitting, pad, timeout, threads: Batching(
        max_batch_size=most,
        max_execution_batch_size=min(most, run),
        allowed_batch_sizes=(*sorted(size for size in sizes if size < most), most) if sizes else (),
        max_enqueued_batches=enqueued,
        enable_large_batch_splitting=splitting,
        pad_variable_length_inputs=pad,
        batch_timeout_micros=timeout,
        num_batch_threads=threads,
    ),
    st.integers(1, 6),
    st.integers(1, 6),
    st.sets(st.integers(1, 5)),
    st.integers(1, 100),
    st.booleans(),
    st.booleans(),
    st.sampled_from([0, 500]),
    st.integers(1, 3),
)


@settings(max_examples=60)
@given(limits=LIMITS, hops=st.lists(st.tuples(st.booleans(), st.lists(CALLS, max_size=5)), max_size=6))
def test_every_call_is_answered_as_if_it_were_alone(limits: Batching, hops: list[tuple[bool, list[Call]]]) -> None:
    """Whatever comes together under whatever limits, and whether it was joined before, each call gets one reply: the
    one it would get alone, or that it cannot be batched or does not fit into the queue now.
    """
    host, servable = Host(), ServableId("m", 1)
    host.load(Assignment(servable, "/", SCRIPTED_PLATFORM, batching=limits))
    scripted = ScriptedLoader.ready.pop()

    async def run() -> list[list[Reply]]:
        batcher = Batcher(limits, partial(host.run_batch, servable))
        answers = []
        for index, (is_joined, hop) in enumerate(hops):
            timeouts = [call.timeout for call in hop]
            joined = join_requests(hop, timeouts, 10) if is_joined else send_apart(hop, timeouts)
            answers.append((joined, batcher.submit([joined.calls])[0]))
            if index % 2:
                await asyncio.sleep(0)
        async with asyncio.timeout(PATIENCE_S):
            done = [joined.separate(await answer) for joined, answer in answers]
        batcher.close()
        return done

    for (_, hop), answered in zip(hops, asyncio.run(run()), strict=True):
        for call, reply in zip(hop, answered, strict=True):
            check(call, reply, limits)
    sizes = limits.allowed_batch_sizes
    assert all(rows <= limits.run_rows or rows in sizes for rows in scripted.runs)
    assert not sizes or all(rows in (0, *sizes) for rows in scripted.runs)


def check(call: Call, reply: Reply, limits: Batching) -> None:
    """A reply is right: the values doubled where they stood, or an error that there is a reason for."""
    values = call.inputs["x"]
    is_bad = bool((values == -1).any())
    if isinstance(reply, ServingError):
        if len(values) > limits.max_batch_size:
            assert isinstance(reply, InvalidArgument)
        elif isinstance(reply, FailedPrecondition) and not is_bad:
            assert limits.enable_large_batch_splitting
            assert limits.pad_variable_length_inputs
            assert "do not fit together" in reply.message
        else:
            assert is_bad or isinstance(reply, Unavailable)
        return
    assert not is_bad
    doubled = values * 2
    seen = reply["y"]
    assert seen.dtype == values.dtype
    if limits.pad_variable_length_inputs:
        seen = seen[tuple(slice(size) for size in doubled.shape)]
    assert seen.shape == doubled.shape
    assert seen.tolist() == doubled.tolist()
