"""The metrics of a whole app, from any of its gateways."""

from __future__ import annotations

import http.client
import re
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from serving_app.serve import kept_counts
from tests.cluster.asking import QUESTION, Grpc, Rest
from tests.cluster.serving import Serving, kill
from tests.cluster.waiting import PATIENCE_S, wait_for
from tests.zoo import Zoo

pytestmark = pytest.mark.cluster

MODEL = "half_plus_two"
_SAMPLE = re.compile(r"^([a-zA-Z0-9_:]+)\{(.*)\} (\S+)$", re.MULTILINE)


def scrape(port: int) -> tuple[int, str]:
    """Status and page, by a connection of its own: any of the gateways may answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    try:
        connection.request("GET", "/monitoring/prometheus/metrics")
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def scrape_whole(port: int) -> str:
    """A page to which everybody has answered in time, and which says so."""

    def look() -> str:
        status, page = scrape(port)
        return page if status == 200 and not total(page, "serving_app_silent_processes") else ""

    return wait_for("a page without silent processes", look)


def processes(page: str) -> tuple[float, int]:
    """How many replicas and how many gateways have a part in a page."""
    return total(page, "serving_app_replicas", f'model_name="{MODEL}"'), page.count("serving_app_in_flight_requests{")


def total(page: str, name: str, *labels: str) -> float:
    """The sum of a metric's samples that have all of these labels."""
    samples = _SAMPLE.findall(page)
    return sum(float(value) for found, text, value in samples if found == name and all(each in text for each in labels))


def counted(page: str) -> tuple[float, ...]:
    """What the test has asked for, as the page tells it: good and bad requests, latencies, runs."""
    count, latency = ":tensorflow:serving:request_count", ":tensorflow:serving:request_latency_count"
    return (
        total(page, count, f'model_name="{MODEL}",status="OK",version="2",signature="serving_default"'),
        total(page, count, 'model_name="nope",status="NOT_FOUND"'),
        total(page, latency, f'model_name="{MODEL}",API="predict",entrypoint="REST"'),
        total(page, latency, f'model_name="{MODEL}",API="Predict",entrypoint="GRPC"'),
        total(page, ":tensorflow:serving:runtime_latency_count", f'model_name="{MODEL}",API="Predict",runtime="TF1"'),
    )


@contextmanager
def many_connections(app: Serving) -> Iterator[tuple[list[Rest], list[Grpc]]]:
    """Connections enough to be at both gateways."""
    rests = [Rest(app.rest_port) for _ in range(10)]
    grpcs = [Grpc(app.grpc_port) for _ in range(5)]
    try:
        yield rests, grpcs
    finally:
        for connection in (*rests, *grpcs):
            connection.close()


def test_every_gateway_tells_exactly_what_all_have_counted(app: Serving, zoo: Zoo) -> None:
    """Right after requests through two gateways to two replicas each gateway tells of all of them; so it does after
    the controller was killed, and what it tells meanwhile is that or nothing; so it does when of both only one is left.
    """
    app.deploy({MODEL: {"base_path": zoo.base(MODEL), "replicas": 2}}, gateways=2)
    app.wait_for_version(MODEL, 2)
    wait_for("both replicas", lambda: len(app.replicas(MODEL, 2)) == 2)
    wait_for("all to be counted", lambda: processes(scrape_whole(app.rest_port)) == (2, 2))
    expected = np.zeros(5)
    with many_connections(app) as (rests, grpcs):
        for _ in range(3):
            for rest in rests:
                rest.predict(MODEL, {"instances": QUESTION})
                assert rest.request("POST", "/v1/models/nope:predict", {"instances": QUESTION})[0] == 404
            for stub in grpcs:
                stub.predict(MODEL, {"x": np.array(QUESTION, np.float32)})
            expected += (15, 10, 10, 5, 15)
            for _ in range(4):
                page = scrape_whole(app.rest_port)
                assert counted(page) == tuple(expected)
    assert processes(page) == (2, 2)
    assert total(page, "serving_app_in_flight_requests") == 0
    assert total(page, "serving_app_versions", f'model_name="{MODEL}",state="AVAILABLE"') == 1
    assert total(page, "serving_app_loads", f'model_name="{MODEL}",status="OK"') == 2
    wait_for("what is kept for the next controller", lambda: len(kept_counts.read(app.name).reported) == 4)
    kill(app.controller_pid())
    statuses: list[int] = []

    def page_after_restart() -> str:
        status, page = scrape(app.rest_port)
        statuses.append(status)
        return page if status == 200 else ""

    # What is silent here has told nothing to this controller, and what it has told to the one before may be less.
    page = wait_for("a page after the restart", page_after_restart)
    assert counted(page) == tuple(expected) or total(page, "serving_app_silent_processes")
    assert counted(scrape_whole(app.rest_port)) == tuple(expected)
    assert set(statuses) <= {200, 503}
    app.deploy({MODEL: {"base_path": zoo.base(MODEL), "replicas": 1}}, gateways=1)
    wait_for("one replica", lambda: len(app.replicas(MODEL, 2)) == 1 == len(app.replicas()))
    page = wait_for("its page", lambda: next((page for status, page in [scrape(app.rest_port)] if status == 200), ""))
    assert counted(page) == tuple(expected)
