"""gRPC's own services: health and server reflection."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pool, json_format, message_factory
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from serving_app.config import GatewayConfig
from serving_app.protocol import grpc_methods, messages
from serving_app.serve.grpc_app import GrpcApp
from serving_app.serve.grpc_listener import GrpcListener
from serving_app.serve.grpc_settings import grpc_settings
from tests.serve.front_end_contract import Failed
from tests.serve.fronts import HOST, IDENTITY, LARGEST_REQUEST, Front, channel
from tests.serve.test_grpc_app import ask
from tests.stepping import PATIENCE_S

SERVING, NOT_SERVING, SERVICE_UNKNOWN = 1, 2, 3


def about(service: str) -> bytes:
    encoded: bytes = messages.HealthCheckRequest(service=service).SerializeToString()
    return encoded


def status(answer: bytes) -> int:
    found: int = messages.HealthCheckResponse.FromString(answer).status
    return found


def listed(address: str) -> set[int]:
    """The different states of all services."""
    answer = messages.message_class("grpc.health.v1.HealthListResponse").FromString(
        ask(address, grpc_methods.HEALTH_LIST, b"")
    )
    assert len(answer.statuses) == 5
    return {each.status for each in answer.statuses.values()}


@contextmanager
def listening(front: Front, **settings: Any) -> Iterator[tuple[GrpcApp, str]]:
    """A front end of its own, and its address."""

    async def start() -> tuple[GrpcApp, GrpcListener, str]:
        app = GrpcApp(front.plane, front._reload, settings=GatewayConfig(**settings))
        listener = GrpcListener(app.methods(), IDENTITY, grpc_settings(LARGEST_REQUEST))
        return app, listener, (await listener.start(HOST, 0))[0]

    app, listener, address = front.run(start())
    try:
        yield app, address
    finally:
        front.run(listener.drain(0.0))


@pytest.mark.parametrize(
    "service",
    [
        *("", "ModelService", "PredictionService"),
        *("tensorflow.serving.ModelService", "tensorflow.serving.PredictionService"),
    ],
)
def test_what_is_served_is_healthy(front: Front, service: str) -> None:
    """The server as a whole and both services, by their bare and by their full names, may be sent requests."""
    assert status(ask(front.grpc_address, grpc_methods.HEALTH_CHECK, about(service))) == SERVING


@pytest.mark.parametrize(("request_", "number"), [(about("nope"), 5), (about("n" * 5000), 5), (b"\xff\xff", 3)])
def test_the_health_of_what_is_not_known_is_an_error(front: Front, request_: bytes, number: int) -> None:
    """A service that is not here is NOT_FOUND; bytes that are no request are INVALID_ARGUMENT."""
    with pytest.raises(Failed) as caught:
        ask(front.grpc_address, grpc_methods.HEALTH_CHECK, request_)
    assert caught.value.number == number


def test_nothing_is_healthy_while_draining(front: Front) -> None:
    """Who watches hears at once that a gateway drains, and the stream ends, so that it keeps nobody; checks tell it."""
    with listening(front) as (app, address), channel(address) as client:
        watch = client.unary_stream(grpc_methods.HEALTH_WATCH)
        known, unknown = watch(about(""), timeout=PATIENCE_S), watch(about("nope"), timeout=PATIENCE_S)
        assert status(next(known)) == SERVING
        assert status(next(unknown)) == SERVICE_UNKNOWN

        async def drain() -> None:
            app.drain()

        front.run(drain())
        assert [status(answer) for answer in known] == [NOT_SERVING]
        assert list(unknown) == []
        assert status(ask(address, grpc_methods.HEALTH_CHECK, about("ModelService"))) == NOT_SERVING
        assert listed(address) == {NOT_SERVING}
        assert [status(answer) for answer in watch(about(""), timeout=PATIENCE_S)] == [NOT_SERVING]


def test_a_watcher_may_go(front: Front) -> None:
    """A client that watches and goes away leaves the server as it was; one that sends no request is told so."""
    with channel(front.grpc_address) as client:
        watch = client.unary_stream(grpc_methods.HEALTH_WATCH)
        watching = watch(about(""), timeout=PATIENCE_S)
        assert status(next(watching)) == SERVING
        watching.cancel()
        with pytest.raises(grpc.RpcError) as caught:
            next(watch(b"\xff\xff", timeout=PATIENCE_S))
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert status(next(watch(about(""), timeout=PATIENCE_S))) == SERVING
    assert listed(front.grpc_address) == {SERVING}


def test_health_can_be_switched_off(front: Front) -> None:
    """Without the setting the service is not there, as in TensorFlow Serving without its flag."""
    with listening(front, grpc_health=False) as (app, address):
        with pytest.raises(Failed) as caught:
            ask(address, grpc_methods.HEALTH_CHECK, about(""))
        assert caught.value.number == grpc.StatusCode.UNIMPLEMENTED.value[0]
        app.drain()
        assert "grpc.health.v1.Health" not in services_at(address)


# --- reflection ------------------------------------------------------------------------------------------------------


def services_at(address: str) -> set[str]:
    with channel(address) as client:
        return set(ProtoReflectionDescriptorDatabase(client).get_services())


def test_a_client_that_knows_nothing_finds_its_way(front: Front) -> None:
    """With gRPC's own reflection client, services are listed and described, and a model is called, all by name."""
    with channel(front.grpc_address) as client:
        database = ProtoReflectionDescriptorDatabase(client)
        pool = descriptor_pool.DescriptorPool(database)
        assert {"tensorflow.serving.PredictionService", "tensorflow.serving.ModelService"} < set(
            database.get_services()
        )
        for service in database.get_services():
            for method in pool.FindServiceByName(service).methods:
                assert method.input_type.full_name
        predict = pool.FindServiceByName("tensorflow.serving.PredictionService").methods_by_name["Predict"]
        request = message_factory.GetMessageClass(predict.input_type)()
        text = '{"modelSpec": {"name": "half_plus_two"}, "inputs": {"x": {"dtype": "DT_FLOAT", "floatVal": [1.0]}}}'
        json_format.Parse(text, request, descriptor_pool=pool)
        answer = client.unary_unary(
            grpc_methods.PREDICT,
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=message_factory.GetMessageClass(predict.output_type).FromString,
        )(request, timeout=PATIENCE_S)
        assert answer.outputs["y"].float_val == [3.5]


