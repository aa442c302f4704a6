"""Hops on lanes and by handles: what a lost replica, a failing one and an unknown one mean for the calls under way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from ray.exceptions import ActorDiedError, RayTaskError
from ray.serve.exceptions import DeploymentUnavailableError, RayServeException

from serving_app.client.callers import Callers
from serving_app.core.errors import Internal, NotFound, Unavailable
from serving_app.core.routing import ModelRoutes, Route, RouteTable
from serving_app.core.servable import ServableId
from serving_app.protocol.calls import Answer, Call
from serving_app.ray_private import INLINE_LIMIT_BYTES
from serving_app.serve.lane_server import LaneServer
from tests.stepping import PATIENCE_S, until


class Handle:
    """A Serve handle as far as hops use it; what a call does is the test's."""

    def __init__(self, app: str, answer: Callable[[list[Call]], Answer]) -> None:
        self.app = app
        self._answer = answer
        self.ways: list[bool] = []
        self.method: str | None = None

    def options(self, *, method_name: str, _by_reference: bool, **serialization: str) -> Any:
        way = Handle(self.app, self._answer)
        way.method = method_name
        way.ways = self.ways
        way.by_reference = _by_reference  # type: ignore[attr-defined]
        return way

    def running_replicas_populated(self) -> bool:
        return True

    async def remote(self, calls: list[Call]) -> Answer:
        assert self.method == "predict_many"
        self.ways.append(self.by_reference)  # type: ignore[attr-defined]
        return self._answer(calls)


class Serve:
    """Opens handles; keeps which."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.opened: list[Handle] = []
        self.outcomes: list[BaseException] = []
        self.closed: list[str] = []
        monkeypatch.setattr("serving_app.ray_private.open_handle", self._open)
        monkeypatch.setattr("serving_app.ray_private.close_handle", self._close)

    async def _open(self, app: str) -> Handle:
        handle = Handle(app, self._answer)
        self.opened.append(handle)
        return handle

    async def _close(self, app: str, handle: Handle) -> None:
        assert handle.app == app
        self.closed.append(app)

    def _answer(self, calls: list[Call]) -> Answer:
        if self.outcomes:
            raise self.outcomes.pop(0)
        return Answer([{"y": call.inputs["x"]} for call in calls], 0.0)

    @property
    def ways(self) -> list[bool]:
        """Of every hop, whether it went by reference."""
        return [way for handle in self.opened for way in handle.ways]


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Serve:
    return Serve(monkeypatch)


ONE = Call("serving_default", {"x": np.ones(1)})


def route(app: str) -> Route:
    return Route(ServableId(app, 1), app, {})


def table(revision: int, *apps: str) -> RouteTable:
    return RouteTable(revision, {app: ModelRoutes({1: route(app)}) for app in apps})


def remote_error(cause: Exception) -> BaseException:
    """What a handle raises for something that a replica raised."""
    text = f'Traceback (most recent call last):\n  File "replica.py", line 1\n{cause!r}'
    return RayTaskError("predict_many", text, cause).as_instanceof_cause()


@pytest.mark.parametrize(
    "lost", [ActorDiedError(), DeploymentUnavailableError(None), RayServeException("a replica went away")]
)
def test_a_replica_that_is_lost_means_one_more_try(serve: Serve, lost: Exception) -> None:
    """The calls of a hop whose replica dies are answered by another one, found through a new handle."""

    async def scenario() -> None:
        serve.outcomes = [lost]
        assert (await Callers().find(route("app")).call(ONE))["y"].tolist() == [1.0]
        assert len(serve.opened) == 2

    asyncio.run(scenario())


def test_without_any_replica_the_calls_are_told_so(serve: Serve) -> None:
    """When the second try is lost as well the calls fail as unavailable; the next call is tried anew."""

    async def scenario() -> None:
        serve.outcomes = [ActorDiedError(), ActorDiedError()]
        caller = Callers().find(route("app"))
        with pytest.raises(Unavailable, match="no replica of app answered; try again"):
            await caller.call(ONE)
        assert (await caller.call(ONE))["y"].tolist() == [1.0]

    asyncio.run(scenario())


def test_what_a_replica_raises_shows_no_stack(serve: Serve) -> None:
    """An exception in a replica is not tried again; its type and text reach the client, Ray's stack does not."""

    async def scenario() -> None:
        caller = Callers().find(route("app"))
        serve.outcomes = [remote_error(ValueError("odd"))]
        with pytest.raises(Internal) as caught:
            await caller.call(ONE)
        assert caught.value.message == "ValueError: odd"
        serve.outcomes = [remote_error(NotFound("not here"))]
        with pytest.raises(NotFound, match=r"^not here$"):
            await caller.call(ONE)
        assert len(serve.ways) == 2

    asyncio.run(scenario())


def test_large_calls_go_by_reference(serve: Serve) -> None:
    """Up to the limit a call travels in the request, above it through the object store."""

    async def scenario() -> None:
        caller = Callers().find(route("app"))
        for size in (INLINE_LIMIT_BYTES, INLINE_LIMIT_BYTES + 1):
            await caller.call(Call("serving_default", {"x": np.zeros(size, np.uint8)}))
        assert serve.ways == [False, True]

    asyncio.run(scenario())


