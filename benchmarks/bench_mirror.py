"""What a mirror costs those who are answered: latencies with and without copies of all requests to another version.

    python -m benchmarks.bench_mirror [--rounds 8] [--seconds 8] [--rates 100] [--busy]

Two versions of half_plus_two, which answer alike, each in a replica of its own; clients ask the first over REST, by a
client in a process of its own. A mirror promises to slow nobody as long as a core is free, so the load leaves one free:
requests come at a fixed rate, and the time of each counts from when it was due. In each round the mirror is off, on, on
and off again, so that what drifts meets both alike. Every answer is checked, and every comparison must find the same.

Told are the medians of all windows' p50 and p99, how many cores were free, of which there must be one, and the CPU time
that a request took of the gateway and of the replicas, with what they do all the time. Then by how much the p99 of a
round's two windows with the mirror is above that of its two without, in the median round and the middle half of the
rounds; and the same of its last window without against its first one, which is what comes of chance alone. `--busy`
adds a closed loop of eight connections, which leaves no core free on a small machine: there copies are to be dropped.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import local
from benchmarks.load.cpu import used_seconds
from serving_app.client.control import Control
from serving_app.core.comparison import Comparison, Side, read_comparison
from serving_app.core.evidence import find_quantile

MODEL = "half_plus_two"
BODY = json.dumps({"instances": [1.0, 2.0, 5.0]}).encode()
RIGHT = np.array([2.5, 3.0, 4.5], np.float32)
CONNECTIONS = 8
TURNS = (False, True, True, False)


@dataclass
class Window:
    """What one stretch of load showed."""

    rate: float
    p50_ms: float
    p99_ms: float
    free_cores: float
    gateway_us: float
    replicas_us: float
    """CPU time of a request."""


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--rates", type=float, nargs="+", default=[100.0], help="requests per second")
    parser.add_argument("--busy", action="store_true")
    options = parser.parse_args()
    with local.cluster() as cluster, local.models() as models:
        shutil.copytree(models / MODEL / "1", models / MODEL / "2")
        served = cluster.serve_run(
            "serving_app:app", model_name=MODEL, model_base_path=models / MODEL, version_policy="all"
        )
        served.wait_until_answering(f"{MODEL}/versions/1", {"instances": [1.0]})
        served.wait_until_answering(f"{MODEL}/versions/2", {"instances": [1.0]})
        _compare(served, options)


def _compare(served: local.Served, options: argparse.Namespace) -> None:
    loads: dict[str, float | None] = {f"{rate:g}/s": rate for rate in options.rates}
    if options.busy:
        loads[f"closed loop of {CONNECTIONS}"] = None
    print("| load | mirror | requests/s | p50, ms | p99, ms | free cores | gateway, µs | replicas, µs |")
    print("|---|---|---|---|---|---|---|---|")
    for name, rate in loads.items():
        before = _look()
        found: dict[bool, list[Window]] = {False: [], True: []}
        for _ in range(options.rounds):
            for is_mirrored in TURNS:
                _set_traffic(100.0 if is_mirrored else 0.0)
                found[is_mirrored].append(_load(served, rate, options.seconds))
        for is_mirrored, windows in found.items():
            _tell_windows(name, is_mirrored, windows)
        _tell_ratios(found)
        _tell_copies(_look().since(before))


def _tell_windows(name: str, is_mirrored: bool, windows: list[Window]) -> None:
    middle = {key: statistics.median(getattr(each, key) for each in windows) for key in vars(windows[0])}
    print(
        f"| {name} | {'100 %' if is_mirrored else 'off'} | {middle['rate']:,.0f} | {middle['p50_ms']:.2f} | "
        f"{middle['p99_ms']:.2f} | {middle['free_cores']:.2f} of {os.cpu_count()} | {middle['gateway_us']:.0f} | "
        f"{middle['replicas_us']:.0f} |"
    )


def _tell_ratios(found: dict[bool, list[Window]]) -> None:
    plain, mirrored = ([each.p99_ms for each in found[which]] for which in (False, True))
    rounds = range(0, len(plain), 2)
    with_it = [sum(mirrored[start : start + 2]) / sum(plain[start : start + 2]) for start in rounds]
    by_chance = [plain[start + 1] / plain[start] for start in rounds]
    print(f"p99 with the mirror is {_spread(with_it)} times that without; by chance {_spread(by_chance)} times")


def _spread(ratios: list[float]) -> str:
    quarters = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
    return f"{quarters[1]:.2f} ({quarters[0]:.2f} to {quarters[2]:.2f})"


def _set_traffic(share: float) -> None:
    """Send everything to version 1, and copies of a share of it to version 2."""
    mirror = {"version": 2, "share": share}
    asyncio.run(Control("default").set_traffic(MODEL, "default", {"weights": {1: 100}, "mirror": mirror}))


def _look() -> Comparison:
    return read_comparison(asyncio.run(Control("default").metrics(None)), MODEL, 1, 2)


def _tell_copies(comparison: Comparison) -> None:
    medians = [
        find_quantile(comparison.latency(side), 0.5) or 0.0 for side in (Side.VERSION, Side.CANDIDATE)
    ]
    print(
        f"{comparison.requests:,.0f} copies compared, {comparison.different:,.0f} different, {comparison.failed:,.0f} "
        f"failed; dropped: {dict(comparison.dropped) or 'none'}; median call {medians[0]:.2f} ms, of a copy "
        f"{medians[1]:.2f} ms"
    )
    if comparison.different or comparison.failed:
        sys.exit("versions that are alike were found to differ")


def _load(served: local.Served, rate: float | None, seconds: float) -> Window:
    """One stretch of load, with what it took of the processors around it."""
    gateways, replicas = _pids(":Gateway"), _pids(f":{MODEL}")
    with tempfile.TemporaryDirectory() as folder:
        request, expected = Path(folder, "request"), Path(folder, "expected.npy")
        request.write_bytes(BODY)
        np.save(expected, RIGHT)
        order = {
            "protocol": "rest", "host": "127.0.0.1", "port": served.rest_port,
            "path": f"/v1/models/{MODEL}:predict", "request": str(request), "answers": "json", "output": "y",
            "expected": str(expected), "connections": CONNECTIONS, "calls": 1, "rate": rate, "warm_up": 1.0,
            "seconds": seconds, "pids": [*gateways, *replicas],
        }  # fmt: skip
        command = [sys.executable, "-m", "benchmarks.load"]
        before = used_seconds(gateways)
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as load:
            assert load.stdin is not None
            load.stdin.write(json.dumps(order).encode())
            load.stdin.close()
            load.stdin = None
            time.sleep(2.0)  # until it has started, and warmed up
            idle, at = _idle_s(), time.monotonic()
            time.sleep(max(0.1, seconds - 1.0))
            free_cores = (_idle_s() - idle) / (time.monotonic() - at)
            said, complaints = load.communicate()
    if load.returncode:
        sys.exit(complaints.decode())
    outcome: dict[str, Any] = json.loads(said)
    if outcome["failed"]:
        sys.exit(f"{outcome['failed']} requests failed or were answered wrongly: {outcome['failures']}")
    answered = outcome["rate"] * seconds
    # Of gateways with the warm-up, which is as long a part of each stretch.
    gateway_s = (used_seconds(gateways) - before) * seconds / (seconds + 1.0)
    replicas_s = max(0.0, outcome["server_cpu_s"] - gateway_s)
    return Window(
        outcome["rate"], outcome["p50_ms"], outcome["p99_ms"], free_cores, gateway_s / answered * 1e6,
        replicas_s / answered * 1e6,
    )


def _idle_s() -> float:
    """For how long all cores together have had nothing to do."""
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()
    return (int(fields[4]) + int(fields[5])) / os.sysconf("SC_CLK_TCK")


def _pids(title: str) -> list[int]:
    """The replicas with this in their titles, of the cluster that this process has started."""
    parents: dict[int, int] = {}
    titles: dict[int, str] = {}
    for place in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(place.name)] = int((place / "stat").read_text().rpartition(")")[2].split()[1])
            titles[int(place.name)] = (place / "cmdline").read_text()
        except OSError:
            continue
    found = []
    for pid, said in titles.items():
        above = pid
        while above in parents and above != os.getpid():
            above = parents[above]
        if above == os.getpid() and "ServeReplica" in said and title in said:
            found.append(pid)
    return found


if __name__ == "__main__":
    main()
