"""The colony against gateways that do what the test says: what they are told, and what the manager is told of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest

from serving_app.config import ModelConfig
from serving_app.core.actions import StartLoad, StartUnload
from serving_app.core.batching import BatchingChoice
from serving_app.core.errors import Code, InvalidArgument, NotFound
from serving_app.core.events import (
    Event,
    LoadFailed,
    LoadProgressed,
    ServableAdopted,
    ServableGone,
    ServableLoaded,
)
from serving_app.core.placement import Placement
from serving_app.core.servable import ServableId
from serving_app.core.views import Failure
from serving_app.host import Assignment
from serving_app.serve import colony
from serving_app.serve.colony import Colony
from serving_app.serve.holdings import UNKNOWN, Admission, Holding, Orders
from tests.serve.kept import keep_here
from tests.stepping import PATIENCE_S, turns, until

ONE, TWO = ServableId("m", 1), ServableId("m", 2)
SIGNATURES: dict[str, Any] = {"serving_default": "of m"}
TORN = Failure(Code.DATA_LOSS, "torn file")
HERE = Placement.COLOCATED


class World:
    """A colony, and what it has told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.kept = keep_here(monkeypatch)
        self.events: list[Event] = []
        self.model = ModelConfig(name="m", base_path="/m", placement="colocated")
        self.is_settled = True
        self.workers: list[asyncio.Task[None]] = []
        self.start()

    def start(self, number: int = 100) -> None:
        """A controller starts, or starts again."""
        self.end()
        self.colony = Colony(
            "app", self._find, self._assign, self.events.append,
            is_settled=lambda: self.is_settled, poll_s=PATIENCE_S, number=number,
        )
        self.workers.append(asyncio.create_task(self.colony.work()))

    def end(self) -> None:
        for worker in self.workers:
            worker.cancel()

    def load(self, *servables: ServableId, order: int = 1) -> None:
        self.colony.order([StartLoad(each, f"/m/{each.version}", order=order) for each in servables])

    async def told(self, count: int) -> list[Event]:
        """What was told, which is as much as this."""
        await until(lambda: len(self.events) >= count)
        await turns()
        assert len(self.events) == count
        return self.events

    def _find(self, name: str) -> ModelConfig:
        if name != "m":
            raise NotFound(f"{name} is not configured")
        return self.model

    def _assign(self, servable: ServableId, path: str, model: ModelConfig) -> Assignment:
        if servable.version == 13:
            raise InvalidArgument("no such version, for luck")
        return Assignment(servable, path)


class Gateway:
    """A gateway that says what the test wants it to say."""

    def __init__(self, world: World, name: str, is_member: bool = False) -> None:
        self.world, self.name, self.is_member = world, name, is_member
        self.have = -1
        self.tickets: dict[ServableId, str] = {}
        self.dropped: list[str] = []

    async def come(self, *held: Holding) -> Gateway:
        """Tell everything, as one does that is not known."""
        self.have = -1
        assert await self.world.colony.tell(self.name, held, is_all=True, is_member=self.is_member)
        return self

    async def join(self) -> Gateway:
        """Come, and take traffic, for which nothing has to be held."""
        await self.come()
        assert await self.world.colony.admit(self.name) == Admission(is_admitted=True)
        self.is_member = True
        await self.ask()
        return self

    async def ask(self) -> Orders | None:
        """Ask for orders, and remember them."""
        orders = await self.world.colony.poll(self.name, self.have)
        if orders is not None and orders.number >= 0:
            self.have = orders.number
            self.tickets |= {assignment.servable: ticket for ticket, assignment in orders.hold.items()}
            self.dropped += orders.drop
        return orders

    async def tell(self, servable: ServableId, **what: Any) -> None:
        told = Holding(self.tickets[servable], servable, **what)
        assert await self.world.colony.tell(self.name, [told], is_all=False, is_member=self.is_member)

    async def hold(self, servable: ServableId) -> None:
        """Have been told to hold a version, and do so."""
        while servable not in self.tickets:
            await self.ask()
        await self.tell(servable, signatures=SIGNATURES)

    async def let_go(self, servable: ServableId) -> None:
        """Have been told to hold a version no more, and obey."""
        while self.tickets[servable] not in self.dropped:
            await self.ask()
        await self.tell(servable, is_gone=True)
        del self.tickets[servable]


