"""What batching does for one replica: requests per second and latency, with and without it, in this process.

    python -m benchmarks.bench_batching [--seconds 2]

A replica as Serve would construct it, but without Ray: so many callers as given ask it one row at a time, each waiting
for its answer before it asks again. `off` runs each request by itself, `on` joins what has come while threads were
busy, `wait` in addition lets a batch wait up to a millisecond for company. The models are `half_plus_two`, where a run
costs next to nothing, and three dense layers of 1024 with a batch of rows, where it costs the reading of the weights.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np

from serving_app.core.servable import ServableId
from serving_app.host import Assignment, Batching
from serving_app.protocol.calls import Call
from serving_app.serve.replica import ServableReplica

WIDTH = 1024
ROWS = {"half_plus_two": np.ones(1, np.float32), "dense": np.ones((1, WIDTH), np.float32)}
WAYS = {"off": None, "on": Batching(), "wait": Batching(batch_timeout_micros=1000)}
CALLERS = (1, 8, 64)

_MAKE_DENSE = """
import sys, tensorflow as tf
layers = [tf.Variable(tf.random.normal([{0}, {0}], stddev=0.03)) for _ in range(3)]
module = tf.Module()
module.layers = layers
@tf.function(input_signature=[tf.TensorSpec([None, {0}], tf.float32, "x")])
def predict(x):
    for layer in layers:
        x = tf.nn.relu(x @ layer)
    return {{"y": x}}
tf.saved_model.save(module, sys.argv[1], {{"serving_default": predict}})
"""


def make_models(folder: str) -> dict[str, str]:
    """Write the models, by a process of its own; the path of each."""
    root = Path(__file__).resolve().parents[1]
    commands = (
        [sys.executable, "-m", "tests.zoo", folder, "half_plus_two"],
        [sys.executable, "-c", _MAKE_DENSE.format(WIDTH), f"{folder}/dense/1"],
    )
    for command in commands:
        subprocess.run(command, cwd=root, check=True, capture_output=True)
    return {name: f"{folder}/{name}/1" for name in ROWS}


class Controller:
    """What a replica asks and tells: the answer to everything is the assignment, for those who wait for one."""

    def __init__(self, assignment: Assignment) -> None:
        self._assignment = assignment

    def __getattr__(self, method: str) -> Any:
        return SimpleNamespace(remote=lambda *_: self)

    def __await__(self) -> Generator[None, None, Assignment]:
        yield from ()
        return self._assignment


class TakenDown:
    """What a replica is in the end: outside of Serve the collector would call its coroutine method again."""


async def start(path: str, batching: Batching | None) -> ServableReplica:
    """A replica that holds the version."""
    assignment = Assignment(ServableId("m", 1), path, batching=batching)
    replica = ServableReplica.__new__(ServableReplica)
    with patch("ray.get_actor", lambda *_, **__: Controller(assignment)):
        await replica.__init__("controller", "app", "ticket")  # type: ignore[misc]
    return replica


async def measure(replica: ServableReplica, call: Call, callers: int, seconds: float) -> list[float]:
    """The latencies of all answers in that time."""
    latencies: list[float] = []
    end = time.perf_counter() + seconds

    async def ask() -> None:
        while (started := time.perf_counter()) < end:
            (reply,) = (await replica.predict_many([call])).replies
            assert isinstance(reply, dict), reply
            latencies.append(time.perf_counter() - started)

    await asyncio.gather(*(ask() for _ in range(callers)))
    return latencies


async def compare(paths: dict[str, str], seconds: float) -> None:
    """Print a line for each model, way and number of callers."""
    print(f"{'model':16}{'callers':>8}{'batching':>10}{'per second':>12}{'median':>12}{'p99':>12}{'ratio':>8}")
    for model, path in paths.items():
        replicas = {way: await start(path, limits) for way, limits in WAYS.items()}
        call = Call("serving_default", {"x": ROWS[model]})
        for callers in CALLERS:
            base = 0.0
            for way, replica in replicas.items():
                await measure(replica, call, callers, seconds / 4)
                latencies = sorted(await measure(replica, call, callers, seconds))
                rate = len(latencies) / seconds
                base = base or rate
                median, p99 = statistics.median(latencies), latencies[int(len(latencies) * 0.99)]
                print(
                    f"{model:16}{callers:8}{way:>10}{rate:12,.0f}{median * 1e3:9.2f} ms{p99 * 1e3:9.2f} ms"
                    f"{rate / base:8.2f}",
                    flush=True,
                )
        for replica in replicas.values():
            await replica.__del__()
            replica.__class__ = TakenDown  # type: ignore[assignment]


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=2.0, help="seconds of each measurement")
    arguments = parser.parse_args()
    context = SimpleNamespace(_deployment_config=SimpleNamespace(max_ongoing_requests=1_000_000))
    with (
        tempfile.TemporaryDirectory() as folder,
        patch("ray.serve.get_replica_context", lambda: context),
    ):
        asyncio.run(compare(make_models(folder), arguments.seconds))


if __name__ == "__main__":
    main()
