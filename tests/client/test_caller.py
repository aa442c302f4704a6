"""The queue before a version: what travels together, and that every call gets exactly one outcome."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from serving_app.client.caller import Caller
from serving_app.client.remote_errors import Lost
from serving_app.core.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    ResourceExhausted,
    Unavailable,
)
from serving_app.protocol.calls import Answer, Call, Reply
from tests.stepping import PATIENCE_S, turns, until


def number(value: int, **more: Any) -> Call:
    """A call that is told from others by its value."""
    return Call("serving_default", {"x": np.array([value])}, **more)


def value_of(call: Call) -> int:
    return int(call.inputs["x"][0])


class Wire:
    """Where calls are sent: keeps what came, answers once it is open, each call with its own input."""

    def __init__(self, seconds_per_call: float = 0.0, reply: Callable[[Call], Reply] | None = None) -> None:
        self.hops: list[list[Call]] = []
        self.open = asyncio.Event()
        self.open.set()
        self.seconds_per_call = seconds_per_call
        self._reply = reply or (lambda call: {"y": call.inputs["x"]})

    async def send(self, calls: list[Call]) -> Answer:
        self.hops.append(calls)
        await self.open.wait()
        return Answer([self._reply(call) for call in calls], self.seconds_per_call * len(calls))

    @property
    def sent(self) -> list[int]:
        """The values of all calls that came, in order."""
        return [value_of(call) for hop in self.hops for call in hop]


async def measured(wire: Wire) -> Caller:
    """A caller that has had the time to learn what this wire takes."""
    caller = Caller(wire.send)
    for value in range(60):
        await caller.call(number(value))
    wire.hops.clear()
    return caller


def ask(caller: Caller, *values: int, **more: Any) -> list[asyncio.Task[Any]]:
    """Calls that are made in one turn of the loop."""
    return [asyncio.create_task(caller.call(number(value, **more))) for value in values]


async def answers(tasks: list[asyncio.Task[Any]]) -> list[Any]:
    """Values and errors, in order."""
    async with asyncio.timeout(PATIENCE_S):
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    return [outcome if isinstance(outcome, BaseException) else int(outcome["y"][0]) for outcome in outcomes]


def test_quick_calls_of_one_turn_travel_together() -> None:
    """Once a model is known to be quick, a hundred calls that arrive together are one hop, in order of arrival."""

    async def scenario() -> None:
        wire = Wire()
        caller = await measured(wire)
        tasks = ask(caller, *range(100))
        assert await answers(tasks) == list(range(100))
        assert [len(hop) for hop in wire.hops] == [100]
        assert wire.sent == list(range(100))
        await until(lambda: caller.is_idle)

    asyncio.run(scenario())


def test_calls_travel_joined_where_that_pays() -> None:
    """As soon as a replica has said that it joins rows, calls of one kind travel as one, no larger than a run; each
    gets its own outcome and keeps its own time; and when joining has ended they travel apart again."""

    async def scenario() -> None:
        wire = Wire()
        caller = await measured(wire)
        most_rows = 8

        async def joining(calls: list[Call]) -> Answer:
            answer = await wire.send(calls)
            counts = tuple(call.requests for call in calls)
            return answer._replace(counts=counts, most_rows=most_rows)

        caller._send = joining
        assert await answers(ask(caller, 7)) == [7]
        wire.hops.clear()
        tasks = [*ask(caller, 1, 2, 3), *ask(caller, 4, timeout=60.0), *ask(caller, *range(5, 11))]
        tasks += [asyncio.create_task(caller.call(number(value, outputs=("y",)))) for value in (11, 12)]
        assert await answers(tasks) == list(range(1, 13))
        (hop,) = wire.hops
        assert [call.inputs["x"].tolist() for call in hop] == [list(range(1, 9)), [9, 10], [11, 12]]
        assert [timeout is None for timeout in hop[0].timeouts] == [True] * 3 + [False] + [True] * 4
        assert [call.timeout for call in hop] == [None] * 3

        wire._reply = lambda call: FailedPrecondition("bad") if 9 in call.inputs["x"] else {"y": call.inputs["x"]}
        outcomes = await answers(ask(caller, *range(1, 11)))
        assert outcomes[:8] == list(range(1, 9))
        assert [type(outcome) for outcome in outcomes[8:]] == [FailedPrecondition] * 2

        most_rows = 0
        assert await answers(ask(caller, 1, 2)) == [1, 2]
        wire.hops.clear()
        assert await answers(ask(caller, 1, 2)) == [1, 2]
        assert [len(hop) for hop in wire.hops] == [2]

    asyncio.run(scenario())


def test_slow_calls_are_spread() -> None:
    """Calls of a slow model leave one by one, without waiting for one another, so that every replica gets some."""

    async def scenario() -> None:
        wire = Wire(seconds_per_call=1.0)
        caller = await measured(wire)
        wire.open.clear()
        tasks = ask(caller, *range(8))
        await until(lambda: len(wire.hops) == 8)
        assert [len(hop) for hop in wire.hops] == [1] * 8
        wire.open.set()
        assert await answers(tasks) == list(range(8))

    asyncio.run(scenario())


def test_large_calls_do_not_pile_up_in_one_hop() -> None:
    """However quick the model, a hop carries only so many bytes."""

    async def scenario() -> None:
        wire = Wire(reply=lambda call: {"y": call.inputs["x"][:1]})
        caller = await measured(wire)
        large = Call("serving_default", {"x": np.zeros(4 << 20, np.uint8)})
        await asyncio.gather(*(caller.call(large) for _ in range(6)))
        assert [len(hop) for hop in wire.hops] == [2, 2, 2]

    asyncio.run(scenario())


def test_a_call_is_not_held_back_by_hops_that_hang() -> None:
    """While earlier hops get no answer, later calls still leave."""

    async def scenario() -> None:
        wire = Wire()
        caller = await measured(wire)
        wire.open.clear()
        tasks = []
        for value in range(5):
            tasks += ask(caller, value)
            await until(lambda value=value: value in wire.sent)
        wire.open.set()
        assert await answers(tasks) == list(range(5))

    asyncio.run(scenario())


def test_a_cancelled_call_is_not_sent() -> None:
    """A call whose caller went away before it left stays here, and those around it travel."""

    async def scenario() -> None:
        wire = Wire()
        caller = await measured(wire)
        tasks = ask(caller, 1, 2, 3)
        await asyncio.sleep(0)
        tasks[1].cancel()
        outcomes = await answers(tasks)
        assert (outcomes[0], outcomes[2]) == (1, 3)
        assert isinstance(outcomes[1], asyncio.CancelledError)
        assert wire.sent == [1, 3]

    asyncio.run(scenario())


def test_calls_that_are_all_cancelled_leave_nothing_behind() -> None:
    """When nobody waits any more nothing is sent, and the queue serves on."""

    async def scenario() -> None:
        wire = Wire()
        caller = await measured(wire)
        tasks = ask(caller, 1, 2)
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await answers(tasks)
        await turns()
        assert wire.hops == []
        assert caller.is_idle
        assert await answers(ask(caller, 3)) == [3]

    asyncio.run(scenario())


def test_a_call_cancelled_under_way_disturbs_nobody() -> None:
    """The reply to a call that nobody waits for any more is dropped; its neighbours get theirs."""

    async def scenario() -> None:
        wire = Wire()
        caller = await measured(wire)
        wire.open.clear()
        tasks = ask(caller, 1, 2, 3)
        await until(lambda: wire.sent == [1, 2, 3])
        tasks[1].cancel()
        wire.open.set()
        outcomes = await answers(tasks)
        assert (outcomes[0], outcomes[2]) == (1, 3)
        await until(lambda: caller.is_idle)

    asyncio.run(scenario())


@pytest.mark.parametrize("error", [Unavailable("nobody answers"), RuntimeError("the wire broke")])
def test_a_hop_that_fails_fails_each_of_its_calls_once(error: Exception) -> None:
    """What sending raises reaches every member of the hop, no call is sent twice, and the next one travels."""

    async def scenario() -> None:
        wire = Wire()
        caller = await measured(wire)
        sent = wire.send

        async def failing(calls: list[Call]) -> Answer:
            await sent(calls)
            raise error

        caller._send = failing
        assert await answers(ask(caller, 1, 2, 3)) == [error] * 3
        assert wire.sent == [1, 2, 3]
        caller._send = sent
        assert await answers(ask(caller, 4)) == [4]

    asyncio.run(scenario())


def test_a_hop_that_is_cancelled_below_fails_its_calls() -> None:
    """When the transport cancels a hop (a closed channel does), its callers get an error and do not wait for ever."""

    async def scenario() -> None:
        async def cancelled(calls: list[Call]) -> Answer:
            raise asyncio.CancelledError

        caller = Caller(cancelled)
        outcomes = await answers(ask(caller, 1, 2))
        assert [type(outcome) for outcome in outcomes] == [Lost, Lost]
        await until(lambda: caller.is_idle)

    asyncio.run(scenario())


def test_calls_that_cannot_be_put_together_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever goes wrong before a hop leaves is the error of its calls, and nobody waits for ever."""

    def run_out(*_: Any) -> Any:
        raise MemoryError("no room to join them")

    async def scenario() -> None:
        caller = Caller(Wire().send)
        with monkeypatch.context() as patched:
            patched.setattr("serving_app.client.caller.send_apart", run_out)
            assert [type(outcome) for outcome in await answers(ask(caller, 1, 2))] == [MemoryError] * 2
        assert await answers(ask(caller, 3)) == [3]
        assert caller.waiting == 0

    asyncio.run(scenario())


