"""Copies that callers on the cluster make."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable

import numpy as np
import pytest

from serving_app.client.copy_limits import Limits
from serving_app.client.copying import Copying
from serving_app.client.remote_errors import Lost
from serving_app.core.comparison import Comparison, read_comparison
from serving_app.core.errors import InvalidArgument, Unavailable
from serving_app.core.metrics import Registry
from serving_app.core.routing import ModelRoutes, Route, RouteTable, find_candidate, resolve
from serving_app.core.servable import ModelSpec, ServableId
from serving_app.core.signatures import DType, Signature, TensorSpec
from serving_app.core.traffic import Mirror, Traffic
from serving_app.protocol.calls import Call, Outputs
from tests.stepping import until

SPEC = TensorSpec("x:0", DType.FLOAT, (-1,))
SIGNATURES = {"serving_default": Signature({"x": SPEC}, {"y": SPEC})}
ROUTES = {number: Route(ServableId("m", number), f"m-{number}", SIGNATURES) for number in (3, 4)}
TABLE = RouteTable(
    1, {"m": ModelRoutes(ROUTES, {}, (), {"new": Traffic({3: 100.0}, mirror=Mirror(4, 100.0)),
                                          "old": Traffic({3: 100.0})})}
)
CALL = Call("serving_default", {"x": np.array([1.0], np.float32)})
OUTPUTS = {"y": np.array([1.0], np.float32)}


class Scene:
    """One caller."""

    def __init__(self) -> None:
        self.registry = Registry()
        self.copies: list[Call] = []
        limits = Limits(late_s=math.inf, busy_share=math.inf, waiting_share=math.inf, gather_s=0.001)
        self.copying = Copying(self.registry, lambda: TABLE, self._begin, limits)

    def _begin(self, route: Route, copy: Call) -> Outputs:
        assert route is ROUTES[4]
        self.copies.append(copy)
        return OUTPUTS

    async def ask(self, label: str, answering: Awaitable[Outputs] | None = None) -> Outputs:
        return await self.ask_for(label, CALL, answering or self._answer())

    async def ask_for(self, label: str, call: Call, answering: Awaitable[Outputs]) -> Outputs:
        spec = ModelSpec("m", label=label)
        route = resolve(spec, TABLE)
        return await self.copying.watch(route, find_candidate(spec, TABLE, route), call, answering)

    async def _answer(self) -> Outputs:
        return OUTPUTS

    async def fail(self, error: Exception | None = None) -> Outputs:
        raise error or InvalidArgument("no")

    @property
    def comparison(self) -> Comparison:
        return read_comparison(self.registry.counts(), "m", 3, 4)


def run(scenario: Callable[[Scene], Awaitable[None]]) -> None:
    async def play() -> None:
        scene = Scene()
        try:
            await scenario(scene)
        finally:
            scene.copying.close()

    asyncio.run(play())


def test_what_is_to_be_copied() -> None:
    """The copies and what comes of them are counted, errors included; the caller gets its own answers and errors."""

    async def scenario(scene: Scene) -> None:
        assert await scene.ask("new") is OUTPUTS
        with pytest.raises(InvalidArgument, match="no"):
            await scene.ask("new", scene.fail())
        await until(lambda: scene.comparison.requests == 2)
        found = scene.comparison
        assert (found.compared, found.different, found.only_candidate_answered) == (1, 0, 1)
        assert len(scene.copies) == 2

    run(scenario)


def test_memory_that_is_used_again() -> None:
    """A caller may write into its inputs and outputs as soon as it has its answer: copies are of what it asked."""

    async def scenario(scene: Scene) -> None:
        asked, answer = np.array([1.0], np.float32), np.array([1.0], np.float32)

        async def answering() -> Outputs:
            return {"y": answer}

        outputs = await scene.ask_for("new", CALL._replace(inputs={"x": asked}), answering())
        assert outputs["y"] is answer
        asked[:] = answer[:] = 7.0
        await until(lambda: scene.comparison.requests == 1)
        assert scene.comparison.different == 0
        assert scene.copies[0].inputs["x"] == 1.0

    run(scenario)


def test_what_is_tried_again() -> None:
    """Is copied when it has an outcome: once, and not with every try. What may have been done has one."""

    async def scenario(scene: Scene) -> None:
        for error in (Unavailable("nobody is there"), Lost("somebody went away")):
            with pytest.raises(Unavailable):
                await scene.ask("new", scene.fail(error))
        await scene.ask("new")
        await until(lambda: scene.comparison.requests == 2)
        assert (len(scene.copies), scene.comparison.answered) == (2, 1)

    run(scenario)


def test_what_is_not_to_be_copied() -> None:
    """Costs a look at the table, and nothing is counted."""

    async def scenario(scene: Scene) -> None:
        assert await scene.ask("old") is OUTPUTS
        with pytest.raises(InvalidArgument):
            await scene.ask("old", scene.fail())
        scene.copying.close()
        assert await scene.ask("new") is OUTPUTS  # nobody copies any more
        assert not scene.copies
        assert not scene.registry.counts()

    run(scenario)
