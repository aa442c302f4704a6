"""Credentials in a configuration: hidden where people look at it, and put back where they hand it in again.

Secrets are only in what stores are told (`stores`, `storage_options`), under keys that say so, and in front of the host
of a URL. They are found by name, so a store whose options call a password something else shows it; what is hidden too
much does no harm, because `restore_secrets` puts it back.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from serving_app.config.errors import ConfigError
from serving_app.config.model import ModelConfig
from serving_app.config.serving import ServingConfig

MASK = "***"
"""Stands where a secret was."""

_SECRET_NAME = re.compile(
    r"secret|token|passw|credential|key|signature|connection ?string|\b(sas|pwd)\b", re.IGNORECASE
)
_USER_IN_URL = re.compile(r"(?<=://)[^/@\s:]*:[^/@\s]*(?=@)")


def redact(config: ServingConfig) -> ServingConfig:
    """The same configuration with every secret replaced by `***`; for people, not for stores."""
    return _map_options(config, lambda _, options: _hide("", options))


def redact_text(text: str) -> str:
    """A sentence with the user and password of every URL in it replaced by `***`."""
    return _USER_IN_URL.sub(MASK, text)


def restore_secrets(new: ServingConfig, in_force: ServingConfig) -> ServingConfig:
    """`new` with each `***` replaced by what is in force at the same place.

    Raises ConfigError where nothing is in force there: the value itself must be written.
    """
    known = dict(_options(in_force))
    return _map_options(new, lambda place, options: _restore(place, "", options, known.get(place)))


def _options(config: ServingConfig) -> list[tuple[str, Any]]:
    """Everything that may hold a secret, by its place."""
    found: list[tuple[str, Any]] = []

    def note(place: str, options: Any) -> Any:
        found.append((place, options))
        return options

    _map_options(config, note)
    return found


def _map_options(config: ServingConfig, turn: Callable[[str, Any], Any]) -> ServingConfig:
    """The configuration with everything that may hold a secret turned into something else."""

    def turn_model(model: ModelConfig) -> ModelConfig:
        place = f"models.{model.name}"
        return model.model_copy(
            update={name: turn(f"{place}.{name}", getattr(model, name)) for name in ("base_path", "storage_options")}
        )

    update = {name: turn(name, getattr(config, name)) for name in ("stores", "state_uri", "model_config_file")}
    gateway = config.gateway
    places = ("ssl_config_file", "control_token_file")
    files = {name: turn(f"gateway.{name}", getattr(gateway, name)) for name in places}
    update["gateway"] = gateway.model_copy(update=files)
    return config.model_copy(update={**update, "models": tuple(map(turn_model, config.models))})


def _hide(name: str, value: Any) -> Any:
    if _is_secret(name) and not (value in (None, "", MASK) or isinstance(value, bool)):
        return MASK
    if isinstance(value, Mapping):
        return {key: _hide(str(key), inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_hide("", inner) for inner in value)
    return redact_text(value) if isinstance(value, str) else value


def _is_secret(name: str) -> bool:
    return _SECRET_NAME.search(name.replace("_", " ")) is not None


def _restore(place: str, name: str, value: Any, in_force: Any) -> Any:
    if isinstance(value, Mapping):
        known = in_force if isinstance(in_force, Mapping) else {}
        return {key: _restore(f"{place}.{key}", str(key), inner, known.get(key)) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        items = list(in_force) if isinstance(in_force, list | tuple) else []
        items += [None] * (len(value) - len(items))
        return type(value)(_restore(f"{place}[{at}]", "", inner, items[at]) for at, inner in enumerate(value))
    if not isinstance(value, str) or not (f"://{MASK}@" in value or (value == MASK and _is_secret(name))):
        return value
    if in_force is not None and _hide(name, in_force) == value:
        return in_force
    raise ConfigError(
        f"{place}: {MASK} stands for a secret that is not shown, and none is in force here; write the value itself"
    )
