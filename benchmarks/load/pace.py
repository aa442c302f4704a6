"""When requests are sent: in a closed loop as soon as an answer came, in an open one at fixed times.

In the open loop a request's latency counts from the time at which it was to be sent, whatever the client or the server
did meanwhile: a server that stops for a second is charged with every request of that second.
"""

from __future__ import annotations

import asyncio
import collections
import ctypes
import math
import os
import struct
import time
from collections import Counter, deque
from collections.abc import Sequence
from typing import Any, Protocol

now = time.perf_counter


class Line(Protocol):
    """A connection that carries requests. It tells its pace when it can take some, and what came of each."""

    def start(self, due: float) -> None:
        """Send a request. `due` is handed back with its outcome."""

    async def close(self) -> None:
        """End the connection. What was under way is left without an outcome."""


class Pace:
    """Keeps lines busy, and the account of what came back."""

    def __init__(self, warm_up: float, seconds: float) -> None:
        self._warm_up = warm_up
        self._seconds = seconds
        self._begin = self._end = math.inf
        self.latencies: list[float] = []
        self.failures: Counter[str] = Counter()
        self.under_way = 0

    @property
    def begin(self) -> float:
        """When what is sent (open loop) or answered (closed loop) begins to count; known once it runs."""
        return self._begin

    @property
    def end(self) -> float:
        """When it ceases to."""
        return self._end

    def _start_clock(self) -> float:
        at = now()
        self._begin = at + self._warm_up
        self._end = self._begin + self._seconds
        return at

    def done(self, line: Line, due: float, wrong: str | None) -> None:
        """A request has been answered (`wrong` is None) or has failed. The line can take another."""
        raise NotImplementedError


class ClosedLoop(Pace):
    """Each line has so many requests under way at every moment."""

    async def run(self, lines: Sequence[Line], calls: Sequence[int]) -> None:
        """Run to the end of the window, and close the lines. Requests that are under way then do not count."""
        self._start_clock()
        for line, count in zip(lines, calls, strict=True):
            for _ in range(count):
                self.under_way += 1
                line.start(now())
        try:
            await asyncio.sleep(self._end - now())
        finally:
            for line in lines:
                await line.close()

    def done(self, line: Line, due: float, wrong: str | None) -> None:
        at = now()
        if wrong is not None:
            self.failures[wrong] += 1
        elif self._begin <= at < self._end:
            self.latencies.append(at - due)
        if at < self._end:
            line.start(at)
        else:
            self.under_way -= 1


class OpenLoop(Pace):
    """A request every `1 / rate` seconds. One for which no line is free waits for one, and its time runs."""

    def __init__(self, warm_up: float, seconds: float, rate: float, calls_per_line: int) -> None:
        super().__init__(warm_up, seconds)
        self._interval = 1 / rate
        self._calls_per_line = calls_per_line
        self._free: deque[Line] = collections.deque()
        self._waiting: deque[float] = collections.deque()
        self._sent = 0
        self._started = 0.0

    async def run(self, lines: Sequence[Line], patience: float = 10.0) -> None:
        """Run to the end of the window, and until all that was sent is answered or patience is at its end; then close
        the lines."""
        for _ in range(self._calls_per_line):
            self._free.extend(lines)
        self._started = self._start_clock()
        loop = asyncio.get_running_loop()
        timer = Timer(self._interval)
        loop.add_reader(timer.fd, self._on_timer, timer)
        try:
            await asyncio.sleep(self._end - now())
        finally:
            loop.remove_reader(timer.fd)
            timer.close()
        self._send_due(self._end)
        for _ in range(int(patience / 0.01)):
            if not self.under_way and not self._waiting:
                break
            await asyncio.sleep(0.01)
        for line in lines:
            await line.close()
        if lost := self.under_way + len(self._waiting):
            self.failures[f"no answer within {patience:.0f} s"] += lost

    def _on_timer(self, timer: Timer) -> None:
        timer.read()
        self._send_due(min(now(), self._end))

    def _send_due(self, until: float) -> None:
        while (due := self._started + self._sent * self._interval) < until:
            self._sent += 1
            if self._free:
                self.under_way += 1
                self._free.popleft().start(due)
            else:
                self._waiting.append(due)

    def done(self, line: Line, due: float, wrong: str | None) -> None:
        if wrong is not None:
            self.failures[wrong] += 1
        elif self._begin <= due < self._end:
            self.latencies.append(now() - due)
        if self._waiting:
            line.start(self._waiting.popleft())
        else:
            self.under_way -= 1
            self._free.append(line)


class Timer:
    """A clock of the kernel's that makes a file readable at each interval: event loops count in whole milliseconds,
    which is long beside the latencies in question. For Linux; Python has it from version 3.13 on."""

    _MONOTONIC, _NONBLOCKING = 1, os.O_NONBLOCK

    def __init__(self, interval: float) -> None:
        self._library: Any = ctypes.CDLL(None, use_errno=True)
        self.fd = int(self._library.timerfd_create(self._MONOTONIC, self._NONBLOCKING))
        seconds, rest = divmod(max(int(interval * 1e9), 1), 1_000_000_000)
        if self.fd < 0 or self._library.timerfd_settime(self.fd, 0, struct.pack("4q", seconds, rest, seconds, rest), 0):
            raise OSError(ctypes.get_errno(), "no timer")

    def read(self) -> None:
        """Make the file unreadable until the next interval."""
        os.read(self.fd, 8)

    def close(self) -> None:
        """Give it back."""
        os.close(self.fd)