def test_an_error_of_one_call_is_its_own() -> None:
    """Replies that are errors are raised for their calls; those in the same hop get their outputs."""

    async def scenario() -> None:
        errors = {1: InvalidArgument("one"), 3: FailedPrecondition("three")}
        wire = Wire(reply=lambda call: errors.get(value_of(call)) or {"y": call.inputs["x"]})
        caller = Caller(wire.send)
        assert await answers(ask(caller, 0, 1, 2, 3)) == [0, errors[1], 2, errors[3]]

    asyncio.run(scenario())


@pytest.mark.parametrize("count", [0, 2, 4])
def test_a_wrong_number_of_replies_is_an_error_for_all(count: int) -> None:
    """Replies that cannot be told apart go to nobody, and nobody is left waiting."""

    async def scenario() -> None:
        wire = Wire()
        caller = await measured(wire)

        async def miscounting(calls: list[Call]) -> Answer:
            return Answer([{"y": np.array([7])}] * count, 0.0)

        caller._send = miscounting
        outcomes = await answers(ask(caller, 1, 2, 3))
        assert [type(outcome) for outcome in outcomes] == [Internal] * 3
        assert "3 calls" in str(outcomes[0])

    asyncio.run(scenario())


def test_time_that_a_call_waits_here_is_taken_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call leaves with the time that is left of its own; one whose time is over with next to none, none with none."""
    now = 100.0
    clock = SimpleNamespace(monotonic=lambda: now, perf_counter=lambda: now)
    monkeypatch.setattr("serving_app.client.caller.time", clock)

    async def scenario() -> None:
        nonlocal now
        wire = Wire()
        caller = await measured(wire)
        tasks = [*ask(caller, 1, timeout=10.0), *ask(caller, 2, timeout=3.0), *ask(caller, 3)]
        await asyncio.sleep(0)
        now += 4.0
        await answers(tasks)
        left = [call.timeout for hop in wire.hops for call in hop]
        assert left[0] == pytest.approx(6.0)
        assert left[1] is not None
        assert 0 < left[1] <= 0.01
        assert left[2] is None

    asyncio.run(scenario())


def test_a_hop_ends_when_nobody_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hop without an answer is given up when the time of all its calls is over, and its place is free again."""
    monkeypatch.setattr("serving_app.client.caller._GRACE_S", 0.0)

    async def scenario() -> None:
        wire = Wire()
        caller = await measured(wire)
        wire.open.clear()
        [short, long] = ask(caller, 1, timeout=0.001) + ask(caller, 2, timeout=0.002)
        assert [type(outcome) for outcome in await answers([short, long])] == [DeadlineExceeded, DeadlineExceeded]
        [endless] = ask(caller, 3)
        await until(lambda: wire.sent == [1, 2, 3])
        wire.open.set()
        assert await answers([endless]) == [3]
        await until(lambda: caller.is_idle)

    asyncio.run(scenario())


