"""Logged requests (tensorflow.serving.PredictionLog): what warm-up files consist of.

Of a log only the request counts, and of its model spec only the signature's name (saved_model_warmup.cc,
RunWarmupRequest).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from google.protobuf.message import DecodeError

from serving_app.core.errors import InvalidArgument, Unimplemented
from serving_app.core.signatures import DEFAULT_SIGNATURE, Signature
from serving_app.protocol import example_requests, messages
from serving_app.protocol.calls import Call, Outputs
from serving_app.protocol.example_requests import ExampleQuery, make_call
from serving_app.protocol.example_results import read_results
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


class LoggedCall(NamedTuple):
    """The call that a logged request makes, and what looks at its outputs as the request's own answer would."""

    call: Call
    check: Callable[[Outputs], object]


def logged_call(log: Any, signatures: Mapping[str, Signature]) -> LoggedCall | None:
    """The call that a logged request makes, None if the log has no kind.

    Raises what the request itself would be answered with if it does not fit the signatures, and Unimplemented for
    kinds that cannot be run again; `check` raises it if the outputs do not fit the request.
    """
    kind = log.WhichOneof("log_type")
    if kind is None:
        return None
    if kind == "predict_log":
        return LoggedCall(_predict_call(log.predict_log.request, signatures), lambda outputs: None)
    if kind not in _DECODERS:
        raise Unimplemented(f"Unsupported log_type for warmup: {log.DESCRIPTOR.fields_by_name[kind].number}")
    request = getattr(log, kind).request
    if kind != "multi_inference_log":
        request.model_spec.SetInParent()  # which model it was logged for does not matter, nor whether it says so
    query = _DECODERS[kind](request.SerializeToString())
    call = make_call(query, signatures)
    return LoggedCall(call, lambda outputs: read_results(query, call, outputs))


_DECODERS: dict[str, Callable[[bytes], ExampleQuery]] = {
    "classify_log": example_requests.decode_classification,
    "regress_log": example_requests.decode_regression,
    "multi_inference_log": example_requests.decode_multi_inference,
}


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