Scenario = Callable[[World], Awaitable[None]]


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Callable[[Scenario], None]:
    async def run(scenario: Scenario) -> None:
        world = World(monkeypatch)
        try:
            async with asyncio.timeout(PATIENCE_S):
                await scenario(world)
            assert not any(worker.done() and not worker.cancelled() for worker in world.workers)
        finally:
            world.end()

    return lambda scenario: asyncio.run(run(scenario))


def loaded(servable: ServableId, order: int = 1) -> ServableLoaded:
    return ServableLoaded(servable, "app", SIGNATURES, order, HERE)


def test_a_version_is_loaded_when_every_gateway_holds_it(play: Callable[[Scenario], None]) -> None:
    """As long as one gateway that takes traffic has not said so, the version is not ready."""

    async def scenario(world: World) -> None:
        a, b = await Gateway(world, "a").join(), await Gateway(world, "b").join()
        world.load(ONE, order=7)
        await a.hold(ONE)
        assert await world.told(0) == []
        await b.hold(ONE)
        assert await world.told(1) == [loaded(ONE, 7)]
        assert a.tickets == b.tickets

    play(scenario)


def test_nobody_holds_anything_before_there_is_a_gateway(play: Callable[[Scenario], None]) -> None:
    """What is ordered before the first gateway is told to it when it comes, which may take traffic at once."""

    async def scenario(world: World) -> None:
        world.load(ONE)
        await turns()
        a = await Gateway(world, "a").join()
        await a.hold(ONE)
        assert await world.told(1) == [loaded(ONE)]

    play(scenario)


def test_a_gateway_that_is_gone_is_waited_for_no_more(play: Callable[[Scenario], None]) -> None:
    """One that says good-bye or falls silent in the middle of a load or an unload holds up neither."""

    async def scenario(world: World) -> None:
        a, b = await Gateway(world, "a").join(), await Gateway(world, "b").join()
        world.load(ONE)
        await a.hold(ONE)
        world.colony.keep_only({"a"}.__contains__)
        assert await world.told(1) == [loaded(ONE)]
        await b.come(Holding(a.tickets[ONE], ONE, SIGNATURES))
        world.colony.order(StartUnload(ONE, 2))
        await a.let_go(ONE)
        await world.told(1)
        world.colony.leave("b")
        assert (await world.told(2))[1:] == [ServableGone(ONE, 2)]

    play(scenario)


def test_a_load_that_fails_in_one_gateway_has_failed(play: Callable[[Scenario], None]) -> None:
    """The reason is told once, and the others let go of the version before it is gone."""

    async def scenario(world: World) -> None:
        a, b = await Gateway(world, "a").join(), await Gateway(world, "b").join()
        world.load(ONE)
        await a.hold(ONE)
        await b.ask()
        await b.tell(ONE, failure=TORN)
        assert await world.told(1) == [LoadFailed(ONE, Code.DATA_LOSS, "torn file", 1)]
        world.colony.order(StartUnload(ONE, 2))
        await b.let_go(ONE)
        assert len(await world.told(1)) == 1
        await a.let_go(ONE)
        assert (await world.told(2))[1:] == [ServableGone(ONE, 2)]

    play(scenario)


def test_what_is_told_of_an_earlier_load_is_not_news(play: Callable[[Scenario], None]) -> None:
    """A second load of a version has a ticket of its own, and only what is said of that counts."""

    async def scenario(world: World) -> None:
        a = await Gateway(world, "a").join()
        world.load(ONE)
        await a.ask()
        first = a.tickets[ONE]
        world.colony.order(StartUnload(ONE, 2))
        await a.let_go(ONE)
        await world.told(1)
        world.load(ONE, order=3)
        await turns()
        await world.colony.tell("a", [Holding(first, ONE, SIGNATURES)], is_all=False, is_member=True)
        await world.colony.tell("a", [Holding(first, ONE, failure=TORN)], is_all=False, is_member=True)
        await world.told(1)
        await a.hold(ONE)
        assert (await world.told(2))[1:] == [loaded(ONE, 3)]

    play(scenario)


