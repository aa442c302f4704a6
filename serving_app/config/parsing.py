"""From plain data to a checked configuration: the door that every reader goes through."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import ValidationError

from serving_app.config.errors import ConfigError, describe
from serving_app.config.serving import ServingConfig
from serving_app.config.settings import Settings

_Group = TypeVar("_Group", bound=Settings)


def parse(data: object, source: str = "The configuration") -> ServingConfig:
    """The configuration that `data` (mappings, lists and scalars) describes; `source` is how errors call it."""
    if not isinstance(data, Mapping):
        raise ConfigError(f"{source} must be a mapping of settings such as `models:`, got {data!r}")
    try:
        return ServingConfig.model_validate(dict(data))
    except ValidationError as error:
        raise ConfigError(describe(error, ServingConfig, source, data)) from error


def revise(group: _Group, source: str, **update: Any) -> _Group:
    """The group of settings with other values for some of them, checked as if it had been read that way."""
    values = {name: getattr(group, name) for name in type(group).model_fields}
    try:
        return type(group).model_validate({**values, **update})
    except ValidationError as error:
        raise ConfigError(describe(error, type(group), source)) from error
