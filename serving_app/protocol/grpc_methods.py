"""gRPC's view of the server: the paths of methods, the numbers of statuses, the length of messages."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from serving_app.core.errors import Code
from serving_app.protocol import messages

_PREDICTION = "/tensorflow.serving.PredictionService"
CLASSIFY = f"{_PREDICTION}/Classify"
REGRESS = f"{_PREDICTION}/Regress"
PREDICT = f"{_PREDICTION}/Predict"
MULTI_INFERENCE = f"{_PREDICTION}/MultiInference"
GET_MODEL_METADATA = f"{_PREDICTION}/GetModelMetadata"

_MODEL = "/tensorflow.serving.ModelService"
GET_MODEL_STATUS = f"{_MODEL}/GetModelStatus"
HANDLE_RELOAD_CONFIG_REQUEST = f"{_MODEL}/HandleReloadConfigRequest"

_PROFILER = "/tensorflow.ProfilerService"
PROFILE = f"{_PROFILER}/Profile"
TERMINATE = f"{_PROFILER}/Terminate"
MONITOR = f"{_PROFILER}/Monitor"

_HEALTH = "/grpc.health.v1.Health"
HEALTH_CHECK = f"{_HEALTH}/Check"
HEALTH_LIST = f"{_HEALTH}/List"
HEALTH_WATCH = f"{_HEALTH}/Watch"

_REFLECTION = "ServerReflection/ServerReflectionInfo"
REFLECTION_V1 = f"/grpc.reflection.v1.{_REFLECTION}"
REFLECTION_V1ALPHA = f"/grpc.reflection.v1alpha.{_REFLECTION}"

GRPC_STATUS: Mapping[Code, int] = MappingProxyType({code: int(code) for code in Code})
"""The number of grpc.StatusCode for each canonical code: the two are numbered alike (grpc_status_util.cc)."""

MAX_MESSAGE_BYTES = 1024
"""Longer error messages are cut: they travel in a header, and proxies refuse large ones (as there)."""

TRUNCATED = "...TRUNCATED"
"""What tells that an error message was cut."""


def method_types(path: str) -> tuple[Any, Any]:
    """The classes of a method's request and response; KeyError if there is no such method."""
    service, _, method = path.removeprefix("/").partition("/")
    descriptor = messages.POOL.FindServiceByName(service).methods_by_name[method]
    return (
        messages.message_class(descriptor.input_type.full_name),
        messages.message_class(descriptor.output_type.full_name),
    )


def service_of(path: str) -> str:
    """The full name of the service that a method belongs to."""
    return path.removeprefix("/").partition("/")[0]


def truncate(message: str) -> str:
    """An error message of at most 1024 bytes, or that much of it and a mark that it was cut."""
    encoded = message.encode("utf-8", "replace")
    if len(encoded) <= MAX_MESSAGE_BYTES:
        return message
    return encoded[:MAX_MESSAGE_BYTES].decode("utf-8", "ignore") + TRUNCATED
