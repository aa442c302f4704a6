"""Servers as processes that can be stopped, continued, timed and ended with all that they have started.

What belongs to a server is told by a mark in its environment, which every process inherits: Ray's and Triton's
processes neither are children of the one that was started for long, nor do they share its group.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.load.cpu import used_seconds

_MARK = "BENCHMARK_SERVER"
_PATIENCE_S = 20.0


class Server:
    """A command that runs until it is told to end, and everything that it starts."""

    def __init__(self, command: Sequence[str], log: Path, cwd: Path, environment: Mapping[str, str]) -> None:
        self._mark = uuid.uuid4().hex
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                command, cwd=cwd, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
                env={**os.environ, **environment, _MARK: self._mark},
            )  # fmt: skip

    def is_alive(self) -> bool:
        """Whether the process that was started runs."""
        return self._process.poll() is None

    def pids(self) -> list[int]:
        """All processes that belong to it."""
        wanted = f"{_MARK}={self._mark}".encode()
        found = []
        for place in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if wanted in (place / "environ").read_bytes().split(b"\0"):
                    found.append(int(place.name))
        return found

    def used_cpu(self) -> float:
        """The CPU time of all of them until now, in seconds."""
        return used_seconds(self.pids())

    def stop(self) -> None:
        """Let it stand still. Its sockets stay open."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it run again."""
        self._signal(signal.SIGCONT)

    def end(self) -> None:
        """End it and all that it has started; what does not go by itself is killed."""
        self.go_on()
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_PATIENCE_S)
        for number, patience in ((signal.SIGTERM, _PATIENCE_S / 10), (signal.SIGKILL, _PATIENCE_S)):
            self._signal(number)
            deadline = time.monotonic() + patience
            while self.pids() and time.monotonic() < deadline:
                time.sleep(0.02)
        self._process.wait()

    def _signal(self, number: int) -> None:
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
