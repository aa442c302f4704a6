"""From plain data to a checked configuration: the door that every reader goes through."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import ValidationError

from serving_app.config.errors import ConfigError, describe
from serving_app.config.serving import ServingConfig


def parse(data: object, source: str = "The configuration") -> ServingConfig:
    """The configuration that `data` (mappings, lists and scalars) describes; `source` is how errors call it."""
    if not isinstance(data, Mapping):
        raise ConfigError(f"{source} must be a mapping of settings such as `models:`, got {data!r}")
    try:
        return ServingConfig.model_validate(dict(data))
    except ValidationError as error:
        raise ConfigError(describe(error, ServingConfig, source)) from error