def test_a_gateway_that_comes_is_admitted_when_it_holds_what_others_hold(play: Callable[[Scenario], None]) -> None:
    """It waits for what serves, and for nothing that is still being loaded; from then on loads wait for it."""

    async def scenario(world: World) -> None:
        a = await Gateway(world, "a").join()
        world.load(ONE)
        await a.hold(ONE)
        await world.told(1)
        world.load(TWO, order=2)
        await a.ask()
        b = await Gateway(world, "b").come()
        admission = asyncio.create_task(world.colony.admit("b"))
        await turns()
        assert not admission.done()
        await b.hold(ONE)
        assert await admission == Admission(is_admitted=True)
        await a.hold(TWO)
        await world.told(1)
        await b.hold(TWO)
        assert (await world.told(2))[1:] == [loaded(TWO, 2)]

    play(scenario)


def test_loads_do_not_wait_for_a_gateway_that_is_not_admitted(play: Callable[[Scenario], None]) -> None:
    """One that is still coming is told to hold what serves, and nothing else, so its failures are failures of no load.
    """

    async def scenario(world: World) -> None:
        a, b = await Gateway(world, "a").join(), await Gateway(world, "b").come()
        world.load(ONE)
        await turns()
        orders = await b.ask()
        assert orders is not None
        assert (orders.is_all, orders.hold) == (True, {})
        await a.hold(ONE)
        assert await world.told(1) == [loaded(ONE)]
        while ONE not in b.tickets:
            await b.ask()
        await b.tell(ONE, failure=TORN)
        assert await world.told(1) == [loaded(ONE)]

    play(scenario)


def test_one_gateway_loads_a_version_before_the_others(play: Callable[[Scenario], None]) -> None:
    """If that one dies of it the load has failed and no other was touched; what else was loading is loaded again alone.
    """

    async def scenario(world: World) -> None:
        a, b = await Gateway(world, "a").join(), await Gateway(world, "b").join()
        world.load(ONE, TWO)
        while not a.tickets.keys() >= {ONE, TWO}:
            await a.ask()
        await b.ask()
        assert b.tickets == {}
        world.colony.keep_only(lambda name: name == "b")
        assert [(each.servable, each.code) for each in await world.told(2) if isinstance(each, LoadFailed)] == [
            (ONE, Code.UNAVAILABLE), (TWO, Code.UNAVAILABLE)
        ]
        world.load(ONE, TWO, order=2)
        await b.hold(ONE)
        assert TWO not in b.tickets
        assert (await world.told(3))[2:] == [loaded(ONE, 2)]
        await b.hold(TWO)
        assert (await world.told(4))[3:] == [loaded(TWO, 2)]

    play(scenario)


def test_a_pioneer_that_goes_in_peace_has_a_successor(play: Callable[[Scenario], None]) -> None:
    """A gateway that says good-bye while it loads blames nothing: the next one goes on, also one that was silent about
    what it holds when it went."""

    async def scenario(world: World) -> None:
        a, b = await Gateway(world, "a").join(), await Gateway(world, "b").join()
        world.load(ONE)
        while ONE not in a.tickets:
            await a.ask()
        world.colony.leave("a")
        while ONE not in b.tickets:
            await b.ask()
        assert await world.colony.poll("b", 10**9) == UNKNOWN
        world.colony.keep_only(lambda name: False)
        c = await Gateway(world, "c").join()
        await c.hold(ONE)
        assert await world.told(1) == [loaded(ONE)]

    play(scenario)


def test_what_served_and_kills_gateways_now_is_given_up(play: Callable[[Scenario], None]) -> None:
    """Where nobody holds it any more, and gateway after gateway dies while it loads it, the manager hears that it is
    gone, and the next gateway takes traffic without it."""

    async def scenario(world: World) -> None:
        a = await Gateway(world, "a").join()
        world.load(ONE)
        await a.hold(ONE)
        await world.told(1)
        world.colony.keep_only(lambda name: False)
        for name in ("b", "c", "d"):
            await (await Gateway(world, name).come()).ask()
            assert len(world.events) == 1
            world.colony.keep_only(lambda name: False)
        assert (await world.told(2))[1:] == [ServableGone(ONE, 1)]
        await Gateway(world, "e").join()

    play(scenario)