def test_the_way_is_known_before_the_first_request(serve: Serve) -> None:
    """Preparing for a table opens a handle per application that is new in it, once, and requests open none."""

    async def scenario() -> None:
        callers = Callers()
        await callers.prepare(table(1, "a", "b"))
        await callers.prepare(table(2, "a", "b", "c"))
        assert sorted(handle.app for handle in serve.opened) == ["a", "b", "c"]
        kept = callers.find(route("a"))
        await kept.call(ONE)
        assert len(serve.opened) == 3
        assert callers.find(route("a")) is kept

    asyncio.run(scenario())


def test_callers_are_let_go_when_nobody_uses_them(serve: Serve) -> None:
    """A caller whose application no table names stays while calls are under way, and goes with a later table, and its
    handle with it.
    """

    async def scenario() -> None:
        callers = Callers()
        await callers.prepare(table(1, "a"))
        caller = callers.find(route("a"))
        call = asyncio.create_task(caller.call(ONE))
        await asyncio.sleep(0)
        await callers.prepare(table(2))
        assert callers.find(route("a")) is caller
        await call
        await until(lambda: caller.is_idle)
        assert serve.closed == []
        await callers.prepare(table(3))
        await until(lambda: serve.closed == ["a"])
        assert callers.find(route("a")) is not caller

    asyncio.run(scenario())


def test_a_table_with_an_unknown_application_is_followed_all_the_same(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What fails while preparing is logged; requests to other applications do not suffer from it."""

    async def missing(app: str) -> Any:
        raise RayServeException(f"{app} does not exist")

    async def scenario() -> None:
        monkeypatch.setattr("serving_app.ray_private.open_handle", missing)
        await Callers().prepare(table(1, "a"))
        assert "a: no replica is known yet" in caplog.text

    asyncio.run(scenario())


class LaneReplica:
    """A replica that lanes lead to; its answers are told from those of handles by their size."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.open.set()
        self.hops = 0
        self.server = LaneServer("a", "r", lambda _, calls: self.predict_many(calls), lambda: 8)

    async def predict_many(self, calls: Sequence[Call]) -> Answer:
        self.hops += 1
        await self.open.wait()
        return Answer([{"y": np.zeros(7)} for _ in calls], 0.0)


async def with_lane(serve: Serve) -> tuple[Callers, LaneReplica]:
    """A caller of "a" with a lane to its only replica."""
    replica = LaneReplica()
    callers = Callers(node="node")
    await callers.prepare(replace(table(1, "a"), doors={"a": (await replica.server.open("node", "127.0.0.1"),)}))
    return callers, replica


def test_calls_take_a_lane_where_one_leads(serve: Serve) -> None:
    """With a door in the table no handle is used; what a lane cannot carry takes the handle."""

    async def scenario() -> None:
        callers, replica = await with_lane(serve)
        assert (await callers.find(route("a")).call(ONE))["y"].size == 7
        assert serve.ways == []
        odd = Call("serving_default", {"x": np.array(["2020"], "M8[D]")})
        assert (await callers.find(route("a")).call(odd))["y"].size == 1
        assert serve.ways == [False]
        await callers.prepare(table(2))
        await replica.server.close(PATIENCE_S)

    asyncio.run(scenario())


@pytest.mark.parametrize("is_handle_lost", [False, True])
def test_calls_whose_lane_breaks_are_sent_once_more_elsewhere(serve: Serve, is_handle_lost: bool) -> None:
    """A replica that dies under a hop: the hop goes by the handle, once; one more loss and the calls are told."""

    async def scenario() -> None:
        callers, replica = await with_lane(serve)
        replica.open.clear()
        serve.outcomes = [ActorDiedError()] if is_handle_lost else []
        call = asyncio.create_task(callers.find(route("a")).call(ONE))
        await until(lambda: replica.hops == 1)
        for server in replica.server._servers:
            server.close()
        for lane in list(replica.server.lanes):
            lane.close()
        if is_handle_lost:
            with pytest.raises(Unavailable, match="no replica of a answered"):
                await call
        else:
            assert (await call)["y"].size == 1
        await replica.server.close(PATIENCE_S)
        await callers.prepare(table(2))

    asyncio.run(scenario())


def test_a_replica_that_says_good_bye_loses_nothing(serve: Serve) -> None:
    """Calls under way are answered on the lane, later ones go by the handle."""

    async def scenario() -> None:
        callers, replica = await with_lane(serve)
        replica.open.clear()
        under_way = asyncio.create_task(callers.find(route("a")).call(ONE))
        await until(lambda: replica.hops == 1)
        going = asyncio.create_task(replica.server.close(PATIENCE_S))
        await until(lambda: callers._hops["a"].count_replicas() == 1)
        await until(lambda: not any(lane.is_open for lane in callers._hops["a"].lanes._lanes))
        assert (await callers.find(route("a")).call(ONE))["y"].size == 1
        replica.open.set()
        assert (await under_way)["y"].size == 7
        await going

    asyncio.run(scenario())


def test_lanes_are_closed_with_the_connection(serve: Serve) -> None:
    """Who calls no more leaves no lane behind, nor what would open one again; what is under way is answered."""

    async def scenario() -> None:
        callers, replica = await with_lane(serve)
        replica.open.clear()
        under_way = asyncio.create_task(callers.find(route("a")).call(ONE))
        await until(lambda: replica.hops == 1)
        callers.close_lanes()
        replica.open.set()
        assert (await under_way)["y"].size == 7
        await until(lambda: not replica.server.lanes)
        assert not callers._hops["a"].lanes._keepers
        await replica.server.close(PATIENCE_S)

    asyncio.run(scenario())
