"""What is exported through Ray's own metrics."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pytest
import ray.util.metrics

from serving_app.core.families import FAMILIES, LOAD_SECONDS, REQUEST_COUNT, RUNNING
from serving_app.core.metrics import Registry
from serving_app.serve import ray_metrics
from serving_app.serve.ray_metrics import RayExport, ray_name

OK = ("m", "OK", "1", "s")
SERIES = defaultdict[str, dict[frozenset[tuple[str, str]], float]]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> SERIES:
    """What Ray has been told: the sums of its counters, and its gauges. Its own checks hold."""
    series: SERIES = defaultdict(dict)

    class Counter(ray.util.metrics.Counter):
        def inc(self, value: float = 1.0, tags: Any = None) -> None:
            super().inc(value, tags)
            cells, key = series[self.info["name"]], frozenset(tags.items())
            cells[key] = cells.get(key, 0) + value

    class Gauge(ray.util.metrics.Gauge):
        def set(self, value: Any, tags: Any = None) -> None:
            super().set(value, tags)
            series[self.info["name"]][frozenset(tags.items())] = value

    monkeypatch.setattr(ray_metrics, "Counter", Counter)
    monkeypatch.setattr(ray_metrics, "Gauge", Gauge)
    return series


def tags(**values: str) -> frozenset[tuple[str, str]]:
    return frozenset({"application": "app", **values}.items())



def test_counters_grow_by_what_was_counted(told: SERIES) -> None:
    """Ray is told of growth alone, so its sums are ours, however often it is told."""
    registry, export = Registry(), RayExport("app")
    key = tags(model_name="m", status="OK", version="1", signature="s")
    for growth, total in ((3, 3), (0, 3), (4, 7)):
        if growth:
            registry.count(REQUEST_COUNT, OK, growth)
        export.export(dict(registry.counts()))
        assert told["tensorflow_serving_request_count"] == {key: total}


def test_what_was_forgotten_and_counted_anew_does_not_fall(told: SERIES) -> None:
    """A count that is less than it was began anew: Ray's counter grows by all of it."""
    export = RayExport("app")
    export.export({REQUEST_COUNT.name: {OK: 5}})
    export.export({REQUEST_COUNT.name: {OK: 2}})
    export.export({REQUEST_COUNT.name: {}})
    export.export({REQUEST_COUNT.name: {OK: 1}})
    assert list(told["tensorflow_serving_request_count"].values()) == [8]


def test_histograms_are_the_counters_that_prometheus_makes_of_them(told: SERIES) -> None:
    """Buckets that add up by their limit, the sum, and the count."""
    registry, export = Registry(), RayExport("app")
    for seconds in (0.05, 0.15, 0.15, 1e9):
        registry.observe(LOAD_SECONDS, ("m",), seconds)
    export.export(dict(registry.counts()))
    buckets = told["serving_app_load_seconds_bucket"]
    assert len(buckets) == len(LOAD_SECONDS.limits) + 1
    at = {limit: buckets[tags(model_name="m", le=limit)] for limit in ("0.1", "0.2", "819.2", "+Inf")}
    assert at == {"0.1": 1, "0.2": 3, "819.2": 3, "+Inf": 4}
    assert told["serving_app_load_seconds_count"] == {tags(model_name="m"): 4}
    assert told["serving_app_load_seconds_sum"] == {tags(model_name="m"): pytest.approx(1e9 + 0.35)}


def test_gauges_are_what_is_now(told: SERIES) -> None:
    """A gauge follows its value, down to 0 when what it tells of is gone."""
    export = RayExport("app")
    key = tags(model_name="m", version="1")
    for now, seen in (({("m", "1"): 2.0}, 2), ({("m", "1"): 0.0}, 0), ({("m", "1"): 3.0}, 3), ({}, 0)):
        export.export({RUNNING.name: now})
        assert told["serving_app_running_calls"] == {key: seen}


def test_every_metric_has_a_name_that_ray_takes(told: SERIES) -> None:
    """All families can be exported, each under names of its own."""
    export = RayExport("app")
    assert len({ray_name(family) for family in FAMILIES}) == len(FAMILIES)
    for family in FAMILIES:
        value: Any = (1,) * (len(family.limits) + 2) if family.limits else 1
        export.export({family.name: {tuple("x" * len(family.labels)): value}})
    assert len(told) == sum(3 if family.limits else 1 for family in FAMILIES)
