"""What a Host counts of its runs, batches and warm-ups."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from serving_app.core.families import (
    BATCHES,
    INPUT_BATCH_SIZE,
    MODEL_WARMUP_LATENCY,
    MODEL_WARMUP_RECORDS_READ,
    PADDING_SIZE,
    PROCESSED_BATCH_SIZE,
    QUEUING_LATENCY,
    RUNTIME_LATENCY,
    WRAPPED_RUN_COUNT,
)
from serving_app.core.metrics import Registry
from serving_app.core.servable import ServableId
from serving_app.protocol.calls import Call, Reply

_RUNTIME = "TF1"
"""What TensorFlow Serving calls every runtime that its stock server has, TFLite included."""


class RunMeter:
    """The runs of one version."""

    def __init__(self, registry: Registry, servable: ServableId) -> None:
        self._registry = registry
        self._model = servable.name
        self._version = str(servable.version)

    def ran(self, call: Call, reply: Reply, seconds: float, requests: int = 1) -> None:
        """So many requests of a call were answered; those that failed do not count, as there."""
        if call.api and isinstance(reply, dict):
            labels = (self._model, call.api, _RUNTIME, self._version, call.signature_name)
            self._registry.observe(RUNTIME_LATENCY, labels, int(seconds * 1e6), requests)

    def came(self, call: Call, rows: Sequence[int]) -> None:
        """Requests with so many rows each, which came as one call, are to be batched."""
        held = (self._model, self._version)
        # Most requests of one call are of one size.
        sizes = {rows[0]: 1} if len(rows) == 1 else Counter(rows)
        for size, times in sizes.items():
            self._registry.observe(INPUT_BATCH_SIZE, held, size, times * len(call.inputs))

    def waited(self, seconds: float, requests: int = 1) -> None:
        """So many requests, or pieces of them, waited so long for their batch."""
        # TensorFlow Serving's stock server leaves the name of the thread pool empty.
        self._registry.observe(QUEUING_LATENCY, ("", self._model, self._version), int(seconds * 1e6), requests)

    def joined(self, rows: int, filling: int) -> None:
        """A batch of so many rows is run, filled up with so many more."""
        held = (self._model, self._version)
        self._registry.count(WRAPPED_RUN_COUNT, held)
        self._registry.observe(PROCESSED_BATCH_SIZE, held, rows + filling)
        self._registry.observe(PADDING_SIZE, (str(rows + filling), *held), filling)

    def released(self, why: str) -> None:
        """A batch that is run was released for this reason."""
        self._registry.count(BATCHES, (self._model, self._version, why))


class WarmupMeter:
    """The warm-up of the version that lies at this path or URI."""

    def __init__(self, registry: Registry, path: str) -> None:
        self._registry = registry
        self._path = path

    def ended(self, seconds: float, records: int, status: str) -> None:
        """The requests of the file were run, or one of them failed."""
        self._registry.observe(MODEL_WARMUP_LATENCY, (self._path, status), int(seconds * 1e6))
        self._registry.count(MODEL_WARMUP_RECORDS_READ, (self._path, status), records)
