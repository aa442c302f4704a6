"""What a gateway holds, by the orders of a colony that lives in the same process."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from threading import Event
from typing import Any

import numpy as np
import pytest

from serving_app.config import ModelConfig
from serving_app.core.actions import StartLoad, StartUnload
from serving_app.core.batching import Batching
from serving_app.core.errors import Code, FailedPrecondition, Unavailable
from serving_app.core.events import Event as Happening
from serving_app.core.events import LoadFailed, ServableGone, ServableLoaded
from serving_app.core.families import LOADS, REPLICAS, RUNNING
from serving_app.core.metrics import Registry
from serving_app.core.placement import Placement
from serving_app.core.routing import ModelRoutes, Route, RouteTable
from serving_app.core.servable import ServableId
from serving_app.host import Assignment
from serving_app.protocol.calls import Call
from serving_app.protocol.joined_calls import join_requests, send_apart
from serving_app.runtime.loader import LoadOptions
from serving_app.serve import residents
from serving_app.serve.assignments import batching_of
from serving_app.serve.colony import Colony
from serving_app.serve.holdings import Admission, Holding, Orders
from serving_app.serve.residents import Residents
from tests.host.scripted import SCRIPTED_PLATFORM, Scripted, ScriptedLoader
from tests.serve.kept import keep_here
from tests.stepping import PATIENCE_S, Actor, turns, until

ONE, TWO = ServableId("m", 1), ServableId("m", 2)
STUCK = "/stuck"


class StuckLoader:
    """Loads for as long as the test wants."""

    begun: list[str] = []  # noqa: RUF012 - the loader is made anew by name, so what it shares lies here
    go = Event()

    def load(self, path: str, options: LoadOptions) -> Scripted:
        self.begun.append(path)
        assert self.go.wait(PATIENCE_S)
        raise FailedPrecondition("it was stuck")


class Facade:
    """What gateways ask of the controller."""

    def __init__(self, colony: Colony) -> None:
        self._colony = colony
        self.progress: list[str] = []
        self.told: list[Holding] = []
        self.listens = asyncio.Event()
        self.listens.set()

    async def poll_holdings(self, gateway: str, have: int) -> Orders | None:
        return await self._colony.poll(gateway, have)

    async def tell_holdings(self, gateway: str, told: Sequence[Holding], is_all: bool, is_member: bool) -> bool:
        await self.listens.wait()
        self.told += told
        return await self._colony.tell(gateway, told, is_all=is_all, is_member=is_member)

    async def tell_holding_progress(self, _ticket: str, message: str) -> None:
        self.progress.append(message)

    async def admit(self, gateway: str) -> Admission:
        return await self._colony.admit(gateway)


class World:
    """A controller, as far as gateways see it, and its gateways."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.events: list[Happening] = []
        self.model = ModelConfig(name="m", base_path="/m", placement="colocated")
        self.workers: list[asyncio.Task[None]] = []
        self.gateways: list[Residents] = []
        self.broken_for: list[str] = []
        self.number = 0
        self.start()

    def start(self) -> None:
        """A controller starts, or starts again."""
        self.number += 1000
        self.colony = Colony("app", lambda _: self.model, self._assign, self.events.append, number=self.number)
        self.facade = Facade(self.colony)
        self.actor = Actor(self.facade)
        self.workers.append(asyncio.create_task(self.colony.work()))

    def crash(self) -> None:
        for worker in self.workers:
            worker.cancel()
        self.actor.lose(ConnectionError("the actor died"))

    async def join(self, name: str = "a", registry: Registry | None = None) -> Residents:
        """A gateway that takes traffic."""
        gateway = await self.come(name, registry)
        await gateway.admit()
        return gateway

    async def come(self, name: str, registry: Registry | None = None) -> Residents:
        async def connect() -> Any:
            return self.actor

        gateway = Residents(name, registry or Registry(), connect)
        self.gateways.append(gateway)
        await gateway.start()
        return gateway

    async def load(self, servable: ServableId = ONE, order: int = 1) -> Scripted:
        """Have a version loaded by all; what the last of them loaded."""
        count = len(self.events)
        self.colony.order([StartLoad(servable, self.path, order=order)])
        await until(lambda: len(self.events) > count)
        assert isinstance(self.events[-1], ServableLoaded)
        return ScriptedLoader.ready[-1]

    def end(self) -> None:
        for gateway in self.gateways:
            gateway.stop()
        for worker in self.workers:
            worker.cancel()

    def _assign(self, servable: ServableId, path: str, model: ModelConfig) -> Assignment:
        platform = {self.path: SCRIPTED_PLATFORM, STUCK: f"{__name__}:StuckLoader"}.get(path, "nothing:of_the_kind")
        return Assignment(servable, self.path, platform, batching=batching_of(model).limits)


Scenario = Callable[[World], Awaitable[None]]


