"""Awaiting on one event loop what is done on another, with one wake-up for all that crosses at a time.

To wake a loop in another thread is a write to a socket, which takes longer than all else that a call by a lane takes
here. So calls that leave together and answers that come together share one.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, TypeVar

T = TypeVar("T")


class Mailbox:
    """Functions for a loop to run in turn. Any thread may post."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._letters: deque[Callable[[], None]] = deque()
        self._is_told = False

    def post(self, letter: Callable[[], None]) -> None:
        """Have the loop run this. RuntimeError if the loop is closed."""
        self._letters.append(letter)
        if not self._is_told:
            self._is_told = True
            self.loop.call_soon_threadsafe(self._empty)

    def _empty(self) -> None:
        self._is_told = False  # before looking: what comes from now on tells the loop again
        for _ in range(len(self._letters)):
            self._letters.popleft()()


async def across(work: Coroutine[Any, Any, T], there: Mailbox) -> T:
    """What it comes to on the loop of that mailbox. Whoever is cancelled meanwhile cancels it there."""
    here = _mailbox_here()
    reply: asyncio.Future[T] = here.loop.create_future()
    tasks: list[asyncio.Task[T]] = []

    def answer(task: asyncio.Task[T]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop of whoever asked is closed, so nobody waits
            here.post(partial(_settle, reply, task))

    def begin() -> None:
        task = there.loop.create_task(work)
        tasks.append(task)
        task.add_done_callback(answer)

    there.post(begin)
    try:
        return await reply
    except asyncio.CancelledError:
        there.post(lambda: _cancel(tasks))
        raise


def _cancel(tasks: list[asyncio.Task[T]]) -> None:
    for task in tasks:
        task.cancel()


def _settle(reply: asyncio.Future[T], task: asyncio.Task[T]) -> None:
    error = None if task.cancelled() else task.exception()
    if reply.done():
        return
    if task.cancelled():
        reply.cancel()
    elif error is not None:
        reply.set_exception(error)
    else:
        reply.set_result(task.result())


_of_thread = threading.local()


def _mailbox_here() -> Mailbox:
    """The one of the running loop."""
    loop = asyncio.get_running_loop()
    known: Mailbox | None = getattr(_of_thread, "mailbox", None)
    if known is None or known.loop is not loop:
        known = _of_thread.mailbox = Mailbox(loop)
    return known
