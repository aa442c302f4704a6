"""What scoring a table in bulk costs: the command's workers against a loop in one process over the same model.

    python -m benchmarks.bench_batch_inference [--rows 1000000]

A million rows of 20 columns of floats, in Parquet, go through a network of 64, 32 and 1 units, 4096 rows at a time, and
out to Parquet with their ids. The same is done

- by a loop in one process with TensorFlow's Python (`tf.saved_model.load`), as one writes it by hand;
- by a loop over the product's runtime, without all of its machinery;
- by `serving-app batch` with one and with two workers.

Every loop and every worker has one CPU: the loops are bound to one, with one thread inside and between operations and
one for Arrow; workers have `--cpus 1`, which sets the same threads, but as they read and write while they run, they
may use somewhat more than one CPU where one is free. Rows per second count from the first batch to the end of the last
part, for the command from the moment at which its workers have the model; what comes before is told apart. `of core` is
the share of what the hand-written loop does on its core, per worker: also by the CPU time that rows cost, which a busy
machine does not change. Of the largest process it is told what it had in memory after a fifth of the time, at most, and
at the end: what grows with the rows would show there.

The machine's other processes should rest: with two workers on two cores nothing is left for Ray.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

FEATURES = 20
BATCH_ROWS = 4096
NAMES = [f"f{number:02}" for number in range(FEATURES)]


def main() -> None:
    """Measure everything, or one part in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--part", choices=sorted(PARTS), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        print(json.dumps(PARTS[options.part](options.folder, options.rows)))
        return
    with tempfile.TemporaryDirectory(prefix="serving-app-bench-") as name:
        folder = Path(name)
        run_part("model", folder, options.rows)
        run_part("rows", folder, options.rows)
        by_hand = run_part("tensorflow", folder, options.rows)
        report("loop, TensorFlow's Python", by_hand, by_hand, options.rows, 1)
        report("loop, the product's runtime", run_part("runtime", folder, options.rows), by_hand, options.rows, 1)
        with started_ray():
            for workers in (1, 2):
                report(f"batch, {workers} worker(s)", run_command(folder, workers), by_hand, options.rows, workers)


def run_part(part: str, folder: Path, rows: int) -> Any:
    """One part in a process of its own; what it prints last."""
    command = [sys.executable, "-m", "benchmarks.bench_batch_inference", "--part", part, "--folder", str(folder)]
    done = subprocess.run([*command, "--rows", str(rows)], check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def report(what: str, seen: dict[str, float], by_hand: dict[str, float], rows: int, workers: int) -> None:
    """One line of figures."""
    rate, right = rows / seen["seconds"], rows / by_hand["seconds"]
    line = f"{what:30} {rate:10,.0f} rows/s  {rate / right / workers:5.2f} of core"
    line += f"  {seen['cpu'] / rows * 1e6:6.2f} us CPU per row, {by_hand['cpu'] / seen['cpu']:5.2f} of core"
    if "before" in seen:
        line += f"  {seen['before']:5.1f} s before"
    sizes = ", ".join(f"{name} {seen[name] / 1e6:,.0f}" for name in ("early", "most", "last"))
    print(f"{line}  RSS in MB: {sizes}", flush=True)


# The model and the rows.


def make_model(folder: Path, _rows: int) -> None:
    """A small network, as one exports it."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow as tf

    generator = tf.random.Generator.from_seed(1)
    sizes = (FEATURES, 64, 32, 1)
    module = tf.Module()
    module.layers = [
        tf.Variable(generator.normal((width, units), stddev=width**-0.5))
        for width, units in itertools.pairwise(sizes)
    ]

    def score(x: Any) -> Any:
        for layer in module.layers[:-1]:
            x = tf.nn.relu(x @ layer)
        return {"score": tf.sigmoid(x @ module.layers[-1])[:, 0]}

    module.score = tf.function(score, input_signature=[tf.TensorSpec([None, FEATURES], tf.float32, "x")])
    tf.saved_model.save(module, str(folder / "model" / "1"), signatures=module.score)


def make_rows(folder: Path, rows: int) -> None:
    """Four files with eight row groups in all."""
    generator = np.random.default_rng(1)
    (folder / "in").mkdir()
    for number in range(4):
        begin, end = rows * number // 4, rows * (number + 1) // 4
        columns = {name: generator.standard_normal(end - begin, np.float32) for name in NAMES}
        table = pa.table({"id": np.arange(begin, end), **columns})
        pq.write_table(table, folder / "in" / f"{number}.parquet", row_group_size=max(1, (end - begin + 1) // 2))


# Loops by hand.


def loop(folder: Path, name: str, score: Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]) -> dict[str, float]:
    """Read, score, write, in this process on one CPU."""
    pa.set_cpu_count(1)
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    (folder / name).mkdir()
    score(np.zeros((BATCH_ROWS, FEATURES), np.float32))
    with watching([os.getpid()]) as memory:
        started, cpu = time.perf_counter(), time.process_time()
        for path in sorted((folder / "in").iterdir()):
            results = []
            for batch in pq.ParquetFile(path).iter_batches(BATCH_ROWS):
                columns = [batch.column(each).to_numpy() for each in NAMES]
                results.append(pa.table({"id": batch.column("id"), "score": score(np.stack(columns, axis=1))}))
            pq.write_table(pa.concat_tables(results), folder / name / path.name)
        seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    return {"seconds": seconds, "cpu": cpu, **memory}


def loop_tensorflow(folder: Path, _rows: int) -> dict[str, float]:
    """By `tf.saved_model.load`."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    score = tf.saved_model.load(str(folder / "model" / "1")).signatures["serving_default"]
    return loop(folder, "tensorflow", lambda x: score(x=tf.constant(x))["score"].numpy())


def loop_runtime(folder: Path, _rows: int) -> dict[str, float]:
    """By the product's runtime."""
    from serving_app.runtime.loader import LoadOptions, loader_for

    options = LoadOptions(intra_op_parallelism=1, inter_op_parallelism=1)
    servable = loader_for("tensorflow").load(str(folder / "model" / "1"), options)
    return loop(folder, "runtime", lambda x: servable.run("serving_default", {"x": x})["score"])


# The command.


class _Measured:
    """A crew whose CPU time is read before it goes."""

    def __init__(self, crew: Any, processes: list[int]) -> None:
        self._crew, self._processes = crew, processes
        self._before = sum(map(cpu_of, processes))
        self.cpu = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._crew, name)

    def close(self) -> None:
        self.cpu = sum(map(cpu_of, self._processes)) - self._before
        self._crew.close()


