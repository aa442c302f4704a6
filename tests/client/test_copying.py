"""Copies that callers on the cluster make, and what the controller hears of them."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest

from serving_app.client.copy_limits import Limits
from serving_app.client.copying import Copying
from serving_app.core.comparison import Comparison, read_comparison
from serving_app.core.errors import InvalidArgument, Unavailable
from serving_app.core.metrics import Snapshot, add_to
from serving_app.core.routing import ModelRoutes, Route, RouteTable, resolve
from serving_app.core.servable import ModelSpec, ServableId
from serving_app.core.signatures import DType, Signature, TensorSpec
from serving_app.core.traffic import Mirror, Traffic
from serving_app.protocol.calls import Call, Outputs
from tests.stepping import Actor, until

SPEC = TensorSpec("x:0", DType.FLOAT, (-1,))
SIGNATURES = {"serving_default": Signature({"x": SPEC}, {"y": SPEC})}
ROUTES = {number: Route(ServableId("m", number), f"m-{number}", SIGNATURES) for number in (3, 4)}
TABLE = RouteTable(
    1, {"m": ModelRoutes(ROUTES, {}, (), {"new": Traffic({3: 100.0}, mirror=Mirror(4, 100.0)),
                                          "old": Traffic({3: 100.0})})}
)
CALL = Call("serving_default", {"x": np.array([1.0], np.float32)})
OUTPUTS = {"y": np.array([1.0], np.float32)}


class Controller:
    """What the controller does with what it is told."""

    def __init__(self) -> None:
        self.counts: Snapshot = {}
        self.numbers: list[int] = []
        self.is_away = False

    async def count_copies(self, name: str, number: int, counts: Snapshot) -> None:
        self.numbers.append(number)
        if self.is_away:
            raise Unavailable("the controller is away")
        assert name == "client:1"
        add_to(self.counts, counts)

    @property
    def comparison(self) -> Comparison:
        return read_comparison(self.counts, "m", 3, 4)


class Scene:
    """One caller."""

    def __init__(self, tell_s: float = 0.0) -> None:
        self.controller = Controller()
        self.copies: list[Call] = []
        limits = Limits(late_s=math.inf, busy_share=math.inf)
        self.copying = Copying("client:1", lambda: TABLE, self._begin, self._connect, limits=limits, tell_s=tell_s)

    def _begin(self, route: Route, copy: Call) -> Outputs:
        assert route is ROUTES[4]
        self.copies.append(copy)
        return OUTPUTS

    async def _connect(self) -> Any:
        return Actor(self.controller)

    async def ask(self, label: str, answering: Awaitable[Outputs] | None = None) -> Outputs:
        spec = ModelSpec("m", label=label)
        route = resolve(spec, TABLE)
        return await self.copying.watch(spec, TABLE, route, CALL, answering or self._answer())

    async def _answer(self) -> Outputs:
        return OUTPUTS

    async def fail(self) -> Outputs:
        raise InvalidArgument("no")


def run(scenario: Callable[[Scene], Awaitable[None]]) -> None:
    async def play() -> None:
        scene = Scene()
        try:
            await scenario(scene)
        finally:
            await scene.copying.close()

    asyncio.run(play())


def test_the_controller_hears_of_copies() -> None:
    """Of each once, errors included; the caller gets its own answers and errors."""

    async def scenario(scene: Scene) -> None:
        assert await scene.ask("new") is OUTPUTS
        with pytest.raises(InvalidArgument, match="no"):
            await scene.ask("new", scene.fail())
        await until(lambda: scene.controller.comparison.requests == 2)
        assert await scene.ask("new") is OUTPUTS
        await until(lambda: scene.controller.comparison.requests == 3)
        found = scene.controller.comparison
        assert (found.compared, found.different, found.only_candidate_answered) == (2, 0, 1)
        assert scene.controller.numbers == sorted(set(scene.controller.numbers))

    run(scenario)


def test_what_is_not_to_be_copied() -> None:
    """Costs a look at the table, and nobody is told anything."""

    async def scenario(scene: Scene) -> None:
        assert await scene.ask("old") is OUTPUTS
        with pytest.raises(InvalidArgument):
            await scene.ask("old", scene.fail())
        await scene.copying.close()
        assert not scene.copies
        assert not scene.controller.numbers

    run(scenario)


def test_a_controller_that_is_away() -> None:
    """What it is not told then is lost, and no request is; what comes later is told."""

    async def scenario(scene: Scene) -> None:
        scene.controller.is_away = True
        await scene.ask("new")
        await until(lambda: bool(scene.controller.numbers))
        scene.controller.is_away = False
        await scene.ask("new")
        await until(lambda: scene.controller.comparison.requests == 1)

    run(scenario)


def test_the_end_tells_what_is_left() -> None:
    """A caller that leaves brings what it has counted since it told last."""

    async def scenario() -> None:
        scene = Scene(tell_s=1000.0)
        await scene.ask("new")
        counted = scene.copying._registry.counts
        await until(lambda: read_comparison(counted(), "m", 3, 4).requests == 1)
        await scene.copying.close()
        assert scene.controller.comparison.requests == 1

    asyncio.run(scenario())
