"""gRPC GetModelStatus and GetModelMetadata as bytes, against the classes of tensorflow-serving-api."""

from __future__ import annotations

import pytest
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2

from serving_app.core.errors import Code, InvalidArgument
from serving_app.core.routing import VersionStatus
from serving_app.core.servable import ModelSpec
from serving_app.core.signatures import DType, TensorSpec
from serving_app.core.states import PublicState
from serving_app.protocol.signature_proto import make_signature
from serving_app.protocol.status_proto import (
    decode_metadata_request,
    decode_status_request,
    encode_metadata,
    encode_statuses,
)


def test_status_request() -> None:
    """A stock request names a model, a version or a label."""
    sent = get_model_status_pb2.GetModelStatusRequest()
    sent.model_spec.name = "m"
    assert decode_status_request(sent.SerializeToString()) == ModelSpec("m")
    sent.model_spec.version.value = 2
    assert decode_status_request(sent.SerializeToString()) == ModelSpec("m", version=2)


def test_statuses() -> None:
    """A stock client reads every version in order, each with a status, whether or not it is well."""
    statuses = (
        VersionStatus(3, PublicState.LOADING),
        VersionStatus(2, PublicState.AVAILABLE),
        VersionStatus(1, PublicState.END, Code.NOT_FOUND, "no file"),
    )
    read = get_model_status_pb2.GetModelStatusResponse.FromString(encode_statuses(statuses))
    assert [
        (entry.version, entry.state, entry.status.error_code, entry.status.error_message)
        for entry in read.model_version_status
    ] == [(3, 20, 0, ""), (2, 30, 0, ""), (1, 50, 5, "no file")]
    assert all(entry.HasField("status") for entry in read.model_version_status)


def test_states_are_theirs() -> None:
    """The core's public states have the numbers of ModelVersionStatus.State."""
    assert {state.name: state.value for state in PublicState} == dict(
        get_model_status_pb2.ModelVersionStatus.State.items()
    )


def test_metadata_request() -> None:
    """A stock request asks for the signatures of a servable."""
    sent = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    sent.model_spec.name = "m"
    sent.model_spec.version_label = "stable"
    assert decode_metadata_request(sent.SerializeToString()) == ModelSpec("m", label="stable")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "Missing ModelSpec"),
        ({"metadata_field": ["nonsense"]}, "Missing ModelSpec"),
        ({"model_spec": {"name": "m"}}, "GetModelMetadataRequest must specify at least one metadata_field"),
        (
            {"model_spec": {}, "metadata_field": ["signature_def", "graph"]},
            "Metadata field graph is not supported",
        ),
    ],
)
def test_bad_metadata_requests(fields: dict[str, object], message: str) -> None:
    """The fields are checked after the presence of a spec and before anything is looked up."""
    sent = get_model_metadata_pb2.GetModelMetadataRequest(**fields)
    with pytest.raises(InvalidArgument) as caught:
        decode_metadata_request(sent.SerializeToString())
    assert caught.value.message == message


@pytest.mark.parametrize("decode", [decode_status_request, decode_metadata_request])
def test_requests_that_are_none(decode) -> None:
    """Bytes that are no message, and a request without a spec, are invalid; the first names the message."""
    with pytest.raises(InvalidArgument, match=r"is no tensorflow.serving.GetModel"):
        decode(b"\xff")
    with pytest.raises(InvalidArgument, match=r"^Missing ModelSpec$"):
        decode(b"")


def test_metadata() -> None:
    """A stock client unpacks every signature as the model has it; the spec says which version, and no signature."""
    spec = TensorSpec("x:0", DType.FLOAT, (-1,))
    signatures = {"serving_default": make_signature({"x": spec}, {"y": spec}), "empty": make_signature({}, {}, "")}
    read = get_model_metadata_pb2.GetModelMetadataResponse.FromString(encode_metadata("m", 4, signatures))
    assert (read.model_spec.name, read.model_spec.version.value, read.model_spec.signature_name) == ("m", 4, "")
    assert list(read.metadata) == ["signature_def"]
    assert read.metadata["signature_def"].type_url == "type.googleapis.com/tensorflow.serving.SignatureDefMap"
    unpacked = get_model_metadata_pb2.SignatureDefMap()
    assert read.metadata["signature_def"].Unpack(unpacked)
    assert set(unpacked.signature_def) == {"serving_default", "empty"}
    assert unpacked.signature_def["serving_default"].inputs["x"].name == "x:0"
