"""gRPC's way to ask: serialized requests out, values out of serialized responses."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from serving_app.core.errors import Code, InvalidArgument
from serving_app.core.metadata import Metadata
from serving_app.core.routing import VersionStatus
from serving_app.core.servable import ModelSpec, ServableId
from serving_app.core.signatures import Signature
from serving_app.core.states import PublicState
from serving_app.protocol import grpc_methods, messages
from serving_app.protocol.calls import Outputs
from serving_app.protocol.example_requests import CLASSIFY_METHOD, REGRESS_METHOD
from serving_app.protocol.model_spec_proto import parse
from serving_app.protocol.predict_proto import decode_predict_response, encode_predict_request
from serving_app.protocol.signature_proto import decode_signature
from serving_app.protocol.status_proto import SIGNATURE_DEF
from serving_app.remote.calls import Classes, UnfitAnswer
from serving_app.remote.outcomes import server_error
from serving_app.remote.plans import Query

Array = np.ndarray[Any, Any]
T = TypeVar("T")

CLASSIFY, REGRESS = CLASSIFY_METHOD, REGRESS_METHOD


def predict(
    spec: ModelSpec,
    signature_name: str,
    inputs: Outputs,
    outputs: tuple[str, ...] | None,
    signature: Signature | None,
) -> Query[Outputs]:
    """A Predict. Tensors bring their types with them: no signature is needed to read them."""
    _check(spec)
    body = encode_predict_request(spec, signature_name, inputs, outputs or ())

    def read(answer: bytes) -> Outputs:
        try:
            _, found = decode_predict_response(answer)
            return {name: found[name] for name in outputs or sorted(found)}
        except InvalidArgument as error:
            raise UnfitAnswer(f"the answer cannot be read: {error}") from error
        except KeyError as error:
            raise UnfitAnswer(f"the answer has no output {error}") from error

    return Query(grpc_methods.PREDICT, body, read)


def classify(spec: ModelSpec, signature_name: str, examples: Sequence[bytes]) -> Query[Classes]:
    body = _example_request(spec, signature_name, examples)
    read = _message_reader(messages.ClassificationResponse, lambda response: _read_classes(response.result))
    return Query(grpc_methods.CLASSIFY, body, read)


def regress(spec: ModelSpec, signature_name: str, examples: Sequence[bytes]) -> Query[Array]:
    body = _example_request(spec, signature_name, examples)
    read = _message_reader(messages.RegressionResponse, lambda response: _read_values(response.result))
    return Query(grpc_methods.REGRESS, body, read)


def multi_inference(
    spec: ModelSpec, methods: Mapping[str, str], examples: Sequence[bytes]
) -> Query[dict[str, Classes | Array]]:
    """A MultiInference: the same examples for several signatures, each of which is asked by its method."""
    request = messages.SerializedMultiInferenceRequest()
    for signature_name, method in methods.items():
        task = request.tasks.add(method_name=method)
        _fill_spec(task.model_spec, spec, signature_name)
    request.input.example_list.examples.extend(examples)
    names = list(methods)

    def read(response: Any) -> dict[str, Classes | Array]:
        if len(response.results) != len(names):
            raise UnfitAnswer(f"the answer has {len(response.results)} results, and {len(names)} were asked for")
        return {name: _read_result(result) for name, result in zip(names, response.results, strict=True)}

    body = request.SerializeToString()
    return Query(grpc_methods.MULTI_INFERENCE, body, _message_reader(messages.MultiInferenceResponse, read))


def metadata(spec: ModelSpec) -> Query[Metadata]:
    request = messages.GetModelMetadataRequest(metadata_field=[SIGNATURE_DEF])
    _fill_spec(request.model_spec, spec)
    read = _message_reader(messages.GetModelMetadataResponse, _read_metadata)
    return Query(grpc_methods.GET_MODEL_METADATA, request.SerializeToString(), read)


def status(spec: ModelSpec) -> Query[tuple[VersionStatus, ...]]:
    request = messages.GetModelStatusRequest()
    _fill_spec(request.model_spec, spec)
    read = _message_reader(messages.GetModelStatusResponse, _read_statuses)
    return Query(grpc_methods.GET_MODEL_STATUS, request.SerializeToString(), read)


def reload_config(config: bytes, metric_names: Sequence[str]) -> Query[dict[str, int]]:
    """A ReloadConfigRequest with a serialized ModelServerConfig. The answer is by how much metrics have grown."""
    request = messages.ReloadConfigRequest(metric_names=metric_names)
    request.config.MergeFromString(config)
    read = _message_reader(messages.ReloadConfigResponse, _read_growth)
    # Whoever sends it twice undoes what somebody else may have put in force in between.
    return Query(grpc_methods.HANDLE_RELOAD_CONFIG_REQUEST, request.SerializeToString(), read, is_repeatable=False)


def _check(spec: ModelSpec) -> None:
    if not spec.name:
        raise InvalidArgument("the model's name is empty")


def _fill_spec(message: Any, spec: ModelSpec, signature_name: str = "") -> None:
    _check(spec)
    message.name = spec.name
    message.signature_name = signature_name
    if spec.version is not None:
        message.version.SetInParent()
        message.version.value = spec.version
    elif spec.label is not None:
        message.version_label = spec.label


def _example_request(spec: ModelSpec, signature_name: str, examples: Sequence[bytes]) -> bytes:
    request = messages.SerializedExampleRequest()
    _fill_spec(request.model_spec, spec, signature_name)
    request.input.example_list.examples.extend(examples)
    encoded: bytes = request.SerializeToString()
    return encoded


def _message_reader(message_class: Any, read: Callable[[Any], T]) -> Callable[[bytes], T]:
    def read_message(answer: bytes) -> T:
        try:
            message = parse(message_class, answer)
        except InvalidArgument as error:
            raise UnfitAnswer(f"the answer cannot be read: {error}") from error
        try:
            return read(message)
        except ValueError as error:  # numbers of states and codes that there are not
            raise UnfitAnswer(f"the answer cannot be understood: {error}") from error

    return read_message


def _read_classes(result: Any) -> Classes:
    return [[(each.label, each.score) for each in row.classes] for row in result.classifications]


def _read_values(result: Any) -> Array:
    return np.array([each.value for each in result.regressions], np.float32)


def _read_result(result: Any) -> Classes | Array:
    if result.HasField("regression_result"):
        return _read_values(result.regression_result)
    return _read_classes(result.classification_result)


def _read_metadata(response: Any) -> Metadata:
    found = messages.SignatureDefMap()
    if not response.metadata[SIGNATURE_DEF].Unpack(found):
        raise UnfitAnswer("the answer tells no signatures")
    spec, definitions = response.model_spec, found.signature_def
    signatures = {name: decode_signature(definitions[name]) for name in sorted(definitions)}
    return Metadata(ServableId(spec.name, spec.version.value), signatures)


def _read_statuses(response: Any) -> tuple[VersionStatus, ...]:
    return tuple(
        [
            VersionStatus(
                each.version, PublicState(each.state), Code(each.status.error_code), each.status.error_message
            )
            for each in response.model_version_status
        ]
    )


def _read_growth(response: Any) -> dict[str, int]:
    if response.status.error_code:  # servers may also answer so, and not by the status of the call
        raise server_error(Code(response.status.error_code), response.status.error_message)
    return {each.name: each.int64_value_increase for each in response.metric}
