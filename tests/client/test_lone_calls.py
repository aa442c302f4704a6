"""Calls made by the thread that waits: who answers them, what is left to the loop of links, and what stays behind."""

from __future__ import annotations

import asyncio
import errno
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

import numpy as np
import pytest

from serving_app.client import lone_calls
from serving_app.client.lane_set import LaneSet
from serving_app.client.lone_calls import MOST_BYTES, MOST_S, LoneCalls, NotHere
from serving_app.client.wire import Wire
from serving_app.core.door import Door
from serving_app.core.errors import Internal, InvalidArgument, ServingError
from serving_app.core.servable import ServableId
from serving_app.protocol.calls import Answer, Call
from serving_app.serve.lane_server import LaneServer
from tests.stepping import PATIENCE_S, until

T = TypeVar("T")

CALL = Call("s", {"x": np.array([1.0, 2.0])}, timeout=PATIENCE_S)
NODE = "node"


class Replica:
    """A replica that doubles x, on a loop of its own; waits while it is closed. Lanes of the link lead to it, too."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._thread.start()
        self.came: list[ServableId | None] = []
        self.asked = threading.Event()
        self.given_up = threading.Event()
        self.error: Exception | None = None
        self.max_hops = 8
        self.do(self._start())

    async def _start(self) -> None:
        self.open = asyncio.Event()
        self.open.set()
        self.server = LaneServer("app", "r", self._predict, lambda: self.max_hops)
        self.door = await self.server.open(NODE, "127.0.0.1")
        self.lanes = LaneSet("app", NODE)
        self.lanes.follow([self.door])
        await self.lanes.prepare()

    async def _predict(self, servable: ServableId | None, calls: Sequence[Call]) -> Answer:
        self.came.append(servable)
        self.asked.set()
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            self.given_up.set()
            raise
        if self.error is not None:
            raise self.error
        return Answer([{"y": 2 * call.inputs["x"]} for call in calls], 0.0)

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(PATIENCE_S)

    def tell(self, function: Callable[[], object]) -> None:
        async def run() -> None:
            function()

        self.do(run())

    def wait_for_lanes(self, count: int) -> None:
        """Returns when so many connections are open."""
        self.do(until(lambda: len(self.server.lanes) == count))

    def die(self) -> None:
        """Break all connections, and let nobody in any more."""
        for server in self.server._servers:
            server.close()
        for lane in list(self.server.lanes):
            assert lane._transport is not None
            lane._transport.abort()

    def stop(self) -> None:
        async def end() -> None:
            self.open.set()
            self.lanes.close()
            await self.server.close(0.0)
            await until(lambda: not len(self.lanes))

        self.do(end())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


@pytest.fixture
def replica() -> Iterator[Replica]:
    replica = Replica()
    yield replica
    replica.stop()


@pytest.fixture
def lone(replica: Replica, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoneCalls]:
    monkeypatch.setattr(lone_calls, "_CONNECT_S", PATIENCE_S)
    calls = LoneCalls()
    calls.follow([replica.door])
    yield calls
    calls.close()


def in_thread(function: Callable[[], T]) -> Future[T]:
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(function())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run).start()
    return future


def ask(lone: LoneCalls, replica: Replica, call: Call = CALL, servable: ServableId | None = None) -> list[float]:
    [reply] = lone.ask(replica.lanes, servable, call).replies
    assert isinstance(reply, dict)
    values: list[float] = reply["y"].tolist()
    return values


def test_calls_are_answered_on_one_connection(replica: Replica, lone: LoneCalls) -> None:
    """The first call opens it, later ones use it, and the replica hears which version is meant."""
    for servable in (None, ServableId("m", 3), None):
        assert ask(lone, replica, servable=servable) == [2.0, 4.0]
    assert replica.came == [None, ServableId("m", 3), None]
    replica.wait_for_lanes(2)  # with that of the loop


@pytest.mark.parametrize("where", [NODE, "another"])
def test_answers_of_every_size_arrive(replica: Replica, where: str) -> None:
    """By the UNIX socket on the same node and by TCP from another, whatever the sizes."""
    wire = Wire(replica.door, where, PATIENCE_S)
    assert wire._socket.family == (socket.AF_UNIX if where == NODE else socket.AF_INET)
    for size in (1, 1000, 300_000):
        values = np.arange(size, dtype=np.float64)
        [reply] = wire.ask(Call("s", {"x": values}), None, None).replies
        assert isinstance(reply, dict)
        assert np.array_equal(reply["y"], 2 * values)
    wire.close()


def test_a_second_call_is_left_to_the_loop(replica: Replica, lone: LoneCalls) -> None:
    """While one is under way nobody else is served here, whoever asks."""
    replica.tell(replica.open.clear)
    first = in_thread(lambda: ask(lone, replica))
    assert replica.asked.wait(PATIENCE_S)
    with pytest.raises(NotHere) as caught:
        ask(lone, replica)
    assert not caught.value.may_have_run
    replica.tell(replica.open.set)
    assert first.result(PATIENCE_S) == [2.0, 4.0]
    assert len(replica.came) == 1


@pytest.mark.parametrize(
    "call",
    [
        CALL._replace(inputs={"x": np.zeros(MOST_BYTES + 1, np.uint8)}),
        CALL._replace(inputs={"x": np.array(["2020"], "M8[D]")}),
        CALL._replace(timeout=2 * MOST_S),
    ],
    ids=["large", "of a type that no lane carries", "with more time than sockets count"],
)
def test_calls_that_are_not_for_here(replica: Replica, lone: LoneCalls, call: Call) -> None:
    """They are left to the loop without being sent."""
    with pytest.raises(NotHere):
        ask(lone, replica, call)
    assert replica.came == []


def test_a_replica_that_is_busy_is_left_to_the_loop(replica: Replica, lone: LoneCalls) -> None:
    """A hop that it does not take was not run; the connection is of use later."""
    assert ask(lone, replica) == [2.0, 4.0]
    replica.server.hops += 8
    with pytest.raises(NotHere) as caught:
        ask(lone, replica)
    assert not caught.value.may_have_run
    replica.server.hops -= 8
    assert ask(lone, replica) == [2.0, 4.0]
    replica.wait_for_lanes(2)


def test_replicas_with_something_of_ours_to_do_are_left_to_the_loop(replica: Replica, lone: LoneCalls) -> None:
    """One that has a call of the loop's, or has not answered one that was called off, may hang."""
    [lane] = replica.lanes._lanes
    lane.unheard = 1
    with pytest.raises(NotHere):
        ask(lone, replica)
    lane.unheard = 0
    assert ask(lone, replica) == [2.0, 4.0]


