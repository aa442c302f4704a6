"""The fleet against a Serve that does what the test says: what it orders, and what it makes of what it sees."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from serving_app.config import ModelConfig
from serving_app.core.actions import StartLoad, StartUnload
from serving_app.core.errors import Code, NotFound
from serving_app.core.events import (
    Event,
    LoadAdopted,
    LoadFailed,
    LoadProgressed,
    ServableAdopted,
    ServableGone,
    ServableLoaded,
)
from serving_app.core.servable import ServableId
from serving_app.serve import apps
from serving_app.serve.apps import AppSeen, AppState, Observation, Target
from serving_app.serve.fleet import Fleet
from serving_app.serve.replica import Description
from tests.serve.kept import keep_here
from tests.stepping import until

ONE, TWO = ServableId("m", 1), ServableId("m", 2)
SIGNATURES: dict[str, Any] = {"serving_default": "of m"}


class World:
    """Serve as far as the fleet sees it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.shown: dict[ServableId, AppSeen] = {}
        self.deployed: list[list[Target]] = []
        self.deleted: list[str] = []
        self.events: list[Event] = []
        self.refusal: Exception | None = None
        self.refused: set[str] = set()
        self.signatures: dict[str, Any] | None = SIGNATURES
        self.model = ModelConfig(name="m", base_path="/m")
        self.memory = {TWO: 1000}
        self.fleet = self.make_fleet()
        self.kept = keep_here(monkeypatch)
        monkeypatch.setattr(apps, "deploy", self._deploy)
        monkeypatch.setattr(apps, "delete", self.deleted.append)
        monkeypatch.setattr(apps, "describe", self._describe)

    def make_fleet(self) -> Fleet:
        """The fleet of a controller that starts."""
        return Fleet("app", self._find, self.memory.get, self.events.append)

    def show(self, servable: ServableId, state: AppState | None, message: str = "") -> None:
        """From now on Serve shows this version so; None is not at all."""
        self.shown.pop(servable, None)
        if state is not None:
            self.shown[servable] = AppSeen(state, message)

    async def look(self) -> list[Event]:
        """What the fleet makes of what Serve shows now."""
        before = len(self.events)
        await self.fleet.look(Observation(True, AppSeen(AppState.RUNNING), dict(self.shown)))
        return self.events[before:]

    async def load(self, *servables: ServableId, order: int = 1) -> list[Target]:
        """Have versions loaded; what was deployed for that."""
        count = len(self.deployed)
        self.fleet.order([StartLoad(servable, "/m", order=order) for servable in servables])
        await until(lambda: len(self.deployed) > count)
        return self.deployed[-1]

    def _find(self, name: str) -> ModelConfig:
        if name != "m":
            raise NotFound(f"{name} is not configured")
        return self.model

    def _deploy(self, controller: str, targets: Sequence[Target]) -> None:
        assert controller == "controller:app"
        if self.refusal is not None:
            raise self.refusal
        if refused := self.refused & {target.app for target in targets}:
            raise ValueError(f"cannot deploy {refused}")
        self.deployed.append(list(targets))

    def _describe(self, name: str) -> Description:
        if self.signatures is None:
            raise RuntimeError("no answer")
        return Description(self.signatures, f"/path/of/{name}", "an earlier ticket")


Scenario = Callable[[World], Awaitable[None]]


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Callable[[Scenario], None]:
    async def run(scenario: Scenario) -> None:
        world = World(monkeypatch)
        worker = asyncio.create_task(world.fleet.carry_out_orders())
        try:
            await scenario(world)
        finally:
            worker.cancel()
            await asyncio.gather(worker, return_exceptions=True)

    return lambda scenario: asyncio.run(run(scenario))


def test_a_version_is_ready_when_serve_routes_to_it(play: Callable[[Scenario], None]) -> None:
    """A replica's report alone makes no version ready; Serve must show its application as running."""

    async def scenario(world: World) -> None:
        [target] = await world.load(ONE, order=7)
        assert target.app == "app:m@1"
        world.show(ONE, AppState.STARTING)
        world.fleet.report_loaded(ONE, target.ticket, SIGNATURES)
        assert world.fleet.is_about_to_change
        assert await world.look() == []
        world.show(ONE, AppState.RUNNING)
        world.signatures = None  # the report had them, so nobody is asked
        assert await world.look() == [ServableLoaded(ONE, "app:m@1", SIGNATURES, 7)]
        assert await world.look() == []
        assert not world.fleet.is_waiting

    play(scenario)


def test_loads_ordered_together_are_deployed_together(play: Callable[[Scenario], None]) -> None:
    """Serve is asked once for all of them, and each has a ticket of its own."""

    async def scenario(world: World) -> None:
        targets = await world.load(ONE, TWO)
        assert [target.app for target in targets] == ["app:m@1", "app:m@2"]
        assert len({target.ticket for target in targets}) == 2

    play(scenario)


