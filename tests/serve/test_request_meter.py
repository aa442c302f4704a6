"""Which requests are counted, and as what."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
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
    STAGE_MICROSECONDS,
    STAGE_REQUESTS,
)
from serving_app.core.metrics import Registry
from serving_app.core.stages import leg
from serving_app.core.strangers import OTHERS
from serving_app.protocol import grpc_methods
from serving_app.protocol.calls import Call
from serving_app.serve.request_meter import Request, RequestMeter

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


def ask_stepwise(scene: Scene, monkeypatch: pytest.MonkeyPatch, travels: bool, fails: bool = False) -> None:
    """A request whose moments are 100.0 (it came), 100.1 (its call was made), 100.5 (outputs) and 101.0 (answered)."""
    moments = iter((100.0, 100.1, 101.0) if fails else (100.0, 100.1, 100.5, 101.0))
    clock = SimpleNamespace(perf_counter=lambda: next(moments))
    monkeypatch.setattr("serving_app.serve.request_meter.time", clock)
    with scene.meter.rest() as request:
        request.name("m", "predict")
        request.version = "7"
        request.take(CALL)
        if travels:
            request.leg = leg(100.15, 100.45, requests=2, held=0.1, ran=0.12)
        if fails:
            request.code = Code.ABORTED
        else:
            request.receive()


def test_the_stages_of_a_request_are_all_of_its_time(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that travelled has seven stages, one whose version is here three; either way they add up to its latency."""
    ask_stepwise(scene, monkeypatch, travels=True)
    micros = scene.counts(STAGE_MICROSECONDS)
    assert {labels[3]: value for labels, value in micros.items()} == {
        "decode": 100_000, "queue": 50_000, "hop": 200_000, "batch_wait": 40_000, "run": 60_000, "resume": 50_000,
        "encode": 500_000,
    }  # fmt: skip
    assert {labels[:3] for labels in micros} == {("m", "7", "REST")}
    assert set(scene.counts(STAGE_REQUESTS).values()) == {1}
    ask_stepwise(scene, monkeypatch, travels=False)
    assert sum(scene.counts(STAGE_MICROSECONDS).values()) == 2_000_000
    assert scene.counts(STAGE_REQUESTS)["m", "7", "REST", "run"] == 2
    assert scene.counts(STAGE_REQUESTS)["m", "7", "REST", "hop"] == 1


def test_only_requests_with_outputs_have_stages(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither one that fails after its call was made has any, nor one that makes none."""
    ask_stepwise(scene, monkeypatch, travels=True, fails=True)
    monkeypatch.undo()
    with scene.meter.rest() as request:
        request.name("m", "status")
    assert scene.counts(STAGE_REQUESTS) == {}
