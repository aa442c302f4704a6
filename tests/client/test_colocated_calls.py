"""Calls of colocated versions from other processes: which gateway they reach, and what a lost one means for them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from ray.exceptions import ActorDiedError, RayTaskError

from serving_app.client.callers import Callers
from serving_app.core.errors import NotFound, Unavailable
from serving_app.core.placement import Placement
from serving_app.core.routing import ModelRoutes, Route, RouteTable
from serving_app.core.servable import ServableId
from serving_app.protocol.calls import Answer, Call
from serving_app.ray_private import INLINE_LIMIT_BYTES
from serving_app.serve.lane_server import LaneServer
from tests.stepping import PATIENCE_S

ONE, TWO = ServableId("m", 1), ServableId("m", 2)
SMALL = Call("serving_default", {"x": np.ones(1)})
LARGE = Call("serving_default", {"x": np.ones(INLINE_LIMIT_BYTES)})


class Gateways:
    """The handle to the gateways' application, and what was asked by it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.opened: list[str] = []
        self.asked: list[tuple[ServableId, bool]] = []
        self.outcomes: list[BaseException] = []
        monkeypatch.setattr("serving_app.ray_private.open_handle", self._open)
        monkeypatch.setattr("serving_app.ray_private.close_handle", self.close)
        monkeypatch.setattr("serving_app.ray_private.node_id", lambda: "node")
        monkeypatch.setattr("serving_app.client.hops._PAUSE_S", 0.0)

    async def _open(self, app: str) -> Any:
        self.opened.append(app)
        return self

    async def close(self, app: str, _handle: Any) -> None:
        """Nothing is to be closed."""

    def options(self, *, method_name: str, _by_reference: bool, **_: str) -> Any:
        assert method_name == "predict_colocated"
        return _Way(self, _by_reference)


class _Way:
    def __init__(self, gateways: Gateways, by_reference: bool) -> None:
        self._gateways, self._by_reference = gateways, by_reference

    def running_replicas_populated(self) -> bool:
        return True

    async def remote(self, servable: ServableId, calls: list[Call]) -> Answer:
        self._gateways.asked.append((servable, self._by_reference))
        if self._gateways.outcomes:
            raise self._gateways.outcomes.pop(0)
        return Answer([{"y": call.inputs["x"][:1]} for call in calls], 0.0)


@pytest.fixture
def gateways(monkeypatch: pytest.MonkeyPatch) -> Gateways:
    return Gateways(monkeypatch)


def route(servable: ServableId, placement: Placement = Placement.COLOCATED) -> Route:
    return Route(servable, "app", {}, placement)


def test_a_gateway_is_told_which_version_is_meant(gateways: Gateways) -> None:
    """All versions are asked by one handle; large calls go by reference."""

    async def scenario() -> None:
        callers = Callers()
        for servable, call in ((ONE, SMALL), (TWO, SMALL), (ONE, LARGE)):
            assert (await callers.find(route(servable)).call(call))["y"].tolist() == [1.0]
        assert gateways.asked == [(ONE, False), (TWO, False), (ONE, True)]
        assert gateways.opened == ["app"]

    asyncio.run(scenario())


def test_a_gateway_that_is_lost_means_another_try(gateways: Gateways) -> None:
    """The calls are answered by another one, found through a new handle; without any they are told so."""

    async def scenario() -> None:
        caller = Callers().find(route(ONE))
        gateways.outcomes = [ActorDiedError()]
        assert (await caller.call(SMALL))["y"].tolist() == [1.0]
        assert gateways.opened == ["app", "app"]
        gateways.outcomes = [ActorDiedError()] * 2
        with pytest.raises(Unavailable, match="no gateway of app answered; try again"):
            await caller.call(SMALL)

    asyncio.run(scenario())


def test_what_a_gateway_raises_is_not_tried_again(gateways: Gateways) -> None:
    """Its type and text reach the caller, Ray's stack does not."""

    async def scenario() -> None:
        text = 'Traceback (most recent call last):\n  File "gateway.py", line 1'
        gateways.outcomes = [RayTaskError("predict_colocated", text, NotFound("not here")).as_instanceof_cause()]
        with pytest.raises(NotFound, match=r"^not here$"):
            await Callers().find(route(ONE)).call(SMALL)
        assert len(gateways.asked) == 1

    asyncio.run(scenario())


def test_calls_take_a_lane_where_one_leads(gateways: Gateways) -> None:
    """With a door in the table no handle is used, and the gateway behind it is told which version is meant."""
    came: list[ServableId | None] = []

    async def answer(servable: ServableId | None, calls: Sequence[Call]) -> Answer:
        came.append(servable)
        return Answer([{"y": np.zeros(7)} for _ in calls], 0.0)

    async def scenario() -> None:
        server = LaneServer("app", "g", answer, lambda: 8)
        table = RouteTable(1, {"m": ModelRoutes({1: route(ONE), 2: route(TWO)})})
        callers = Callers(node="node")
        await callers.prepare(replace(table, doors={"app": (await server.open("node", None),)}))
        for servable in (ONE, TWO):
            assert (await callers.find(route(servable)).call(SMALL))["y"].size == 7
        assert came == [ONE, TWO]
        assert gateways.asked == []
        await callers.prepare(RouteTable(2))
        await server.close(PATIENCE_S)

    asyncio.run(scenario())


def test_callers_end_with_their_routes(gateways: Gateways) -> None:
    """A version that no table names any more is let go of; one that has replicas of its own is none of these."""

    async def scenario() -> None:
        callers = Callers()
        first = callers.find(route(ONE))
        both = {1: route(ONE), 2: route(TWO, Placement.DEDICATED)}
        await callers.prepare(RouteTable(1, {"m": ModelRoutes(both)}))
        assert callers.find(route(ONE)) is first
        await callers.prepare(RouteTable(2, {"m": ModelRoutes({1: route(ONE, Placement.DEDICATED)})}))
        assert callers.find(route(ONE)) is not first

    asyncio.run(scenario())
