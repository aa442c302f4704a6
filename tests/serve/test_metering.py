"""Collecting what all processes have counted: exact, never falling, never waiting long."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from serving_app.client.courier import Parcel
from serving_app.core.batching import Batching
from serving_app.core.errors import Code, Unavailable
from serving_app.core.families import IN_FLIGHT, LOAD_SECONDS, REQUEST_COUNT, SILENT, VERSIONS
from serving_app.core.metrics import Registry, Snapshot
from serving_app.core.routing import ModelRoutes, RouteTable, VersionStatus
from serving_app.core.servable import ServableId
from serving_app.core.states import PublicState
from serving_app.serve import kept_counts
from serving_app.serve.metering import LEASE_S, Metering
from serving_app.serve.reporting import Report, Reporter, Wish
from tests.serve.kept import keep_here
from tests.stepping import PATIENCE_S, Actor, run_by_turns, turns, until

LABELS = ("m", "OK", "1", "serving_default")


class Clock:
    """Time that moves when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Controller:
    """The methods of the controller that reporters call."""

    def __init__(self, metering: Metering) -> None:
        self.metering = metering
        self.reports: list[tuple[str, Report]] = []

    async def report_metrics(self, name: str, report: Report) -> Wish:
        self.reports.append((name, report))
        return await self.metering.report(name, report)

    async def bid_farewell(self, name: str, report: Report) -> None:
        await self.metering.bid_farewell(name, report)


class Process:
    """A gateway or replica: a registry and its reporter."""

    def __init__(self, scene: Scene, name: str) -> None:
        self._scene = scene
        self.registry = Registry()
        self.reporter = Reporter(name, self.registry, self._connect)

    async def _connect(self) -> Any:
        return self._scene.actor

    def serve(self, requests: int = 1) -> None:
        self.registry.count(REQUEST_COUNT, LABELS, requests)


class Scene:
    """A controller's metering, one life after the other, and those who report to it."""

    def __init__(self, kept: dict[str, bytes]) -> None:
        self.kept = kept
        self.clock = Clock()
        self.processes: list[Process] = []

    async def begin(self, **limits: float) -> None:
        """A new life of the controller."""
        limits = {"pause_s": 1000.0, "answer_s": 1000.0, "return_s": 1000.0, **limits}
        self.metering = Metering("app", clock=self.clock, **limits)  # type: ignore[arg-type]
        await self.metering.restore()
        self.controller = Controller(self.metering)
        self.actor = Actor(self.controller)

    def die(self) -> None:
        """The controller is killed."""
        self.actor.lose(ConnectionError("the controller died"))

    async def start(self, name: str) -> Process:
        process = Process(self, name)
        await process.reporter.start()
        self.processes.append(process)
        return process

    def crash(self, process: Process) -> None:
        """The process is killed."""
        process.reporter._stopped = True
        for task in process.reporter._tasks:
            task.cancel()
        self.processes.remove(process)

    async def count(self, asker: str = "g1") -> float:
        """What a scrape says of the requests."""
        return requests_in(await self.metering.collect(asker))

    async def end(self) -> None:
        for process in list(self.processes):
            self.crash(process)
        await turns()


def requests_in(snapshot: Snapshot) -> float:
    value = snapshot.get(REQUEST_COUNT.name, {}).get(LABELS, 0)
    assert not isinstance(value, tuple)
    return value


Play = Callable[[Scene], Coroutine[Any, Any, None]]


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Callable[[Play], None]:
    """Runs a scene on a loop of its own, whose time is its turns."""
    kept = keep_here(monkeypatch)

    async def run(scenario: Play) -> None:
        scene = Scene(kept)
        await scene.begin()
        try:
            async with asyncio.timeout(PATIENCE_S):
                await scenario(scene)
        finally:
            await scene.end()

    return lambda scenario: run_by_turns(run(scenario))