def test_reports_of_an_earlier_load_are_not_news(play: Callable[[Scenario], None]) -> None:
    """A failure that a replica of the first try reports late does not fail the second."""

    async def scenario(world: World) -> None:
        [first] = await world.load(ONE, order=1)
        world.fleet.report_failed(ONE, first.ticket, Code.NOT_FOUND, "no file")
        assert world.events == [LoadFailed(ONE, Code.NOT_FOUND, "no file", 1)]
        [second] = await world.load(ONE, order=3)
        world.fleet.report_failed(ONE, first.ticket, Code.NOT_FOUND, "no file")
        world.fleet.report_loaded(ONE, first.ticket, SIGNATURES)
        assert len(world.events) == 1
        assert not world.fleet.is_about_to_change
        world.fleet.report_failed(ONE, second.ticket, Code.DATA_LOSS, "torn file")
        assert world.events[1:] == [LoadFailed(ONE, Code.DATA_LOSS, "torn file", 3)]

    play(scenario)


def test_a_replica_that_fails_beside_others_fails_no_version(play: Callable[[Scenario], None]) -> None:
    """Once the version is ready, Serve replaces single replicas; the version stays."""

    async def scenario(world: World) -> None:
        [target] = await world.load(ONE)
        world.show(ONE, AppState.RUNNING)
        await world.look()
        world.fleet.report_failed(ONE, target.ticket, Code.INTERNAL, "out of memory")
        world.show(ONE, AppState.BROKEN)
        assert await world.look() == []

    play(scenario)


def test_serve_giving_up_fails_the_load(play: Callable[[Scenario], None]) -> None:
    """Where no replica could report, what Serve says becomes the reason."""

    async def scenario(world: World) -> None:
        await world.load(ONE)
        world.show(ONE, AppState.BROKEN, "the worker died")
        assert await world.look() == [LoadFailed(ONE, Code.UNAVAILABLE, "the worker died", 1)]

    play(scenario)


def test_a_load_that_takes_too_long_fails(play: Callable[[Scenario], None]) -> None:
    """After load_timeout_s the load counts as failed, with what was last heard of it and what Serve says."""

    async def scenario(world: World) -> None:
        world.model = ModelConfig(name="m", base_path="/m", load_timeout_s=1e-9)
        await world.load(ONE)
        world.show(ONE, AppState.STARTING, "waiting for a GPU")
        late = "not loaded within load_timeout_s"
        assert await world.look() == [LoadFailed(ONE, Code.DEADLINE_EXCEEDED, f"{late}; waiting for a GPU", 1)]
        [target] = await world.load(TWO)
        world.show(TWO, AppState.STARTING)
        world.fleet.report_progress(TWO, target.ticket, "warming up")
        heard = "the last that was heard of it: warming up"
        failure = LoadFailed(TWO, Code.DEADLINE_EXCEEDED, f"{late}; {heard}", 1)
        assert (await world.look())[-1] == failure

    play(scenario)


def test_a_refused_deployment_fails_its_versions(play: Callable[[Scenario], None]) -> None:
    """Every version of the order hears why, and later orders are carried out."""

    async def scenario(world: World) -> None:
        world.refusal = ValueError("no such option")
        world.fleet.order([StartLoad(ONE, "/m", order=1), StartLoad(TWO, "/m", order=2)])
        await until(lambda: len(world.events) == 2)
        assert world.events == [
            LoadFailed(ONE, Code.INTERNAL, "ValueError: no such option", 1),
            LoadFailed(TWO, Code.INTERNAL, "ValueError: no such option", 2),
        ]
        world.refusal = None
        await world.load(ONE)

    play(scenario)


def test_a_refused_version_does_not_take_others_along(play: Callable[[Scenario], None]) -> None:
    """Of versions that were ordered together only the one that Serve refuses fails; the others are deployed."""

    async def scenario(world: World) -> None:
        world.refused = {"app:m@1"}
        assert [target.app for target in await world.load(ONE, TWO)] == ["app:m@2"]
        assert world.events == [LoadFailed(ONE, Code.INTERNAL, "ValueError: cannot deploy {'app:m@1'}", 1)]

    play(scenario)


def test_a_model_that_was_dropped_does_not_take_others_along(play: Callable[[Scenario], None]) -> None:
    """A load of a model that has left the configuration meanwhile fails alone."""

    async def scenario(world: World) -> None:
        assert [target.app for target in await world.load(ServableId("n", 1), ONE)] == ["app:m@1"]
        assert world.events == [LoadFailed(ServableId("n", 1), Code.NOT_FOUND, "n is not configured", 1)]

    play(scenario)


