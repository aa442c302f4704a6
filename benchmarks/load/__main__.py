"""One run of load: an order as JSON on standard input, the outcome as JSON on standard output.

The order: `protocol` (rest, grpc, grpcio), `host`, `port`, `path`, `request` (a file with the body or the message),
`answers` (how they are read: json, predict, infer), `output` and `expected` (a .npy file) that they are checked
against, `connections`, `calls` (per connection), `rate` (null for a closed loop), `warm_up` and `seconds`, `pids` (the
processes whose CPU time is measured over the window).
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import uvloop

from benchmarks.load import http1, http2
from benchmarks.load.answers import READERS, Answers
from benchmarks.load.cpu import used_seconds
from benchmarks.load.pace import ClosedLoop, Line, OpenLoop, Pace, now


async def _open(order: dict[str, Any], request: bytes, pace: Pace, answers: Answers) -> list[Line]:
    host, port, path, count = order["host"], order["port"], order["path"], order["connections"]
    if order["protocol"] == "rest":
        encoded = http1.encode_request(host, port, path, request)
        return [await http1.Http1Line.open(host, port, pace, encoded, answers) for _ in range(count)]
    if order["protocol"] == "grpc":
        call = http2.Call(host, port, path, request)
        return [await http2.Http2Line.open(pace, call, answers) for _ in range(count)]
    from benchmarks.load.grpcio import GrpcioLine

    return [await GrpcioLine.open(f"{host}:{port}", path, pace, request, answers) for _ in range(count)]


async def _run(order: dict[str, Any], request: bytes) -> dict[str, Any]:
    expected = np.load(order["expected"])
    answers = Answers(READERS[order["answers"]](order["output"]), expected)
    pace: ClosedLoop | OpenLoop
    if order["rate"] is None:
        pace = ClosedLoop(order["warm_up"], order["seconds"])
    else:
        pace = OpenLoop(order["warm_up"], order["seconds"], order["rate"], order["calls"])
    lines = await _open(order, request, pace, answers)
    # Runs when the loop first waits, and so when the clock is set.
    measuring = asyncio.create_task(_measure_cpu(order["pids"], pace))
    if isinstance(pace, OpenLoop):
        await pace.run(lines)
    else:
        await pace.run(lines, [order["calls"]] * len(lines))
    cpu = await measuring
    return _outcome(pace, order["seconds"], cpu)


async def _measure_cpu(pids: Sequence[int], pace: Pace) -> dict[str, float]:
    await asyncio.sleep(pace.begin - now())
    before, own = used_seconds(pids), time.process_time()
    await asyncio.sleep(pace.end - now())
    return {"server_cpu_s": used_seconds(pids) - before, "client_cpu_s": time.process_time() - own}


def _outcome(pace: Pace, seconds: float, cpu: dict[str, float]) -> dict[str, Any]:
    latencies = np.sort(np.array(pace.latencies)) * 1e3
    at = {q: float(latencies[min(int(len(latencies) * q), len(latencies) - 1)]) if len(latencies) else None
          for q in (0.5, 0.9, 0.99, 0.999)}  # fmt: skip
    return {
        "rate": len(latencies) / seconds, "p50_ms": at[0.5], "p90_ms": at[0.9], "p99_ms": at[0.99],
        "p999_ms": at[0.999], "failed": sum(pace.failures.values()),
        "failures": dict(pace.failures.most_common(3)), **cpu,
    }  # fmt: skip


if __name__ == "__main__":
    gc.disable()  # nothing here makes cycles, and a collection would count as latency
    given = json.load(sys.stdin)
    outcome = uvloop.run(_run(given, Path(given["request"]).read_bytes()))
    json.dump(outcome, sys.stdout)
