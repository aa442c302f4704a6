"""Lanes from end to end, over real sockets: answers, losses, good-byes, limits, and who is let in."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import socket
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uvloop

from serving_app.client import lane_set
from serving_app.client.lane import Lane, LaneBusy, LaneLost, open_lane
from serving_app.client.lane_set import LaneSet
from serving_app.core.door import Door
from serving_app.core.errors import Internal, InvalidArgument, Unavailable
from serving_app.protocol.calls import Answer, Call, Reply
from serving_app.protocol.lane_frames import Kind, header, hello
from serving_app.serve import lane_server
from serving_app.serve.lane_server import LaneServer, make_socket_path
from tests.stepping import PATIENCE_S, turns, until

NODE = "node"


class Model:
    """What stands behind a server: doubles x; waits while it is closed; keeps what came and what was given up."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.open.set()
        self.came: list[list[float]] = []
        self.given_up = 0
        self.error: BaseException | None = None

    async def predict_many(self, calls: Sequence[Call]) -> Answer:
        self.came.append([float(call.inputs["x"].ravel()[0]) for call in calls])
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            self.given_up += 1
            raise
        if self.error is not None:
            raise self.error
        return Answer([self._reply(call.inputs["x"]) for call in calls], 0.5)

    def _reply(self, x: np.ndarray[Any, Any]) -> Reply:
        return InvalidArgument("below zero") if x.ravel()[0] < 0 else {"y": 2 * x}


class Replica:
    """A model behind a door."""

    def __init__(self, name: str, max_hops: int = 100) -> None:
        self.model = Model()
        self.max_hops = max_hops
        self.server = LaneServer("app", name, lambda _, calls: self.model.predict_many(calls), lambda: self.max_hops)

    async def open(self) -> Door:
        self.door = await self.server.open(NODE, "127.0.0.1")
        return self.door

    def die(self) -> None:
        """End as a process does that is killed: nobody is told, and the socket stays."""
        for server in self.server._servers:
            server.close()
        for lane in list(self.server.lanes):
            assert lane._transport is not None
            lane._transport.abort()


def x(*values: float) -> list[Call]:
    return [Call("s", {"x": np.array([value])}) for value in values]


