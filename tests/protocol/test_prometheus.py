"""The metrics page, byte for byte."""

from __future__ import annotations

from typing import Any

import pytest

from serving_app.core.families import FAMILIES, REQUEST_COUNT, REQUEST_LATENCY
from serving_app.core.metrics import Family, Kind, Registry
from serving_app.protocol.prometheus import encode_page, exposed_label, exposed_name

ROWS = Family("/tensorflow/serving/rows", Kind.HISTOGRAM, "", ("a label",), 1, (1, 10.5, 1234567.0))
BARE = Family("/tensorflow/serving/bare", Kind.COUNTER, "")
BARE_ROWS = Family("/tensorflow/serving/sizes", Kind.HISTOGRAM, "", limits=(2,))
NOW = Family("serving_app_now", Kind.GAUGE, "", ("x",))


def test_the_page() -> None:
    """Types first, also of what was never counted; families by name, samples by label; buckets that add up."""
    snapshot: Any = {
        NOW.name: {("b",): 1.5, ("a",): 2.0},
        ROWS.name: {("m",): (1, 0, 2, 1, 2500000.25)},
        BARE.name: {(): 12345678901},
        BARE_ROWS.name: {(): (1, 0, 1)},
        "of no family": {(): 1},
    }
    page = encode_page([NOW, REQUEST_COUNT, ROWS, BARE_ROWS, BARE], snapshot)
    assert page.decode() == (
        "# TYPE :tensorflow:serving:bare counter\n"
        ":tensorflow:serving:bare{} 12345678901\n"
        "# TYPE :tensorflow:serving:request_count counter\n"
        "# TYPE :tensorflow:serving:rows histogram\n"
        ':tensorflow:serving:rows_bucket{a_label="m",le="1"} 1\n'
        ':tensorflow:serving:rows_bucket{a_label="m",le="10.5"} 1\n'
        ':tensorflow:serving:rows_bucket{a_label="m",le="1.23457e+06"} 3\n'
        ':tensorflow:serving:rows_bucket{a_label="m",le="+Inf"} 4\n'
        ':tensorflow:serving:rows_sum{a_label="m"} 2500000.25\n'
        ':tensorflow:serving:rows_count{a_label="m"} 4\n'
        "# TYPE :tensorflow:serving:sizes histogram\n"
        ':tensorflow:serving:sizes_bucket{le="2"} 1\n'
        ':tensorflow:serving:sizes_bucket{le="+Inf"} 1\n'
        ":tensorflow:serving:sizes_sum{} 1\n"
        ":tensorflow:serving:sizes_count{} 1\n"
        "# TYPE serving_app_now gauge\n"
        'serving_app_now{x="a"} 2\n'
        'serving_app_now{x="b"} 1.5\n'
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("plain", "plain"), ('a"b', 'a\\"b'), ("a\\b", "a\\\\b"), ("a\nb", "a\\nb"),
        ("größe", "größe"), ("\udc80", "?"),
    ],
)  # fmt: skip
def test_label_values_cannot_break_the_page(value: str, text: str) -> None:
    """Whatever a label says stays within its quotes, and is text."""
    page = encode_page([NOW], {NOW.name: {(value,): 1}})
    assert page.decode() == f'# TYPE serving_app_now gauge\nserving_app_now{{x="{text}"}} 1\n'


def test_names_are_what_prometheus_reads() -> None:
    """Whatever is neither letter nor digit becomes a colon in names, an underscore in labels."""
    assert exposed_name("/tensorflow/serving/batching_session/x-y") == ":tensorflow:serving:batching_session:x:y"
    assert exposed_label("a-b c") == "a_b_c"


def test_an_empty_page_names_every_metric() -> None:
    """Before the first request each metric that TensorFlow Serving has is on the page with its type."""
    lines = encode_page(FAMILIES, {}).decode().splitlines()
    assert lines == sorted(lines)
    prefix = "# TYPE :tensorflow:serving:"
    latency, rows = "histogram", "batching_session"
    theirs = {
        "request_count": "counter", "request_latency": latency, "runtime_latency": latency,
        "request_example_counts": "histogram", "request_example_count_total": "counter",
        "model_warmup_latency": latency, "model_warmup_records_read": "counter", "request_log_count": "counter",
        "mlmd_map": "gauge", f"{rows}:queuing_latency": latency, f"{rows}:wrapped_run_count": "counter",
        f"{rows}:input_batch_size": "histogram", f"{rows}:processed_batch_size": "histogram",
        f"{rows}:padding_size": "histogram",
    }  # fmt: skip
    assert {line for line in lines if line.startswith(prefix)} == {
        f"{prefix}{name} {kind}" for name, kind in theirs.items()
    }


def test_latencies_have_the_buckets_that_dashboards_know() -> None:
    """The limits of latencies are ten microseconds, and 1.8 times the one before, 33 of them, to six digits."""
    registry = Registry()
    registry.observe(REQUEST_LATENCY, ("m", "predict", "REST", "1", "s"), 1000)
    lines = encode_page([REQUEST_LATENCY], registry.counts()).decode().splitlines()
    assert len(lines) == 1 + 34 + 2
    labels = 'model_name="m",API="predict",entrypoint="REST",version="1",signature="s"'
    assert lines[9] == f':tensorflow:serving:request_latency_bucket{{{labels},le="1102"}} 1'
    assert lines[8].endswith('le="612.22"} 0')
    assert lines[33].endswith('le="1.47476e+09"} 1')
    assert lines[34:] == [
        f':tensorflow:serving:request_latency_bucket{{{labels},le="+Inf"}} 1',
        f":tensorflow:serving:request_latency_sum{{{labels}}} 1000",
        f":tensorflow:serving:request_latency_count{{{labels}}} 1",
    ]
