"""Logged requests (tensorflow.serving.PredictionLog): what warm-up files consist of.

Of a log only the request counts, and of its model spec only the signature's name (saved_model_warmup.cc,
RunWarmupRequest).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.protobuf.message import DecodeError

from serving_app.core.errors import InvalidArgument, Unimplemented
from serving_app.core.signatures import DEFAULT_SIGNATURE, Signature
from serving_app.protocol import messages
from serving_app.protocol.calls import Call
from serving_app.protocol.example_requests import classify_call, multi_inference_calls, regress_call
from serving_app.protocol.predict_checks import check_inputs, find_signature, select_outputs
from serving_app.protocol.tensor_proto import decode_tensor, encode_tensor_into

WARMUP_FILE = "assets.extra/tf_serving_warmup_requests"
"""Where a version's warm-up requests lie, below its directory: a TFRecord file of logs."""

MAX_WARMUP_RECORDS = 1000
"""More of them are a mistake: TensorFlow Serving's limit."""


def decode_log(encoded: bytes) -> Any:
    """The PredictionLog in these bytes; InvalidArgument, saying how protobuf sees it, if there is none."""
    try:
        return messages.PredictionLog.FromString(encoded)
    except DecodeError as error:
        raise InvalidArgument(f"no tensorflow.serving.PredictionLog: {error}") from error


def logged_calls(log: Any, signatures: Mapping[str, Signature]) -> tuple[Call, ...]:
    """The calls that a logged request makes, none if the log has no kind.

    Raises what the request itself would be answered with if it does not fit the signatures, and Unimplemented for
    kinds that cannot be run again.
    """
    kind = log.WhichOneof("log_type")
    if kind is None:
        return ()
    if kind == "predict_log":
        return (_predict_call(log.predict_log.request, signatures),)
    if kind == "classify_log":
        return (classify_call(log.classify_log.request, signatures),)
    if kind == "regress_log":
        return (regress_call(log.regress_log.request, signatures),)
    if kind == "multi_inference_log":
        return multi_inference_calls(log.multi_inference_log.request, signatures)
    raise Unimplemented(f"Unsupported log_type for warmup: {log.DESCRIPTOR.fields_by_name[kind].number}")


def encode_predict_log(call: Call) -> bytes:
    """The log of a Predict request that makes this call."""
    log = messages.PredictionLog()
    request = log.predict_log.request
    request.model_spec.signature_name = call.signature_name
    request.output_filter.extend(call.outputs or ())
    for alias, array in call.inputs.items():
        encode_tensor_into(request.inputs[alias], array, as_content=True)
    encoded: bytes = log.SerializeToString()
    return encoded


def _predict_call(request: Any, signatures: Mapping[str, Signature]) -> Call:
    name = request.model_spec.signature_name or DEFAULT_SIGNATURE
    signature = find_signature(signatures, name)
    check_inputs(signature, request.inputs)
    inputs = {alias: decode_tensor(proto, alias) for alias, proto in request.inputs.items()}
    return Call(name, inputs, select_outputs(signature, request.output_filter))
