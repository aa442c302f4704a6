"""Arguments of the application as `serve run` hands them over.

Either the whole configuration (the `args` of a Serve config file), or the short form for a single model, where every
value may be a text:

    serve run serving_app:app model_name=half_plus_two model_base_path=/models/half_plus_two rest_port=8601

The short form takes TensorFlow Serving's flag names where it has one for the purpose. Any other setting of a model
(`replicas=2`, `labels='{stable: 1}'`) applies to the one model that is named.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from serving_app.config.deployment import check_deployed
from serving_app.config.errors import ConfigError, unknown_setting
from serving_app.config.model import ModelConfig
from serving_app.config.parsing import parse
from serving_app.config.serving import ServingConfig
from serving_app.config.short_arguments import DEFAULT, SHORT_ARGUMENTS, ShortArgument

_SOURCE = "The application's configuration"

def from_args(args: Mapping[str, Any]) -> ServingConfig:
    """The configuration that the arguments of the application mean."""
    given: dict[str, Any] = {}
    given_as: dict[str, str] = {}
    for name, value in args.items():
        argument = _find_argument(name)
        turned = argument.turn(name, _read_text(name, value))
        for setting in argument.settings:
            _refuse_twice(setting, name, given_as)
            if turned is not DEFAULT:
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