def test_a_scrape_is_exact(play: Callable[[Play], None]) -> None:
    """Whatever any process had counted before a scrape began is in it, each time, and is told only once."""

    async def scenario(scene: Scene) -> None:
        gateways = [await scene.start(name) for name in ("g1", "g2", "g3")]
        expected = 0
        for round_ in range(20):
            for index, gateway in enumerate(gateways):
                gateway.serve(index + round_)
                expected += index + round_
            assert await scene.count(f"g{round_ % 3 + 1}") == expected
        changes = [report.counts for _, report in scene.controller.reports[6:] if not report.is_all]
        assert all(len(counts.get(REQUEST_COUNT.name, {})) <= 1 for counts in changes)

    play(scenario)


def test_scrapes_that_come_together_share_a_round(play: Callable[[Play], None]) -> None:
    """Many scrapes at once make the processes report twice, and not many times."""

    async def scenario(scene: Scene) -> None:
        gateway = await scene.start("g1")
        gateway.serve()
        await turns()
        before = len(scene.controller.reports)
        assert set(await asyncio.gather(*(scene.count() for _ in range(50)))) == {1}
        assert len(scene.controller.reports) - before <= 4

    play(scenario)


def test_who_goes_stays_counted(play: Callable[[Play], None]) -> None:
    """A process that ends brings its last counts, which stay; its gauges go with it."""

    async def scenario(scene: Scene) -> None:
        one, other = await scene.start("g1"), await scene.start("g2")
        for process, name in ((one, "g1"), (other, "g2")):
            process.registry.watch(IN_FLIGHT, lambda name=name: {(name,): 1})
        other.serve(5)
        assert set((await scene.metering.collect("g1"))[IN_FLIGHT.name]) == {("g1",), ("g2",)}
        other.serve(2)
        await other.reporter.stop()
        assert await scene.count() == 7
        assert set((await scene.metering.collect("g1"))[IN_FLIGHT.name]) == {("g1",)}
        await other.reporter.stop()  # Ray may repeat a call
        assert await scene.count() == 7

    play(scenario)


def test_a_scrape_does_not_wait_for_the_dead(play: Callable[[Play], None]) -> None:
    """A process that was killed counts with its last report; the scrapes after the first do not wait for it."""

    async def scenario(scene: Scene) -> None:
        await scene.begin(answer_s=0.01)
        await scene.start("g1")
        other = await scene.start("g2")
        other.serve(5)
        assert await scene.count() == 5
        other.serve(1)
        scene.crash(other)
        page = await scene.metering.collect("g1")
        assert requests_in(page) == 5
        assert page[SILENT.name] == {(): 1}
        scene.metering._answer_s = 1000.0
        assert await scene.count() == 5

    play(scenario)


def test_who_was_silent_counts_again(play: Callable[[Play], None]) -> None:
    """A process that hung, and for longer than its lease, is counted once when it comes back."""

    async def scenario(scene: Scene) -> None:
        await scene.begin(answer_s=0.01)
        await scene.start("g1")
        other = await scene.start("g2")
        other.serve(5)
        assert await scene.count() == 5
        scene.crash(other)
        scene.clock.now += LEASE_S + 1
        assert await scene.count() == 5
        other.serve(1)
        scene.metering._answer_s = 1000.0
        other.reporter._stopped = False
        other.reporter._tasks.append(asyncio.ensure_future(other.reporter._report_for_ever(asyncio.Event())))
        scene.processes.append(other)
        await until(lambda: not scene.metering._processes["g2"].is_silent)
        page = await scene.metering.collect("g1")
        assert (requests_in(page), page[SILENT.name]) == (6, {(): 0})

    play(scenario)


def test_counters_outlive_the_controller(play: Callable[[Play], None]) -> None:
    """After a restart of the controller a scrape waits until everybody is back, and then says what is right."""

    async def scenario(scene: Scene) -> None:
        one, other, gone = [await scene.start(name) for name in ("g1", "g2", "r1")]
        one.serve(1)
        other.serve(2)
        gone.serve(4)
        await gone.reporter.stop()
        assert await scene.count() == 7
        scene.die()
        one.serve(8)
        await scene.begin()
        assert await scene.count() == 15

    play(scenario)


