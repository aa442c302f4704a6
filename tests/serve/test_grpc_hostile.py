"""Bytes that no client means to send: whatever they are, they are answered, and by an error of the client's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serving_app.core.servable import ModelSpec
from serving_app.protocol import grpc_methods, messages, predict_proto
from tests.serve.fronts import Front, channel
from tests.stepping import PATIENCE_S

OURS = {
    *(grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL, grpc.StatusCode.DATA_LOSS),
    *(grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED),
}
"""What says that the server is at fault."""


@pytest.fixture(scope="module")
def client(front: Front) -> Iterator[grpc.Channel]:
    with channel(front.grpc_address) as client:
        yield client


def _requests() -> list[tuple[str, bytes]]:
    """One good request for each method."""
    x = np.array([1.0, 2.0], np.float32)
    inputs = {"a": np.zeros((1, 2), np.float32), "b": np.zeros(1, np.int32), "flag": np.array([True])}
    strings = np.array([b"a", b"bc"], object)
    metadata = messages.GetModelMetadataRequest(metadata_field=["signature_def"])
    metadata.model_spec.name = "half_plus_two"
    state = messages.GetModelStatusRequest()
    state.model_spec.name = "half_plus_two"
    examples = messages.ClassificationRequest()
    examples.model_spec.name = "heads"
    examples.input.example_list.examples.add().features.feature["x"].float_list.value.extend([1.0, 2.0])
    both = messages.MultiInferenceRequest(input=examples.input)
    both.tasks.add(method_name="tensorflow/serving/classify").model_spec.name = "heads"
    reload = messages.ReloadConfigRequest()
    reload.config.model_config_list.config.add(name="m", base_path="/m")
    return [
        (grpc_methods.PREDICT, predict_proto.encode_predict_request(ModelSpec("half_plus_two", 1), "", {"x": x})),
        (grpc_methods.PREDICT, predict_proto.encode_predict_request(ModelSpec("many"), "", inputs, ("total",))),
        (grpc_methods.PREDICT, predict_proto.encode_predict_request(ModelSpec("dtypes"), "string", {"x": strings})),
        (grpc_methods.CLASSIFY, examples.SerializeToString()),
        (grpc_methods.REGRESS, examples.SerializeToString()),
        (grpc_methods.MULTI_INFERENCE, both.SerializeToString()),
        (grpc_methods.GET_MODEL_METADATA, metadata.SerializeToString()),
        (grpc_methods.GET_MODEL_STATUS, state.SerializeToString()),
        (grpc_methods.HANDLE_RELOAD_CONFIG_REQUEST, reload.SerializeToString()),
        (grpc_methods.HEALTH_CHECK, messages.HealthCheckRequest(service="ModelService").SerializeToString()),
        (grpc_methods.HEALTH_LIST, b""),
    ]


@st.composite
def spoiled(draw: st.DrawFn, request: bytes) -> bytes:
    """A request with a few of its bytes changed, missing, or twice there; or any bytes at all."""
    if draw(st.integers(0, 4)) == 0:
        return draw(st.binary(max_size=100))
    for _ in range(draw(st.integers(1, 4))):
        at, length = draw(st.integers(0, len(request))), draw(st.integers(0, 8))
        there = request[at : at + length]
        instead = draw(st.sampled_from([b"", there * 2]) | st.binary(max_size=8))
        request = request[:at] + instead + request[at + length :]
    return request


@settings(deadline=None, max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_bytes_are_our_fault(client: grpc.Channel, caplog: Any, data: st.DataObject) -> None:
    """A request that was spoiled on its way is answered or refused, never a fault of the server, nor a stack trace."""
    method, good = data.draw(st.sampled_from(_requests()))
    request = data.draw(spoiled(good))
    caplog.clear()
    call = client.unary_unary(method).future(request, timeout=PATIENCE_S)
    assert call.code() not in OURS, call.details()
    assert "Traceback" not in caplog.text
