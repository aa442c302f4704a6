"""What a hop from a caller to a replica costs: on a lane, and by a Serve handle.

    python -m benchmarks.bench_hop

A replica that answers at once; lists of 1, 8 and 64 small calls, and single ones of 600 kB. For each way the processor
time of both ends per hop, and the latency of hops that follow each other. Processor time is what counts, as a machine
that is busy has too little of it; latency means something on an idle machine alone.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import numpy as np
import ray
from ray import serve
from ray.serve.handle import DeploymentHandle

from serving_app import ray_private
from serving_app.client.lane_set import LaneSet
from serving_app.core.door import Door
from serving_app.protocol.calls import Answer, Call
from serving_app.serve.lane_server import LaneServer

_SECONDS = 2.0

Send = Callable[[list[Call]], Awaitable[Answer]]


@serve.deployment(max_ongoing_requests=64)
class Replica:
    """Answers each call with a small tensor."""

    async def __init__(self) -> None:  # type: ignore[misc]  # Serve awaits it
        self._answer = {"y": np.ones(3, np.float32)}
        self._lanes = LaneServer("hop", "replica", lambda _, calls: self.predict_many(calls), lambda: 64)
        self._door = await self._lanes.open(ray_private.node_id(), ray_private.open_address())

    async def predict_many(self, calls: Sequence[Call]) -> Answer:
        return Answer([self._answer for _ in calls], 0.0)

    async def door(self) -> Door:
        return self._door

    async def cpu(self) -> float:
        return time.process_time()


async def measure(send: Send, cpu: Callable[[], Awaitable[float]], calls: list[Call]) -> tuple[float, float, float]:
    """Microseconds of processor time at the caller and at the replica, and the median latency."""
    for _ in range(20):
        await send(calls)
    latencies = []
    here, there = time.process_time(), await cpu()
    until = time.perf_counter() + _SECONDS
    while (started := time.perf_counter()) < until:
        answer = await send(calls)
        latencies.append(time.perf_counter() - started)
        assert len(answer.replies) == len(calls)
    here, there = time.process_time() - here, await cpu() - there
    return 1e6 * here / len(latencies), 1e6 * there / len(latencies), 1e6 * statistics.median(latencies)


async def compare() -> None:
    """Print a table."""
    handle = await ray_private.open_handle("hop")
    try:
        await _compare(handle)
    finally:
        await ray_private.close_handle("hop", handle)


async def _compare(handle: DeploymentHandle[Any]) -> None:
    ask: Any = handle.options(method_name="cpu")
    door = await handle.options(method_name="door").remote()
    ways: dict[str, Send] = {}
    for name, node in (("lane, UNIX socket", door.node), ("lane, TCP", "another")):
        lanes = LaneSet("hop", node)
        lanes.follow([door])
        await lanes.prepare()
        ways[name] = (await lanes.take()).ask  # type: ignore[union-attr]
    ways["handle, inline"] = ray_private.inline(handle, "predict_many").remote
    ways["handle, by reference"] = ray_private.by_reference(handle, "predict_many").remote
    small = Call("serving_default", {"x": np.ones(3, np.float32)}, ("y",), 1.0)
    image = Call("serving_default", {"x": np.ones((1, 224, 224, 3), np.float32)}, ("y",), 1.0)
    print("| calls in a hop | way | caller, us | replica, us | latency, us |\n|---|---|---|---|---|")
    for what, calls in (("1", [small]), ("8", [small] * 8), ("64", [small] * 64), ("1 of 600 kB", [image])):
        for name, send in ways.items():
            here, there, latency = await measure(send, ask.remote, calls)
            print(f"| {what} | {name} | {here:,.0f} | {there:,.0f} | {latency:,.0f} |", flush=True)


def main() -> None:
    """Bring a cluster up for it."""
    ray_private.raise_reply_limit()
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        serve.run(Replica.bind(), name="hop", route_prefix=None)
        # Not closed: Serve's routers of this process go on telling it news until Serve is shut down.
        asyncio.new_event_loop().run_until_complete(compare())
    finally:
        serve.shutdown()
        ray.shutdown()


if __name__ == "__main__":
    main()
