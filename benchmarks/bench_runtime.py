"""What one prediction costs in the process: our runtime against TensorFlow's own Python.

    python benchmarks/bench_runtime.py [--rounds 5] [--calls 3000] [--model DIR]

Each way runs in a process of its own, and the rounds are interleaved, so that whatever else the machine does meets
all of them. The model is `half_plus_two` ({"x": [1, 2, 5]}), made first if no directory is given. Reported: the median
and the 99th percentile of a call over all rounds, the time from the start of the interpreter to the first answer, and
the resident memory after it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
X = np.array([1, 2, 5], np.float32)
Call = Callable[[], Any]


def serving_app(model: str, **options: Any) -> Call:
    """Our runtime, as a Host calls it."""
    from serving_app.runtime import LoadOptions, loader_for

    servable = loader_for("tensorflow").load(model, LoadOptions(**options))
    return lambda: servable.run("serving_default", {"x": X})["y"]


def serving_app_own_thread(model: str) -> Call:
    """Our runtime with inter_op_parallelism -1: the graph runs in the thread that calls."""
    return serving_app(model, inter_op_parallelism=-1)


def concrete_function(model: str) -> Call:
    """The signature of a model loaded by `tf.saved_model.load`, with arrays in and out."""
    import tensorflow as tf

    loaded = tf.saved_model.load(model)
    function = loaded.signatures["serving_default"]
    # The model goes with its last reference, so the call keeps one.
    return lambda loaded=loaded: function(x=tf.constant(X))["y"].numpy()


def make_callable(model: str) -> Call:
    """A callable prepared by a TF1 session, with arrays in and out."""
    import tensorflow as tf

    session = tf.compat.v1.Session(graph=tf.Graph())
    with session.graph.as_default():
        signature = tf.compat.v1.saved_model.load(session, ["serve"], model).signature_def["serving_default"]
        call = session.make_callable([signature.outputs["y"].name], [signature.inputs["x"].name])
    return lambda: call(X)[0]


WAYS = {way.__name__: way for way in (serving_app, serving_app_own_thread, concrete_function, make_callable)}


def measure(way: str, model: str) -> None:
    """One process: get ready, answer once, then a batch of calls per line on stdin; one line of JSON for each."""
    call = WAYS[way](model)
    assert call().tolist() == [2.5, 3.0, 4.5]
    print(json.dumps({"ready": time.time(), "rss": _resident()}), flush=True)
    for line in sys.stdin:
        seconds = []
        for _ in range(int(line)):
            start = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - start)
        print(json.dumps(seconds), flush=True)


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _start(way: str, model: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, __file__, "--way", way, "--model", model],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def _ask(process: subprocess.Popen[str], calls: int) -> list[float]:
    assert process.stdin is not None
    assert process.stdout is not None
    print(calls, file=process.stdin, flush=True)
    answer: list[float] = json.loads(process.stdout.readline())
    return answer


def compare(model: str, rounds: int, calls: int) -> None:
    """Start every way, ask them in turn, print a table."""
    processes, first, memory = {}, {}, {}
    for way in WAYS:
        begin = time.time()
        processes[way] = process = _start(way, model)
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        first[way], memory[way] = ready["ready"] - begin, ready["rss"]
        _ask(process, calls // 10)  # warm up
    times: dict[str, list[float]] = {way: [] for way in WAYS}
    for _ in range(rounds):
        for way, process in processes.items():
            times[way] += _ask(process, calls)
    for process in processes.values():
        process.communicate()

    base = statistics.median(times["concrete_function"])
    print(f"{'way':24}{'median':>10}{'p99':>10}{'ratio':>8}{'first answer':>15}{'resident':>11}")
    for way, seconds in times.items():
        median, p99 = statistics.median(seconds), sorted(seconds)[int(len(seconds) * 0.99)]
        print(
            f"{way:24}{median * 1e6:7.1f} µs{p99 * 1e6:7.1f} µs{median / base:8.2f}"
            f"{first[way]:13.2f} s{memory[way] / 1e6:8.0f} MB"
        )


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="rounds over all ways")
    parser.add_argument("--calls", type=int, default=3000, help="calls per way and round")
    parser.add_argument("--model", help="a half_plus_two of yours, instead of one that is made now")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.way:
        measure(arguments.way, arguments.model)
    elif arguments.model:
        compare(arguments.model, arguments.rounds, arguments.calls)
    else:
        with tempfile.TemporaryDirectory() as folder:
            make = [sys.executable, "-m", "tests.zoo", folder, "half_plus_two"]
            subprocess.run(make, cwd=ROOT, check=True, capture_output=True)
            compare(f"{folder}/half_plus_two/1", arguments.rounds, arguments.calls)


if __name__ == "__main__":
    main()