def test_an_unload_is_done_when_nothing_is_left(play: Callable[[Scenario], None]) -> None:
    """ServableGone comes when Serve shows the application no more, with the number of the order."""

    async def scenario(world: World) -> None:
        await world.load(ONE)
        world.show(ONE, AppState.RUNNING)
        await world.look()
        world.fleet.order(StartUnload(ONE, 9))
        await until(lambda: world.fleet.is_about_to_change)
        assert world.deleted == ["app:m@1"]
        world.show(ONE, AppState.DELETING)
        assert await world.look() == []
        world.show(ONE, None)
        assert await world.look() == [ServableGone(ONE, 9)]
        assert await world.look() == []

    play(scenario)


def test_a_removal_that_serve_did_not_hear_of_is_ordered_again(play: Callable[[Scenario], None]) -> None:
    """An application that is to go and still runs is deleted once more."""

    async def scenario(world: World) -> None:
        world.show(ONE, AppState.RUNNING)
        world.fleet.order(StartUnload(ONE, 2))
        await until(lambda: world.deleted == ["app:m@1"])
        await until(lambda: world.fleet.is_about_to_change)
        assert await world.look() == []
        assert world.deleted == ["app:m@1", "app:m@1"]

    play(scenario)


def test_a_version_that_vanishes_is_told(play: Callable[[Scenario], None]) -> None:
    """Somebody else deleted a ready version's application: gone, by the order that had loaded it."""

    async def scenario(world: World) -> None:
        await world.load(ONE, order=4)
        world.show(ONE, AppState.RUNNING)
        await world.look()
        world.show(ONE, None)
        assert await world.look() == [ServableGone(ONE, 4)]
        assert await world.look() == []

    play(scenario)


def test_what_runs_is_adopted(play: Callable[[Scenario], None]) -> None:
    """Running versions are adopted with their signatures, anything else as a load whose outcome is awaited."""

    async def scenario(world: World) -> None:
        three = ServableId("m", 3)
        world.show(ONE, AppState.RUNNING)
        world.show(TWO, AppState.STARTING)
        world.show(three, AppState.DELETING)
        await world.fleet.adopt(Observation(True, AppSeen(AppState.RUNNING), dict(world.shown)))
        assert world.events == [
            ServableAdopted(ONE, "app:m@1", SIGNATURES, "/path/of/app:m@1"),
            LoadAdopted(TWO),
            LoadAdopted(three),
        ]
        world.show(TWO, AppState.RUNNING)
        assert await world.look() == [
            ServableLoaded(TWO, "app:m@2", SIGNATURES, 0),
            LoadFailed(three, Code.UNAVAILABLE, "its application was deleted", 0),
        ]

    play(scenario)


def test_a_version_that_lost_a_replica_is_adopted(play: Callable[[Scenario], None]) -> None:
    """What Serve calls broken serves on if some replica of it answers, and is loaded again only if none does."""

    async def scenario(world: World) -> None:
        world.show(ONE, AppState.BROKEN, "unhealthy")
        await world.fleet.adopt(Observation(True, AppSeen(AppState.RUNNING), dict(world.shown)))
        assert world.events == [ServableAdopted(ONE, "app:m@1", SIGNATURES, "/path/of/app:m@1")]
        world.signatures = None
        world.kept.clear()
        await world.fleet.adopt(Observation(True, AppSeen(AppState.RUNNING), dict(world.shown)))
        assert world.events[1:] == [LoadAdopted(ONE)]
        assert await world.look() == [LoadFailed(ONE, Code.UNAVAILABLE, "unhealthy", 0)]

    play(scenario)


def test_an_adopted_version_that_does_not_answer_yet_is_asked_again(play: Callable[[Scenario], None]) -> None:
    """A running application whose replicas do not tell their signatures is ready as soon as they do."""

    async def scenario(world: World) -> None:
        world.show(ONE, AppState.RUNNING)
        world.signatures = None
        await world.fleet.adopt(Observation(True, AppSeen(AppState.RUNNING), dict(world.shown)))
        assert world.events == [LoadAdopted(ONE)]
        assert await world.look() == []
        world.signatures = SIGNATURES
        assert await world.look() == [ServableLoaded(ONE, "app:m@1", SIGNATURES, 0)]

    play(scenario)