@pytest.fixture
def play(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[[Scenario], None]:
    keep_here(monkeypatch)
    monkeypatch.setattr(residents, "_RETRY_S", 0.001)

    async def run(scenario: Scenario) -> None:
        world = World(str(tmp_path))
        try:
            async with asyncio.timeout(PATIENCE_S):
                await scenario(world)
        finally:
            world.end()
            await turns()

    return lambda scenario: asyncio.run(run(scenario))


async def ask(gateway: Residents, servable: ServableId = ONE, value: float = 1) -> float:
    begun = gateway.begin(servable, Call("serving_default", {"x": np.array([value], np.float32)}))
    outputs = begun if isinstance(begun, dict) else await begun
    return float(outputs["y"][0])


def table(*servables: ServableId, revision: int = 1) -> RouteTable:
    routes = {each.version: Route(each, "app", {}, Placement.COLOCATED) for each in servables}
    return RouteTable(revision, {"m": ModelRoutes(routes)})


def test_a_version_is_loaded_asked_and_unloaded(play: Callable[[Scenario], None]) -> None:
    """The controller hears of each step, and the gateway's metrics tell what it holds."""

    async def scenario(world: World) -> None:
        registry = Registry()
        gateway = await world.join(registry=registry)
        with pytest.raises(Unavailable, match="does not hold m@1 now; try again"):
            gateway.begin(ONE, Call("serving_default", {}))
        model = await world.load()
        assert await ask(gateway) == 2
        answer = await gateway.answer(ONE, [Call("serving_default", {"x": np.array([3], np.float32)})])
        assert [reply["y"].tolist() for reply in answer.replies if isinstance(reply, dict)] == [[6]]
        gauges = registry.gauges()
        assert (gauges[REPLICAS.name], gauges[RUNNING.name]) == ({("m", "1"): 1}, {("m", "1"): 0})
        assert registry.counts()[LOADS.name] == {("m", "OK"): 1}
        assert world.facade.progress == ["loading its files", "warming up"]
        world.colony.order(StartUnload(ONE, 2))
        await until(lambda: world.events[-1] == ServableGone(ONE, 2))
        assert model.closed == 1
        assert registry.gauges()[REPLICAS.name] == {}
        requests = [Call("serving_default", {"x": np.array([each], np.float32)}) for each in (1, 2)]
        for joined in (send_apart(requests, [None, None]), join_requests(requests, [None, None], 2)):
            refused = joined.separate(await gateway.answer(ONE, joined.calls))  # as a whole it would be Lost
            assert [type(reply) for reply in refused] == [Unavailable, Unavailable]

    play(scenario)


def test_an_unload_waits_for_what_runs(play: Callable[[Scenario], None]) -> None:
    """A call that has begun is answered before its version is closed, and the controller waits for that."""

    async def scenario(world: World) -> None:
        gateway = await world.join()
        model = await world.load()
        model.go.clear()
        asked = asyncio.ensure_future(ask(gateway))
        await until(model.running.is_set)
        world.colony.order(StartUnload(ONE, 2))
        await until(model.closing.is_set)
        assert model.closed == 0
        assert len(world.events) == 1
        model.go.set()
        assert await asked == 2
        await until(lambda: world.events[-1] == ServableGone(ONE, 2))

    play(scenario)


def test_a_load_that_fails_is_told_and_tried_anew(play: Callable[[Scenario], None]) -> None:
    """The reason reaches the manager, nothing is left, and the next order begins from the start."""

    async def scenario(world: World) -> None:
        registry = Registry()
        await world.join(registry=registry)
        world.colony.order([StartLoad(ONE, "/somewhere/else", order=1)])
        await until(lambda: bool(world.events))
        [failure] = world.events
        assert isinstance(failure, LoadFailed)
        assert (failure.servable, failure.code, failure.order) == (ONE, Code.FAILED_PRECONDITION, 1)
        assert registry.counts()[LOADS.name] == {("m", "FAILED_PRECONDITION"): 1}
        world.colony.order(StartUnload(ONE, 2))
        await until(lambda: world.events[-1] == ServableGone(ONE, 2))
        await world.load(order=3)

    play(scenario)


def test_a_gateway_that_comes_loads_what_the_others_hold(play: Callable[[Scenario], None]) -> None:
    """It is admitted with all of it, each version loaded once by each gateway."""

    async def scenario(world: World) -> None:
        await world.join("a")
        await world.load(ONE)
        await world.load(TWO, order=2)
        before = len(ScriptedLoader.ready)
        second = await world.join("b")
        assert len(ScriptedLoader.ready) == before + 2
        assert [await ask(second, each) for each in (ONE, TWO)] == [2, 2]

    play(scenario)


def test_a_gateway_that_cannot_load_what_others_hold_says_why(play: Callable[[Scenario], None]) -> None:
    """It is not admitted, and its error names the version and the reason."""

    async def scenario(world: World) -> None:
        await world.join("a")
        await world.load()
        [version] = world.colony._versions.values()
        version.assignment = Assignment(ONE, world.path, "nothing:of_the_kind")
        second = await world.come("b")
        with pytest.raises(FailedPrecondition, match="takes no traffic: FAILED_PRECONDITION: m@1: "):
            await second.admit()

    play(scenario)


def test_a_restart_of_the_controller_reloads_nothing(play: Callable[[Scenario], None]) -> None:
    """The gateway answers on, tells what it holds to the new controller, and takes its orders."""

    async def scenario(world: World) -> None:
        gateway = await world.join()
        await world.load()
        before = len(ScriptedLoader.ready)
        world.crash()
        assert await ask(gateway) == 2
        world.start()
        assert await world.colony.adopt() == 1
        await world.load(TWO, order=1)
        assert len(ScriptedLoader.ready) == before + 1
        world.colony.order(StartUnload(ONE, 2))
        await until(lambda: world.events[-1] == ServableGone(ONE, 2))
        assert await ask(gateway, TWO) == 2

    play(scenario)


def test_what_comes_up_while_everything_is_told_is_told_as_well(play: Callable[[Scenario], None]) -> None:
    """A load that ends in the moment in which the next controller hears of the gateway is not lost."""

    async def scenario(world: World) -> None:
        gateway = await world.join()
        model = await world.load()
        world.crash()
        world.start()
        world.facade.listens.clear()
        assert await world.colony.adopt() == 1
        await until(gateway._telling.locked)
        gone = Holding("another ticket", TWO, is_gone=True)
        gateway._note(gone)
        await turns()
        world.facade.listens.set()
        await until(lambda: gone in world.facade.told)
        assert model.closed == 0

    play(scenario)


def test_what_no_controller_wants_any_more_goes(play: Callable[[Scenario], None]) -> None:
    """A load that was under way when the controller died is of no use to the next one."""

    async def scenario(world: World) -> None:
        gateway = await world.join()
        model = await world.load()
        world.crash()
        world.colony.forget()
        world.start()
        await until(lambda: model.closed == 1)
        with pytest.raises(Unavailable):
            gateway.begin(ONE, Call("serving_default", {}))

    play(scenario)


def test_a_table_waits_for_what_it_names(play: Callable[[Scenario], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """A gateway that takes traffic follows no table before it holds its versions; one that does not, at once."""

    async def scenario(world: World) -> None:
        gateway = await world.come("a")
        await gateway.prepare(table(ONE))
        await gateway.admit()
        await gateway.prepare(table())
        waiting = asyncio.create_task(gateway.prepare(table(ONE)))
        await turns()
        assert not waiting.done()
        await world.load()
        await waiting
        monkeypatch.setattr(residents, "_PREPARE_S", 0.001)
        await gateway.prepare(table(ONE, TWO))  # not for ever

    play(scenario)


def test_loads_and_unloads_that_hang_hold_up_no_others(play: Callable[[Scenario], None]) -> None:
    """A few versions load at a time, but neither loads that were given up nor unloads that wait count among them."""

    async def scenario(world: World) -> None:
        StuckLoader.begun.clear()
        StuckLoader.go.clear()
        gateway = await world.join()
        model = await world.load()
        model.go.clear()
        asked = asyncio.ensure_future(ask(gateway))
        await until(model.running.is_set)
        world.colony.order(StartUnload(ONE, 2))
        try:
            stuck = [ServableId("m", version) for version in range(11, 18)]
            world.colony.order([StartLoad(each, STUCK, order=3) for each in stuck])
            await until(lambda: len(StuckLoader.begun) == 4)
            await turns()
            assert len(StuckLoader.begun) == 4
            for each in reversed(stuck):
                world.colony.order(StartUnload(each, 4))
            await until(lambda: len(gateway._holdings) == 5 and not gateway._loading)  # what had not begun is gone
            await until(lambda: len(world.events) == 4)
            await world.load(TWO, order=5)
            assert await ask(gateway, TWO) == 2
        finally:
            StuckLoader.go.set()
            model.go.set()
        await asked
        await until(lambda: len(gateway._holdings) == 1)

    play(scenario)


def test_batching_changes_without_a_load(play: Callable[[Scenario], None]) -> None:
    """New limits hold for the requests that come after them."""

    async def scenario(world: World) -> None:
        gateway = await world.join()
        model = await world.load()
        world.model = ModelConfig.model_validate({**world.model.model_dump(), "batching": {"max_batch_size": 8}})
        world.colony.follow_batching()
        limits = Batching(max_batch_size=8)
        await until(lambda: gateway._host.batching(ONE) == limits and not gateway._workers)
        await ask(gateway)
        model.runs.clear()
        assert await asyncio.gather(*(ask(gateway, value=value) for value in (1, 2))) == [2, 4]
        assert model.runs == [2]
        assert (model.closed, len(world.events)) == (0, 1)

    play(scenario)


def test_a_version_that_cannot_be_let_go_of_is_a_fault(play: Callable[[Scenario], None]) -> None:
    """A process in which a version can be neither used nor freed says that it has to be replaced."""

    async def scenario(world: World) -> None:
        gateway = await world.join()
        model = await world.load()
        gateway.check()
        model.close = None  # type: ignore[method-assign, assignment]
        world.colony.order(StartUnload(ONE, 2))
        await until(lambda: gateway._fault is not None)
        with pytest.raises(RuntimeError, match="neither loaded nor unloaded"):
            gateway.check()

    play(scenario)
