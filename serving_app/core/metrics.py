"""Counting: what is counted is declared, each process counts for itself, and the counts of many add up.

A *family* is a metric by name, with the names of its labels. A *cell* is one of its combinations of label values, and
holds a number, or for a histogram the counts of its buckets and then the sum of what was observed. So any two cells of
a family add up by adding number to number, and a *snapshot*, cells by family, is plain data that may travel.

Nothing here may grow for ever, however long a process lives and whatever its clients send: of more cells than a family
may have, those that did not change for the longest time are forgotten.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from operator import add

MOST_CELLS = 20_000
"""Cells of one family that are remembered: hundreds of models with dozens of versions each."""


class Kind(Enum):
    """What the numbers of a family mean; the values are Prometheus' words."""

    COUNTER = "counter"
    """Only grows."""
    GAUGE = "gauge"
    """What is now."""
    HISTOGRAM = "histogram"
    """How often values of which size were observed."""


@dataclass(frozen=True)
class Family:
    """One metric. `help` is a sentence for people.

    Of `labels` the first `shared` are those that TensorFlow Serving has, too; the others are ours. `limits` are the
    bounds between a histogram's buckets: there is one bucket more.
    """

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    shared: int = 0
    limits: tuple[float, ...] = ()


Labels = tuple[str, ...]
"""The values of a family's labels, in its order."""

Value = float | tuple[float, ...]
"""A number; of a histogram the count of each bucket, then the sum."""

Cells = dict[Labels, Value]
Snapshot = dict[str, Cells]
"""Cells by the name of their family."""

Gauge = Callable[[], Mapping[Labels, float]]
"""Asked for what is now."""


def exponential(scale: float, growth: float, count: int) -> tuple[float, ...]:
    """Limits of which each is `growth` times the one before (tsl/lib/monitoring/buckets)."""
    limits = [scale]
    while len(limits) < count:
        limits.append(limits[-1] * growth)
    return tuple(limits)


class Registry:
    """What one process has counted. Any thread may count; a count takes about a microsecond."""

    def __init__(self, most_cells: int = MOST_CELLS) -> None:
        self._most = most_cells
        self._lock = threading.Lock()
        self._counts: dict[str, dict[Labels, float]] = {}
        self._histograms: dict[str, dict[Labels, list[float]]] = {}
        self._changed: dict[tuple[str, Labels], None] = {}
        self._moved: dict[tuple[str, Labels], None] = {}  # have changed, but stand where they stood before
        self._gauges: dict[str, Gauge] = {}
        self._feeders: list[Callable[[], None]] = []

    def feed(self, feeder: Callable[[], None]) -> None:
        """Have this called before anybody looks: it counts here what it has counted by itself, more cheaply, till then.
        """
        self._feeders.append(feeder)

    def count(self, family: Family, labels: Labels = (), by: int = 1) -> None:
        """Let a counter grow."""
        name = family.name
        with self._lock:
            cells = self._counts.get(name)
            if cells is None:
                cells = self._counts[name] = {}
            cells[labels] = cells.get(labels, 0) + by
            key = name, labels
            self._changed[key] = self._moved[key] = None
            if len(cells) > self._most:
                self._forget(name, cells)

    def observe(self, family: Family, labels: Labels, value: float, times: int = 1) -> None:
        """Add a value to a histogram, so many times. One that equals a limit is above it (tsl/lib/histogram)."""
        name = family.name
        with self._lock:
            cells = self._histograms.get(name)
            if cells is None:
                cells = self._histograms[name] = {}
            cell = cells.get(labels)
            if cell is None:
                cell = cells[labels] = [0] * (len(family.limits) + 2)
            cell[bisect_right(family.limits, value)] += times
            cell[-1] += value * times
            key = name, labels
            self._changed[key] = self._moved[key] = None
            if len(cells) > self._most:
                self._forget(name, cells)

    def add_observed(self, family: Family, labels: Labels, cell: Sequence[float]) -> None:
        """Add a whole cell of a histogram: the counts of its buckets, then the sum."""
        name = family.name
        with self._lock:
            cells = self._histograms.setdefault(name, {})
            known = cells.get(labels)
            cells[labels] = list(cell) if known is None else list(map(add, known, cell))
            key = name, labels
            self._changed[key] = self._moved[key] = None
            if len(cells) > self._most:
                self._forget(name, cells)

    def watch(self, family: Family, gauge: Gauge) -> None:
        """Have a gauge asked whenever somebody looks."""
        self._gauges[family.name] = gauge

    def counts(self) -> Snapshot:
        """All counters and histograms."""
        self._be_fed()
        with self._lock:
            counts: Snapshot = {name: dict(cells) for name, cells in self._counts.items()}
            for name, cells in self._histograms.items():
                counts[name] = {labels: tuple(cell) for labels, cell in cells.items()}
        return counts

    def take_changed(self) -> Snapshot:
        """The counters and histograms that changed since this was asked last, as they are now."""
        self._be_fed()
        taken: Snapshot = {}
        with self._lock:
            self._put_in_order()
            changed, self._changed = self._changed, {}
            for name, labels in changed:
                if name in self._histograms:
                    taken.setdefault(name, {})[labels] = tuple(self._histograms[name][labels])
                else:
                    taken.setdefault(name, {})[labels] = self._counts[name][labels]
        return taken

    def gauges(self) -> Snapshot:
        """What is now."""
        return {name: dict(gauge()) for name, gauge in self._gauges.items()}

    def _be_fed(self) -> None:
        for feeder in self._feeders:
            feeder()

    def _put_in_order(self) -> None:
        """Let what did not change for long come first. Not with each change, as those are many."""
        for name, labels in self._moved:
            counts, histograms = self._counts.get(name), self._histograms.get(name)
            if counts is not None and labels in counts:
                counts[labels] = counts.pop(labels)
            elif histograms is not None and labels in histograms:
                histograms[labels] = histograms.pop(labels)
        self._moved.clear()

    def _forget(self, name: str, cells: dict[Labels, float] | dict[Labels, list[float]]) -> None:
        self._put_in_order()
        labels = next(iter(cells))
        del cells[labels]
        self._changed.pop((name, labels), None)