def test_a_replica_that_dies_under_a_call(replica: Replica, lone: LoneCalls) -> None:
    """Whoever asked hears that it may have been run; without lanes nothing is asked here any more."""
    replica.tell(replica.open.clear)
    call = in_thread(lambda: ask(lone, replica))
    assert replica.asked.wait(PATIENCE_S)
    replica.tell(replica.die)
    with pytest.raises(NotHere) as caught:
        call.result(PATIENCE_S)
    assert caught.value.may_have_run
    replica.do(until(lambda: not len(replica.lanes)))
    with pytest.raises(NotHere) as caught:
        ask(lone, replica)
    assert not caught.value.may_have_run


def test_a_replica_that_goes_is_asked_no_more(replica: Replica, lone: LoneCalls) -> None:
    """It says good-bye while nobody asks; the next call is not sent to it."""
    replica.wait_for_lanes(1)
    others = set(replica.server.lanes)
    assert ask(lone, replica) == [2.0, 4.0]
    [wire] = lone._wires.values()
    [lane] = replica.server.lanes - others  # the loop has not heard of it yet
    replica.tell(lane.say_goodbye)
    assert wire._poll.poll(PATIENCE_S * 1000)
    with pytest.raises(NotHere):
        ask(lone, replica)
    assert not wire.is_open
    assert len(replica.came) == 1


def test_a_replica_that_goes_under_a_call(replica: Replica, lone: LoneCalls) -> None:
    """It answers the call, and need not wait for who has asked it."""
    replica.tell(replica.open.clear)
    call = in_thread(lambda: ask(lone, replica))
    assert replica.asked.wait(PATIENCE_S)
    replica.tell(lambda: [lane.say_goodbye() for lane in replica.server.lanes])
    replica.tell(replica.open.set)
    assert call.result(PATIENCE_S) == [2.0, 4.0]
    [wire] = lone._wires.values()
    assert not wire.is_open
    replica.wait_for_lanes(0)


