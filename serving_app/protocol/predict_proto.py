"""gRPC Predict: request bytes to names and arrays, arrays to response bytes.

Decoding has two steps, because TensorFlow Serving looks at the values only after it has found the servable and the
signature and has checked the names: `decode_predict` reads what is needed for that, `decode_inputs` reads the values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from serving_app.core.servable import ModelSpec
from serving_app.protocol import messages
from serving_app.protocol.model_spec_proto import decode_spec, encode_spec, parse
from serving_app.protocol.tensor_proto import Array, decode_tensor, encode_tensor_into


@dataclass(frozen=True, slots=True)
class PredictQuery:
    """A Predict request whose values are not decoded yet. An empty `output_filter` means all outputs."""

    spec: ModelSpec
    signature_name: str
    inputs: Mapping[str, Any]
    output_filter: tuple[str, ...]


def decode_predict(encoded: bytes) -> PredictQuery:
    """The request in these bytes; InvalidArgument if they are none or if it does not say which model it is for."""
    request = parse(messages.PredictRequest, encoded)
    spec = decode_spec(request)
    return PredictQuery(
        spec, request.model_spec.signature_name, dict(request.inputs.items()), tuple(request.output_filter)
    )


def decode_inputs(query: PredictQuery) -> dict[str, Array]:
    """The values of the inputs; InvalidArgument, naming the input, if one cannot be decoded."""
    return {alias: decode_tensor(proto, alias) for alias, proto in query.inputs.items()}


def encode_predict(
    name: str, version: int, signature_name: str, outputs: Mapping[str, Array], *, as_content: bool = False
) -> bytes:
    """The response of the servable `name`, `version`; `signature_name` is the one that ran, never empty."""
    response = messages.PredictResponse()
    encode_spec(response.model_spec, name, version, signature_name)
    for alias, array in outputs.items():
        encode_tensor_into(response.outputs[alias], array, as_content=as_content)
    encoded: bytes = response.SerializeToString()
    return encoded


def encode_predict_request(
    spec: ModelSpec, signature_name: str, inputs: Mapping[str, Array], output_filter: tuple[str, ...] = ()
) -> bytes:
    """The other direction: what a client sends. `tensor_content` is used, which costs both sides least."""
    request = messages.PredictRequest(output_filter=output_filter)
    request.model_spec.name = spec.name
    request.model_spec.signature_name = signature_name
    if spec.version is not None:
        request.model_spec.version.value = spec.version
        request.model_spec.version.SetInParent()
    elif spec.label is not None:
        request.model_spec.version_label = spec.label
    for alias, array in inputs.items():
        encode_tensor_into(request.inputs[alias], array, as_content=True)
    encoded: bytes = request.SerializeToString()
    return encoded


def decode_predict_response(encoded: bytes) -> tuple[int, dict[str, Array]]:
    """The version that answered, and its outputs."""
    response = parse(messages.PredictResponse, encoded)
    outputs = {alias: decode_tensor(proto, alias) for alias, proto in response.outputs.items()}
    return response.model_spec.version.value, outputs