def seen(answer: Answer) -> list[Any]:
    return [reply["y"].tolist()[0] if isinstance(reply, dict) else type(reply) for reply in answer.replies]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Sockets of these tests are apart from all others; lanes are tried again at once."""
    monkeypatch.setattr("tempfile.gettempdir", lambda: f"/tmp/{os.path.basename(tmp_path)[:20]}-{os.getpid()}")
    monkeypatch.setattr(lane_set, "_FIRST_PAUSE_S", 0.001)
    place = Path(lane_server.tempfile.gettempdir())
    place.mkdir()
    yield place
    for each in place.glob("*/*"):
        each.unlink()
    for each in place.glob("*"):
        each.rmdir()
    place.rmdir()


def play(scenario: Callable[[], Awaitable[None]], make_loop: Callable[[], Any] = asyncio.new_event_loop) -> None:
    async def timed() -> None:
        async with asyncio.timeout(PATIENCE_S):
            await scenario()
            await turns()  # what was closed last is closed for good in the next turn of the loop

    with asyncio.Runner(loop_factory=make_loop) as runner:
        runner.run(timed())
    gc.collect()  # what was left open is this test's, and no other's


async def connect(door: Door, node: str = NODE) -> Lane:
    return await open_lane(door, node, lambda: None)


async def lanes(*doors: Door, node: str = NODE) -> LaneSet:
    found = LaneSet("app", node)
    found.follow(doors)
    await found.prepare()
    return found


async def ask(found: LaneSet, calls: list[Call]) -> Answer:
    lane = await found.take()
    assert lane is not None
    return await lane.ask(calls)


@pytest.mark.parametrize("make_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
@pytest.mark.parametrize("node", [NODE, "another"])
def test_calls_are_answered(make_loop: Callable[[], Any], node: str) -> None:
    """Hops of every size come back answered, by the UNIX socket on the same node and by TCP from another."""

    async def scenario() -> None:
        replica = Replica("r")
        lane = await connect(await replica.open(), node)
        assert lane._transport is not None
        family = lane._transport.get_extra_info("socket").family
        assert family == (socket.AF_UNIX if node == NODE else socket.AF_INET)
        assert seen(await lane.ask(x(1, -1, 2))) == [2, InvalidArgument, 4]
        image = np.ones((600, 600), np.float32)
        many = await asyncio.gather(*(lane.ask([Call("s", {"x": value * image})]) for value in range(5)))
        assert [answer.replies[0]["y"].sum() for answer in many] == [2 * value * image.size for value in range(5)]
        assert many[0].seconds == 0.5
        assert lane.calls == 0
        lane.close()
        await replica.server.close(1.0)

    play(scenario, make_loop)


def test_a_hop_that_fails_as_a_whole_says_why() -> None:
    """What the replica raises reaches the caller as the error that it is, as through a handle, and the lane goes on."""

    async def scenario() -> None:
        replica = Replica("r")
        lane = await connect(await replica.open())
        for error, kind in ((ValueError("odd"), Internal), (Unavailable("later"), Unavailable),
                            (asyncio.CancelledError(), Unavailable)):
            replica.model.error = error
            with pytest.raises(kind):
                await lane.ask(x(1))
        replica.model.error = None
        assert seen(await lane.ask(x(1))) == [2]
        lane.close()
        await replica.server.close(1.0)

    play(scenario)


def test_a_hop_that_nobody_waits_for_is_given_up() -> None:
    """A caller that is cancelled has the replica stop, at once; other hops on the lane are answered."""

    async def scenario() -> None:
        replica = Replica("r")
        lane = await connect(await replica.open())
        replica.model.open.clear()
        one, other = asyncio.create_task(lane.ask(x(1))), asyncio.create_task(lane.ask(x(2)))
        await until(lambda: len(replica.model.came) == 2)
        one.cancel()
        await until(lambda: replica.model.given_up == 1)
        await until(lambda: replica.server.hops == 1)
        replica.model.open.set()
        assert seen(await other) == [4]
        # One that is sent and given up in the same breath is not even begun.
        replica.model.open.clear()
        hasty = asyncio.create_task(lane.ask(x(3)))
        await asyncio.sleep(0)
        hasty.cancel()
        replica.model.open.set()
        assert seen(await lane.ask(x(4))) == [8]
        await until(lambda: replica.server.hops == 0)
        assert lane.calls == 0
        lane.close()
        await replica.server.close(1.0)

    play(scenario)


def test_what_is_under_way_is_lost_with_the_replica_and_said_to_be() -> None:
    """When a replica dies each hop under way fails as lost, those after it too, and the set knows no lane any more."""

    async def scenario() -> None:
        replica = Replica("r")
        found = await lanes(await replica.open())
        replica.model.open.clear()
        hops = [asyncio.create_task(ask(found, x(value))) for value in range(3)]
        await until(lambda: len(replica.model.came) == 3)
        lane = await found.take()
        assert lane is not None
        replica.die()
        assert [type(each) for each in await asyncio.gather(*hops, return_exceptions=True)] == [LaneLost] * 3
        with pytest.raises(LaneLost):
            await lane.ask(x(1))
        assert await found.take() is None
        assert replica.model.given_up == 3
        found.close()

    play(scenario)


def test_a_lane_comes_back() -> None:
    """A lane that broke while its door is named is opened again as soon as somebody is there."""

    async def scenario() -> None:
        replica = Replica("r")
        found = await lanes(await replica.open())
        for lane in list(replica.server.lanes):
            lane.close()
        await until(lambda: len(found) == 0)
        await until(lambda: len(found) == 1)
        assert seen(await ask(found, x(1))) == [2]
        found.close()
        await replica.server.close(1.0)

    play(scenario)


def test_good_byes_lose_nothing() -> None:
    """A replica that goes has callers go elsewhere, answers what it has, and is not asked again; nothing fails."""

    async def scenario() -> None:
        one, other = Replica("1"), Replica("2")
        found = await lanes(await one.open(), await other.open())
        one.model.open.clear()
        other.model.open.clear()
        hops = [asyncio.create_task(ask(found, x(value))) for value in range(10)]
        await until(lambda: len(one.model.came) == len(other.model.came) == 5)
        going = asyncio.create_task(one.server.close(PATIENCE_S))
        await until(lambda: len([lane for lane in found._lanes if lane.is_open]) == 1)
        more = [asyncio.create_task(ask(found, x(value))) for value in range(10, 20)]
        await until(lambda: len(other.model.came) == 15)
        assert not going.done()
        one.model.open.set()
        other.model.open.set()
        answers = await asyncio.gather(*hops, *more)
        assert [seen(answer) for answer in answers] == [[2 * value] for value in range(20)]
        await going
        assert len(one.model.came) == 5
        assert len(found) == 1
        await turns()
        assert len(found) == 1
        found.close()
        await other.server.close(1.0)

    play(scenario)


def test_a_replica_that_goes_does_not_wait_for_ever() -> None:
    """A hop that is not finished within the time to drain is given up, and its caller told."""

    async def scenario() -> None:
        replica = Replica("r")
        lane = await connect(await replica.open())
        replica.model.open.clear()
        hop = asyncio.create_task(lane.ask(x(1)))
        await until(lambda: bool(replica.model.came))
        await replica.server.close(0.01)
        with pytest.raises(LaneLost):
            await hop

    play(scenario)


def test_a_replica_that_goes_does_not_wait_for_callers_that_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    """A caller that has all its answers and does not close its lane holds nobody up, however long draining may take."""
    monkeypatch.setattr(lane_server, "_FAREWELL_S", 0.01)

    async def scenario() -> None:
        replica = Replica("r")
        door = await replica.open()
        _reader, writer = await asyncio.open_connection(door.host, door.port)
        writer.write(hello(door.secret))
        await until(lambda: bool(replica.server.lanes))
        await replica.server.close(10 * PATIENCE_S)
        writer.close()

    play(scenario)


def test_work_goes_where_there_is_least() -> None:
    """Of several replicas the one with the fewest calls under way is asked; a full one is passed over."""

    async def scenario() -> None:
        one, other = Replica("1", max_hops=1), Replica("2")
        found = await lanes(await one.open(), await other.open())
        for each in (one, other):
            each.model.open.clear()
        hops = [asyncio.create_task(ask(found, x(*range(5))))]
        await until(lambda: len(one.model.came) + len(other.model.came) == 1)
        for count in range(2, 8):
            hops.append(asyncio.create_task(ask(found, x(1))))
            await until(lambda count=count: len(one.model.came) + len(other.model.came) == count)  # type: ignore[misc]
        assert len(one.model.came) == 1
        for each in (one, other):
            each.model.open.set()
        await asyncio.gather(*hops)
        found.close()
        await asyncio.gather(one.server.close(1.0), other.server.close(1.0))

    play(scenario)


def test_a_replica_takes_no_more_than_it_may() -> None:
    """Callers send what a replica takes and wait with the rest; what comes in excess from several is refused whole, and
    a limit that has changed is told."""

    async def scenario() -> None:
        replica = Replica("r", max_hops=2)
        door = await replica.open()
        found, stranger = await lanes(door), await connect(door)
        replica.model.open.clear()
        hops = [asyncio.create_task(ask(found, x(value))) for value in range(5)]
        await until(lambda: len(replica.model.came) == 2)
        with pytest.raises(LaneBusy):
            await stranger.ask(x(9))
        replica.max_hops = 4
        third = asyncio.create_task(stranger.ask(x(3)))
        await until(lambda: len(replica.model.came) == 3)
        assert stranger.max_hops == 4
        replica.model.open.set()
        assert [seen(each) for each in await asyncio.gather(*hops)] == [[2 * value] for value in range(5)]
        assert seen(await third) == [6]
        assert [9.0] not in replica.model.came
        stranger.close()
        found.close()
        await replica.server.close(1.0)

    play(scenario)


@pytest.mark.parametrize("node", [NODE, "another"])
def test_who_does_not_know_the_secret_is_refused(node: str, caplog: pytest.LogCaptureFixture) -> None:
    """With another secret nobody is let in, and nothing that is sent is run."""

    async def scenario() -> None:
        replica = Replica("r")
        door = await replica.open()
        for secret in (b"", b"guess", door.secret + b"x", door.secret[:-1]):
            with pytest.raises(ConnectionRefusedError, match="r does not let us in"):
                await connect(replace(door, secret=secret), node)
        assert "it does not know the secret" in caplog.text
        assert not replica.server.lanes
        await replica.server.close(1.0)

    play(scenario)


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (b"GET / HTTP/1.1\r\nHost: here\r\n\r\n", "is"),
        (header(Kind.HOP, 1), "HOP is not what a caller sends first"),
        (header(Kind.HELLO, 0, 1 << 20), "too large"),
        (None, "ANSWER is not what a caller sends here"),
    ],
)
def test_what_makes_no_sense_ends_the_connection(
    sent: bytes | None, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever speaks otherwise is shut out with a reason in the log; others do not notice."""

    async def scenario() -> None:
        replica = Replica("r")
        door = await replica.open()
        lane = await connect(door)
        reader, writer = await asyncio.open_connection(door.host, door.port)
        writer.write(hello(door.secret) + header(Kind.ANSWER, 1) if sent is None else sent)
        with contextlib.suppress(ConnectionError):
            await reader.read()
        assert reason in caplog.text
        assert seen(await lane.ask(x(1))) == [2]
        writer.close()
        lane.close()
        await replica.server.close(1.0)

    play(scenario)


