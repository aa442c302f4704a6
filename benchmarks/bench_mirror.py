"""What a mirror costs those who are answered: latencies with and without copies of all requests to another version.

    python -m benchmarks.bench_mirror [--rounds 5] [--seconds 10] [--rate 200]

Two versions of half_plus_two, each in a replica of its own; clients ask the first. In each round the mirror is off and
then on (100 %), each time under a closed loop of eight connections and under an open one at a fixed rate, over REST, by
a client in a process of its own. Every answer is checked. Prints the medians of the rounds' p50 and p99, how they
compare, and what became of the copies. A mirror promises to slow nobody as long as a core is free: gateway, two
replicas and the client want four, unless the rate is low.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import local
from serving_app.client.control import Control
from serving_app.core.comparison import Comparison, Side, read_comparison
from serving_app.core.evidence import find_quantile

MODEL = "half_plus_two"
BODY = json.dumps({"instances": [1.0, 2.0, 5.0]}).encode()
RIGHT = np.array([2.5, 3.0, 4.5], np.float32)
CONNECTIONS = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rate", type=float, default=200.0, help="requests per second of the open loop")
    options = parser.parse_args()
    with local.cluster() as cluster, local.models() as models:
        shutil.copytree(models.parent / "staged" / MODEL / "2", models / MODEL / "2")
        served = cluster.serve_run(
            "serving_app:app", model_name=MODEL, model_base_path=models / MODEL, version_policy="all"
        )
        served.wait_until_answering(f"{MODEL}/versions/1", {"instances": [1.0]})
        served.wait_until_answering(f"{MODEL}/versions/2", {"instances": [1.0]})
        _compare(served, options)


def _compare(served: local.Served, options: argparse.Namespace) -> None:
    loads: dict[str, float | None] = {f"closed loop of {CONNECTIONS}": None, f"{options.rate:g}/s": options.rate}
    found: dict[tuple[str, bool], list[dict[str, Any]]] = {}
    for _ in range(options.rounds):
        for is_mirrored in (False, True):
            _set_traffic(100.0 if is_mirrored else 0.0)
            for name, rate in loads.items():
                outcome = _load(served, rate, options.seconds)
                found.setdefault((name, is_mirrored), []).append(outcome)
    print("| load | mirror | requests/s | p50, ms | p99, ms |\n|---|---|---|---|---|")
    for name in loads:
        rows = {
            is_mirrored: [
                statistics.median(each[key] for each in found[name, is_mirrored])
                for key in ("rate", "p50_ms", "p99_ms")
            ]
            for is_mirrored in (False, True)
        }
        for is_mirrored, (rate, p50, p99) in rows.items():
            print(f"| {name} | {'100 %' if is_mirrored else 'off'} | {rate:,.0f} | {p50:.2f} | {p99:.2f} |")
        print(f"p99 with the mirror is {rows[True][2] / rows[False][2]:.2f} times that without")
    _tell(_look())


def _set_traffic(share: float) -> None:
    """Send everything to version 1, and copies of a share of it to version 2."""
    mirror = {"version": 2, "share": share}
    asyncio.run(Control("default").set_traffic(MODEL, "default", {"weights": {1: 100}, "mirror": mirror}))


def _look() -> Comparison:
    return read_comparison(asyncio.run(Control("default").metrics(None)), MODEL, 1, 2)


def _tell(comparison: Comparison) -> None:
    medians = [
        find_quantile(comparison.latency(side), 0.5) or 0.0 for side in (Side.VERSION, Side.CANDIDATE)
    ]
    print(
        f"{comparison.requests:,.0f} copies compared, {comparison.different:,.0f} different, {comparison.failed:,.0f} "
        f"failed; dropped: {dict(comparison.dropped) or 'none'}; median call {medians[0]:.2f} ms, of a copy "
        f"{medians[1]:.2f} ms"
    )


def _load(served: local.Served, rate: float | None, seconds: float) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        request, expected = Path(folder, "request"), Path(folder, "expected.npy")
        request.write_bytes(BODY)
        np.save(expected, RIGHT)
        order = {
            "protocol": "rest", "host": "127.0.0.1", "port": served.rest_port,
            "path": f"/v1/models/{MODEL}:predict", "request": str(request), "answers": "json", "output": "y",
            "expected": str(expected), "connections": CONNECTIONS, "calls": 1, "rate": rate, "warm_up": 1.0,
            "seconds": seconds, "pids": [served.process.pid],
        }  # fmt: skip
        command = [sys.executable, "-m", "benchmarks.load"]
        done = subprocess.run(command, input=json.dumps(order).encode(), capture_output=True, check=True)
    outcome: dict[str, Any] = json.loads(done.stdout)
    if outcome["failed"]:
        sys.exit(f"{outcome['failed']} requests failed or were answered wrongly: {outcome['failures']}")
    return outcome


if __name__ == "__main__":
    main()
