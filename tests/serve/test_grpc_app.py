"""gRPC: the contract of all front ends, and what is gRPC's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

from serving_app.core.servable import ModelSpec
from serving_app.core.signatures import DType
from serving_app.protocol import grpc_methods, messages, predict_proto
from serving_app.protocol.model_spec_proto import encode_spec
from tests.serve.front_end_contract import HALF, NOTHING, Failed, FrontEndContract, Metadata, Status
from tests.serve.fronts import HURRIED_S, IDENTITY, LARGEST_REQUEST, Front, channel
from tests.stepping import PATIENCE_S


def ask(
    address: str, method: str, request: bytes, timeout: float | None = PATIENCE_S,
    metadata: Sequence[tuple[str, str]] = (),
) -> bytes:
    """One call on a channel of its own."""
    with channel(address) as client:
        try:
            answer: bytes = client.unary_unary(method)(request, timeout=timeout, metadata=metadata)
        except grpc.RpcError as error:
            raise Failed(error.code().value[0], error.details()) from error
        return answer


def tensor(value: Any) -> np.ndarray:
    """What a client makes of Python values: floats are single, text is bytes."""
    array = np.asarray(value)
    if array.dtype.kind == "U":
        return np.char.encode(array).astype(object)
    return array.astype({"f": np.float32, "i": np.int32}.get(array.dtype.kind, array.dtype))


def with_spec(message: Any, spec: ModelSpec) -> Any:
    encode_spec(message.model_spec, spec.name, spec.version, "") if spec.version is not None else None
    message.model_spec.name = spec.name
    if spec.label is not None:
        message.model_spec.version_label = spec.label
    return message


class TestGrpc(FrontEndContract):
    NUMBERS = grpc_methods.GRPC_STATUS

    def predict(
        self, front: Front, spec: ModelSpec, inputs: Mapping[str, Any], signature: str = "", *, hurried: bool = False,
        fields: Mapping[str, str] = NOTHING,
    ) -> dict[str, Any]:
        tensors = {name: tensor(value) for name, value in inputs.items()}
        request = predict_proto.encode_predict_request(spec, signature, tensors)
        # In a hurry the limit is the server's own: what it says is then heard before the client gives up.
        address, timeout = (front.hurried_grpc, None) if hurried else (front.grpc_address, PATIENCE_S)
        metadata = [(name.lower(), value) for name, value in fields.items()]
        encoded = ask(address, grpc_methods.PREDICT, request, timeout, metadata)
        _, outputs = predict_proto.decode_predict_response(encoded)
        return {name: array.tolist() for name, array in outputs.items()}

    def send_garbage(self, front: Front) -> None:
        ask(front.grpc_address, grpc_methods.PREDICT, b"\xff\xff this is no message")

    def status(self, front: Front, spec: ModelSpec) -> list[Status]:
        request = with_spec(messages.GetModelStatusRequest(), spec)
        answer = ask(front.grpc_address, grpc_methods.GET_MODEL_STATUS, request.SerializeToString())
        listed = messages.GetModelStatusResponse.FromString(answer).model_version_status
        states, codes = (
            messages.POOL.FindEnumTypeByName(name).values_by_number
            for name in ("tensorflow.serving.ModelVersionStatus.State", "tensorflow.error.Code")
        )
        return [
            Status(each.version, states[each.state].name, codes[each.status.error_code].name, each.status.error_message)
            for each in listed
        ]

    def metadata(self, front: Front, spec: ModelSpec) -> Metadata:
        request = with_spec(messages.GetModelMetadataRequest(metadata_field=["signature_def"]), spec)
        answer = messages.GetModelMetadataResponse.FromString(
            ask(front.grpc_address, grpc_methods.GET_MODEL_METADATA, request.SerializeToString())
        )
        signatures = messages.SignatureDefMap()
        assert answer.metadata["signature_def"].Unpack(signatures)
        return Metadata(
            answer.model_spec.name,
            answer.model_spec.version.value,
            {
                key: {name: DType(info.dtype).proto_name for name, info in signature.inputs.items()}
                for key, signature in signatures.signature_def.items()
            },
        )


def predict_request(spec: ModelSpec, value: Any, outputs: tuple[str, ...] = ()) -> bytes:
    return predict_proto.encode_predict_request(spec, "", {"x": tensor(value)}, outputs)


def test_the_answer_names_the_version_and_the_signature(front: Front) -> None:
    """A client sees in the answer which version and which signature it was, whatever it asked for."""
    request = predict_request(ModelSpec("half_plus_two", None, "stable"), [1.0])
    answer = messages.PredictResponse.FromString(ask(front.grpc_address, grpc_methods.PREDICT, request))
    spec = answer.model_spec
    assert (spec.name, spec.version.value, spec.signature_name) == ("half_plus_two", 1, "serving_default")


def test_only_the_outputs_that_are_asked_for_come(front: Front) -> None:
    """An output filter chooses; a name in it that the signature does not have is an error."""
    inputs = {"a": np.zeros((1, 2), np.float32), "b": np.zeros(1, np.int32), "flag": np.array([True])}
    request = predict_proto.encode_predict_request(ModelSpec("many"), "", inputs, ("total", "not"))
    _, outputs = predict_proto.decode_predict_response(ask(front.grpc_address, grpc_methods.PREDICT, request))
    assert outputs.keys() == {"total", "not"}
    with pytest.raises(Failed, match="output tensor alias not found in signature: nope"):
        ask(front.grpc_address, grpc_methods.PREDICT, predict_request(HALF, [1.0], ("nope",)))


def test_a_deadline_of_the_client_is_kept(front: Front) -> None:
    """A client that sets a deadline hears of it in time, though the server's own limit is much longer."""
    front.hold()
    try:
        with pytest.raises(Failed) as caught:
            ask(front.grpc_address, grpc_methods.PREDICT, predict_request(ModelSpec("stuck"), [1.0]), HURRIED_S)
        assert caught.value.number == grpc.StatusCode.DEADLINE_EXCEEDED.value[0]
    finally:
        front.let_go()