def test_who_dies_with_the_controller_stays_counted(play: Callable[[Play], None]) -> None:
    """What was kept of a process counts that was killed while there was no controller; until that is certain, scrapes
    are refused rather than wrong."""

    async def scenario(scene: Scene) -> None:
        one, other = await scene.start("g1"), await scene.start("g2")
        one.serve(1)
        other.serve(2)
        assert await scene.count() == 3
        await scene.metering._keep()
        scene.crash(other)
        scene.die()
        await scene.begin(return_s=0.01)
        await until(lambda: scene.metering._processes["g1"].is_back)
        with pytest.raises(Unavailable, match="1 of the processes that count have not reported") as refused:
            await scene.count()
        assert refused.value.code is Code.UNAVAILABLE
        scene.clock.now += LEASE_S + 1
        assert await scene.count() == 3

    play(scenario)


def test_who_asks_is_waited_for(play: Callable[[Play], None]) -> None:
    """A controller that knows nothing yet shows nothing before the gateway that asks has reported to it."""

    async def scenario(scene: Scene) -> None:
        asking = asyncio.ensure_future(scene.count("g9"))
        await turns()
        assert not asking.done()
        gateway = Process(scene, "g9")
        gateway.serve(3)
        await gateway.reporter.start()
        scene.processes.append(gateway)
        assert await asking == 3

    play(scenario)


def test_nobody_waits_long_for_a_controller_that_takes_no_reports(play: Callable[[Play], None]) -> None:
    """A process starts without having reported where nobody takes reports, and reports when somebody does."""

    async def scenario(scene: Scene) -> None:
        await scene.start("g1")
        scene.actor.lost = AttributeError("report_metrics")
        late = Process(scene, "g2")
        late.reporter._start_s = 0.01
        late.serve(3)
        await late.reporter.start()
        scene.processes.append(late)
        scene.actor.lost = None
        await until(lambda: "g2" in scene.metering._processes)
        assert await scene.count() == 3

    play(scenario)


def test_reports_that_are_lost_or_repeated_do_no_harm(play: Callable[[Play], None]) -> None:
    """After a gap everything is asked for; an old report that comes again changes nothing."""

    async def scenario(scene: Scene) -> None:
        name, metering = REQUEST_COUNT.name, scene.metering

        def report(number: int, count: int, is_all: bool = False) -> Report:
            return Report(number, {name: {LABELS: count}}, {}, is_all)

        assert await metering.report("g", report(1, 1, True)) == Wish()
        assert await metering.report("g", report(3, 7)) == Wish(everything=True)
        waiting = asyncio.ensure_future(metering.report("g", report(4, 8, True)))
        await turns()
        assert not waiting.done()
        assert await metering.report("g", report(2, 2)) == Wish(everything=True)
        assert metering._processes["g"].counts == {name: {LABELS: 8}}
        waiting.cancel()

    play(scenario)


def test_the_lost_are_bounded(play: Callable[[Play], None]) -> None:
    """Of the many that die without a farewell only some are kept apart; all of them stay counted."""

    async def scenario(scene: Scene) -> None:
        for number in range(300):
            await scene.metering.report(f"r{number}", Report(1, {REQUEST_COUNT.name: {LABELS: 2}}, {}, True))
        scene.clock.now += LEASE_S + 1
        await scene.start("g1")
        assert await scene.count() == 600
        assert len(scene.metering._processes) <= 257

    play(scenario)


def test_what_is_kept_is_forgotten_with_the_app(play: Callable[[Play], None]) -> None:
    """The cluster keeps one value per app, which goes with it; one that cannot be read does no harm."""

    async def scenario(scene: Scene) -> None:
        gateway = await scene.start("g1")
        gateway.serve(3)
        await scene.count()
        await scene.metering._keep()
        [key] = scene.kept
        scene.kept[key] = b"damaged"
        scene.die()
        await scene.begin()
        assert await scene.count() == 3
        scene.metering.forget()
        await gateway.reporter.stop()
        assert not scene.kept

    play(scenario)


