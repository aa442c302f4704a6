"""A running server, asked as its clients ask it: by TensorFlow Serving's own stubs, and by HTTP as it stands in a row.

HTTP goes over a plain socket, because URLs and headers that no client library sends are part of the suite.
"""

from __future__ import annotations

import socket
from contextlib import closing
from http.client import HTTPResponse
from importlib import import_module
from typing import Any
from urllib.parse import urlsplit

import grpc
from google.protobuf import text_format
from google.protobuf.message import Message
from grpc_reflection.v1alpha import reflection_pb2

from serving_app.protocol.messages import HealthCheckRequest, HealthCheckResponse
from tests.conformance.rows import Grpc, Rest

PATIENCE_S = 120.0

_STUBS = {
    "PredictionService": "tensorflow_serving.apis.prediction_service_pb2_grpc",
    "ModelService": "tensorflow_serving.apis.model_service_pb2_grpc",
    "ServerReflection": "grpc_reflection.v1alpha.reflection_pb2_grpc",
}
_REQUESTS = {
    "Predict": ("predict_pb2", "PredictRequest"),
    "Classify": ("classification_pb2", "ClassificationRequest"),
    "Regress": ("regression_pb2", "RegressionRequest"),
    "MultiInference": ("inference_pb2", "MultiInferenceRequest"),
    "GetModelMetadata": ("get_model_metadata_pb2", "GetModelMetadataRequest"),
    "GetModelStatus": ("get_model_status_pb2", "GetModelStatusRequest"),
    "HandleReloadConfigRequest": ("model_management_pb2", "ReloadConfigRequest"),
}


class Server:
    """The two addresses of a server, and the folder that its models lie in, as it sees it."""

    def __init__(self, rest: str, grpc_address: str, models: str) -> None:
        url = urlsplit(rest)
        self._rest = (url.hostname or "127.0.0.1", url.port or 80)
        self._models = models
        options = [("grpc.enable_http_proxy", 0), ("grpc.use_local_subchannel_pool", 1)]
        self.channel = grpc.insecure_channel(grpc_address, options)

    def complaint(self, row: Rest | Grpc, *, original: bool) -> str | None:
        """What is wrong with the answer to a row, measured by the original's answer or by ours; None if nothing is."""
        if isinstance(row, Rest):
            answer = row.answer if original or row.instead is None else row.instead
            return answer.complaint(*self.ask_rest(row))
        wanted = row if original or row.instead is None else row.instead
        return wanted.complaint(*self.ask_grpc(row))

    def ask_rest(self, row: Rest) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body."""
        headers = {"Host": "suite", "Connection": "close", **row.headers}
        if (row.body or row.method in ("POST", "PUT", "PATCH")) and "Content-Length" not in headers:
            headers["Content-Length"] = str(len(row.body))
        lines = [f"{row.method} {row.target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        head = "\r\n".join(lines).encode("utf-8", "surrogateescape") + b"\r\n\r\n"
        with closing(socket.create_connection(self._rest, timeout=PATIENCE_S)) as connection:
            connection.sendall(head + row.body)
            with closing(HTTPResponse(connection, method=row.method)) as answer:
                answer.begin()
                return answer.status, {name.lower(): text for name, text in answer.getheaders()}, answer.read()

    def ask_grpc(self, row: Grpc) -> tuple[str, str, Message | None]:
        """Code, message, and the response if there is one."""
        service, _, method = row.method.partition("/")
        request = text_format.Parse(row.request.replace("%MODELS%", self._models), request_type(method)())
        try:
            if service == "Health":
                return "OK", "", self._ask_health(method, request)
            if service not in _STUBS:
                path = f"/tensorflow.serving.{service}/{method}"
                return "OK", "", self.channel.unary_unary(path)(request.SerializeToString(), timeout=PATIENCE_S)
            call = getattr(getattr(import_module(_STUBS[service]), f"{service}Stub")(self.channel), method)
            if service == "ServerReflection":
                return "OK", "", next(call(iter([request]), timeout=PATIENCE_S))
            return "OK", "", call(request, timeout=PATIENCE_S)
        except grpc.RpcError as failure:
            return failure.code().name, failure.details(), None

    def _ask_health(self, method: str, request: Any) -> Any:
        """There is no stock stub where the suite runs; of a stream the first answer is taken."""
        is_stream = method == "Watch"
        kind = self.channel.unary_stream if is_stream else self.channel.unary_unary
        call = kind(f"/grpc.health.v1.Health/{method}", HealthCheckRequest.SerializeToString,
                    HealthCheckResponse.FromString)
        if not is_stream:
            return call(request, timeout=PATIENCE_S)
        answers = call(request, timeout=PATIENCE_S)
        first = next(answers)
        answers.cancel()
        return first

    def close(self) -> None:
        """Close the channel."""
        self.channel.close()


def request_type(method: str) -> Any:
    """The message class of a method's request; of methods that there are none of, some message."""
    if method in ("Check", "Watch"):
        return HealthCheckRequest
    if method == "ServerReflectionInfo":
        return reflection_pb2.ServerReflectionRequest
    module, name = _REQUESTS.get(method, _REQUESTS["Predict"])
    return getattr(import_module(f"tensorflow_serving.apis.{module}"), name)
