"""Paths, status numbers and message lengths as gRPC needs them."""

from __future__ import annotations

import grpc
import pytest
from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc

from serving_app.core.errors import Code
from serving_app.protocol import grpc_methods, messages

PATHS = {name: path for name, path in vars(grpc_methods).items() if name.isupper() and str(path).startswith("/")}
PUBLIC_PATHS = sorted(path for name, path in PATHS.items() if not name.startswith("_"))


class RecordingChannel:
    """Collects the paths that a stub asks for."""

    def __init__(self) -> None:
        self.paths: list[str] = []

    def unary_unary(self, path: str, **_: object) -> None:
        self.paths.append(path)


def test_paths_are_those_of_stock_stubs() -> None:
    """Every method that a stock client can call has its path here."""
    channel = RecordingChannel()
    prediction_service_pb2_grpc.PredictionServiceStub(channel)
    model_service_pb2_grpc.ModelServiceStub(channel)
    assert len(channel.paths) == 7
    assert set(channel.paths) <= set(PUBLIC_PATHS)


@pytest.mark.parametrize("path", PUBLIC_PATHS)
def test_every_path_has_types(path: str) -> None:
    """Every path is a method of a service in protos/, with a request and a response."""
    request, response = grpc_methods.method_types(path)
    assert request().SerializeToString() == response().SerializeToString() == b""


def test_method_types() -> None:
    """The types of a method are its request's and its response's class; an unknown method has none."""
    assert grpc_methods.method_types(grpc_methods.PREDICT) == (messages.PredictRequest, messages.PredictResponse)
    with pytest.raises(KeyError):
        grpc_methods.method_types("/tensorflow.serving.PredictionService/Guess")


def test_status_numbers() -> None:
    """Every canonical code has the number that gRPC gives to the status of the same name."""
    assert {code.name: number for code, number in grpc_methods.GRPC_STATUS.items()} == {
        status.name: status.value[0] for status in grpc.StatusCode
    }
    assert set(grpc_methods.GRPC_STATUS) == set(Code)


@pytest.mark.parametrize(
    ("message", "truncated"),
    [
        ("", ""),
        ("x" * 1024, "x" * 1024),
        ("x" * 1025, "x" * 1024 + "...TRUNCATED"),
        ("é" * 512, "é" * 512),
        ("x" + "é" * 512, "x" + "é" * 511 + "...TRUNCATED"),
    ],
)
def test_truncate(message: str, truncated: str) -> None:
    """A message is cut after 1024 bytes, never inside a character."""
    assert grpc_methods.truncate(message) == truncated