def test_a_gateway_that_cannot_hold_what_others_hold_is_refused(play: Callable[[Scenario], None]) -> None:
    """It is told which version and why, and the others go on."""

    async def scenario(world: World) -> None:
        a = await Gateway(world, "a").join()
        world.load(ONE)
        await a.hold(ONE)
        await world.told(1)
        b = await Gateway(world, "b").come()
        await b.ask()
        admission = asyncio.create_task(world.colony.admit("b"))
        await b.tell(ONE, failure=TORN)
        assert await admission == Admission(failure=Failure(Code.DATA_LOSS, "m@1: torn file"))
        await world.told(1)

    play(scenario)


def test_what_nobody_can_hold_any_more_is_gone(play: Callable[[Scenario], None]) -> None:
    """Where no gateway is left and one that comes cannot load what served, it is tried anew like any other version."""

    async def scenario(world: World) -> None:
        a = await Gateway(world, "a").join()
        world.load(ONE, order=5)
        await a.hold(ONE)
        await world.told(1)
        world.colony.leave("a")
        b = await Gateway(world, "b").come()
        await b.ask()
        admission = asyncio.create_task(world.colony.admit("b"))
        await b.tell(ONE, failure=TORN)
        assert (await world.told(2))[1:] == [ServableGone(ONE, 5)]
        assert await admission == Admission(is_admitted=True)
        assert world.kept == {}

    play(scenario)


def test_what_served_stays_when_all_gateways_are_replaced(play: Callable[[Scenario], None]) -> None:
    """The manager hears of nothing as long as somebody comes who can load it."""

    async def scenario(world: World) -> None:
        a = await Gateway(world, "a").join()
        world.load(ONE)
        await a.hold(ONE)
        await world.told(1)
        world.colony.leave("a")
        b = await Gateway(world, "b").come()
        admission = asyncio.create_task(world.colony.admit("b"))
        await b.hold(ONE)
        assert await admission == Admission(is_admitted=True)
        await world.told(1)

    play(scenario)


def test_a_restarted_controller_adopts_what_served(play: Callable[[Scenario], None]) -> None:
    """Nothing is loaded again: gateways are told to hold what they hold, under the tickets that they know."""

    async def scenario(world: World) -> None:
        a = await Gateway(world, "a").join()
        world.load(ONE)
        await a.hold(ONE)
        await world.told(1)
        world.load(TWO, order=2)
        while TWO not in a.tickets:
            await a.ask()
        world.start(number=200)
        world.is_settled = False
        assert await world.colony.adopt() == 1
        assert world.events[1:] == [ServableAdopted(ONE, "app", SIGNATURES, "/m/1", HERE)]
        assert await a.ask() == UNKNOWN
        assert not await world.colony.tell("a", [], is_all=False, is_member=True)
        await a.come(Holding(a.tickets[ONE], ONE, SIGNATURES), Holding(a.tickets[TWO], TWO, SIGNATURES))
        orders = await a.ask()
        assert orders is not None
        assert orders.is_all
        assert {ticket: each.servable for ticket, each in orders.hold.items()} == {a.tickets[ONE]: ONE}
        # Its load of the other version was the earlier controller's; this one is told that it is over.
        await a.tell(TWO, is_gone=True)
        world.load(TWO, order=1)
        await turns()
        await a.ask()
        await a.tell(TWO, signatures=SIGNATURES)
        assert len(await world.told(2)) == 2
        world.is_settled = True
        world.colony.stir()
        assert (await world.told(3))[2:] == [loaded(TWO)]

    play(scenario)


def test_a_gateway_that_was_admitted_is_a_member_of_the_next_controller(play: Callable[[Scenario], None]) -> None:
    """It takes traffic, so loads wait for it from the moment at which it is known again."""

    async def scenario(world: World) -> None:
        a, b = await Gateway(world, "a").join(), await Gateway(world, "b").join()
        world.start(number=200)
        await a.come()
        await b.come()
        world.load(ONE)
        await a.hold(ONE)
        await world.told(0)
        await b.hold(ONE)
        assert await world.told(1) == [loaded(ONE)]

    play(scenario)


def test_a_gateway_gets_what_is_new(play: Callable[[Scenario], None]) -> None:
    """A poll is answered when there are orders that it has not had, with these alone."""

    async def scenario(world: World) -> None:
        a = await Gateway(world, "a").join()
        world.load(ONE)
        await a.ask()
        ticket = a.tickets[ONE]
        waiting = asyncio.create_task(world.colony.poll("a", a.have))
        await turns()
        assert not waiting.done()
        world.load(TWO)
        orders = await waiting
        assert orders is not None
        assert [each.servable for each in orders.hold.values()] == [TWO]
        world.colony.order(StartUnload(ONE, 2))
        orders = await world.colony.poll("a", orders.number)
        assert orders is not None
        assert (dict(orders.hold), orders.drop, orders.is_all) == ({}, (ticket,), False)

    play(scenario)