def test_what_served_is_adopted_without_being_asked(play: Callable[[Scenario], None]) -> None:
    """A controller that starts again takes what its predecessor knew to serve back into the routes at once, however
    busy the replicas are and whatever Serve says; what was unloaded, or is being deleted, is not among that."""

    async def scenario(world: World) -> None:
        targets = await world.load(ONE, TWO)
        for servable, target in zip((ONE, TWO), targets, strict=True):
            world.show(servable, AppState.RUNNING)
            world.fleet.report_loaded(servable, target.ticket, SIGNATURES)
        await world.look()
        world.fleet.order(StartUnload(TWO, 2))
        await until(lambda: world.deleted == ["app:m@2"])
        world.signatures = None  # nobody answers
        for state in (AppState.RUNNING, AppState.STARTING, AppState.BROKEN):
            world.show(ONE, state)
            world.show(TWO, AppState.DELETING)
            world.events.clear()
            successor = world.make_fleet()
            await successor.adopt(Observation(True, AppSeen(AppState.RUNNING), dict(world.shown)))
            assert world.events == [ServableAdopted(ONE, "app:m@1", SIGNATURES, "/m"), LoadAdopted(TWO)]
        world.show(ONE, AppState.DELETING)
        world.events.clear()
        await world.make_fleet().adopt(Observation(True, AppSeen(AppState.RUNNING), dict(world.shown)))
        assert set(world.events) == {LoadAdopted(ONE), LoadAdopted(TWO)}

    play(scenario)


def test_the_roster_forgets_what_is_gone(play: Callable[[Scenario], None]) -> None:
    """A version that vanished is not taken for one that serves when it is seen again; of a deleted app nothing is."""

    async def scenario(world: World) -> None:
        for vanish in (lambda: world.look(), lambda: world.make_fleet().adopt(Observation(True, None, {}))):
            [target] = await world.load(ONE)
            world.show(ONE, AppState.RUNNING)
            world.fleet.report_loaded(ONE, target.ticket, SIGNATURES)
            await world.look()
            assert len(world.kept) == 1
            world.show(ONE, None)
            await vanish()
            assert not world.kept
            await world.look()
        [target] = await world.load(ONE)
        world.show(ONE, AppState.RUNNING)
        world.fleet.report_loaded(ONE, target.ticket, SIGNATURES)
        await world.look()
        world.fleet.forget()
        assert not world.kept

    play(scenario)


def test_an_entry_that_cannot_be_read_is_asked_for(play: Callable[[Scenario], None]) -> None:
    """What another version of the product wrote is no reason to fail: the replica is asked instead."""

    async def scenario(world: World) -> None:
        world.kept["serving:app:app:m@1"] = b"not a pickle"
        world.show(ONE, AppState.RUNNING)
        await world.fleet.adopt(Observation(True, AppSeen(AppState.RUNNING), dict(world.shown)))
        assert world.events == [ServableAdopted(ONE, "app:m@1", SIGNATURES, "/path/of/app:m@1")]

    play(scenario)


def test_replicas_are_scaled_without_being_replaced(play: Callable[[Scenario], None]) -> None:
    """Versions that serve or load are deployed again under their own ticket, with their number and limits of replicas
    as they are now and everything else as it was when they were loaded."""

    async def scenario(world: World) -> None:
        first, second = await world.load(ONE, TWO)
        assert (first.memory, second.memory) == (None, 1000)
        world.show(ONE, AppState.RUNNING)
        world.fleet.report_loaded(ONE, first.ticket, SIGNATURES)
        await world.look()
        world.model = ModelConfig(name="m", base_path="/m", replicas=3, max_ongoing_requests=7, num_gpus=1)
        world.memory = {ONE: 5000, TWO: 5000}  # which would restart the replicas
        world.fleet.rescale("m")
        world.fleet.rescale("another")
        await until(lambda: len(world.deployed) == 3)
        again = {target.app: target for [target] in world.deployed[1:]}
        assert again.keys() == {first.app, second.app}
        for before in (first, second):
            after = again[before.app]
            assert (after.ticket, after.memory) == (before.ticket, before.memory)
            assert (after.model.replicas, after.model.max_ongoing_requests, after.model.num_gpus) == (3, 7, 0)

    play(scenario)


def test_a_version_that_goes_is_not_scaled(play: Callable[[Scenario], None]) -> None:
    """An unload that was ordered before is not undone."""

    async def scenario(world: World) -> None:
        [target] = await world.load(ONE)
        world.show(ONE, AppState.RUNNING)
        world.fleet.report_loaded(ONE, target.ticket, SIGNATURES)
        await world.look()
        world.fleet.order(StartUnload(ONE, 2))
        world.fleet.rescale("m")
        await until(lambda: world.deleted == ["app:m@1"])
        await world.load(TWO, order=3)
        assert [target.app for targets in world.deployed for target in targets] == ["app:m@1", "app:m@2"]

    play(scenario)


def test_progress_is_told_while_a_version_loads(play: Callable[[Scenario], None]) -> None:
    """What a replica tells of its load is handed on with the order's number; repetitions and other loads' are not."""

    async def scenario(world: World) -> None:
        [target] = await world.load(ONE, order=4)
        world.fleet.report_progress(ONE, "of an earlier load", "fetched 1 of 9 MB")
        for _ in range(2):
            world.fleet.report_progress(ONE, target.ticket, "fetched 2 of 9 MB")
        assert world.events == [LoadProgressed(ONE, "fetched 2 of 9 MB", 4)]

    play(scenario)
