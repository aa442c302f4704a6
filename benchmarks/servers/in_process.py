"""The model called by serving_app's runtime (TensorFlow's C API) in this process, without any server.

    python -m benchmarks.servers.in_process FOLDER NAME THREADS REQUESTS_PER_CALL SECONDS

Prints JSON: requests per second, the median and 99th percentile of a call, the CPU time of a request.
"""

from __future__ import annotations

import json
import pickle
import sys
import threading
import time
from pathlib import Path

import numpy as np

from serving_app.runtime import LoadOptions, loader_for


def main() -> None:
    """Run the command."""
    folder, name, *numbers = sys.argv[1:]
    threads, joined, seconds = int(numbers[0]), int(numbers[1]), float(numbers[2])
    inputs, outputs = pickle.loads(Path(folder, f"{name}.pickle").read_bytes())
    rows = {key: np.concatenate([value] * joined) for key, value in inputs.items()}
    servable = loader_for("tensorflow").load(str(Path(folder, name, "1")), LoadOptions())
    for key, value in servable.run("serving_default", rows).items():
        np.testing.assert_allclose(value, np.concatenate([outputs[key]] * joined), rtol=1e-3, atol=1e-5)
    latencies: list[float] = []

    def call(end: float, kept: list[float]) -> None:
        while (began := time.perf_counter()) < end:
            servable.run("serving_default", rows)
            kept.append(time.perf_counter() - began)

    def run(length: float, kept: list[float]) -> None:
        end = time.perf_counter() + length
        workers = [threading.Thread(target=call, args=(end, kept)) for _ in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()

    run(min(0.5, seconds), [])
    began, cpu = time.perf_counter(), time.process_time()
    run(seconds, latencies)
    took, used = time.perf_counter() - began, time.process_time() - cpu
    requests = len(latencies) * joined
    p50, p99 = (float(np.quantile(latencies, q)) * 1e3 for q in (0.5, 0.99))
    print(json.dumps({"rate": requests / took, "p50_ms": p50, "p99_ms": p99, "cpu_ms": used * 1e3 / requests}))


if __name__ == "__main__":
    main()
