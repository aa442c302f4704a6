"""What a Host and its batches count."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving_app.core.batching import Batching
from serving_app.core.errors import ServingError
from serving_app.core.families import (
    INPUT_BATCH_SIZE,
    MODEL_WARMUP_LATENCY,
    MODEL_WARMUP_RECORDS_READ,
    PADDING_SIZE,
    PROCESSED_BATCH_SIZE,
    QUEUING_LATENCY,
    RUNTIME_LATENCY,
    WRAPPED_RUN_COUNT,
)
from serving_app.core.metrics import Family, Registry
from serving_app.core.servable import ServableId
from serving_app.host import Assignment, Batcher, Host, Warmup
from serving_app.host.meter import RunMeter
from serving_app.protocol.calls import Call
from serving_app.protocol.prediction_log import WARMUP_FILE, encode_predict_log
from serving_app.protocol.tfrecord import encode_record
from tests.host.scripted import SCRIPTED_PLATFORM, ScriptedLoader

SERVABLE = ServableId("m", 3)
HELD = ("m", "3")
RAN = ("m", "Predict", "TF1", "3", "serving_default")


def x(*values: float, **more: Any) -> Call:
    return Call("serving_default", {"x": np.array(values, np.float32)}, **more)


def counted(registry: Registry, family: Family) -> dict[tuple[str, ...], Any]:
    """The cells of a counter; of a histogram how many values were observed, and their sum."""
    cells = registry.counts().get(family.name, {})
    return {labels: (sum(value[:-1]), value[-1]) if isinstance(value, tuple) else value
            for labels, value in cells.items()}


def load(registry: Registry, path: Path, **more: Any) -> Host:
    """A host that holds the scripted version at this path."""
    host = Host(registry)
    try:
        host.load(Assignment(SERVABLE, str(path), SCRIPTED_PLATFORM, **more))
    finally:
        ScriptedLoader.ready.pop()
    return host


def write_warmup(folder: Path, *calls: Call) -> None:
    file = folder / WARMUP_FILE
    file.parent.mkdir(parents=True)
    file.write_bytes(b"".join(encode_record(encode_predict_log(call)) for call in calls))


def test_runs_that_succeed_count(tmp_path: Path) -> None:
    """A run counts under what it was asked for; one that fails, or that TensorFlow Serving does not count, does not."""
    registry = Registry()
    host = load(registry, tmp_path)
    for call in (x(1), x(1), x(1, api="Classify"), x(1, api=""), x(-1), x(-2)):
        host.run(SERVABLE, call)
    runs = {labels: count for labels, (count, _) in counted(registry, RUNTIME_LATENCY).items()}
    assert runs == {RAN: 2, ("m", "Classify", "TF1", "3", "serving_default"): 1}
    assert not counted(registry, WRAPPED_RUN_COUNT)


def test_warm_up_counts(tmp_path: Path) -> None:
    """The records of a warm-up file, the time that they took, and each of their runs, batched where requests are."""
    registry = Registry()
    write_warmup(tmp_path, x(1), x(1, 2))
    load(registry, tmp_path, warmup=Warmup(iterations=2), batching=Batching(allowed_batch_sizes=(4, 1000)))
    where = (str(tmp_path), "OK")
    assert counted(registry, MODEL_WARMUP_RECORDS_READ) == {where: 2}
    assert counted(registry, MODEL_WARMUP_LATENCY)[where][0] == 1
    assert counted(registry, RUNTIME_LATENCY)[RAN][0] == 4
    assert counted(registry, WRAPPED_RUN_COUNT) == {HELD: 4}
    assert counted(registry, PROCESSED_BATCH_SIZE) == {HELD: (4, 16)}


def test_a_warm_up_that_fails_counts_with_its_error(tmp_path: Path) -> None:
    """The status says code and message, and the records are those before the bad one."""
    registry = Registry()
    write_warmup(tmp_path, x(1), x(-1), x(1))
    with pytest.raises(ServingError):
        load(registry, tmp_path)
    [(path, status)] = counted(registry, MODEL_WARMUP_LATENCY)
    assert (path, status) == (str(tmp_path), "FAILED_PRECONDITION: a bad member")
    assert counted(registry, MODEL_WARMUP_RECORDS_READ) == {(path, status): 1}


def test_without_a_warm_up_file_nothing_counts(tmp_path: Path) -> None:
    """A version without the file is no warm-up of no records."""
    registry = Registry()
    load(registry, tmp_path, warmup=Warmup(synthetic=True))
    assert not counted(registry, MODEL_WARMUP_LATENCY)
    assert counted(registry, RUNTIME_LATENCY)[RAN][0] == 1


def test_batches_count(tmp_path: Path) -> None:
    """Rows of each request, once per input; the rows of each batch with its filling; the wait of each request; and the
    time from a request to its answer, if that is no error."""
    registry = Registry()
    limits = Batching(max_batch_size=8, allowed_batch_sizes=(4, 8), num_batch_threads=1)
    host = load(registry, tmp_path, batching=limits)

    async def ask() -> None:
        batcher = Batcher(limits, partial(host.run_batch, SERVABLE), RunMeter(registry, SERVABLE))
        await asyncio.gather(*batcher.submit([[x(1, 2), x(3)], [x(1, 2, 3, 4, -1)], [x(*range(9))]]))
        batcher.close()

    asyncio.run(ask())
    # Two and one are filled up to four; five, of which one is bad, to eight; nine is more than may be.
    assert counted(registry, INPUT_BATCH_SIZE) == {HELD: (3, 8)}
    processed, padding = counted(registry, PROCESSED_BATCH_SIZE)[HELD], counted(registry, PADDING_SIZE)
    assert processed[1] - sum(filling for _, filling in padding.values()) == 8
    assert counted(registry, WRAPPED_RUN_COUNT) == {HELD: processed[0]}
    assert counted(registry, QUEUING_LATENCY)["", *HELD][0] == 3
    assert {labels: count for labels, (count, _) in counted(registry, RUNTIME_LATENCY).items()} == {RAN: 2}


def test_a_request_in_pieces_counts_once(tmp_path: Path) -> None:
    """A request that is split over batches waits piece by piece, and is answered once."""
    registry = Registry()
    limits = Batching(max_batch_size=8, enable_large_batch_splitting=True, max_execution_batch_size=3)
    host = load(registry, tmp_path, batching=limits)

    async def ask() -> None:
        batcher = Batcher(limits, partial(host.run_batch, SERVABLE), RunMeter(registry, SERVABLE))
        await asyncio.gather(*batcher.submit([[x(1, 2, 3, 4, 5, 6, 7, 8)]]))
        batcher.close()

    asyncio.run(ask())
    assert counted(registry, INPUT_BATCH_SIZE) == {HELD: (1, 8)}
    assert counted(registry, PROCESSED_BATCH_SIZE) == {HELD: (3, 8)}
    assert counted(registry, PADDING_SIZE) == {("3", *HELD): (2, 0), ("2", *HELD): (1, 0)}
    assert counted(registry, QUEUING_LATENCY)["", *HELD][0] == 3
    assert counted(registry, RUNTIME_LATENCY)[RAN][0] == 1
