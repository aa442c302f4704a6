"""Driving an event loop from a test: wait for a state instead of for some time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

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