def test_a_machine_that_vanishes_is_lost_and_not_late(
    replica: Replica, lone: LoneCalls, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system calls that a timeout, too, which is none of the call's: the loop asks elsewhere."""
    assert ask(lone, replica) == [2.0, 4.0]
    [wire] = lone._wires.values()

    def vanished(until: float | None) -> Any:
        raise OSError(errno.ETIMEDOUT, "Connection timed out")

    monkeypatch.setattr(wire, "_receive", vanished)
    with pytest.raises(NotHere) as caught:
        ask(lone, replica, CALL._replace(timeout=None))
    assert caught.value.may_have_run
    assert not wire.is_open


def test_hops_are_numbered_for_ever(replica: Replica, lone: LoneCalls) -> None:
    """Beyond what a frame can count it begins anew, at one: zero is not for calls."""
    assert ask(lone, replica) == [2.0, 4.0]
    [wire] = lone._wires.values()
    wire._hop = 0xFFFFFFFF
    assert ask(lone, replica) == [2.0, 4.0]
    assert (wire.is_open, wire._hop) == (True, 1)


def test_a_connection_takes_no_longer_to_open_than_the_call_may(
    replica: Replica, lone: LoneCalls, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever has little time does not spend more of it at a door behind which nobody answers."""
    given: list[float] = []

    def nobody(_door: Door, _node: str | None, timeout: float) -> Wire:
        given.append(timeout)
        raise TimeoutError

    monkeypatch.setattr(lone_calls, "Wire", nobody)
    monkeypatch.setattr(lone_calls, "_SHUNNED_S", 0.0)
    for timeout in (0.5, None, 10 * PATIENCE_S):
        with pytest.raises(NotHere) as caught:
            ask(lone, replica, CALL._replace(timeout=timeout))
        assert not caught.value.may_have_run
    assert given == [0.5, PATIENCE_S, PATIENCE_S]


def test_a_call_whose_time_is_over_is_given_up(
    replica: Replica, lone: LoneCalls, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The replica hears of it, and its door is left to the loop for a while."""
    monkeypatch.setattr(lone_calls, "_SHUNNED_S", PATIENCE_S)
    assert ask(lone, replica) == [2.0, 4.0]
    replica.asked.clear()
    replica.tell(replica.open.clear)
    with pytest.raises(TimeoutError):
        ask(lone, replica, CALL._replace(timeout=0.01))
    if replica.asked.is_set():
        assert replica.given_up.wait(PATIENCE_S)
    replica.tell(replica.open.set)
    with pytest.raises(NotHere):
        ask(lone, replica)


def test_doors_are_not_shunned_for_ever(
    replica: Replica, lone: LoneCalls, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the time is over a door is tried again."""
    monkeypatch.setattr(lone_calls, "_SHUNNED_S", 0.0)
    lone._shun(replica.door)
    assert ask(lone, replica) == [2.0, 4.0]


@pytest.mark.parametrize("error", [InvalidArgument("no"), ValueError("odd")])
def test_a_hop_that_fails_as_a_whole(replica: Replica, lone: LoneCalls, error: Exception) -> None:
    """The error arrives, and the connection is of use later."""
    replica.error = error
    with pytest.raises(ServingError) as caught:
        ask(lone, replica)
    assert isinstance(caught.value, InvalidArgument if isinstance(error, InvalidArgument) else Internal)
    replica.error = None
    assert ask(lone, replica) == [2.0, 4.0]
    replica.wait_for_lanes(2)


def test_an_interrupt_leaves_no_answer_behind(
    replica: Replica, lone: LoneCalls, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C while waiting closes the connection: the next call must not get the answer to this one."""
    assert ask(lone, replica) == [2.0, 4.0]
    [wire] = lone._wires.values()

    def interrupted(until: float | None) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(wire, "_receive", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ask(lone, replica)
    assert not wire.is_open
    with pytest.raises(NotHere):
        ask(lone, replica)
    assert ask(lone, replica, CALL._replace(inputs={"x": np.array([5.0])})) == [10.0]


def test_a_door_that_lets_nobody_in(replica: Replica, lone: LoneCalls) -> None:
    """A secret that is not the replica's, or nobody there: the call is the loop's."""
    door = replica.door
    wrong = Door(door.app, door.replica, door.node, door.path, door.host, door.port, b"wrong")
    with pytest.raises(ConnectionRefusedError):
        Wire(wrong, NODE, PATIENCE_S)
    nowhere = Door(door.app, door.replica, door.node, "/nowhere", None, 0, b"")
    with pytest.raises(OSError, match="no door for other nodes"):
        Wire(nowhere, NODE, PATIENCE_S)


def test_connections_end_with_their_doors(replica: Replica, lone: LoneCalls) -> None:
    """A table that does not name a door closes the way there; what is under way is still answered."""
    replica.tell(replica.open.clear)
    call = in_thread(lambda: ask(lone, replica))
    assert replica.asked.wait(PATIENCE_S)
    lone.follow([])
    replica.tell(replica.open.set)
    assert call.result(PATIENCE_S) == [2.0, 4.0]
    assert not lone._wires
    replica.wait_for_lanes(1)


def test_who_is_closed_asks_nobody(replica: Replica, lone: LoneCalls) -> None:
    """A call under way is answered, its connection is closed after it, and later calls are not made here."""
    replica.tell(replica.open.clear)
    call = in_thread(lambda: ask(lone, replica))
    assert replica.asked.wait(PATIENCE_S)
    lone.close()
    replica.tell(replica.open.set)
    assert call.result(PATIENCE_S) == [2.0, 4.0]
    replica.wait_for_lanes(1)
    with pytest.raises(NotHere):
        ask(lone, replica)
