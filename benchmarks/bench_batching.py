"""What batching does for one version: requests per second, latency and processor time, with and without it.

    python -m benchmarks.bench_batching [--seconds 2]

A gateway's queue and a Host in one process, without Ray or a wire between them: so many callers as given ask one row at
a time, each waiting for its answer before it asks again. `off` runs each request by itself, `on` joins what has come
while threads were busy, `wait` in addition lets a batch wait up to a millisecond for company. The models are
`half_plus_two`, where a run costs next to nothing, and three dense layers of 1024 with a batch of rows, where it costs
the reading of the weights. The processor's time is that of the whole process, callers included.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable
from pathlib import Path

import numpy as np

from serving_app.client.caller import Caller
from serving_app.core.metrics import Registry
from serving_app.core.servable import ServableId
from serving_app.host import Assignment, Batching, Host
from serving_app.host.runner import Runner
from serving_app.protocol.calls import Answer, Call, Outputs

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


class Version:
    """One version in a Host, and the queue of a gateway before it."""

    def __init__(self, path: str, batching: Batching | None) -> None:
        servable = ServableId("m", 1)
        host = Host()
        host.load(Assignment(servable, path, batching=batching))
        self._runner = Runner(host, servable, Registry())
        self._caller = Caller(self._send)

    async def _send(self, calls: list[Call]) -> Answer:
        return await self._runner.run(calls)

    def ask(self, call: Call) -> Awaitable[Outputs]:
        """The outputs of one request."""
        return self._caller.call(call)

    def close(self) -> None:
        """Let go of the threads."""
        self._runner.close()


async def measure(version: Version, call: Call, callers: int, seconds: float) -> tuple[list[float], float]:
    """The latencies of all answers in that time, and what this process used the processor for meanwhile, in seconds."""
    latencies: list[float] = []
    used = time.process_time()
    end = time.perf_counter() + seconds

    async def ask() -> None:
        while (started := time.perf_counter()) < end:
            await version.ask(call)
            latencies.append(time.perf_counter() - started)

    await asyncio.gather(*(ask() for _ in range(callers)))
    return latencies, time.process_time() - used


async def compare(paths: dict[str, str], seconds: float) -> None:
    """Print a line for each model, way and number of callers."""
    print(
        f"{'model':16}{'callers':>8}{'batching':>10}{'per second':>12}{'median':>12}{'p99':>12}{'CPU of one':>14}"
        f"{'ratio':>8}"
    )
    for model, path in paths.items():
        versions = {way: Version(path, limits) for way, limits in WAYS.items()}
        call = Call("serving_default", {"x": ROWS[model]})
        for callers in CALLERS:
            base = 0.0
            for way, version in versions.items():
                await measure(version, call, callers, seconds / 4)
                latencies, used = await measure(version, call, callers, seconds)
                latencies.sort()
                rate = len(latencies) / seconds
                base = base or rate
                median, p99 = statistics.median(latencies), latencies[int(len(latencies) * 0.99)]
                print(
                    f"{model:16}{callers:8}{way:>10}{rate:12,.0f}{median * 1e3:9.2f} ms{p99 * 1e3:9.2f} ms"
                    f"{used / len(latencies) * 1e6:11,.1f} us{rate / base:8.2f}",
                    flush=True,
                )
        for version in versions.values():
            version.close()


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=2.0, help="seconds of each measurement")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(compare(make_models(folder), arguments.seconds))


if __name__ == "__main__":
    main()