@pytest.mark.parametrize(
    "method",
    [grpc_methods.PROFILE, "/tensorflow.serving.PredictionService/Nope"],
)
def test_methods_that_are_not_offered_say_so(front: Front, method: str) -> None:
    """A method that is not there is UNIMPLEMENTED, not an error of the server."""
    with pytest.raises(Failed) as caught:
        ask(front.grpc_address, method, b"")
    assert caught.value.number == grpc.StatusCode.UNIMPLEMENTED.value[0]


def test_a_reload_is_handed_to_the_controller(front: Front) -> None:
    """The configuration and the caller's time go on as they came; each metric asked for is answered once."""
    request = messages.ReloadConfigRequest(metric_names=["a", "b", "a"])
    request.config.model_config_list.config.add(name="m", base_path="/m")
    answer = messages.ReloadConfigResponse.FromString(
        ask(front.grpc_address, grpc_methods.HANDLE_RELOAD_CONFIG_REQUEST, request.SerializeToString())
    )
    assert (answer.status.error_code, answer.status.error_message) == (0, "")
    assert [(each.name, each.int64_value_increase) for each in answer.metric] == [("a", 0), ("b", 0)]
    config, wait_s = front.reloads[-1]
    assert messages.ModelServerConfig.FromString(config) == request.config
    assert wait_s is not None
    assert 0 < wait_s < PATIENCE_S + 1  # gRPC rounds deadlines


def test_a_reload_that_is_refused_fails_the_call(front: Front) -> None:
    """What is wrong with a configuration is the status of the call."""
    with pytest.raises(Failed, match="only lists") as caught:
        ask(front.grpc_address, grpc_methods.HANDLE_RELOAD_CONFIG_REQUEST, b"")
    assert caught.value.number == grpc.StatusCode.INVALID_ARGUMENT.value[0]


def test_a_request_that_is_too_large_is_refused(front: Front) -> None:
    """A message above the configured size is refused by size, and the channel goes on."""
    with channel(front.grpc_address) as client:
        ask_predict = client.unary_unary(grpc_methods.PREDICT)
        with pytest.raises(grpc.RpcError) as caught:
            ask_predict(predict_request(HALF, np.zeros(LARGEST_REQUEST)), timeout=PATIENCE_S)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert ask_predict(predict_request(HALF, [1.0]), timeout=PATIENCE_S)