def test_the_controller_tells_the_states_of_versions() -> None:
    """Versions are counted by model and state, as GetModelStatus would tell them."""
    statuses = [VersionStatus(3, PublicState.END), VersionStatus(2, PublicState.AVAILABLE)]
    table = RouteTable(1, {"m": ModelRoutes(statuses=(*statuses, VersionStatus(1, PublicState.END)))})
    metering = Metering("app", lambda: table)
    assert metering._registry.gauges() == {VERSIONS.name: {("m", "END"): 2, ("m", "AVAILABLE"): 1}}
    assert Metering("app")._registry.gauges() == {VERSIONS.name: {}}


def test_histograms_are_added_over_processes(play: Callable[[Play], None]) -> None:
    """The buckets of several processes add up bucket by bucket."""

    async def scenario(scene: Scene) -> None:
        for name, seconds in (("g1", 0.05), ("r1", 0.05), ("r2", 1e6)):
            process = await scene.start(name)
            process.registry.observe(LOAD_SECONDS, ("m",), seconds)
        cell = (await scene.metering.collect("g1"))[LOAD_SECONDS.name]["m",]
        assert isinstance(cell, tuple)
        assert (cell[0], cell[-2], cell[-1]) == (2, 1, 1000000.1)

    play(scenario)


# --- batching --------------------------------------------------------------------------------------------------------


def test_limits_in_force_are_known(play: Callable[[Play], None]) -> None:
    """Who holds versions tells with each report by which limits they are batched, until it goes."""
    limits = {ServableId("m", 1): Batching(max_batch_size=8)}

    async def scenario(scene: Scene) -> None:
        replica = await scene.start("r1")
        assert scene.metering.find_batching() == {}
        await turns()
        replica.reporter.batched = lambda: limits
        scene.metering.wake()
        await until(lambda: scene.metering.find_batching() == limits)
        await replica.reporter.stop()
        assert scene.metering.find_batching() == {}

    play(scenario)


def test_news_wake_all_who_report(play: Callable[[Play], None]) -> None:
    """What the controller has to say reaches processes at once, and not only when they would report next."""

    async def scenario(scene: Scene) -> None:
        for name in ("r1", "r2"):
            await scene.start(name)
        await turns()
        before = len(scene.controller.reports)
        scene.metering.wake()
        await until(lambda: len(scene.controller.reports) == before + 2)

    play(scenario)


def test_who_comes_less_often() -> None:
    """Callers are told when to come again: the later the more there are, so that the controller is not kept busy."""

    async def ask() -> None:
        metering = Metering("app")
        metering._restored.set()
        assert (await metering.take_in("a", 0, [], 5)).pause_s == 1.0
        assert (await metering.take_in("a", 0, [], 1000)).pause_s == 4.0

    asyncio.run(ask())


def test_what_cannot_be_kept_is_not_shown(play: Callable[[Play], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """What callers bring is shown when it is kept, and seen by rollouts before that; what fails to be kept is kept with
    the rest."""

    async def scenario(scene: Scene) -> None:
        metering = scene.metering

        def known() -> float:
            return requests_in(metering.find_counts([REQUEST_COUNT.name], ["m"]))

        async def bring(number: int) -> int:
            return (await metering.take_in("a", 0, [Parcel(number, {REQUEST_COUNT.name: {LABELS: 3}})], 1)).kept

        await bring(1)
        with monkeypatch.context() as patched:
            patched.setattr(kept_counts, "write", fail)
            with pytest.raises(ConnectionError):
                await metering.collect(None)
        assert known() == 3
        assert await bring(2) == 0
        assert requests_in(await metering.collect(None)) == 6 == known()
        assert await bring(2) == 2
        await scene.begin()
        assert requests_in(await scene.metering.collect(None)) == 6

    def fail(*_: object) -> None:
        raise ConnectionError("the store is away")

    play(scenario)
