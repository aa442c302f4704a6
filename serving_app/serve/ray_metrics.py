"""The same counts through Ray's own metrics: in its dashboard, and at the addresses that a cluster's Prometheus reads.

Each process exports what it counts itself, a few seconds behind, so requests pay nothing for it; Ray adds the labels
that tell the processes apart. Ray's histograms take single values, so ours go out as the counters that Prometheus makes
of a histogram: `…_bucket` by `le`, `…_sum` and `…_count`.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Iterator, Mapping
from itertools import accumulate

from ray.util.metrics import Counter, Gauge

from serving_app.core.families import FAMILIES
from serving_app.core.metrics import Family, Kind, Labels, Registry, Snapshot
from serving_app.protocol.prometheus import limit_text

logger = logging.getLogger("ray.serve")

EVERY_S = 5.0


def ray_name(family: Family) -> str:
    """What a family is called there: `tensorflow_serving_request_count`. Ray puts `ray_` before it, and `_total` behind
    the names of counters."""
    return re.sub(r"[^A-Za-z0-9_]", "_", family.name).strip("_")


def series(family: Family, labels: Labels, value: float | tuple[float, ...]) -> Iterator[tuple[str, Labels, float]]:
    """One cell as plain numbers: suffix of the name, values of the labels, number."""
    if not isinstance(value, tuple):
        yield "", labels, value
        return
    *counts, summed = value
    limits = [*(limit_text(limit) for limit in family.limits), "+Inf"]
    for limit, count in zip(limits, accumulate(counts), strict=True):
        yield "_bucket", (*labels, limit), count
    yield "_sum", labels, summed
    yield "_count", labels, sum(counts)


class RayExport:
    """Exports one registry, or any snapshots. Not thread-safe."""

    def __init__(self, app: str) -> None:
        self._app = app
        self._metrics: dict[str, Counter | Gauge] = {}
        self._told: dict[tuple[str, Labels], float] = {}

    async def export_for_ever(self, registry: Registry) -> None:
        """Export again and again what the registry counts."""
        while True:
            await asyncio.sleep(EVERY_S)
            # In a thread: a process that starts to count a thousand models tells Ray of many numbers at once.
            await asyncio.to_thread(self.export, {**registry.counts(), **registry.gauges()})

    def export(self, snapshot: Snapshot) -> None:
        """Tell Ray how much each number has grown since this was called last, and what the gauges are."""
        told, self._told = self._told, {}
        for family in FAMILIES:
            for labels, value in snapshot.get(family.name, {}).items():
                for suffix, tags, number in series(family, labels, value):
                    before = told.pop((ray_name(family) + suffix, tags), 0)
                    self._tell(family, suffix, tags, number, before)
        self._end_gauges(told)

    def _tell(self, family: Family, suffix: str, tags: Labels, number: float, before: float) -> None:
        name = ray_name(family) + suffix
        self._told[name, tags] = number
        if number == before:
            return
        metric = self._metrics.get(name) or self._open(family, name, suffix)
        named = dict(zip(self._tag_names(family, suffix), (self._app, *tags), strict=True))
        if isinstance(metric, Gauge):
            metric.set(number, tags=named)
        else:
            # One that is less than before was forgotten, and counted anew.
            metric.inc(number - before if number > before else number, tags=named)

    def _end_gauges(self, gone: Mapping[tuple[str, Labels], float]) -> None:
        """Gauges of what is not there any more are 0: Ray would go on telling the last that it heard."""
        for name, tags in gone:
            metric = self._metrics.get(name)
            if isinstance(metric, Gauge):
                metric.set(0, tags=dict(zip(metric.info["tag_keys"], (self._app, *tags), strict=True)))

    def _open(self, family: Family, name: str, suffix: str) -> Counter | Gauge:
        kind = Gauge if family.kind is Kind.GAUGE else Counter
        metric = kind(name, description=family.help, tag_keys=self._tag_names(family, suffix))
        self._metrics[name] = metric
        return metric

    def _tag_names(self, family: Family, suffix: str) -> tuple[str, ...]:
        # Ray's own metrics call it so; several serving apps may share a cluster.
        return ("application", *family.labels, *(("le",) if suffix == "_bucket" else ()))
