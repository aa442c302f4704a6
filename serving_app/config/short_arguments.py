"""The names of the short form: flags of TensorFlow Serving, mostly, and the settings that each of them sets.

This is the one place that says what such a flag means, be it an argument of `serve run` or a flag of
`serving-app model-server`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError

from serving_app.config.errors import ConfigError

DEFAULT = object()
"""What a turned value is when the flag's value means that the setting is not given."""


@dataclass(frozen=True, slots=True)
class ShortArgument:
    """A name of the short form: the settings that it stands for, and how its value is turned into theirs.

    A setting is written with the group that it is in, `gateway.rest_port`; `model` is the one model.
    """

    settings: tuple[str, ...]
    turn: Callable[[str, Any], Any] = lambda name, value: value
    note: str = ""


def _number(name: str, value: Any, unit: str = "") -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if math.isfinite(number):
        return number
    raise ConfigError(f"{name}: {value!r} is no number{unit and f' of {unit}'}")


def _turn_port(name: str, value: Any) -> Any:
    """TensorFlow Serving's ports: 0 switches the listener off, where our own settings take any free port."""
    return None if str(value).strip() == "0" else value


def _turn_milliseconds(name: str, value: Any) -> Any:
    """A timeout in milliseconds as seconds; 0 and below mean none."""
    milliseconds = _number(name, value, "milliseconds")
    return milliseconds / 1000 if milliseconds > 0 else None


def _turn_file_poll(name: str, value: Any) -> Any:
    """Seconds between two looks, of which 0 and below mean that there is one only."""
    return max(0.0, _number(name, value, "seconds"))


def _turn_version_poll(name: str, value: Any) -> Any:
    """Seconds between two looks; what is negative means that there is none, which serves nobody."""
    if _number(name, value, "seconds") < 0:
        raise ConfigError(f"{name}: {value} would never look for versions; write 0 to look once, or seconds")
    return value


def _turn_retry_pause(name: str, value: Any) -> Any:
    """Microseconds as seconds; what is not positive means no pause, of which the shortest here is a millisecond."""
    return max(0.001, _number(name, value, "microseconds") / 1e6)


def _turn_text(name: str, value: Any) -> Any:
    """A flag whose empty text means that it is not given."""
    return value if value != "" else DEFAULT


def _turn_channel_arguments(name: str, value: Any) -> Any:
    """`key=value,key=value`, where a value that is a number of 32 bits is one (model_servers/server.cc)."""
    if not isinstance(value, str):
        return value
    pairs = {}
    for item in filter(None, value.split(",")):
        key, equals, text = item.partition("=")
        if not (key and equals):
            raise ConfigError(f"{name}: {item!r} is not written as key=value, such as grpc.max_connection_age_ms=2000")
        pairs[key] = _as_int32(text)
    return pairs


def _as_int32(text: str) -> int | str:
    is_number = re.fullmatch(r"\s*[+-]?[0-9]+\s*", text, re.ASCII) is not None
    return int(text) if is_number and -(2**31) <= int(text) < 2**31 else text


def _turn_zero(name: str, value: Any) -> Any:
    """A flag whose 0 (or less) means that it is not given."""
    return value if _number(name, value) > 0 else DEFAULT


def _turn_batching(name: str, value: Any) -> Any:
    """Whether there is batching at all, with the defaults of its settings."""
    try:
        return {} if TypeAdapter(bool).validate_python(value) else DEFAULT
    except ValidationError:
        raise ConfigError(f"{name}: {value!r} is neither true nor false") from None


SHORT_ARGUMENTS: Mapping[str, ShortArgument] = {
    "model_name": ShortArgument(("model.name",)),
    "model_base_path": ShortArgument(("model.base_path",)),
    "saved_model_tags": ShortArgument(("model.tags",)),
    "host": ShortArgument(("gateway.host",)),
    "rest_port": ShortArgument(("gateway.rest_port",)),
    "grpc_port": ShortArgument(("gateway.grpc_port",)),
    "rest_api_port": ShortArgument(("gateway.rest_port",), _turn_port, "0 switches REST off"),
    "port": ShortArgument(("gateway.grpc_port",), _turn_port, "0 switches gRPC off"),
    "rest_api_timeout_in_ms": ShortArgument(
        ("gateway.request_timeout_s",), _turn_milliseconds, "in milliseconds; 0 sets no limit"
    ),
    "rest_api_enable_cors_support": ShortArgument(("gateway.rest_cors",)),
    "grpc_socket_path": ShortArgument(("gateway.grpc_socket_path",), _turn_text),
    "grpc_channel_arguments": ShortArgument(
        ("gateway.grpc_channel_arguments",), _turn_channel_arguments, "as `key=value,key=value`"
    ),
    "ssl_config_file": ShortArgument(("gateway.ssl_config_file",), _turn_text),
    "enable_grpc_healthcheck_service": ShortArgument(("gateway.grpc_health",)),
    "enable_serialization_as_tensor_content": ShortArgument(("gateway.tensor_content",)),
    "enable_signature_method_name_check": ShortArgument(("gateway.check_method_names",)),
    "file_system_poll_wait_seconds": ShortArgument(("poll_interval_s",), _turn_version_poll),
    "model_config_file_poll_wait_seconds": ShortArgument(
        ("model_config_file_poll_s",), _turn_file_poll, "0 or less reads it once"
    ),
    "max_num_load_retries": ShortArgument(("load.quick_retries",), note="slower tries follow"),
    "load_retry_interval_micros": ShortArgument(
        ("load.retry_base_s", "load.retry_max_s"), _turn_retry_pause, "in microseconds, the same between all tries"
    ),
    "num_load_threads": ShortArgument(("load.max_concurrent_loads",), _turn_zero, "0 means the default"),
    "enable_batching": ShortArgument(("model.batching",), _turn_batching, "true sets the defaults of all its settings"),
    "enable_model_warmup": ShortArgument(("model.warmup.enabled",)),
    "num_request_iterations_for_warmup": ShortArgument(("model.warmup.iterations",), _turn_zero, "0 means the default"),
    "tensorflow_intra_op_parallelism": ShortArgument(("model.session.intra_op_parallelism",)),
    "tensorflow_inter_op_parallelism": ShortArgument(("model.session.inter_op_parallelism",)),
    "tensorflow_session_parallelism": ShortArgument(
        ("model.session.intra_op_parallelism", "model.session.inter_op_parallelism")
    ),
    "per_process_gpu_memory_fraction": ShortArgument(
        ("model.session.gpu_memory_fraction",), _turn_zero, "0 means the default"
    ),
    "mixed_precision": ShortArgument(("model.session.mixed_precision",), _turn_text),
    "prefer_tflite_model": ShortArgument(("model.prefer_tflite",)),
    "num_tflite_pools": ShortArgument(("model.tflite.interpreters",)),
}
"""The names of the short form that are not settings of a model or of the whole."""