def test_an_answer_that_is_none_is_a_loss() -> None:
    """A replica that answers nonsense is left, and the hop counts as lost, so that another one is asked."""

    async def scenario() -> None:
        replica = Replica("r")
        lane = await connect(await replica.open())
        (far,) = replica.server.lanes
        replica.model.open.clear()
        hop = asyncio.create_task(lane.ask(x(1)))
        await until(lambda: bool(replica.model.came))
        far._write(header(Kind.ANSWER, 1, 3) + b"???")
        with pytest.raises(LaneLost, match="gave an answer that is none"):
            await hop
        await until(lane.ended.done)
        replica.model.open.set()
        await replica.server.close(1.0)

    play(scenario)


def test_a_stale_door_does_no_harm() -> None:
    """A door whose replica is gone, or behind which another one lives by now, holds nobody up."""

    async def scenario() -> None:
        one, other = Replica("1"), Replica("2")
        stale = await one.open()
        await one.server.close(1.0)
        door = await other.open()
        strangers = replace(door, replica="3", secret=b"another")
        found = await lanes(stale, strangers, door)
        assert len(found) == 1
        assert seen(await ask(found, x(1))) == [2]
        found.follow([door])
        assert len(found._keepers) == 1
        found.close()
        await other.server.close(1.0)

    play(scenario)


