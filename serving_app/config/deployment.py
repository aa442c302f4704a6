"""What a configuration must be to be deployed, beyond what every configuration must be."""

from __future__ import annotations

from serving_app.config.errors import ConfigError
from serving_app.config.secrets import restore_secrets
from serving_app.config.serving import ServingConfig


def check_deployed(config: ServingConfig, source: str) -> ServingConfig:
    """The configuration itself. Raises ConfigError if it cannot be deployed as it is.

    In force, models stand beside the file that they come from. In what is deployed that would be two answers to one
    question.
    """
    if config.models and config.model_config_file:
        raise ConfigError(f"{source} has both models and model_config_file, which takes their place; keep one of them")
    return restore_secrets(config, ServingConfig())
