"""Threads for calls that may hang: a few as long as all goes well, one more for each call that is stuck.

A pool of a fixed size stands still when as many calls hang. Here a call that waits for a thread gets one soon,
whatever the others do: as long as calls wait longer than they should, the number of threads doubles. Threads that are
too many end when they have nothing to do. All of them are daemons: what is stuck does not hold up the process's end.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")

_KEPT = 8
"""Threads that stay when there is nothing to do."""

_MOST = 1024
"""With so many calls stuck at one time, further ones wait. A thread costs some 100 kB."""

_PATIENCE_S = 0.1
"""How long a call waits before there are more threads."""


class Call(Generic[T]):
    """A call and what becomes of it. `done` is to be awaited on the loop that it was made on, by one at a time."""

    def __init__(self, function: Callable[[], T], loop: asyncio.AbstractEventLoop) -> None:
        self.function = function
        self.loop = loop
        self.asked_at = loop.time()
        self.started_at: float | None = None
        self.done: asyncio.Future[T] = loop.create_future()

    def run(self) -> None:
        """In a thread: make the call and hand its outcome to the loop."""
        self.started_at = self.loop.time()
        try:
            result, error = self.function(), None
        except Exception as raised:
            result, error = None, raised
        try:
            self.loop.call_soon_threadsafe(self._finish, result, error)
        except RuntimeError:
            return  # The loop was closed while the call was stuck: nobody waits for it any more.

    def _finish(self, result: T | None, error: Exception | None) -> None:
        if self.done.cancelled():
            return
        if error is not None:
            self.done.set_exception(error)
        else:
            self.done.set_result(result)  # type: ignore[arg-type]  # a result, there being no error


class SpareThreads:
    """Runs blocking calls for one event loop; all methods are to be called on it."""

    def __init__(self) -> None:
        self._waiting: deque[Call[object]] = deque()
        self._changed = threading.Condition()
        self._threads = 0
        self._idle = 0
        self._stopped = False
        self._watching: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        """The threads that there are."""
        return self._threads

    def call(self, function: Callable[[], T]) -> Call[T]:
        """Have a function called in a thread, as soon as one is free."""
        loop = asyncio.get_running_loop()
        call = Call(function, loop)
        with self._changed:
            self._waiting.append(call)  # type: ignore[arg-type]  # whatever it returns, it returns it to its own call
            self._changed.notify()
            if self._idle < len(self._waiting) and self._threads < _KEPT:
                self._start(1)
        if self._watching is None:
            self._watching = loop.call_later(_PATIENCE_S, self._watch)
        return call

    def stop(self) -> None:
        """Start no more calls, and end the threads that have none."""
        with self._changed:
            self._stopped = True
            self._waiting.clear()
            self._changed.notify_all()
        if self._watching is not None:
            self._watching.cancel()
            self._watching = None

    def _watch(self) -> None:
        """While calls wait too long, double the threads."""
        self._watching = None
        with self._changed:
            if not self._waiting:
                return
            first = self._waiting[0]
            if first.loop.time() - first.asked_at >= _PATIENCE_S:
                self._start(min(len(self._waiting), max(self._threads, 1), _MOST - self._threads))
        self._watching = first.loop.call_later(_PATIENCE_S, self._watch)

    def _start(self, count: int) -> None:
        for _ in range(count):
            thread = threading.Thread(target=self._work, name="poll", daemon=True)
            self._threads += 1
            try:
                thread.start()
            except RuntimeError:  # The system has no more; those that are there go on.
                self._threads -= 1
                return

    def _work(self) -> None:
        while (call := self._take()) is not None:
            call.run()
            del call  # or its result lives until the next one

    def _take(self) -> Call[object] | None:
        """In a thread: the next call; None if the thread is to end."""
        with self._changed:
            self._idle += 1
            try:
                while not self._waiting:
                    if self._stopped or self._idle > _KEPT:
                        self._threads -= 1
                        return None
                    self._changed.wait()
                return self._waiting.popleft()
            finally:
                self._idle -= 1
