"""Which requests are counted, and as what."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

from serving_app.core.errors import Code, NotFound
from serving_app.core.families import (
    IN_FLIGHT,
    OTHER_REQUESTS,
    REQUEST_COUNT,
    REQUEST_EXAMPLE_COUNT_TOTAL,
    REQUEST_EXAMPLE_COUNTS,
    REQUEST_LATENCY,
)
from serving_app.core.metrics import Registry
from serving_app.protocol import grpc_methods
from serving_app.protocol.calls import Call
from serving_app.serve.request_meter import OTHERS, Request, RequestMeter

CALL = Call("s", {"x": np.zeros(3)})


class Scene:
    def __init__(self) -> None:
        self.registry = Registry()
        self.meter = RequestMeter(self.registry, lambda model: model == "m", "g1")

    def counts(self, family: Any = REQUEST_COUNT) -> Any:
        return self.registry.counts().get(family.name, {})


@pytest.fixture
def scene() -> Scene:
    return Scene()


def ask(request: Request, error: BaseException | None = None) -> Call:
    """A request to the model `m` that finds its version, makes a call, and may fail then."""
    with request:
        request.model, request.version = "m", "7"
        call = request.take(CALL)
        if error is not None:
            raise error
    return call


@pytest.mark.parametrize(
    ("path", "api"),
    [(grpc_methods.PREDICT, "Predict"), (grpc_methods.CLASSIFY, "Classify"), (grpc_methods.REGRESS, "Regress")],
)
def test_grpc_inference_is_counted(scene: Scene, path: str, api: str) -> None:
    """Each counts by model, outcome, version and signature, its latency by method; its run counts as the method."""
    assert ask(scene.meter.grpc(path)).api == api
    assert scene.counts() == {("m", "OK", "7", "s"): 1}
    assert set(scene.counts(REQUEST_LATENCY)) == {("m", api, "GRPC", "7", "s")}
    assert not scene.counts(OTHER_REQUESTS)


@pytest.mark.parametrize(("verb", "api"), [("predict", "Predict"), ("classify", "Classify"), ("regress", "Regress")])
def test_rest_inference_is_counted(scene: Scene, verb: str, api: str) -> None:
    """Each counts like its twin, under the verb of its URL."""
    request = scene.meter.rest()
    request.name("m", verb)
    assert ask(request).api == api
    assert scene.counts() == {("m", "OK", "7", "s"): 1}
    assert set(scene.counts(REQUEST_LATENCY)) == {("m", verb, "REST", "7", "s")}


@pytest.mark.parametrize(
    "path", [grpc_methods.GET_MODEL_METADATA, grpc_methods.GET_MODEL_STATUS, grpc_methods.HANDLE_RELOAD_CONFIG_REQUEST]
)
def test_other_methods_are_counted_apart(scene: Scene, path: str) -> None:
    """What TensorFlow Serving does not count is no part of its metric, but of one of ours."""
    with scene.meter.grpc(path):
        pass
    with pytest.raises(NotFound), scene.meter.grpc(path):
        raise NotFound("gone")
    method = path.rpartition("/")[2]
    assert not scene.counts()
    assert not scene.counts(REQUEST_LATENCY)
    assert scene.counts(OTHER_REQUESTS) == {(method, "OK"): 1, (method, "NOT_FOUND"): 1}


def test_examples_count_for_multi_inference_alone(scene: Scene) -> None:
    """Its examples are counted, and neither the request nor its run."""
    assert ask(scene.meter.grpc(grpc_methods.MULTI_INFERENCE)).api == ""
    ask(scene.meter.grpc(grpc_methods.CLASSIFY))
    assert scene.counts(REQUEST_EXAMPLE_COUNT_TOTAL) == {("m", "7"): 3}
    [cell] = scene.counts(REQUEST_EXAMPLE_COUNTS).values()
    assert (cell[2], cell[-1]) == (1, 3)
    assert scene.counts() == {("m", "OK", "7", "s"): 1}


@pytest.mark.parametrize(
    ("error", "code"),
    [(NotFound("no"), Code.NOT_FOUND), (asyncio.CancelledError(), Code.CANCELLED), (KeyError("x"), Code.INTERNAL)],
)
def test_what_fails_counts_without_a_latency(scene: Scene, error: BaseException, code: Code) -> None:
    """A failure counts under its code's name, one that nobody expected as internal, a client that left as cancelled."""
    with pytest.raises(type(error)):
        ask(scene.meter.grpc(grpc_methods.PREDICT), error)
    assert scene.counts() == {("m", code.name, "7", "s"): 1}
    assert not scene.counts(REQUEST_LATENCY)


def test_requests_in_flight_are_told(scene: Scene) -> None:
    """Those that have begun and not ended, whatever becomes of them."""
    first, second = scene.meter.rest(), scene.meter.rest()
    with first:
        assert scene.registry.gauges()[IN_FLIGHT.name] == {("g1",): 1}
        with pytest.raises(KeyError):
            ask(second, KeyError("x"))
        assert scene.registry.gauges()[IN_FLIGHT.name] == {("g1",): 1}
    assert scene.registry.gauges()[IN_FLIGHT.name] == {("g1",): 0}


def test_invented_models_do_not_fill_the_memory(scene: Scene) -> None:
    """Some unknown names are counted by themselves, further, long or unprintable ones together; the known always."""

    def count(model: str) -> None:
        with scene.meter.rest() as request:
            request.name(model, "predict")

    for model in ("x" * 1000, "a\nb", "\udc80"):
        count(model)
    assert set(scene.counts()) == {(OTHERS, "OK", "", "")}
    for number in range(200):
        count(f"invented{number}")
    count("m")
    count("invented0")
    assert len(scene.counts()) == 102
    assert scene.counts()[OTHERS, "OK", "", ""] == 103
    assert scene.counts()["invented0", "OK", "", ""] == 2
    assert scene.counts()["m", "OK", "", ""] == 1


def test_latency_is_told_in_whole_microseconds(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is what has passed in the block, cut off at a microsecond."""
    times = iter([15.0, 15.0012345])
    monkeypatch.setattr("time.perf_counter", lambda: next(times))
    with scene.meter.rest() as request:
        request.name("m", "predict")
    [cell] = scene.counts(REQUEST_LATENCY).values()
    assert cell[-1] == 1234


def test_without_a_meter_everything_works() -> None:
    """A front end that nobody counts for measures into the void."""
    assert ask(RequestMeter().rest()).api == ""