def test_more_calls_than_can_wait_are_refused() -> None:
    """Beyond twenty thousand waiting calls a new one is told at once to come again; the others are answered."""

    async def scenario() -> None:
        wire = Wire()
        caller = await measured(wire)
        outcomes = await answers(ask(caller, *range(20_001)))
        assert outcomes[:-1] == list(range(20_000))
        assert isinstance(outcomes[-1], ResourceExhausted)
        assert "try again later" in str(outcomes[-1])
        assert await answers(ask(caller, 1)) == [1]

    asyncio.run(scenario())


def test_many_callers_get_each_their_own_answer() -> None:
    """Over thousands of calls that come, go and fail in turns, no answer is lost, doubled or swapped."""

    async def scenario() -> None:
        def reply(call: Call) -> Reply:
            value = value_of(call)
            return InvalidArgument(str(value)) if value % 7 == 0 else {"y": call.inputs["x"]}

        wire = Wire(reply=reply)
        caller = Caller(wire.send)

        async def client(first: int) -> None:
            for value in range(first, first + 50):
                if value % 11 == 0:
                    task = ask(caller, value)[0]
                    await asyncio.sleep(0)
                    task.cancel()
                elif value % 7 == 0:
                    with pytest.raises(InvalidArgument, match=f"^{value}$"):
                        await caller.call(number(value))
                else:
                    assert int((await caller.call(number(value)))["y"][0]) == value

        async with asyncio.timeout(PATIENCE_S):
            await asyncio.gather(*(client(50 * index) for index in range(40)))
        assert len(wire.sent) == len(set(wire.sent))
        await until(lambda: caller.is_idle)

    asyncio.run(scenario())