def test_tables_without_doors_close_no_lanes() -> None:
    """When a table names no doors, as after a restart of the controller, open lanes go on; when it names others, the
    ones left out are closed as soon as what is under way on them is answered."""

    async def scenario() -> None:
        one, other = Replica("1"), Replica("2")
        doors = [await one.open(), await other.open()]
        found = await lanes(*doors)
        found.follow(())
        await turns()
        assert len(found) == 2
        one.model.open.clear()
        lane = next(each for each in found._lanes if each.door == doors[0])
        hop = asyncio.create_task(lane.ask(x(1)))
        await until(lambda: bool(one.model.came))
        found.follow(doors[1:])
        for value in range(4):
            assert seen(await ask(found, x(value))) == [2 * value]
        one.model.open.set()
        assert seen(await hop) == [2]
        await until(lambda: len(found) == 1)
        found.close()
        await asyncio.gather(one.server.close(1.0), other.server.close(1.0))

    play(scenario)


def test_sockets_of_replicas_that_were_killed_are_removed(folder: Path) -> None:
    """What nobody answers at any more goes when the next replica comes; what is young or answers stays."""
    old, young = Path(make_socket_path()), Path(make_socket_path())
    for path in (old, young):
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(str(path))
    with socket.socket(socket.AF_UNIX) as used:
        used.bind(str(old) + "2")
        used.listen()
        hour_ago = time.time() - 3600
        for each in (str(old), str(old) + "2"):
            os.utime(each, (hour_ago, hour_ago))
        make_socket_path()
    assert sorted(each.name for each in old.parent.iterdir()) == sorted([young.name, old.name + "2"])


