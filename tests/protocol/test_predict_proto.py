"""gRPC Predict as bytes, against the classes of tensorflow-serving-api."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from tensorflow_serving.apis import predict_pb2

from serving_app.core.errors import InvalidArgument
from serving_app.core.servable import ModelSpec
from serving_app.protocol.predict_proto import (
    decode_inputs,
    decode_predict,
    decode_predict_response,
    encode_predict,
    encode_predict_request,
)


def request() -> predict_pb2.PredictRequest:
    made = predict_pb2.PredictRequest()
    made.model_spec.name = "m"
    made.model_spec.signature_name = "sig"
    made.inputs["x"].CopyFrom(tf.make_tensor_proto([[1.0, 2.0], [3.0, 4.0]]))
    made.inputs["s"].CopyFrom(tf.make_tensor_proto([b"a", b"\xff"]))
    made.output_filter.append("y")
    return made


def test_decodes_a_stock_request() -> None:
    """What a stock client sends arrives as names and arrays."""
    query = decode_predict(request().SerializeToString())
    assert (query.spec, query.signature_name, query.output_filter) == (ModelSpec("m"), "sig", ("y",))
    inputs = decode_inputs(query)
    assert inputs["x"].dtype == np.float32
    assert inputs["x"].tolist() == [[1.0, 2.0], [3.0, 4.0]]
    assert inputs["s"].tolist() == [b"a", b"\xff"]


@pytest.mark.parametrize(
    ("fields", "spec"),
    [
        ({"name": "m"}, ModelSpec("m")),
        ({"name": "m", "version": {"value": 3}}, ModelSpec("m", version=3)),
        ({"name": "m", "version": {}}, ModelSpec("m", version=0)),
        ({"name": "m", "version_label": "stable"}, ModelSpec("m", label="stable")),
        ({"name": "m", "version_label": ""}, ModelSpec("m", label="")),
        ({}, ModelSpec("")),
    ],
)
def test_model_specs(fields: dict[str, object], spec: ModelSpec) -> None:
    """A version that is set counts even if it is 0, and a label even if it is empty; an empty name is for routing to
    refuse."""
    sent = predict_pb2.PredictRequest(model_spec=fields)
    assert decode_predict(sent.SerializeToString()).spec == spec


def test_no_model_spec() -> None:
    """A request that names no model is invalid."""
    with pytest.raises(InvalidArgument, match=r"^Missing ModelSpec$"):
        decode_predict(b"")


def test_values_are_looked_at_last() -> None:
    """A broken tensor does not hide who the request is for; its values are refused when they are asked for."""
    sent = request()
    sent.inputs["x"].tensor_content = b"123"
    query = decode_predict(sent.SerializeToString())
    assert query.spec.name == "m"
    with pytest.raises(InvalidArgument, match=r"^tensor parsing error: x: tensor_content has 3 bytes"):
        decode_inputs(query)


@given(st.binary(max_size=60))
def test_no_bytes_do_harm(encoded: bytes) -> None:
    """Any bytes are either a request or invalid."""
    with contextlib.suppress(InvalidArgument):
        decode_inputs(decode_predict(encoded))


@given(st.data())
def test_no_damage_does_harm(data: st.DataObject) -> None:
    """A request that was damaged on the way is either another request or invalid."""
    encoded = bytearray(request().SerializeToString())
    for _ in range(data.draw(st.integers(1, 4))):
        encoded[data.draw(st.integers(0, len(encoded) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(InvalidArgument):
        decode_inputs(decode_predict(bytes(encoded)))


@pytest.mark.parametrize("as_content", [False, True])
def test_a_stock_client_reads_the_response(as_content: bool) -> None:
    """The response names what answered and holds the outputs, as lists unless content is asked for."""
    outputs = {"y": np.array([[1.5], [2.5]], np.float32), "n": np.array(3, np.int64)}
    read = predict_pb2.PredictResponse.FromString(encode_predict("m", 0, "sig", outputs, as_content=as_content))
    assert (read.model_spec.name, read.model_spec.signature_name) == ("m", "sig")
    assert read.model_spec.HasField("version")
    assert read.model_spec.version.value == 0
    assert tf.make_ndarray(read.outputs["y"]).tolist() == [[1.5], [2.5]]
    assert tf.make_ndarray(read.outputs["n"]).tolist() == 3
    assert list(read.outputs["y"].float_val) == ([] if as_content else [1.5, 2.5])


@pytest.mark.parametrize(
    "spec", [ModelSpec("m"), ModelSpec("m", version=0), ModelSpec("m", version=9), ModelSpec("m", label="canary")]
)
def test_requests_round_trip(spec: ModelSpec) -> None:
    """What our clients send is what our servers read."""
    query = decode_predict(encode_predict_request(spec, "sig", {"x": np.arange(3)}, ("y",)))
    assert (query.spec, query.signature_name, query.output_filter) == (spec, "sig", ("y",))
    assert decode_inputs(query)["x"].tolist() == [0, 1, 2]


def test_responses_round_trip() -> None:
    """What our servers send is what our clients read."""
    version, outputs = decode_predict_response(encode_predict("m", 7, "sig", {"y": np.array([b"a"], object)}))
    assert version == 7
    assert outputs["y"].tolist() == [b"a"]
