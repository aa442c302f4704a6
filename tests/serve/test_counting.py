"""Requests through real listeners, and what the metrics page says of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from serving_app.config import GatewayConfig
from serving_app.core.errors import Unavailable
from serving_app.core.families import (
    FAMILIES,
    OTHER_REQUESTS,
    REQUEST_COUNT,
    REQUEST_EXAMPLE_COUNT_TOTAL,
    REQUEST_LATENCY,
    STAGE_MICROSECONDS,
    STAGE_REQUESTS,
)
from serving_app.core.metrics import Registry, Snapshot
from serving_app.core.servable import ServableId
from serving_app.protocol import grpc_methods, messages
from serving_app.protocol.calls import Call, Reply
from serving_app.protocol.prometheus import encode_page
from serving_app.serve.grpc_app import GrpcApp
from serving_app.serve.grpc_listener import GrpcListener
from serving_app.serve.grpc_settings import grpc_settings
from serving_app.serve.listeners import RestListener, claim
from serving_app.serve.metrics_page import MetricsPage
from serving_app.serve.request_meter import RequestMeter
from serving_app.serve.rest_app import RestApp
from tests.serve.fronts import HOST, IDENTITY, LARGEST_REQUEST, Front, channel
from tests.serve.test_rest_app import PREDICT, ask
from tests.stepping import PATIENCE_S

PATH = "/monitoring/prometheus/metrics"


class Gateway:
    """Both front ends of one gateway that counts, on the data plane of `front`."""

    def __init__(self, front: Front) -> None:
        self.front = front
        self.registry = Registry()
        self.refusal: Unavailable | None = None
        front.run(self._start())

    async def _start(self) -> None:
        plane, settings = self.front.plane, GatewayConfig(max_request_bytes=LARGEST_REQUEST)
        meter = RequestMeter(self.registry, lambda model: model in plane.table.models, "g1")
        rest = RestApp(
            plane, identity=IDENTITY, models=(), settings=settings, meter=meter, metrics=MetricsPage(PATH, self.scrape)
        )
        self._rest = RestListener(rest, claim(HOST, 0))
        self.rest = await self._rest.start()
        rpc = GrpcApp(plane, self._reload, settings=settings, meter=meter, scrape=self.scrape)
        self._grpc = GrpcListener(rpc.methods(), IDENTITY, grpc_settings(LARGEST_REQUEST))
        self.grpc = (await self._grpc.start(HOST, 0))[0]

    async def scrape(self) -> Snapshot:
        if self.refusal is not None:
            raise self.refusal
        return {**self.registry.counts(), **self.registry.gauges()}

    async def _reload(self, config: bytes, wait_s: float | None) -> None:
        self.registry.count(REQUEST_COUNT, ("a", "OK", "1", ""), 5)
        self.registry.count(REQUEST_COUNT, ("b", "OK", "1", ""), 7)

    def call(self, path: str, request: Any) -> Any:
        """The answer to a call of gRPC; None if that is an error."""
        response = grpc_methods.method_types(path)[1]
        with channel(self.grpc) as stub:
            try:
                return response.FromString(stub.unary_unary(path)(request.SerializeToString(), timeout=PATIENCE_S))
            except grpc.RpcError:
                return None

    def counts(self) -> dict[str, int]:
        """The samples of request_count on the page, by their labels, and of request_latency by API."""
        status, page = ask(self.rest, "GET", PATH)
        assert status == 200
        found = re.findall(r":request_(count|latency_count)\{(.*)\} (\d+)\n", page.decode())
        return {f"{name} {re.sub(r'[a-zA-Z_]+=', '', labels)}": int(value) for name, labels, value in found}

    def close(self) -> None:
        self.front.run(self._rest.drain(0.0))
        self.front.run(self._grpc.drain(0.0))


@pytest.fixture
def gateway(front: Front) -> Iterator[Gateway]:
    gateway = Gateway(front)
    yield gateway
    gateway.close()


def test_every_rest_request_counts(gateway: Gateway) -> None:
    """All below /v1/ count, malformed ones and errors as well; other pages do not, and only what succeeds has a
    latency."""
    one = b'{"instances": [1.0]}'
    for method, target, body, status in (
        ("POST", PREDICT, one, 200),
        ("POST", "/v1/models/half_plus_two/versions/1:predict", one, 200),
        ("POST", "/v1/models/half_plus_two/labels/stable:predict", one, 200),
        ("POST", "/v1/models/several:predict", b'{"signature_name": "square", "instances": [1.0]}', 200),
        ("POST", "/v1/models/several:predict", b'{"signature_name": "nope", "instances": [1.0]}', 400),
        ("POST", "/v1/models/nope:predict", one, 404),
        ("POST", "/v1/models/nope:predict", b"no JSON", 400),
        ("GET", "/v1/models/half_plus_two", None, 200),
        ("GET", "/v1/models/half_plus_two/metadata", None, 200),
        ("GET", "/v1/nothing", None, 400),
        ("OPTIONS", "/v1/models/half_plus_two", None, 400),
        ("GET", "/healthz/live", None, 200),
        ("GET", "/nowhere", None, 404),
    ):
        assert ask(gateway.rest, method, target, body)[0] == status, target
    assert gateway.counts() == {
        'count "","FAILED_PRECONDITION","",""': 1,
        'count "","INVALID_ARGUMENT","",""': 1,
        'count "half_plus_two","OK","",""': 1,
        'count "half_plus_two","OK","2",""': 1,
        'count "half_plus_two","OK","1","serving_default"': 2,
        'count "half_plus_two","OK","2","serving_default"': 1,
        'count "nope","INVALID_ARGUMENT","",""': 1,
        'count "nope","NOT_FOUND","",""': 1,
        'count "several","INVALID_ARGUMENT","1",""': 1,
        'count "several","OK","1","square"': 1,
        'latency_count "half_plus_two","","REST","",""': 1,
        'latency_count "half_plus_two","","REST","2",""': 1,
        'latency_count "half_plus_two","predict","REST","1","serving_default"': 2,
        'latency_count "half_plus_two","predict","REST","2","serving_default"': 1,
        'latency_count "several","predict","REST","1","square"': 1,
    }


ALWAYS = {"decode", "run", "encode"}


def test_stages_add_up_to_the_latency(gateway: Gateway) -> None:
    """Requests of both front ends that run a version are counted stage by stage, and only those: as one whole where it
    lives in another process, without a hop where it lives here. Microseconds are rounded once for each sum."""
    predict = messages.PredictRequest()
    predict.model_spec.name, predict.model_spec.version.value = "half_plus_two", 1
    predict.inputs["x"].dtype = 1
    predict.inputs["x"].tensor_shape.dim.add(size=1)
    predict.inputs["x"].float_val.append(1.0)
    for _ in range(2):
        gateway.call(grpc_methods.PREDICT, predict)
        for version in (1, 2):
            target = f"/v1/models/half_plus_two/versions/{version}:predict"
            assert ask(gateway.rest, "POST", target, b'{"instances": [1.0]}')[0] == 200
            assert ask(gateway.rest, "POST", target, b'{"instances": ["no"]}')[0] == 400
    assert ask(gateway.rest, "GET", "/v1/models/half_plus_two/metadata")[0] == 200
    counted = gateway.registry.counts()
    stages: dict[tuple[str, ...], set[str]] = {}
    for (_, version, entrypoint, stage), requests in counted[STAGE_REQUESTS.name].items():
        if stage in ALWAYS or version == "1":
            assert requests == 2
            stages.setdefault((version, entrypoint), set()).add(stage)
        else:  # here it waits only until its runs are known to be quick
            assert stage in {"queue", "batch_wait", "resume"}
    there = {*ALWAYS, "queue", "hop", "batch_wait", "resume"}
    assert stages == {("1", "REST"): there, ("1", "GRPC"): there, ("2", "REST"): ALWAYS}
    latencies = [cell for labels, cell in counted[REQUEST_LATENCY.name].items() if labels[1] in ("predict", "Predict")]
    latency = sum(cell[-1] for cell in latencies if isinstance(cell, tuple))
    spent = sum(value for value in counted[STAGE_MICROSECONDS.name].values() if isinstance(value, int))
    assert latency - 20 <= spent <= latency + 20


def test_grpc_counts_what_asks_a_model(gateway: Gateway) -> None:
    """Predict counts, with its errors; status and metadata do not."""
    good, unknown, malformed = (messages.PredictRequest() for _ in range(3))
    for request, name in ((good, "half_plus_two"), (unknown, "nope"), (malformed, "half_plus_two")):
        request.model_spec.name = name
    good.inputs["x"].dtype = 1
    good.inputs["x"].tensor_shape.dim.add(size=1)
    good.inputs["x"].float_val.append(1.0)
    for request in (good, good, unknown, malformed):
        gateway.call(grpc_methods.PREDICT, request)
    status = messages.GetModelStatusRequest()
    status.model_spec.name = "half_plus_two"
    assert gateway.call(grpc_methods.GET_MODEL_STATUS, status).model_version_status
    assert gateway.counts() == {
        'count "half_plus_two","INVALID_ARGUMENT","2",""': 1,
        'count "half_plus_two","OK","2","serving_default"': 2,
        'count "nope","NOT_FOUND","",""': 1,
        'latency_count "half_plus_two","Predict","GRPC","2","serving_default"': 2,
    }


def test_examples_count_by_what_is_done_with_them(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """Classify and Regress count in both protocols, also as runs; of MultiInference only the examples do."""
    calls: list[Call] = []
    run = gateway.front.host.run

    def spy(servable: ServableId, call: Call) -> Reply:
        calls.append(call)
        return run(servable, call)

    monkeypatch.setattr(gateway.front.host, "run", spy)
    classify, regress, both = (
        messages.ClassificationRequest(), messages.RegressionRequest(), messages.MultiInferenceRequest()
    )  # fmt: skip
    classify.model_spec.name = regress.model_spec.name = "heads"
    regress.model_spec.signature_name = "total"
    for request in (classify, regress, both):
        for _ in range(3):
            example = request.input.example_list.examples.add()
            example.features.feature["x"].float_list.value.extend([1.0, 2.0])
    for request, method in ((classify, "classify"), (regress, "regress")):
        task = both.tasks.add(method_name=f"tensorflow/serving/{method}")
        task.model_spec.CopyFrom(request.model_spec)
    assert gateway.call(grpc_methods.CLASSIFY, classify)
    assert gateway.call(grpc_methods.REGRESS, regress)
    assert gateway.call(grpc_methods.MULTI_INFERENCE, both)
    body = b'{"examples": [{"x": [1.0, 2.0]}]}'
    assert ask(gateway.rest, "POST", "/v1/models/heads:classify", body)[0] == 200
    assert gateway.counts() == {
        'count "heads","OK","2","serving_default"': 2,
        'count "heads","OK","2","total"': 1,
        'latency_count "heads","Classify","GRPC","2","serving_default"': 1,
        'latency_count "heads","Regress","GRPC","2","total"': 1,
        'latency_count "heads","classify","REST","2","serving_default"': 1,
    }
    assert [call.api for call in calls] == ["Classify", "Regress", "", "Classify"]
    counts = gateway.registry.counts()
    assert counts[REQUEST_EXAMPLE_COUNT_TOTAL.name] == {("heads", "2"): 3}
    assert counts[OTHER_REQUESTS.name] == {("MultiInference", "OK"): 1}


@pytest.mark.parametrize("method", ["GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS"])
def test_the_page_answers_any_method(gateway: Gateway, method: str) -> None:
    """The page is at its path, byte for byte that, for whatever method, as plain text."""
    status, page = ask(gateway.rest, method, PATH)
    assert status == 200
    snapshot: Any = gateway.registry.gauges()
    assert page == (b"" if method == "HEAD" else encode_page(FAMILIES, snapshot))


def test_the_page_takes_no_query(gateway: Gateway) -> None:
    """A query is refused in the words of TensorFlow Serving; a path that is only alike is none of the page's."""
    assert ask(gateway.rest, "GET", f"{PATH}?a=1") == (400, f"Unexpected path: {PATH}?a=1. Should be {PATH}".encode())
    assert ask(gateway.rest, "GET", f"{PATH}/")[0] == 404
    assert ask(gateway.rest, "GET", PATH.upper())[0] == 404


def test_without_exact_counts_there_is_no_page(gateway: Gateway) -> None:
    """While the counts are not known the page is 503, which Prometheus takes for a gap."""
    gateway.refusal = Unavailable("the controller has started again")
    assert ask(gateway.rest, "GET", PATH) == (503, b"the controller has started again\n")


def test_a_reload_tells_what_grew(gateway: Gateway) -> None:
    """Of each metric that is named, once, the growth of its first cell is in the answer; unknown ones grew by 0."""
    gateway.registry.count(REQUEST_COUNT, ("a", "OK", "1", ""), 100)
    request = messages.ReloadConfigRequest()
    request.config.model_config_list.SetInParent()
    request.metric_names.extend([REQUEST_COUNT.name, "/nothing", REQUEST_COUNT.name])
    answer = gateway.call(grpc_methods.HANDLE_RELOAD_CONFIG_REQUEST, request)
    assert [(each.name, each.int64_value_increase) for each in answer.metric] == [
        (REQUEST_COUNT.name, 5), ("/nothing", 0),
    ]  # fmt: skip
