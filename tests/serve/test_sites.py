"""Where versions live, and how they move, against two places that do nothing but what the test says."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest

from serving_app.core.actions import StartLoad, StartUnload
from serving_app.core.errors import Code
from serving_app.core.events import (
    Event,
    LoadAdopted,
    LoadFailed,
    LoadProgressed,
    NodesSeen,
    ServableAdopted,
    ServableGone,
    ServableLoaded,
    ServableMoved,
)
from serving_app.core.placement import Placement
from serving_app.core.servable import ServableId
from serving_app.serve import sites
from serving_app.serve.fleet import Order
from serving_app.serve.sites import Sites
from tests.stepping import turns, until

ONE, TWO = ServableId("m", 1), ServableId("m", 2)
FLEET, COLONY = Placement.DEDICATED, Placement.COLOCATED
APPS = {FLEET: "replicas", COLONY: "gateways"}


class World:
    """Sites whose places write down what is ordered: `load m@1 dedicated`, `unload m@1 colocated`."""

    def __init__(self) -> None:
        self.ordered: list[str] = []
        self.events: list[Event] = []
        self.problems: dict[str, str | None] = {}
        self.placements: dict[str, Placement] = {"m": FLEET}
        self.readers = asyncio.Event()
        self.tasks: list[asyncio.Task[None]] = []
        self.start()

    def start(self) -> None:
        """A controller starts, or starts again."""
        self.sites = Sites(
            self.placements.get, lambda servable: f"/m/{servable.version}", self.events.append,
            wait_for_readers=self._wait_for_readers, spawn=self._spawn, tell_problem=self.problems.__setitem__,
        )
        self.sites.open({FLEET: _Place(self, FLEET), COLONY: _Place(self, COLONY)})

    def take_orders(self) -> list[str]:
        """What was ordered since the last look."""
        taken, self.ordered = self.ordered, []
        return taken

    def take_events(self) -> list[Event]:
        taken, self.events[:] = list(self.events), []
        return taken

    def load(self, *servables: ServableId, order: int = 1) -> None:
        self.sites.order([StartLoad(each, f"/m/{each.version}", order=order) for each in servables])

    def loaded(self, where: Placement, servable: ServableId = ONE, order: int = 1) -> None:
        self.sites.take(where, ServableLoaded(servable, APPS[where], {}, order, where))

    def gone(self, where: Placement, servable: ServableId = ONE, order: int = 1) -> None:
        self.sites.take(where, ServableGone(servable, order))

    def failed(self, where: Placement, servable: ServableId = ONE, order: int = 1) -> None:
        self.sites.take(where, LoadFailed(servable, Code.DATA_LOSS, "torn", order))

    def place(self, where: Placement) -> None:
        """The settings say so from now on."""
        self.placements["m"] = where
        self.sites.follow()

    def serve(self, where: Placement = FLEET, servable: ServableId = ONE) -> None:
        """Have a version serve somewhere."""
        self.placements["m"] = where
        self.load(servable)
        self.loaded(where, servable)
        self.take_orders()
        self.take_events()

    async def _wait_for_readers(self) -> None:
        await self.readers.wait()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self.tasks.append(asyncio.create_task(work))


class _Place:
    def __init__(self, world: World, placement: Placement) -> None:
        self._world, self._placement = world, placement

    def order(self, order: Order) -> None:
        if isinstance(order, StartUnload):
            self._world.ordered.append(f"unload {order.servable} {self._placement.value} {order.order}")
        else:
            which = " ".join(f"{load.servable}" for load in order)
            self._world.ordered.append(f"load {which} {self._placement.value} {order[0].order}")


def moved(where: Placement, order: int = 1) -> ServableMoved:
    return ServableMoved(ONE, APPS[where], {}, where, order)


Scenario = Callable[[World], Awaitable[None]]


def play(scenario: Scenario) -> None:
    async def run() -> None:
        world = World()
        await scenario(world)
        for task in world.tasks:
            task.cancel()

    asyncio.run(run())


@pytest.mark.parametrize("where", Placement)
def test_orders_go_where_the_settings_say(where: Placement) -> None:
    """A version is loaded and unloaded at one place, and what is told of it there is told on."""

    async def scenario(world: World) -> None:
        world.placements["m"] = where
        world.load(ONE, TWO, order=4)
        assert world.take_orders() == [f"load m@1 m@2 {where.value} 4"]
        told: list[Event] = [
            LoadProgressed(ONE, "half", 4),
            ServableLoaded(ONE, "a", {}, 4, where),
            LoadFailed(TWO, Code.DATA_LOSS, "torn", 4),
            NodesSeen(()),
        ]
        for event in told:
            world.sites.take(where, event)
        assert world.take_events() == told
        world.sites.order(StartUnload(ONE, 5))
        assert world.take_orders() == [f"unload m@1 {where.value} 5"]
        world.gone(where, order=5)
        assert world.take_events() == [ServableGone(ONE, 5)]

    play(scenario)


def test_loads_of_several_places_are_taken_apart() -> None:
    """What was ordered together is ordered together at each place."""

    async def scenario(world: World) -> None:
        world.placements["n"] = COLONY
        world.load(ONE, ServableId("n", 1), TWO)
        assert world.take_orders() == ["load m@1 m@2 dedicated 1", "load n@1 colocated 1"]

    play(scenario)


@pytest.mark.parametrize(("before", "after"), [(FLEET, COLONY), (COLONY, FLEET)])
def test_a_version_moves_without_a_gap(before: Placement, after: Placement) -> None:
    """It is loaded at the new place, then routed to there, and removed at the old one when nobody asks there."""

    async def scenario(world: World) -> None:
        world.serve(before)
        world.place(after)
        assert world.take_orders() == [f"load m@1 {after.value} 1"]
        assert world.take_events() == []
        world.loaded(after)
        await turns()
        assert world.take_events() == [moved(after)]
        assert world.take_orders() == []
        world.readers.set()
        await until(lambda: bool(world.ordered))
        assert world.take_orders() == [f"unload m@1 {before.value} 1"]
        world.gone(before)
        await turns()
        assert (world.take_orders(), world.take_events()) == ([], [])
        world.sites.order(StartUnload(ONE, 2))
        assert world.take_orders() == [f"unload m@1 {after.value} 2"]

    play(scenario)


def test_a_move_that_fails_leaves_the_version_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """The manager hears nothing of it; people do, until it is tried again and works."""
    monkeypatch.setattr(sites, "FIRST_RETRY_S", 0.001)

    async def scenario(world: World) -> None:
        world.serve()
        world.place(COLONY)
        world.take_orders()
        world.failed(COLONY)
        assert world.take_orders() == ["unload m@1 colocated 1"]
        assert world.take_events() == []
        [problem] = world.problems.values()
        assert "m@1 is to be colocated and cannot be loaded there (DATA_LOSS: torn)" in (problem or "")
        world.gone(COLONY)
        await until(lambda: bool(world.ordered))
        assert world.take_orders() == ["load m@1 colocated 1"]
        world.loaded(COLONY)
        assert world.take_events() == [moved(COLONY)]
        assert list(world.problems.values()) == [None]

    play(scenario)


def test_a_move_is_called_off() -> None:
    """When the settings go back while it is loaded elsewhere, that is removed, and nothing else has happened."""

    async def scenario(world: World) -> None:
        world.serve()
        world.place(COLONY)
        world.place(FLEET)
        assert world.take_orders() == ["load m@1 colocated 1", "unload m@1 colocated 1"]
        world.loaded(COLONY)  # it crossed the order
        world.place(COLONY)
        assert (world.take_orders(), world.take_events()) == ([], [])
        world.gone(COLONY)
        assert world.take_orders() == ["load m@1 colocated 1"]

    play(scenario)


def test_a_version_moves_back_when_it_has_arrived() -> None:
    """One move follows the other: the place that it has left is cleared before it is loaded there again."""

    async def scenario(world: World) -> None:
        world.serve()
        world.place(COLONY)
        world.loaded(COLONY)
        world.place(FLEET)
        world.readers.set()
        await until(lambda: "unload m@1 dedicated 1" in world.ordered)
        world.take_orders()
        world.take_events()
        world.gone(FLEET)
        assert world.take_orders() == ["load m@1 dedicated 1"]
        world.loaded(FLEET)
        assert world.take_events() == [moved(FLEET)]

    play(scenario)


@pytest.mark.parametrize("has_arrived", [False, True])
def test_an_unload_ends_a_move(has_arrived: bool) -> None:
    """The version goes from both places, and is gone when it is gone from both."""

    async def scenario(world: World) -> None:
        world.serve()
        world.place(COLONY)
        if has_arrived:
            world.loaded(COLONY)
        world.take_orders()
        world.take_events()
        world.sites.order(StartUnload(ONE, 2))
        assert sorted(world.take_orders()) == ["unload m@1 colocated 2", "unload m@1 dedicated 2"]
        world.loaded(COLONY)
        world.gone(FLEET, order=2)
        assert world.take_events() == []
        world.readers.set()
        await turns()
        world.gone(COLONY, order=2)
        assert world.take_events() == [ServableGone(ONE, 2)]
        assert world.take_orders() == []
        world.load(ONE, order=3)
        assert world.take_orders() == ["load m@1 colocated 3"]

    play(scenario)


def test_a_version_that_vanishes_while_it_moves_begins_anew() -> None:
    """The manager is told, and its next load waits until nothing is left of the life before."""

    async def scenario(world: World) -> None:
        world.serve()
        world.place(COLONY)
        world.take_orders()
        world.gone(FLEET)
        assert world.take_events() == [ServableGone(ONE, 1)]
        assert world.take_orders() == ["unload m@1 colocated 1"]
        world.load(ONE, order=2)
        assert world.take_orders() == []
        world.gone(COLONY)
        assert world.take_orders() == ["load m@1 colocated 2"]
        assert world.take_events() == []

    play(scenario)


def test_a_load_that_waits_is_called_off() -> None:
    """The next life of a version that vanished may be unwanted before it could begin."""

    async def scenario(world: World) -> None:
        world.serve()
        world.place(COLONY)
        world.gone(FLEET)
        world.load(ONE, order=2)
        world.sites.order(StartUnload(ONE, 3))
        world.take_orders()
        world.take_events()
        world.gone(COLONY)
        assert (world.take_orders(), world.take_events()) == ([], [ServableGone(ONE, 3)])

    play(scenario)


def test_an_unload_of_what_nobody_knows_is_ordered_everywhere() -> None:
    """Remains may be at either place, and the answer waits for both."""

    async def scenario(world: World) -> None:
        world.sites.order(StartUnload(ONE, 2))
        assert world.take_orders() == ["unload m@1 dedicated 2", "unload m@1 colocated 2"]
        world.gone(COLONY, order=2)
        assert world.take_events() == []
        world.gone(FLEET, order=2)
        assert world.take_events() == [ServableGone(ONE, 2)]

    play(scenario)


def test_a_version_that_loads_moves_when_it_serves() -> None:
    """A load is not begun anew because the settings change under it, and a model that is dropped moves nowhere."""

    async def scenario(world: World) -> None:
        world.load(ONE)
        world.load(TWO)
        world.take_orders()
        world.place(COLONY)
        assert world.take_orders() == []
        world.loaded(FLEET)
        assert world.take_orders() == ["load m@1 colocated 1"]
        del world.placements["m"]
        world.loaded(FLEET, TWO)
        assert world.take_orders() == []

    play(scenario)


def test_few_versions_move_at_one_time() -> None:
    """When the placement of many changes, each waits for its turn, and gets it."""

    async def scenario(world: World) -> None:
        versions = [ServableId("m", number) for number in range(1, 8)]
        for version in versions:
            world.serve(FLEET, version)
        world.place(COLONY)
        assert len(world.take_orders()) == 4
        world.loaded(COLONY, versions[0])
        assert world.take_orders() == ["load m@5 colocated 1"]
        world.failed(COLONY, versions[1])
        assert world.take_orders() == ["unload m@2 colocated 1", "load m@6 colocated 1"]
        world.sites.order(StartUnload(versions[2], 9))
        assert "load m@7 colocated 1" in world.take_orders()

    play(scenario)


ADOPTED = {where: ServableAdopted(ONE, APPS[where], {}, "/m/1", where) for where in Placement}


@pytest.mark.parametrize(
    ("fleet", "wanted", "home", "cleared"),
    [
        (ADOPTED[FLEET], FLEET, FLEET, COLONY),
        (ADOPTED[FLEET], COLONY, COLONY, FLEET),
        (LoadAdopted(ONE), FLEET, COLONY, FLEET),
    ],
)
def test_a_move_goes_on_after_a_restart(fleet: Event, wanted: Placement, home: Placement, cleared: Placement) -> None:
    """What is found at two places lives where it serves and is to be; the other place is cleared in time."""

    async def scenario(world: World) -> None:
        world.placements["m"] = wanted
        world.sites.begin_adoption()
        world.sites.take(FLEET, fleet)
        world.sites.take(COLONY, ADOPTED[COLONY])
        assert world.take_events() == []
        world.sites.end_adoption()
        assert world.take_events() == [ADOPTED[home]]
        if isinstance(fleet, ServableAdopted):
            await turns()
            assert world.take_orders() == []  # somebody may still route by a table that names it there
            world.readers.set()
            await until(lambda: bool(world.ordered))
        assert world.take_orders() == [f"unload m@1 {cleared.value} 0"]
        world.gone(cleared, order=0)
        assert world.take_orders() == ([] if wanted is home else [f"load m@1 {wanted.value} 0"])

    play(scenario)
