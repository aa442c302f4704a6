"""Driving an event loop from a test: wait for a state instead of for some time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

PATIENCE_S = 120.0
"""After so long a test that waits for a state has failed; no test that passes ever waits for it."""


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop turn until the condition holds."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - the condition is about objects that know no events
            await asyncio.sleep(0)


async def turns(count: int = 10) -> None:
    """Let the loop turn some times: enough for all that needs no outer event."""
    for _ in range(count):
        await asyncio.sleep(0)


class TurnLoop(asyncio.SelectorEventLoop):
    """An event loop whose time is counted in its turns, and stands still while threads of its executors work: what is
    late by it is late on every machine, however slow that is or long it stalls. Where nothing is to be done but to wait
    for a time, that time has come.
    """

    TURN_S = 1e-4

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        self._away = 0

    def time(self) -> float:
        return self._now

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:
        self._away += 1
        work = super().run_in_executor(executor, func, *args)
        work.add_done_callback(self._back)
        return work

    def _back(self, _: object) -> None:
        self._away -= 1

    def _run_once(self) -> None:
        if not self._away:
            self._now += self.TURN_S
            times = [timer.when() for timer in self._scheduled if not timer.cancelled()]  # type: ignore[attr-defined]
            if not self._ready and times:  # type: ignore[attr-defined]
                self._now = max(self._now, min(times))
        super()._run_once()  # type: ignore[misc]


T = TypeVar("T")


def run_by_turns(scenario: Coroutine[Any, Any, T]) -> T:
    """As `asyncio.run`, on a loop whose time is its turns. For what waits for nothing outside of the loop and its
    executors, such as sockets."""
    with asyncio.Runner(loop_factory=TurnLoop) as runner:
        return runner.run(scenario)


class Actor:
    """An object of this process, called as one calls an actor: `actor.method.remote(...)`, on the running loop.

    Once `lost` is set, calls fail with it, those that are under way included.
    """

    def __init__(self, target: Any) -> None:
        self._target = target
        self._calls: set[asyncio.Task[Any]] = set()
        self.lost: Exception | None = None

    def lose(self, error: Exception) -> None:
        """The actor dies."""
        self.lost = error
        for call in self._calls:
            call.cancel()

    def __getattr__(self, method: str) -> Any:
        return _Method(self, getattr(self._target, method))

    async def _call(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        if self.lost is not None:
            raise self.lost
        try:
            result = function(*arguments)
            return await result if asyncio.iscoroutine(result) else result
        except asyncio.CancelledError:
            if self.lost is not None:
                raise self.lost from None
            raise


class _Method:
    def __init__(self, actor: Actor, function: Callable[..., Any]) -> None:
        self._actor = actor
        self._function = function

    def remote(self, *arguments: Any) -> asyncio.Future[Any]:
        call = asyncio.ensure_future(self._actor._call(self._function, arguments))
        self._actor._calls.add(call)
        call.add_done_callback(self._done)
        return call

    def _done(self, call: asyncio.Task[Any]) -> None:
        self._actor._calls.discard(call)
        if not call.cancelled():
            call.exception()  # whoever calls without looking at the outcome, as one may with actors, is not told