def test_a_hop_that_nobody_waits_for_is_called_off() -> None:
    """When all calls of a hop are cancelled the transport hears of it soon; while one is waited for it does not."""

    async def scenario() -> None:
        called_off: list[int] = []
        begun: list[int] = []

        async def hang(calls: list[Call]) -> Answer:
            begun.append(value_of(calls[0]))
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                called_off.append(value_of(calls[0]))
                raise
            raise AssertionError

        caller = Caller(hang)
        caller._run_s = 1e-6
        first = ask(caller, 1, 2)
        await until(lambda: begun == [1])
        second = ask(caller, 3, 4)
        await until(lambda: begun == [1, 3])
        for task in (*first, second[0]):
            task.cancel()
        await until(lambda: called_off == [1])
        second[1].cancel()
        await until(lambda: called_off == [1, 3])
        await until(lambda: caller.is_idle)

    asyncio.run(scenario())


def test_the_queue_is_bounded_by_what_it_carries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls that would carry too much besides those that wait are refused, until those that wait are sent or given
    up; a single one may be of any size."""
    monkeypatch.setattr("serving_app.client.caller._MAX_WAITING_BYTES", 1 << 20)
    large = Call("serving_default", {"x": np.zeros(3 << 18, np.uint8)})
    huge = Call("serving_default", {"x": np.zeros(2 << 20, np.uint8)})

    async def scenario() -> None:
        wire = Wire(reply=lambda call: {"y": np.zeros(1)})
        caller = Caller(wire.send)
        monkeypatch.setattr("serving_app.client.caller._MAX_HOPS", 1)
        wire.open.clear()
        under_way = asyncio.create_task(caller.call(huge))
        await until(lambda: len(wire.hops) == 1)
        waits = asyncio.create_task(caller.call(large))
        await asyncio.sleep(0)
        with pytest.raises(ResourceExhausted, match="requests of 0 MiB wait for this model already; try again later"):
            await caller.call(large)
        waits.cancel()
        await until(lambda: caller.waiting == 0)
        wire.open.set()
        await asyncio.gather(under_way, caller.call(large))
        assert caller._waiting_bytes == 0

    asyncio.run(scenario())


def test_what_is_under_way_is_bounded_by_what_it_carries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Large calls do not all leave for replicas that take their time: beyond a bound they wait, where those that are
    too many are refused, and leave when hops are back."""
    monkeypatch.setattr("serving_app.client.caller._MAX_FLYING_BYTES", 4 << 20)
    monkeypatch.setattr("serving_app.client.caller._MAX_WAITING_BYTES", 4 << 20)

    async def scenario() -> None:
        wire = Wire(reply=lambda call: {"y": np.zeros(1)}, seconds_per_call=1.0)
        caller = Caller(wire.send)
        for value in range(30):
            await caller.call(number(value))
        wire.open.clear()
        large = Call("serving_default", {"x": np.zeros(1 << 20, np.uint8)})
        tasks = []
        for _ in range(8):
            tasks.append(caller.submit(large))
            await until(lambda: caller.waiting == 0 or caller._flying_bytes == 4 << 20)
        assert caller.waiting == 4
        with pytest.raises(ResourceExhausted, match="requests of 4 MiB wait for this model already"):
            caller.submit(large)
        wire.open.set()
        await asyncio.gather(*tasks)
        await turns()
        assert caller._flying_bytes == 0

    asyncio.run(scenario())


def test_slow_models_get_calls_for_all_replicas_at_once() -> None:
    """Where runs take long, two hops for each replica leave in the turn in which the calls came."""

    async def scenario() -> None:
        wire = Wire(seconds_per_call=1.0)
        caller = Caller(wire.send, lambda: 3)
        for value in range(30):
            await caller.call(number(value))
        wire.hops.clear()
        wire.open.clear()
        tasks = ask(caller, *range(20))
        await turns(4)
        assert [len(hop) for hop in wire.hops] == [1] * 6
        wire.open.set()
        assert await answers(tasks) == list(range(20))

    asyncio.run(scenario())
