"""The loop around the manager: events in, actions begun in their order, and everyone told who waits for it."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable

import pytest

from serving_app.core.actions import PublishRoutes, StartUnload
from serving_app.core.errors import Code
from serving_app.core.events import (
    ConfigApplied,
    Event,
    LoadFailed,
    ModelIntent,
    ServableAdopted,
    ServableGone,
    VersionsListed,
)
from serving_app.core.history import Happening
from serving_app.core.manager import ManagerOptions
from serving_app.core.routing import RouteTable
from serving_app.core.servable import ServableId
from serving_app.serve.changes import Changes
from serving_app.serve.fleet import Order
from serving_app.serve.manager_loop import ManagerLoop
from tests.stepping import until

CONFIG = ConfigApplied((ModelIntent("m"), ModelIntent("n")))


class Shell:
    """What is around the loop: it notes what it is given."""

    def __init__(self) -> None:
        self.changes = Changes()
        self.remembered: list[Event] = []
        self.performed: list[Order | PublishRoutes] = []
        self.told: list[Happening] = []
        self.loop = ManagerLoop(
            self.changes, remember=self.remembered.append, perform=self.performed.append, tell=self.told.extend
        )

    @property
    def tables(self) -> list[RouteTable]:
        return [action.table for action in self.performed if isinstance(action, PublishRoutes)]

    @property
    def loads(self) -> list[list[str]]:
        """The versions that were ordered together."""
        orders = [each for each in self.performed if not isinstance(each, PublishRoutes | StartUnload)]
        return [[str(load.servable) for load in order] for order in orders]


def play(scenario: Callable[[Shell], Awaitable[None]], *before: Event) -> Shell:
    """Run a loop that was told this before it began."""

    async def run() -> Shell:
        shell = Shell()
        for event in before:
            shell.loop.emit(event)
        shell.loop.take_in()
        assert not shell.performed
        task = asyncio.create_task(shell.loop.run(CONFIG))
        try:
            await scenario(shell)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        return shell

    return asyncio.run(run())


async def listed(shell: Shell) -> None:
    for model in "mn":
        shell.loop.emit(VersionsListed(model, {1: f"/{model}/1"}))
    await shell.loop.handled()


def test_what_came_in_together_is_handled_together() -> None:
    """Loads that follow from one turn are one order, and whoever waited finds it begun."""

    async def scenario(shell: Shell) -> None:
        await listed(shell)
        assert shell.loads == [["m@1", "n@1"]]

    shell = play(scenario)
    assert [event.model for event in shell.remembered if isinstance(event, VersionsListed)] == ["m", "n"]
    assert {happening.model for happening in shell.told} == {"m", "n"}


def test_what_was_there_before_is_not_loaded() -> None:
    """What is taken in before the loop begins is known at the first decision, which is made with the configuration."""

    async def scenario(shell: Shell) -> None:
        await listed(shell)
        assert shell.loads == [["n@1"]]
        assert 1 in shell.tables[0].models["m"].routes

    play(scenario, ServableAdopted(ServableId("m", 1), "app:m@1", {}, "/m/1"))


def test_every_turn_is_a_change() -> None:
    """Whoever waits for news is woken by a turn of the loop, and revisions begin where changes did."""

    async def scenario(shell: Shell) -> None:
        await until(lambda: bool(shell.tables))
        seen = shell.changes.number
        waiting = asyncio.create_task(shell.changes.wait_for_news(seen, 30.0))
        await listed(shell)
        assert await waiting > seen
        assert shell.tables[0].revision <= seen

    play(scenario)


def test_a_retry_needs_no_event() -> None:
    """When a pause is over, the loop goes on by itself."""

    async def scenario(shell: Shell) -> None:
        shell.loop.manager.limit(ManagerOptions(retry_base_s=0.01, retry_max_s=0.01, quick_retries=99))
        await listed(shell)
        shell.loop.emit(LoadFailed(ServableId("m", 1), Code.UNKNOWN, "broken"))
        await until(lambda: any(isinstance(each, StartUnload) for each in shell.performed))
        [removal] = [each for each in shell.performed if isinstance(each, StartUnload)]
        shell.loop.emit(ServableGone(removal.servable, removal.order))
        await until(lambda: ["m@1"] in shell.loads)

    play(scenario)


def test_after_the_end_nothing_is_decided() -> None:
    """What comes in after `stop` is left lying."""

    async def scenario(shell: Shell) -> None:
        await shell.loop.handled()
        shell.loop.stop()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(listed(shell), 0.05)

    assert list(itertools.chain(*play(scenario).loads)) == []