def test_long_messages_are_cut(front: Front) -> None:
    """An error text travels in a header, so a long one is cut, and says that it is."""
    with pytest.raises(Failed) as caught:
        ask(front.grpc_address, grpc_methods.PREDICT, predict_request(ModelSpec("n" * 5000), [1.0]))
    assert caught.value.message.endswith("...TRUNCATED")


def test_a_call_that_is_cancelled_disturbs_nobody(front: Front) -> None:
    """A client that goes away while its call runs leaves the channel and the server as they were."""
    front.hold()
    try:
        with channel(front.grpc_address) as client:
            ask_predict = client.unary_unary(grpc_methods.PREDICT)
            call = ask_predict.future(predict_request(ModelSpec("stuck"), [1.0]), timeout=PATIENCE_S)
            assert front.gate.reached.acquire(timeout=PATIENCE_S)
            call.cancel()
            assert ask_predict(predict_request(HALF, [1.0]), timeout=PATIENCE_S)
    finally:
        front.let_go()


def test_a_gateway_tells_who_it_is(front: Front) -> None:
    """Whoever asks beside a port learns which serving app answers gRPC there."""
    from serving_app.serve.neighbours import ask_grpc

    host, _, port = front.grpc_address.rpartition(":")
    assert ask_grpc(host, int(port)) == IDENTITY


def test_stock_clients_are_served(front: Front) -> None:
    """TensorFlow Serving's own stubs and TensorFlow's tensors get what they got from TensorFlow Serving."""
    with channel(front.grpc_address) as client:
        predictions = prediction_service_pb2_grpc.PredictionServiceStub(client)
        request = predict_pb2.PredictRequest()
        request.model_spec.name = "half_plus_two"
        request.model_spec.version_label = "stable"
        request.inputs["x"].CopyFrom(tf.make_tensor_proto([1.0, 2.0, 5.0], tf.float32))
        response = predictions.Predict(request, timeout=PATIENCE_S)
        assert tf.make_ndarray(response.outputs["y"]).tolist() == [2.5, 3.0, 4.5]
        assert response.model_spec.version.value == 1

        request.inputs["x"].CopyFrom(tf.make_tensor_proto(["text"]))
        with pytest.raises(grpc.RpcError) as refused:
            predictions.Predict(request, timeout=PATIENCE_S)
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT

        example = tf.train.Example()
        example.features.feature["x"].float_list.value.extend([1.0, 2.0])
        classify = classification_pb2.ClassificationRequest()
        regress = regression_pb2.RegressionRequest()
        both = inference_pb2.MultiInferenceRequest()
        classify.model_spec.name = regress.model_spec.name = "heads"
        regress.model_spec.signature_name = "total"
        for each in (classify, regress):
            each.input.example_list.examples.append(example)
            method = "tensorflow/serving/classify" if each is classify else "tensorflow/serving/regress"
            both.tasks.add(method_name=method).model_spec.CopyFrom(each.model_spec)
        both.input.CopyFrom(regress.input)
        classified = predictions.Classify(classify, timeout=PATIENCE_S)
        regressed = predictions.Regress(regress, timeout=PATIENCE_S)
        assert [each.score for each in classified.result.classifications[0].classes] == [2.0, 3.0]
        assert [each.value for each in regressed.result.regressions] == [3.0]
        first, second = predictions.MultiInference(both, timeout=PATIENCE_S).results
        assert (first.classification_result, second.regression_result) == (classified.result, regressed.result)

        metadata = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
        metadata.model_spec.name = "half_plus_two"
        signatures = get_model_metadata_pb2.SignatureDefMap()
        told = predictions.GetModelMetadata(metadata, timeout=PATIENCE_S).metadata
        told["signature_def"].Unpack(signatures)
        assert signatures.signature_def["serving_default"].inputs["x"].dtype == tf.float32.as_datatype_enum

        status = get_model_status_pb2.GetModelStatusRequest()
        status.model_spec.name = "half_plus_two"
        stub = model_service_pb2_grpc.ModelServiceStub(client)
        states = stub.GetModelStatus(status, timeout=PATIENCE_S).model_version_status
        assert [(each.version, each.state) for each in states] == [(3, 50), (2, 30), (1, 30)]
