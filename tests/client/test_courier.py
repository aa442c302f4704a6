"""What a caller counts reaches the controller once, whatever gets lost, comes twice or starts again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import pytest

from serving_app.client import courier
from serving_app.client.courier import Courier, Parcel, Receipt
from serving_app.core.families import CALLER_REQUESTS
from serving_app.core.metrics import Registry, Snapshot, add_to
from serving_app.serve.metering import Metering
from tests.serve.kept import keep_here
from tests.stepping import PATIENCE_S, Actor, run_by_turns, until

LABELS = ("m", "OK", "1", "serving_default", "latest")


def requests_in(snapshot: Snapshot) -> float:
    value = snapshot.get(CALLER_REQUESTS.name, {}).get(LABELS, 0)
    assert not isinstance(value, tuple)
    return value


class Controller:
    """The controller's counts, in one life after the other, and a way there on which things get lost."""

    def __init__(self) -> None:
        self.lives = 0
        self.troubles: list[str] = []
        """What happens to the next parcels: they are lost, or the answer is; or they come twice."""
        self.brought: list[list[int]] = []

    async def begin(self) -> None:
        """A new life: what the one before had not kept, it has forgotten."""
        self.metering = Metering("app", pause_s=0.0)
        await self.metering.restore()
        self.lives += 1

    async def keep(self) -> None:
        await self.metering._keep()

    async def take_counts(self, name: str, safe: int, parcels: Sequence[Parcel]) -> Receipt:
        assert name == "client:1"
        trouble = self.troubles.pop(0) if self.troubles else ""
        if trouble == "lost":
            raise ConnectionError("no way there")
        self.brought.append([parcel.number for parcel in parcels])
        receipt = await self.metering.take_in(name, safe, parcels, 1)
        if trouble == "twice":
            receipt = await self.metering.take_in(name, safe, parcels, 1)
        if trouble == "no answer":
            raise ConnectionError("no way back")
        return receipt

    @property
    def requests(self) -> float:
        """What a rollout sees."""
        return requests_in(self.metering.find_counts([CALLER_REQUESTS.name], ["m"]))

    async def shown(self) -> float:
        """What the page shows."""
        return requests_in(await self.metering.collect(None))


class Scene:
    """One caller, and the controller."""

    def __init__(self) -> None:
        self.controller = Controller()
        self.registry = Registry()
        self.courier = Courier("client:1", self.registry, lambda: Actor(self.controller), every_s=0.01)

    def ask(self, requests: int = 1) -> None:
        self.registry.count(CALLER_REQUESTS, LABELS, requests)

    async def hears(self, requests: int) -> None:
        await until(lambda: self.controller.requests == requests)


Play = Callable[[Scene], Coroutine[Any, Any, None]]


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Callable[[Play], None]:
    """Runs a scene on a loop of its own, whose time is its turns."""
    keep_here(monkeypatch)

    async def run(scenario: Play) -> None:
        scene = Scene()
        await scene.controller.begin()
        scene.courier.start()
        try:
            async with asyncio.timeout(PATIENCE_S):
                await scenario(scene)
        finally:
            await scene.courier.stop()

    return lambda scenario: run_by_turns(run(scenario))


def test_the_controller_hears_of_each_request_once(play: Callable[[Play], None]) -> None:
    """It comes with the next parcel, is brought once, and nobody comes when nothing is new and all is kept."""

    async def scenario(scene: Scene) -> None:
        scene.ask(2)
        await scene.hears(2)
        scene.ask(3)
        await scene.hears(5)
        await scene.controller.keep()
        await until(lambda: not scene.courier._parcels)
        assert [number for numbers in scene.controller.brought for number in numbers] == [1, 2]
        calls = len(scene.controller.brought)
        await asyncio.sleep(1)
        assert len(scene.controller.brought) == calls

    play(scenario)


@pytest.mark.parametrize("trouble", ["lost", "no answer", "twice"])
def test_the_way_there_and_back(play: Callable[[Play], None], trouble: str) -> None:
    """What is lost is brought again; what was taken already, or comes twice, counts once."""

    async def scenario(scene: Scene) -> None:
        for requests in (1, 2, 3):
            scene.controller.troubles = [trouble] * 2
            scene.ask()
            await until(lambda: not scene.controller.troubles)
            await scene.hears(requests)
        await scene.courier.stop()
        assert scene.controller.requests == 3
        assert await scene.controller.shown() == 3

    play(scenario)


@pytest.mark.parametrize("answered", [True, False])
def test_a_controller_that_starts_again(play: Callable[[Play], None], answered: bool) -> None:
    """What it had taken and not kept is brought again, and what it had kept is not; what the page has shown does not
    fall."""

    async def scenario(scene: Scene) -> None:
        controller = scene.controller
        scene.ask()
        await scene.hears(1)
        assert await controller.shown() == 1
        scene.ask(2)
        await scene.hears(3)
        if not answered:
            controller.troubles = ["no answer"]
        scene.ask(4)
        await scene.hears(7)
        await controller.begin()
        assert await controller.shown() >= 1
        await scene.hears(7)
        scene.ask(8)
        await scene.hears(15)
        await controller.keep()
        await controller.begin()
        assert await controller.shown() == 15
        await until(lambda: not scene.courier._parcels)
        assert controller.requests == 15

    play(scenario)


def test_a_controller_that_is_long_away(play: Callable[[Play], None]) -> None:
    """A caller keeps a bounded number of parcels, and brings all that it has counted when there is a controller again
    that keeps it."""

    async def scenario(scene: Scene) -> None:
        scene.controller.troubles = ["lost"] * 50
        while scene.controller.troubles:
            scene.ask()
            await asyncio.sleep(0.01)
        assert len(scene.courier._parcels) == courier._MOST_PARCELS
        counted = requests_in(scene.registry.counts())
        assert counted >= 50
        await until(lambda: scene.courier._taken == courier._MOST_PARCELS)
        await scene.controller.keep()
        await scene.hears(int(counted))

    play(scenario)


@pytest.mark.parametrize("troubles", [[], ["no answer"], ["lost"]])
def test_the_end_brings_what_is_left(play: Callable[[Play], None], troubles: list[str]) -> None:
    """A caller that ends brings what it has counted since it was here last, also to a controller that has just started
    again; it comes once more if need be, and then never."""

    async def scenario(scene: Scene) -> None:
        scene.ask()
        await scene.hears(1)
        await scene.controller.begin()
        scene.ask(2)
        scene.controller.troubles = list(troubles)
        await scene.courier.stop()
        assert scene.controller.requests in ((3,) if not troubles else (0, 3))
        calls = len(scene.controller.brought)
        scene.ask()
        await scene.courier.stop()
        await asyncio.sleep(1)
        assert len(scene.controller.brought) == calls

    play(scenario)


def test_parcels_add_up() -> None:
    """Parcels hold how much more it is, counters and histograms alike."""
    total: Snapshot = {}
    registry = Registry()
    bag = Courier("client:1", registry, lambda: None)
    for _ in range(3):
        registry.count(CALLER_REQUESTS, LABELS)
        bag._pack()
        bag._pack()
    for parcel in bag._parcels:
        add_to(total, parcel.counts)
    assert [parcel.number for parcel in bag._parcels] == [1, 2, 3]
    assert requests_in(total) == 3
