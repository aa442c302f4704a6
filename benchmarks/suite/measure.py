"""Measures the doors of running servers: what is sent, by which load generator, and what comes of it."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import wrk
from benchmarks.load.answers import READERS, Answers
from benchmarks.load.cpu import used_seconds
from benchmarks.suite.contenders import Door
from benchmarks.suite.processes import Server
from benchmarks.suite.results import CLOSED, OPEN, Key, Record
from benchmarks.suite.works import ROOT, Work

CALLS_PER_CONNECTION = 8
"""A gRPC connection carries so many calls at once: the clients of one process share a connection."""
OPEN_CONNECTIONS = 64
"""REST connections of an open loop; requests beyond wait for one, and their time runs."""


class LoadFailed(Exception):
    """A load generator did not come to an end; the text says why."""


@dataclass(frozen=True)
class Target:
    """A door of a server that runs, and the request that is sent there."""

    contender: str
    door: Door
    server: Server
    port: int
    work: Work
    folder: Path

    def key(self, loop: str, load: float | str) -> Key:
        """What a measurement here is called."""
        return Key(self.work.name, self.contender, self.door.setup, self.door.protocol, loop, load)

    @property
    def name(self) -> str:
        """For people."""
        return " ".join(word for word in (self.contender, self.door.setup, self.door.protocol) if word)

    def prepare(self) -> None:
        """Write the request and the right answer, which the load generator reads."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._request.write_bytes(self.work.request(self.door.form, self.door.model))
        np.save(self._expected, self.work.outputs[self.work.output])

    @property
    def _request(self) -> Path:
        return self.folder / f"{self.door.protocol}-{self.door.model}.request"

    @property
    def _expected(self) -> Path:
        return self.folder / "expected.npy"

    def find_wrong(self, timeout: float = 30.0) -> str | None:
        """Ask once; what is wrong with the answer, or None."""
        answers = Answers(READERS[self.door.answers](self.work.output), self.work.outputs[self.work.output])
        try:
            return answers.find_wrong(self._ask(timeout))
        except Exception as error:
            return f"{type(error).__name__}: {error}"

    def _ask(self, timeout: float) -> bytes:
        if self.door.protocol == "rest":
            import urllib.request

            request = urllib.request.Request(self.url, self._request.read_bytes(), {"Content-Type": "application/json"})
            with urllib.request.urlopen(request, timeout=timeout) as answer:
                body: bytes = answer.read()
                return body
        import grpc

        unlimited = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        with grpc.insecure_channel(f"127.0.0.1:{self.port}", options=unlimited) as channel:
            message: bytes = channel.unary_unary(self.door.path)(self._request.read_bytes(), timeout=timeout)
            return message

    @property
    def url(self) -> str:
        """Where to POST."""
        return f"http://127.0.0.1:{self.port}{self.door.path}"

    def closed(self, concurrency: int, seconds: float, *, client: str = "grpc") -> Record:
        """So many requests under way at every moment: by wrk where the protocol is REST, else by our own client (or
        gRPC's, `client="grpcio"`). Before that a shorter run that does not count."""
        key = self.key(CLOSED, concurrency)
        if self.door.protocol == "rest":
            return self._by_wrk(key, concurrency, seconds)
        connections = max(1, math.ceil(concurrency / CALLS_PER_CONNECTION))
        calls = math.ceil(concurrency / connections)
        return self._by_own(key, seconds, client, connections=connections, calls=calls, rate=None)

    def open(self, rate: float, name: float | str, seconds: float) -> Record:
        """Requests at fixed times, whatever comes back."""
        connections, calls = (OPEN_CONNECTIONS, 1) if self.door.protocol == "rest" else (8, 10_000)
        protocol = self.door.protocol
        return self._by_own(self.key(OPEN, name), seconds, protocol, connections=connections, calls=calls, rate=rate)

    def _by_wrk(self, key: Key, connections: int, seconds: float) -> Record:
        body = self._request.read_bytes()
        wrk.run(self.url, body, connections=connections, seconds=1)
        pids = self.server.pids()
        before = used_seconds(pids)
        load = wrk.run(self.url, body, connections=connections, seconds=max(1, round(seconds)))
        used = used_seconds(pids) - before
        count = load.rate * max(1, round(seconds))
        wrong = self.find_wrong()  # wrk looks at statuses alone
        failures = (wrong,) if wrong else ()
        cpu = used * 1e3 / count if count else None
        p50, p99 = (load.median_ms, load.p99_ms) if load.rate else (math.nan, math.nan)
        return Record(key, load.rate, p50, p99, load.failed + len(failures), cpu, failures)

    def _by_own(self, key: Key, seconds: float, client: str, **how: Any) -> Record:
        order = {
            "protocol": client, "host": "127.0.0.1", "port": self.port, "path": self.door.path,
            "request": str(self._request), "answers": self.door.answers, "output": self.work.output,
            "expected": str(self._expected), "warm_up": min(1.0, seconds / 2), "seconds": seconds,
            "pids": self.server.pids(), **how,
        }  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.load"], cwd=ROOT, input=json.dumps(order), capture_output=True,
            text=True, timeout=seconds * 3 + 120,
        )  # fmt: skip
        if done.returncode != 0 or not done.stdout:
            raise LoadFailed(f"the load generator failed: {done.stderr.strip()[-800:]}")
        found = json.loads(done.stdout)
        cpu = found["server_cpu_s"] * 1e3 / (found["rate"] * seconds) if found["rate"] else None
        return Record(
            key, found["rate"], found["p50_ms"] or math.nan, found["p99_ms"] or math.nan, found["failed"], cpu,
            tuple(f"{count} × {text}" for text, count in found["failures"].items()),
        )  # fmt: skip


def wait_until_right(target: Target, patience: float) -> str | None:
    """Wait for the first right answer; None when it came, else why it did not."""
    deadline = time.monotonic() + patience
    while (wrong := target.find_wrong(timeout=10.0)) is not None:
        if not target.server.is_alive():
            return "its process has ended"
        if time.monotonic() > deadline:
            return f"no right answer within {patience:.0f} s: {wrong}"
        time.sleep(0.2)
    return None