def test_orders_that_cannot_be_given_fail(play: Callable[[Scenario], None]) -> None:
    """A model that has left the configuration, or settings of which nothing can be made, fail their version alone."""

    async def scenario(world: World) -> None:
        a = await Gateway(world, "a").join()
        world.load(ServableId("n", 1), ServableId("m", 13), ONE)
        await a.hold(ONE)
        assert await world.told(3) == [
            LoadFailed(ServableId("n", 1), Code.NOT_FOUND, "n is not configured", 1),
            LoadFailed(ServableId("m", 13), Code.INVALID_ARGUMENT, "no such version, for luck", 1),
            loaded(ONE),
        ]

    play(scenario)


@pytest.mark.parametrize("is_up", [False, True])
def test_a_load_that_takes_too_long_fails(
    play: Callable[[Scenario], None], is_up: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After load_timeout_s the load counts as failed, with what was last heard of it, or that nobody is there."""

    async def scenario(world: World) -> None:
        world.model = world.model.model_copy(update={"load_timeout_s": 1e-9})
        if not is_up:
            world.load(ONE)
            text = "not loaded within load_timeout_s: no gateway is up"
            assert await world.told(1) == [LoadFailed(ONE, Code.DEADLINE_EXCEEDED, text, 1)]
            return
        world.model = world.model.model_copy(update={"load_timeout_s": 3600.0})
        a = await Gateway(world, "a").join()
        world.load(ONE)
        while ONE not in a.tickets:
            await a.ask()
        await world.colony.tell_progress(a.tickets[ONE], "warming up")
        await world.colony.tell_progress(a.tickets[ONE], "warming up")
        await world.told(1)
        monkeypatch.setattr(colony, "time", SimpleNamespace(monotonic=lambda: time.monotonic() + 3601.0))
        world.colony.stir()
        await until(lambda: len(world.events) == 2)
        text = "not loaded by every gateway within load_timeout_s; the last that was heard of it: warming up"
        assert world.events == [LoadProgressed(ONE, "warming up", 1), LoadFailed(ONE, Code.DEADLINE_EXCEEDED, text, 1)]

    play(scenario)


def test_an_unload_of_nothing_is_done_at_once(play: Callable[[Scenario], None]) -> None:
    """Every order to unload is answered, also where nothing was there."""

    async def scenario(world: World) -> None:
        world.colony.order(StartUnload(ONE, 4))
        assert await world.told(1) == [ServableGone(ONE, 4)]

    play(scenario)


def test_a_change_of_batching_reaches_gateways_without_a_load(play: Callable[[Scenario], None]) -> None:
    """Who holds the version is told how it is batched now, and who comes later gets it so from the start."""

    async def scenario(world: World) -> None:
        a = await Gateway(world, "a").join()
        world.load(ONE)
        await a.hold(ONE)
        await world.told(1)
        await a.ask()
        world.model = ModelConfig.model_validate(
            {"name": "m", "base_path": "/m", "placement": "colocated", "batching": {"max_batch_size": 64}}
        )
        world.colony.follow_batching()
        orders = await a.ask()
        assert orders is not None
        assert world.model.batching is not None
        limits = world.model.batching.limits()
        assert (dict(orders.hold), dict(orders.batching)) == ({}, {a.tickets[ONE]: BatchingChoice(limits)})
        world.colony.follow_batching()
        b = await Gateway(world, "b").come()
        orders = await b.ask()
        assert orders is not None
        assert [each.batching for each in orders.hold.values()] == [limits]

    play(scenario)


def test_nothing_of_a_deleted_app_is_kept(play: Callable[[Scenario], None]) -> None:
    """Whoever is deployed under its name begins anew."""

    async def scenario(world: World) -> None:
        a = await Gateway(world, "a").join()
        world.load(ONE)
        await a.hold(ONE)
        await world.told(1)
        assert len(world.kept) == 1
        world.colony.forget()
        assert world.kept == {}

    play(scenario)