def total(snapshots: Iterable[Snapshot]) -> Snapshot:
    """The sum of what several processes counted."""
    summed: Snapshot = {}
    for snapshot in snapshots:
        add_to(summed, snapshot)
    return summed


def add_to(summed: Snapshot, snapshot: Snapshot, most_cells: int = MOST_CELLS) -> None:
    """Add one snapshot to another in place.

    Cells that do not fit together, because two releases of the product count differently, are not added: the newer
    ones stay.
    """
    for name, cells in snapshot.items():
        into = summed.setdefault(name, {})
        for labels, value in cells.items():
            into[labels] = _sum(into.pop(labels, None), value)
        _bound(into, most_cells)


def replace_in(snapshot: Snapshot, changed: Snapshot, most_cells: int = MOST_CELLS) -> None:
    """Take the cells that changed in place of those that were there before."""
    for name, cells in changed.items():
        into = snapshot.setdefault(name, {})
        for labels, value in cells.items():
            into.pop(labels, None)
            into[labels] = value
        _bound(into, most_cells)


def growth(before: Snapshot, after: Snapshot) -> Snapshot:
    """By how much counters and histograms have grown between two looks; those that have not are left out. What has
    shrunk was forgotten, and counted anew."""
    grown: Snapshot = {}
    for name, cells in after.items():
        known = before.get(name, {})
        for labels, value in cells.items():
            old = known.get(labels)
            if old != value:
                grown.setdefault(name, {})[labels] = _difference(old, value)
    return grown


def _difference(old: Value | None, new: Value) -> Value:
    if isinstance(old, tuple) and isinstance(new, tuple) and len(old) == len(new):
        counts = [now - then for now, then in zip(new, old, strict=True)]
        return new if any(count < 0 for count in counts[:-1]) else tuple(counts)
    if isinstance(old, int | float) and isinstance(new, int | float) and old <= new:
        return new - old
    return new


def _sum(old: Value | None, new: Value) -> Value:
    if isinstance(old, tuple) and isinstance(new, tuple) and len(old) == len(new):
        return tuple(map(add, old, new))
    if isinstance(old, int | float) and isinstance(new, int | float):
        return old + new
    return new


def _bound(cells: Cells, most: int) -> None:
    for labels in list(cells)[: max(0, len(cells) - most)]:
        del cells[labels]