V1, V1ALPHA = grpc_methods.REFLECTION_V1, grpc_methods.REFLECTION_V1ALPHA


@pytest.mark.parametrize("path", [V1, V1ALPHA])
def test_questions_of_one_stream_are_answered_in_order(front: Front, path: str) -> None:
    """Whatever is asked is answered in turn on the same stream; what is not there is an error within its answer."""
    package = grpc_methods.service_of(path).rpartition(".")[0]
    request_class, response_class = (
        messages.message_class(f"{package}.ServerReflection{name}") for name in ("Request", "Response")
    )
    predict = "tensorflow_serving/apis/predict.proto"
    service = "tensorflow.serving.PredictionService"
    asked: list[tuple[dict[str, Any], str, int]] = [
        # question, kind of answer, error code
        ({"list_services": "*"}, "list_services_response", 0),
        ({"file_by_filename": predict}, "file_descriptor_response", 0),
        ({"file_by_filename": "nope.proto"}, "error_response", 5),
        ({"file_containing_symbol": service}, "file_descriptor_response", 0),
        ({"file_containing_symbol": f"{service}.Predict"}, "file_descriptor_response", 0),
        ({"file_containing_symbol": "tensorflow.TensorProto"}, "file_descriptor_response", 0),
        ({"file_containing_symbol": "nope"}, "error_response", 5),
        ({"file_containing_symbol": f"{service}.Nope"}, "error_response", 5),
        ({"file_containing_symbol": ""}, "error_response", 5),
        ({"all_extension_numbers_of_type": "tensorflow.TensorProto"}, "all_extension_numbers_response", 0),
        ({"all_extension_numbers_of_type": "nope"}, "error_response", 5),
        ({"file_containing_extension": {"containing_type": "a", "extension_number": 1}}, "error_response", 5),
        ({}, "error_response", 12),
    ]
    requests = [request_class(host="h", **question) for question, _, _ in asked]
    with channel(front.grpc_address) as client:
        stream = client.stream_stream(path)
        encoded = stream(iter([request.SerializeToString() for request in requests]), timeout=PATIENCE_S)
        answers = [response_class.FromString(answer) for answer in encoded]
    assert [answer.original_request for answer in answers] == requests
    for (question, kind, code), answer in zip(asked, answers, strict=True):
        assert answer.WhichOneof("message_response") == kind, question
        assert answer.valid_host == "h"
        if code:
            assert answer.error_response.error_code == code
    assert len(answers[1].file_descriptor_response.file_descriptor_proto) > 1  # with what it imports


def test_what_is_no_reflection_request_ends_the_stream(front: Front) -> None:
    """Bytes that are no request are an error of the stream, and of no other."""
    with channel(front.grpc_address) as client:
        stream = client.stream_stream(V1)
        with pytest.raises(grpc.RpcError) as caught:
            list(stream(iter([b"\xff\xff"]), timeout=PATIENCE_S))
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert list(stream(iter([b""]), timeout=PATIENCE_S))


def test_both_names_of_reflection_are_listed(front: Front) -> None:
    """The services listed are those that answer, reflection itself among them; there are no others."""
    with ThreadPoolExecutor(1) as pool:
        listed = pool.submit(services_at, front.grpc_address).result(PATIENCE_S)
    assert listed == {
        *("tensorflow.serving.PredictionService", "tensorflow.serving.ModelService", "grpc.health.v1.Health"),
        *("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"),
    }