def run_command(folder: Path, workers: int) -> dict[str, float]:
    """What `serving-app batch` does once it has understood its flags."""
    import ray

    from serving_app.data.batch import BatchRequest, begin, hire, run

    request = BatchRequest(
        (str(folder / "in"),), str(folder / f"out-{workers}"), base_path=str(folder / "model"),
        input_columns={"x": NAMES}, keep=("id",), batch_rows=BATCH_ROWS,
    )
    started = time.perf_counter()
    begun = begin(request, workers)
    crew = hire(begun, workers, 1.0, None)
    while crew.room() < 2 * workers:  # until each of them has the model
        crew.wait(0.1)
    pids = [member.actor.__ray_call__.remote(lambda _: os.getpid()) for member in crew._members]
    processes = ray.get(pids)
    measured = _Measured(crew, processes)
    before = time.perf_counter() - started
    with watching(processes) as memory:
        summary = run(begun, lambda: measured, lambda _: None)
    return {"seconds": summary.seconds, "cpu": measured.cpu, "before": before, **memory}


@contextmanager
def started_ray() -> Iterator[None]:
    """A Ray of our own."""
    from serving_app.cli.cluster import join_or_start_ray, leave_ray

    started = join_or_start_ray("local", lambda _: None)
    try:
        yield
    finally:
        leave_ray(started, lambda _: None)


# Processes, as Linux tells of them.


def cpu_of(pid: int) -> float:
    """The CPU seconds of a process until now."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def watching(processes: list[int]) -> Iterator[dict[str, float]]:
    """What the largest of some processes has in memory while the block runs: after a fifth of it, at most, at its end.
    The mapping that is handed out has these when the block is over."""
    seen: list[int] = []
    memory: dict[str, float] = {}
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.1):
            sizes = [size for size in map(rss_of, processes) if size]
            seen.extend([max(sizes)] if sizes else [])

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield memory
    finally:
        ended.set()
        thread.join()
        seen = seen or [0]
        memory.update(early=seen[len(seen) // 5], most=max(seen), last=seen[-1])


def rss_of(pid: int) -> int:
    """The resident bytes of a process; 0 once it has gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


PARTS: dict[str, Callable[[Path, int], Any]] = {
    "model": make_model, "rows": make_rows, "tensorflow": loop_tensorflow, "runtime": loop_runtime,
}


if __name__ == "__main__":
    main()
