"""Counting, adding up, and never filling the memory."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from serving_app.core.families import (
    FAMILIES,
    PADDING_SIZE,
    REQUEST_COUNT,
    REQUEST_LATENCY,
    WRAPPED_RUN_COUNT,
    first_value,
)
from serving_app.core.metrics import Family, Kind, Registry, add_to, exponential, replace_in, total

COUNT = Family("count", Kind.COUNTER, "", ("model",), 1)
SIZES = Family("sizes", Kind.HISTOGRAM, "", ("model",), 1, (1, 2, 4))


@pytest.mark.parametrize(
    ("value", "bucket"), [(0, 0), (0.99, 0), (1, 1), (1.5, 1), (2, 2), (3, 2), (4, 3), (1e9, 3)]
)
def test_a_limit_belongs_to_the_bucket_above_it(value: float, bucket: int) -> None:
    """A value goes into the bucket below the first limit that is greater than it."""
    registry = Registry()
    registry.observe(SIZES, ("m",), value)
    *counts, summed = registry.counts()["sizes"]["m",]  # type: ignore[misc]
    assert [index for index, count in enumerate(counts) if count] == [bucket]
    assert summed == value


def test_limits_grow_by_their_factor() -> None:
    """There are as many limits as were asked for, and each is the one before times the factor."""
    assert exponential(1, 2, 5) == (1, 2, 4, 8, 16)
    latencies = exponential(10, 1.8, 33)
    assert len(latencies) == 33
    assert [f"{limit:g}" for limit in latencies[:5]] == ["10", "18", "32.4", "58.32", "104.976"]


def test_counts_of_all_threads_count() -> None:
    """No count is lost when threads count at the same time."""
    registry = Registry()

    def work(_: int) -> None:
        for _ in range(1000):
            registry.count(COUNT, ("m",))
            registry.observe(SIZES, ("m",), 1)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert registry.counts() == {"count": {("m",): 8000}, "sizes": {("m",): (0, 8000, 0, 0, 8000)}}


def test_what_changed_is_told_once() -> None:
    """Who asks for changes gets each changed cell as it is now, and the next time only what changed since."""
    registry = Registry()
    registry.count(COUNT, ("a",))
    registry.count(COUNT, ("b",), 5)
    registry.observe(SIZES, ("a",), 2)
    assert registry.take_changed() == {"count": {("a",): 1, ("b",): 5}, "sizes": {("a",): (0, 0, 1, 0, 2)}}
    registry.count(COUNT, ("b",))
    assert registry.take_changed() == {"count": {("b",): 6}}
    assert registry.take_changed() == {}
    assert registry.counts()["count"] == {("a",): 1, ("b",): 6}


def test_gauges_are_asked_when_somebody_looks() -> None:
    """A gauge says what is now, each time."""
    registry, now = Registry(), {("m",): 1.0}
    registry.watch(COUNT, lambda: now)
    assert registry.gauges() == {"count": {("m",): 1}}
    now["m",] = 7
    assert registry.gauges() == {"count": {("m",): 7}}


@pytest.mark.parametrize("family", [COUNT, SIZES])
def test_the_oldest_cells_are_forgotten(family: Family) -> None:
    """Of too many cells those go that did not change for the longest time, and nobody is told of them any more."""
    registry = Registry(most_cells=3)

    def use(label: str) -> None:
        if family is COUNT:
            registry.count(family, (label,))
        else:
            registry.observe(family, (label,), 1)

    for label in "abcadef":
        use(label)
    assert [label for label, in registry.counts()[family.name]] == ["d", "e", "f"]
    assert list(registry.take_changed()[family.name]) == [("d",), ("e",), ("f",)]
    for label in "dddghd":
        use(label)
    assert {label for label, in registry.counts()[family.name]} == {"d", "g", "h"}


def test_snapshots_add_up() -> None:
    """Counters add up, and histograms bucket by bucket; the parts stay as they were, and travel."""
    one = {"count": {("a",): 1, ("b",): 2}, "sizes": {("a",): (1, 0, 0, 2, 9)}}
    other = {"count": {("b",): 3}, "sizes": {("a",): (0, 1, 0, 0, 1), ("c",): (0, 0, 0, 0, 0)}}
    summed = {
        "count": {("a",): 1, ("b",): 5}, "sizes": {("a",): (1, 1, 0, 2, 10), ("c",): (0, 0, 0, 0, 0)},
    }  # fmt: skip
    parts: Any = [one, other]
    assert total(parts) == total(reversed(parts)) == summed
    assert one["count"] == {("a",): 1, ("b",): 2}
    assert pickle.loads(pickle.dumps(summed)) == summed


def test_cells_of_another_release_do_no_harm() -> None:
    """Cells that cannot be added, as their buckets differ, are not: the one that came later stands."""
    summed: Any = {"sizes": {("a",): (1, 2, 3)}, "count": {("a",): (1, 2)}}
    add_to(summed, {"sizes": {("a",): (1, 1, 1, 1)}, "count": {("a",): 4}})
    assert summed == {"sizes": {("a",): (1, 1, 1, 1)}, "count": {("a",): 4}}


def test_sums_and_replacements_are_bounded_too() -> None:
    """A sum has no more cells than a registry, and forgets the oldest."""
    for change in (add_to, replace_in):
        cells: Any = {"count": {("a",): 1, ("b",): 1}}
        change(cells, {"count": {("a",): 1, ("c",): 1, ("d",): 1}}, 3)
        assert list(cells["count"]) == [("a",), ("c",), ("d",)]


@pytest.mark.parametrize(
    ("family", "cells", "value"),
    [
        (REQUEST_COUNT, {}, 0),
        (REQUEST_COUNT, {("m", "OK", "1", ""): 3, ("m", "OK", "2", "s"): 4, ("m", "ZZ", "1", ""): 9}, 7),
        (REQUEST_COUNT, {("m", "OK", "1", ""): 3, ("b", "OK", "2", ""): 4}, 4),
        (WRAPPED_RUN_COUNT, {("m", "1"): 3, ("n", "1"): 4}, 7),
        (REQUEST_LATENCY, {("m", "predict", "REST", "1", ""): (1, 1)}, 0),
    ],
)
def test_one_number_for_a_metric(family: Family, cells: Any, value: int) -> None:
    """It is the first cell's by TensorFlow Serving's own labels, whatever ours tell apart below them."""
    assert first_value(family.name, {family.name: cells}) == value
    assert first_value("/no/such/metric", {family.name: cells}) == 0


def test_the_families_are_declared_well() -> None:
    """Each name is there once; TensorFlow Serving's have its prefix; histograms, and only they, have limits."""
    assert len({family.name for family in FAMILIES}) == len(FAMILIES)
    for family in FAMILIES:
        assert family.name.startswith(("/tensorflow/serving/", "serving_app_"))
        assert family.help
        assert family.shared == 0 or family.name.startswith("/")
        assert bool(family.limits) == (family.kind is Kind.HISTOGRAM)
        assert list(family.limits) == sorted(set(family.limits))
    assert PADDING_SIZE.labels[0] == "execution_batch_size"
