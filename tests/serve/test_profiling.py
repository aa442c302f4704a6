"""The profiles of all processes of an app: asked for, taken, brought together."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from serving_app.core.errors import FailedPrecondition, InvalidArgument
from serving_app.core.metrics import Registry
from serving_app.core.stacks import ProcessProfile
from serving_app.serve.metering import Metering
from serving_app.serve.profiling import Profiled, Profiling
from serving_app.serve.reporting import Report, Reporter, Wish
from tests.serve.kept import keep_here
from tests.stepping import PATIENCE_S, Actor, run_by_turns, turns, until

REPLICA, GATEWAY = "app:m@1#7", "gateway:1"


class Controller:
    """What the controller does with reports."""

    def __init__(self, grace_s: float) -> None:
        self.metering = Metering("app", pause_s=0.01)
        self.profiling = Profiling(lambda: self.metering.present, self.metering.wake, grace_s=grace_s)

    async def report_metrics(self, process: str, report: Report) -> Wish:
        self.profiling.take(process, report.profile)
        wish = await self.metering.report(process, report)
        return wish._replace(profile=self.profiling.wish_for(process))

    async def bid_farewell(self, process: str, report: Report) -> None:
        await self.metering.bid_farewell(process, report)


class Scene:
    """A controller, and processes that report to it."""

    def __init__(self, grace_s: float) -> None:
        self.controller = Controller(grace_s)
        self.profiling = self.controller.profiling
        self.actor = Actor(self.controller)
        self.reporters: list[Reporter] = []

    async def start(self, name: str) -> Reporter:
        async def connect() -> Any:
            return self.actor

        reporter = Reporter(name, Registry(), connect)
        await reporter.start()
        self.reporters.append(reporter)
        return reporter


Play = Callable[[Scene], Awaitable[None]]


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    keep_here(monkeypatch)

    async def run(scenario: Play, grace_s: float) -> None:
        async with asyncio.timeout(PATIENCE_S):
            scene = Scene(grace_s)
            await scene.controller.metering.restore()
            await scenario(scene)
            for reporter in scene.reporters:
                await reporter.stop()
            await until(lambda: not [each for each in threading.enumerate() if each.name == "profile"])

    return lambda scenario, grace_s=PATIENCE_S, run_it=asyncio.run: run_it(run(scenario, grace_s))


def test_all_processes_are_in_it(play: Callable[..., None]) -> None:
    """Each is told of by what it is for, the controller among them; the next question is answered as well."""

    async def scenario(scene: Scene) -> None:
        for name in (GATEWAY, REPLICA):
            await scene.start(name)
        for _ in range(2):
            told = await scene.profiling.profile(0.02)
            assert sorted(each.name for each in told.processes) == ["app:m@1", "controller", "gateway"]
            assert told.silent == ()
        assert all(scene.profiling.wish_for(name) is None for name in (GATEWAY, REPLICA))

    play(scenario)


def test_who_gives_no_answer_is_named(play: Callable[..., None]) -> None:
    """A process that was there and brings nothing is told of; it is not waited for longer than a while."""

    async def scenario(scene: Scene) -> None:
        for name in (GATEWAY, REPLICA):
            await scene.controller.report_metrics(name, Report(1, {}, {}, True))
        asking = asyncio.create_task(scene.profiling.profile(0.02))
        await turns()
        wish = scene.profiling.wish_for(GATEWAY)
        assert wish is not None
        for name in (GATEWAY, "controller"):
            scene.profiling.take(name, Profiled(wish.id, ProcessProfile(name, "", 1, 1.0, {})))
        told = await asking
        assert told.silent == (REPLICA,)
        assert sorted(each.name for each in told.processes) == ["controller", GATEWAY]

    play(scenario, grace_s=1.0, run_it=run_by_turns)


def test_a_wish_that_is_no_more_ends_the_sampling(play: Callable[..., None]) -> None:
    """Processes look no longer than the controller wants that, which a new one after a crash does not."""

    async def scenario(scene: Scene) -> None:
        reporter = await scene.start(GATEWAY)
        asking = asyncio.create_task(scene.profiling.profile(60.0))
        await until(lambda: reporter._profiler._wish is not None)
        ended = reporter._profiler._ended
        assert not ended.is_set()
        asking.cancel()
        await until(ended.is_set)
        assert reporter._profiler.taken is None

    play(scenario)


def test_one_at_a_time(play: Callable[..., None]) -> None:
    """Who asks while somebody else's profile is taken is told when to come again; what is cancelled ends at once."""

    async def scenario(scene: Scene) -> None:
        first = asyncio.create_task(scene.profiling.profile(60.0))
        await turns()
        with pytest.raises(FailedPrecondition, match=r"try again in \d+ seconds"):
            await scene.profiling.profile(1.0)
        first.cancel()
        await asyncio.wait({first})
        assert [each.name for each in (await scene.profiling.profile(0.01)).processes] == ["controller"]

    play(scenario)


@pytest.mark.parametrize("seconds", [0.0, -1.0, 301.0, float("nan")])
def test_times_that_make_no_sense(play: Callable[..., None], seconds: float) -> None:
    """A profile takes some time, and not for ever."""

    async def scenario(scene: Scene) -> None:
        with pytest.raises(InvalidArgument, match="at most 300 seconds"):
            await scene.profiling.profile(seconds)

    play(scenario)


def test_what_was_not_asked_for_is_not_taken(play: Callable[..., None]) -> None:
    """Neither a profile for an earlier wish counts, nor a second one of the same process."""

    async def scenario(scene: Scene) -> None:
        await scene.controller.report_metrics(REPLICA, Report(1, {}, {}, True))
        asking = asyncio.create_task(scene.profiling.profile(0.02))
        await turns()
        wish = scene.profiling.wish_for(REPLICA)
        assert wish is not None
        profile = ProcessProfile("late", "", 1, 1.0, {})
        scene.profiling.take(REPLICA, Profiled("earlier", profile))
        assert scene.profiling.wish_for(REPLICA) == wish
        for name in ("right", "again"):
            scene.profiling.take(REPLICA, Profiled(wish.id, profile._replace(name=name)))
        assert {each.name for each in (await asking).processes} == {"controller", "right"}

    play(scenario)
