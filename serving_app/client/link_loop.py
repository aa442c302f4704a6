"""The event loop on which all links of a process live, in a thread of its own, and the ways to it.

Serve's routers are bound to the loop on which a handle was first used, so it runs as long as the process. A process
that was forked from one with links has neither the thread nor what Ray needs.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from functools import lru_cache
from typing import Any, TypeVar

from serving_app.client import crossing
from serving_app.core.errors import FailedPrecondition

T = TypeVar("T")


def run(work: Coroutine[Any, Any, T]) -> Future[T]:
    """Have the loop do this."""
    return asyncio.run_coroutine_threadsafe(work, _loop())


def wait(work: Coroutine[Any, Any, T]) -> T:
    """What it comes to. Whoever is interrupted while waiting wants nothing any more."""
    future = run(work)
    try:
        return future.result()
    finally:
        future.cancel()


async def across(work: Coroutine[Any, Any, T]) -> T:
    """The same for whoever waits on a loop of their own."""
    return await crossing.across(work, _mailbox())


def call_soon(function: Callable[[], object]) -> None:
    """Have the loop call this, and wait for nothing. May be asked anywhere, also while garbage is collected."""
    _loop().call_soon_threadsafe(function)


def is_forked() -> bool:
    """Whether this process was forked from a member of a Ray cluster, or from one with this loop."""
    return _is_forked


def check_process() -> None:
    """FailedPrecondition in a process that was forked so: nothing of Ray works there."""
    if _is_forked:
        raise FailedPrecondition(
            "this process was forked from one that is part of a Ray cluster, which no connection survives; start it by "
            "multiprocessing's method 'spawn', or have Ray run it as a task"
        )


_starting = threading.RLock()  # a collection of garbage may end a connection while it is held


def _loop() -> asyncio.AbstractEventLoop:
    with _starting:
        return _start_loop()


@lru_cache(maxsize=1)
def _start_loop() -> asyncio.AbstractEventLoop:
    loop = _new_loop()
    threading.Thread(target=loop.run_forever, name="serving-app", daemon=True).start()
    return loop


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ModuleNotFoundError:  # as on Windows
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


@lru_cache(maxsize=1)
def _mailbox() -> crossing.Mailbox:
    return crossing.Mailbox(_loop())


_is_forked = False


def _note_fork() -> None:
    global _is_forked
    ray = sys.modules.get("ray")
    _is_forked = bool(_start_loop.cache_info().currsize) or (ray is not None and bool(ray.is_initialized()))


os.register_at_fork(after_in_child=_note_fork)
