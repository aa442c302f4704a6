"""The lookout: whether the owner lives, what the nodes have, and the end of everything."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from serving_app.core.events import Event, NodesSeen
from serving_app.core.resources import NodeResources
from serving_app.core.servable import ServableId
from serving_app.serve import apps, lookout
from serving_app.serve.apps import AppSeen, AppState, Observation
from serving_app.serve.lookout import Lookout

ONE, TWO = ServableId("m", 1), ServableId("m", 2)
RUNNING, DELETING = AppSeen(AppState.RUNNING), AppSeen(AppState.DELETING)
THERE = Observation(True, RUNNING, {ONE: RUNNING})
LEFT = Observation(True, None, {ONE: RUNNING})
EMPTY = Observation(True, None, {})
SHUT_DOWN = Observation(False, None, {})


class World:
    """Serve and the fleet as far as the lookout needs them: each look shows the next of `shown`, the last for ever."""

    is_about_to_change = True
    is_waiting = False

    def __init__(self, *shown: Observation | None) -> None:
        self.shown = list(shown)
        self.looks: list[Observation] = []
        self.removed: list[ServableId] = []
        self.events: list[Event] = []
        self.nodes = (NodeResources(4.0, 0.0, 1 << 30),)
        self.times = 0
        self.stirred = asyncio.Event()

    def observe(self, owner: str) -> Observation | None:
        assert owner == "app"
        return self.shown.pop(0) if len(self.shown) > 1 else self.shown[0]

    async def look(self, seen: Observation) -> None:
        self.looks.append(seen)

    async def remove(self, servable: ServableId) -> None:
        self.removed.append(servable)
        self.shown = [EMPTY]

    def count(self) -> None:
        self.times += 1


Scenario = Callable[[Lookout], Awaitable[Observation | None]]


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Callable[[World, Scenario], Observation | None]:
    monkeypatch.setattr(lookout, "_BUSY_S", 0.0)
    monkeypatch.setattr(lookout, "_IDLE_S", 0.001)

    def run(world: World, scenario: Scenario) -> Observation | None:
        monkeypatch.setattr(apps, "observe", world.observe)
        monkeypatch.setattr(apps, "nodes", lambda: world.nodes)

        async def begin() -> Observation | None:
            return await scenario(Lookout("app", world, world.events.append))  # type: ignore[arg-type]

        return asyncio.run(begin())

    return run


@pytest.mark.parametrize(
    ("shown", "looks"),
    [
        ([THERE, None, LEFT, THERE, LEFT, LEFT], 5),
        ([THERE, Observation(True, DELETING, {ONE: RUNNING})], 2),
        ([THERE, None, None, SHUT_DOWN], 2),
    ],
    ids=["missing twice in a row", "being deleted", "Serve is gone"],
)
def test_the_watch_ends_with_the_owner(
    play: Callable[[World, Scenario], Observation | None], shown: list[Observation | None], looks: int
) -> None:
    """It is missing for a moment when it is replaced, and Serve that does not answer says nothing of it."""
    world = World(*shown)
    last = shown[-1]
    assert play(world, lambda lookout: lookout.watch(world.count)) == last
    assert len(world.looks) == looks
    assert world.times == len(shown)


def test_a_first_look_waits_for_serve(play: Callable[[World, Scenario], Observation | None]) -> None:
    """Without knowing what runs, nothing could be adopted."""
    assert play(World(None, None, THERE), lambda lookout: lookout.look()) == THERE


def test_nodes_are_told_when_they_change(play: Callable[[World, Scenario], Observation | None]) -> None:
    """Looking again at the same nodes is no news."""
    world = World(THERE)

    async def scenario(lookout: Lookout) -> None:
        await lookout.look_at_nodes()
        await lookout.look_at_nodes()
        world.nodes = ()
        await lookout.look_at_nodes()

    play(world, scenario)
    assert world.events == [NodesSeen((NodeResources(4.0, 0.0, 1 << 30),)), NodesSeen(())]


def test_work_is_waited_for_while_the_owner_lives(play: Callable[[World, Scenario], Observation | None]) -> None:
    """A controller that cannot begin, because what it waits for does not come, still notices that it is deleted."""

    async def endless(lookout: Lookout) -> Observation | None:
        work = asyncio.get_running_loop().create_future()
        left = await lookout.watch_while(work)
        assert work.cancelled()
        return left

    async def done(lookout: Lookout) -> Observation | None:
        return await lookout.watch_while(asyncio.ensure_future(asyncio.sleep(0)))

    assert play(World(THERE, LEFT), endless) == LEFT
    assert play(World(THERE), done) is None


@pytest.mark.parametrize(
    ("shown", "in_use", "removed"),
    [
        ([LEFT], True, [ONE]),
        ([Observation(True, DELETING, {ONE: RUNNING, TWO: DELETING})], False, [ONE]),
        ([Observation(True, DELETING, {ONE: RUNNING}), EMPTY], True, []),
        ([SHUT_DOWN], False, []),
    ],
    ids=["owner gone", "no gateway left", "gateways drain", "Serve is gone"],
)
def test_everything_is_removed(
    play: Callable[[World, Scenario], Observation | None],
    shown: list[Observation | None],
    in_use: bool,
    removed: list[ServableId],
) -> None:
    """What is not being deleted yet is ordered to go, but not while gateways that drain may still ask it."""
    world = World(*shown)

    async def scenario(lookout: Lookout) -> None:
        await lookout.remove_all(30.0, world.count, lambda: in_use)

    play(world, scenario)
    assert world.removed == removed
    assert world.times
