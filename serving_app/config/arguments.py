"""Arguments of the application as `serve run` hands them over.

Either the whole configuration (the `args` of a Serve config file), or the short form for a single model, where every
value may be a text:

    serve run serving_app:app model_name=half_plus_two model_base_path=/models/half_plus_two rest_port=8601

The short form takes TensorFlow Serving's flag names where it has one for the purpose. Any other setting of a model
(`replicas=2`, `labels='{stable: 1}'`) applies to the one model that is named.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from serving_app.config.deployment import check_deployed
from serving_app.config.errors import ConfigError, unknown_setting
from serving_app.config.model import ModelConfig
from serving_app.config.parsing import parse
from serving_app.config.serving import ServingConfig

_SOURCE = "The application's configuration"

_DEFAULT = object()
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


def _turn_zero(name: str, value: Any) -> Any:
    """A flag whose 0 (or less) means that it is not given."""
    return value if _number(name, value) > 0 else _DEFAULT


def _turn_batching(name: str, value: Any) -> Any:
    """Whether there is batching at all, with the defaults of its settings."""
    try:
        return {} if TypeAdapter(bool).validate_python(value) else _DEFAULT
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
}
"""The names of the short form that are not settings of a model or of the whole."""


def from_args(args: Mapping[str, Any]) -> ServingConfig:
    """The configuration that the arguments of the application mean."""
    given: dict[str, Any] = {}
    given_as: dict[str, str] = {}
    for name, value in args.items():
        argument = _find_argument(name)
        turned = argument.turn(name, _read_text(name, value))
        for setting in argument.settings:
            _refuse_twice(setting, name, given_as)
            if turned is not _DEFAULT:
                given[setting] = turned
    return check_deployed(parse(_join(given, given_as), _SOURCE), _SOURCE)


def _find_argument(name: str) -> ShortArgument:
    if name in SHORT_ARGUMENTS:
        return SHORT_ARGUMENTS[name]
    if name in ServingConfig.model_fields:
        return ShortArgument((name,))
    if name in _MODEL_SETTINGS:
        return ShortArgument((f"model.{name}",))
    known = [*SHORT_ARGUMENTS, *ServingConfig.model_fields, *_MODEL_SETTINGS]
    raise ConfigError(f"{_SOURCE} has 1 problem:\n  {name}: {unknown_setting(name, known)}")


_MODEL_SETTINGS = [name for name in ModelConfig.model_fields if name not in {"name", "base_path"}]


def _read_text(name: str, value: Any) -> Any:
    """The value itself; a text that is a YAML list or mapping in brackets is read as one."""
    if not (isinstance(value, str) and value.lstrip()[:1] in ("[", "{")):
        return value
    try:
        return yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ConfigError(f"{name}: {value!r} is neither a list nor a mapping in YAML: {error}") from error


def _refuse_twice(setting: str, name: str, given_as: dict[str, str]) -> None:
    """Note that the setting is given under this name; an error if it was given under another one."""
    earlier = given_as.setdefault(setting, name)
    if earlier != name:
        raise ConfigError(f"{earlier} and {name} set the same thing; keep one of them")


def _join(given: Mapping[str, Any], given_as: Mapping[str, str]) -> dict[str, Any]:
    """The whole configuration out of settings that are given one by one, groups before what is in them."""
    whole: dict[str, Any] = {}
    for setting in sorted(given, key=lambda setting: setting.count(".")):
        *groups, last = setting.split(".")
        group = _open_group(whole, groups)
        if last in group:
            raise ConfigError(f"{given_as[setting]} and {_shown(setting)} set the same thing; keep one of them")
        group[last] = given[setting]
    return _place_model(whole, given_as)


def _open_group(whole: dict[str, Any], groups: list[str]) -> dict[str, Any]:
    """The group that is reached by these names, made or copied on the way so that settings can be put there."""
    group = whole
    for depth, name in enumerate(groups):
        inner = group.get(name, {})
        if not isinstance(inner, Mapping):
            raise ConfigError(f"{_shown('.'.join(groups[: depth + 1]))}: expected a mapping of settings, got {inner!r}")
        group[name] = dict(inner)
        group = group[name]
    return group


def _shown(setting: str) -> str:
    """The setting as the user names it: those of the one model go without their group."""
    return setting.removeprefix("model.")


def _place_model(whole: dict[str, Any], given_as: Mapping[str, str]) -> dict[str, Any]:
    """The one model as the list of models."""
    model = whole.pop("model", None)
    first = next((name for setting, name in given_as.items() if setting.startswith("model.")), None)
    if first is None:
        return whole
    if "models" in whole:
        raise ConfigError(f"{first} describes a single model, and models lists several; use one of the two forms")
    if "model_config_file" in whole:
        raise ConfigError(
            f"{first} describes a single model, and model_config_file lists several; use one of the two forms"
        )
    if model is None or "base_path" not in model:
        raise ConfigError(f"{first} needs a model to apply to; add model_base_path=/path/of/the/model")
    return {**whole, "models": [model]}
