"""Arguments of the application as `serve run` hands them over.

Either the whole configuration (the `args` of a Serve config file), or the short form for a single model, where every
value may be a text:

    serve run serving_app:app model_name=half_plus_two model_base_path=/models/half_plus_two rest_port=8601

The short form takes TensorFlow Serving's flag names where it has one for the purpose. Any other setting of a model
(`replicas=2`, `labels='{stable: 1}'`) applies to the one model that is named.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from serving_app.config.errors import ConfigError, unknown_setting
from serving_app.config.model import ModelConfig
from serving_app.config.parsing import parse
from serving_app.config.serving import ServingConfig


@dataclass(frozen=True, slots=True)
class ShortArgument:
    """A name of the short form: the group and setting that it stands for, and how its value is turned."""

    group: str
    setting: str
    turn: Callable[[Any], Any] = lambda value: value
    note: str = ""


def _turn_flag_port(value: Any) -> Any:
    """TensorFlow Serving's ports: 0 switches the listener off, where our own settings take any free port."""
    return None if str(value).strip() == "0" else value


def _turn_milliseconds(value: Any) -> Any:
    """TensorFlow Serving's timeout in milliseconds as seconds; 0 and below mean none."""
    try:
        milliseconds = float(value)
    except (TypeError, ValueError):
        raise ConfigError(f"rest_api_timeout_in_ms: {value!r} is no number of milliseconds") from None
    return milliseconds / 1000 if milliseconds > 0 else None


SHORT_ARGUMENTS: Mapping[str, ShortArgument] = {
    "model_name": ShortArgument("model", "name"),
    "model_base_path": ShortArgument("model", "base_path"),
    "saved_model_tags": ShortArgument("model", "tags"),
    "host": ShortArgument("gateway", "host"),
    "rest_port": ShortArgument("gateway", "rest_port"),
    "grpc_port": ShortArgument("gateway", "grpc_port"),
    "rest_api_port": ShortArgument("gateway", "rest_port", _turn_flag_port, "0 switches REST off"),
    "port": ShortArgument("gateway", "grpc_port", _turn_flag_port, "0 switches gRPC off"),
    "rest_api_timeout_in_ms": ShortArgument(
        "gateway", "request_timeout_s", _turn_milliseconds, "in milliseconds; 0 sets no limit"
    ),
    "file_system_poll_wait_seconds": ShortArgument("", "poll_interval_s"),
}
"""The names of the short form that are not settings of a model or of the whole."""


def from_args(args: Mapping[str, Any]) -> ServingConfig:
    """The configuration that the arguments of the application mean."""
    groups: dict[str, dict[str, Any]] = {"": {}, "model": {}, "gateway": {}}
    given_as: dict[tuple[str, str], str] = {}
    for name, value in args.items():
        argument = _find_argument(name)
        earlier = given_as.setdefault((argument.group, argument.setting), name)
        if earlier != name:
            raise ConfigError(f"{earlier} and {name} set the same thing; keep one of them")
        groups[argument.group][argument.setting] = argument.turn(_read_text(name, value))
    return parse(_join(groups, given_as), "The application's configuration")


def _find_argument(name: str) -> ShortArgument:
    if name in SHORT_ARGUMENTS:
        return SHORT_ARGUMENTS[name]
    if name in ServingConfig.model_fields:
        return ShortArgument("", name)
    if name in _MODEL_SETTINGS:
        return ShortArgument("model", name)
    known = [*SHORT_ARGUMENTS, *ServingConfig.model_fields, *_MODEL_SETTINGS]
    raise ConfigError(f"The application's configuration has 1 problem:\n  {name}: {unknown_setting(name, known)}")


_MODEL_SETTINGS = [name for name in ModelConfig.model_fields if name not in {"name", "base_path"}]


def _read_text(name: str, value: Any) -> Any:
    """The value itself; a text that is a YAML list or mapping in brackets is read as one."""
    if not (isinstance(value, str) and value.lstrip()[:1] in ("[", "{")):
        return value
    try:
        return yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ConfigError(f"{name}: {value!r} is neither a list nor a mapping in YAML: {error}") from error


def _join(groups: Mapping[str, dict[str, Any]], given_as: Mapping[tuple[str, str], str]) -> dict[str, Any]:
    """The whole configuration out of what was given for its groups."""
    whole = dict(groups[""])
    if groups["model"]:
        first = next(name for (group, _), name in given_as.items() if group == "model")
        if "models" in whole:
            raise ConfigError(f"{first} describes a single model, and models lists several; use one of the two forms")
        if "base_path" not in groups["model"]:
            raise ConfigError(f"{first} needs a model to apply to; add model_base_path=/path/of/the/model")
        whole["models"] = [groups["model"]]
    if groups["gateway"]:
        gateway = whole.get("gateway", {})
        if not isinstance(gateway, Mapping):
            raise ConfigError(f"gateway: expected a mapping of settings, got {gateway!r}")
        for (group, setting), name in given_as.items():
            if group == "gateway" and setting in gateway:
                raise ConfigError(f"{name} and gateway.{setting} set the same thing; keep one of them")
        whole["gateway"] = {**gateway, **groups["gateway"]}
    return whole