def test_a_directory_that_others_can_enter_is_not_used(folder: Path) -> None:
    """A directory that somebody else prepared gets no socket: the replica is then called by TCP."""
    place = Path(make_socket_path()).parent
    place.chmod(0o777)
    with pytest.raises(PermissionError, match="is not a directory of this user alone"):
        make_socket_path()

    async def scenario() -> None:
        replica = Replica("r")
        door = await replica.open()
        assert door.path is None
        lane = await connect(door)
        assert seen(await lane.ask(x(1))) == [2]
        lane.close()
        await replica.server.close(1.0)

    play(scenario)


class Deaf:
    """A process at a door that lets callers in and is stopped then: it reads nothing more, until it goes on."""

    def __init__(self, name: str) -> None:
        self.replica = Replica(name)

    async def open(self) -> Door:
        return await self.replica.open()

    def stop(self) -> None:
        for lane in self.replica.server.lanes:
            assert lane._transport is not None
            lane._transport.pause_reading()

    def go_on(self) -> None:
        for lane in self.replica.server.lanes:
            assert lane._transport is not None
            lane._transport.resume_reading()


@pytest.mark.parametrize("make_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_hops_do_not_pile_up_for_a_replica_that_reads_nothing(make_loop: Callable[[], Any]) -> None:
    """What is sent to a replica that hangs and given up takes bounded memory: after that hops wait, and leave when it
    goes on."""

    async def scenario() -> None:
        deaf = Deaf("r")
        found = await lanes(await deaf.open())
        deaf.stop()
        image = [Call("s", {"x": np.ones(1 << 18)})]
        unsent = []
        for _ in range(20):
            hop = asyncio.create_task(ask(found, image))
            await turns()
            hop.cancel()
            unsent.append(found._lanes[0]._transport.get_write_buffer_size())  # type: ignore[union-attr]
        assert max(unsent) < 12 << 20
        last = asyncio.create_task(ask(found, x(1)))
        await turns()
        deaf.go_on()
        assert seen(await last) == [2]
        found.close()
        await deaf.replica.server.close(1.0)

    play(scenario, make_loop)


def test_a_replica_that_hangs_is_not_preferred_for_having_answered_nothing() -> None:
    """Calls that were called off count until there is a sign of life: another replica gets what comes next, and the one
    that hung gets its share again when it goes on."""

    async def scenario() -> None:
        deaf, other = Deaf("1"), Replica("2")
        found = await lanes(await deaf.open(), await other.open())
        deaf.stop()
        other.model.open.clear()
        hops = [asyncio.create_task(ask(found, x(value))) for value in range(8)]
        await until(lambda: len(other.model.came) == 4)
        (hung,) = [lane for lane in found._lanes if lane.door.replica == "1"]
        for hop in hops:
            hop.cancel()
        await until(lambda: other.model.given_up == 4)
        await until(lambda: sum(lane.unheard for lane in found._lanes) == 4)
        other.model.open.set()
        for value in range(20):
            assert seen(await ask(found, x(value))) == [2 * value]
        assert hung.calls == 0
        deaf.go_on()
        await until(lambda: hung.unheard == 0)
        while not any(len(came) == 1 and came[0] >= 100 for came in deaf.replica.model.came):
            await ask(found, x(100))
        found.close()
        await asyncio.gather(deaf.replica.server.close(1.0), other.server.close(1.0))

    play(scenario)
