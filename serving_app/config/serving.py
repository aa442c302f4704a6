"""The whole configuration of a serving application."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationError, field_validator, model_validator

from serving_app.config.errors import describe
from serving_app.config.gateway import GatewayConfig
from serving_app.config.locations import Location, is_web, kind_of
from serving_app.config.model import ModelConfig
from serving_app.config.options import Options
from serving_app.config.rollouts import StrategyConfig
from serving_app.config.settings import Form, Settings
from serving_app.config.sizes import Bytes

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*")


class LoadConfig(Settings):
    """How versions are brought up."""

    max_concurrent_loads: int = Field(default=4, ge=1, description="Versions that may be loading at the same time.")
    retry_base_s: float = Field(
        default=1.0, gt=0, description="Seconds before a failed load is tried again; each further failure doubles them."
    )
    retry_max_s: float = Field(default=60.0, gt=0, description="Seconds between two tries of a load at most.")
    quick_retries: int = Field(
        default=5, ge=0, description="Tries at this pace after the first; later ones are `slow_retry_s` apart."
    )
    slow_retry_s: float = Field(
        default=300.0, gt=0, description="Seconds between later tries, for as long as the version is to be served."
    )

    @model_validator(mode="after")
    def _check_order(self) -> LoadConfig:
        if self.retry_base_s > self.retry_max_s:
            raise ValueError(
                f"retry_base_s ({self.retry_base_s}) is above retry_max_s ({self.retry_max_s}); lower it or raise "
                "retry_max_s"
            )
        return self


def _list_models(value: object) -> object:
    """Models as a list, also when they were written as a mapping from name to settings, or from name to base path."""
    if not isinstance(value, Mapping):
        return value
    return [_name_model(name, settings) for name, settings in value.items()]


def _name_model(name: object, settings: object) -> object:
    if isinstance(settings, str):
        return {"name": name, "base_path": settings}
    if not isinstance(settings, Mapping):
        return settings  # refused at its place, beside what is wrong elsewhere
    if settings.get("name", name) != name:
        raise ValueError(f"model {name!r} calls itself {settings['name']!r}; leave `name` away in the mapping form")
    return {"name": name, **settings}


Models = Annotated[
    tuple[ModelConfig, ...],
    BeforeValidator(_list_models),
    Form("list of models, or mapping from name to model or to base path"),
]


_OWN_TO_EACH_MODEL = ("name", "base_path", "platform", "version_policy", "labels", "storage_options")
"""What TensorFlow Serving's form says of a model; and credentials, which stand in `stores`."""


class ServingConfig(Settings):
    """Everything that can be set, with what is in force when nothing is."""

    models: Models = Field(default=(), description="The models to serve.")
    gateway: GatewayConfig = Field(default=GatewayConfig(), description="The front ends that clients talk to.")
    load: LoadConfig = Field(default=LoadConfig(), description="How versions are brought up.")
    model_defaults: Options = Field(
        default={},
        description="Settings for models that come in TensorFlow Serving's form (`model_config_file`, "
        "HandleReloadConfigRequest), which has no words for them: {num_cpus: 0, batching: {…}}. A model that is known "
        "keeps its own.",
    )
    poll_interval_s: float = Field(
        default=1.0,
        ge=0,
        description="Seconds between two looks for new versions under a base path; 0 looks only until one look has "
        "worked and found no version unfinished.",
    )
    poll_timeout_s: float = Field(
        default=30.0, gt=0, description="Seconds that a look may take before it counts as failed."
    )
    rollout_strategies: Mapping[Annotated[str, Field(min_length=1)], StrategyConfig] = Field(
        default={}, description="How new versions can be rolled out, by name (see [rollouts](rollouts.md))."
    )
    stores: Mapping[str, Options] = Field(
        default={},
        description="What fsspec needs to reach the stores of a kind, such as an endpoint or credentials, by the "
        "scheme of their URIs: {s3: {endpoint_url: …}}. A model's own `storage_options` go before.",
    )
    state_uri: Location | None = Field(
        default=None,
        description="The directory, as an absolute path or URI, where the application keeps what was changed at run "
        "time; null keeps it in the Ray cluster alone, with which it ends.",
    )
    model_config_file: Location | None = Field(
        default=None,
        description="A file, as an absolute path or URI, with the models to serve, in this form or in TensorFlow "
        "Serving's text form; it takes the place of `models` and is read again when it changes.",
    )
    model_config_file_poll_s: float = Field(
        default=10.0, ge=0, description="Seconds between two looks at `model_config_file`; 0 reads it only once."
    )
    allow_version_labels_for_unavailable_models: bool = Field(
        default=False,
        description="Whether a label may be set at run time on a version that is not available yet, if the model has "
        "no such label.",
    )
    cache_max_bytes: Bytes | None = Field(
        default=None,
        description="How much each node keeps in `cache_dir`; what was not used for the longest time goes first, what "
        "is in use stays. Null means half of the disk.",
    )
    cache_dir: str | None = Field(
        default=None,
        description="The directory, on each node, for versions copied from a remote store; null means a directory of "
        "the user's own below the system's temporary one.",
    )

    @field_validator("models")
    @classmethod
    def _check_names(cls, models: tuple[ModelConfig, ...]) -> tuple[ModelConfig, ...]:
        # TensorFlow Serving's text (server_core.cc, ValidateNoModelsAppearMultipleTimes), then the way out.
        for name, count in Counter(model.name for model in models).items():
            if count > 1:
                raise ValueError(f"Illegal to list model {name} multiple times in config list; keep one of the {count}")
        return models

    @model_validator(mode="after")
    def _check_rollouts(self) -> ServingConfig:
        for model in self.models:
            if model.rollout is not None and model.rollout not in self.rollout_strategies:
                known = ", ".join(sorted(self.rollout_strategies)) or "none"
                raise ValueError(
                    f"model {model.name} is to be rolled out by {model.rollout}, which is not among "
                    f"rollout_strategies; those are: {known}"
                )
        return self

    @field_validator("model_defaults")
    @classmethod
    def _check_model_defaults(cls, value: Mapping[str, Any]) -> Mapping[str, Any]:
        if own := [name for name in value if name in _OWN_TO_EACH_MODEL]:
            raise ValueError(f"{', '.join(own)} of models cannot have defaults; say it of each model")
        try:
            ModelConfig.model_validate({**value, "base_path": "/any"})
        except ValidationError as error:
            raise ValueError(describe(error, ModelConfig, "a model with these settings", value)) from error
        return value

    @field_validator("stores")
    @classmethod
    def _check_stores(cls, stores: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Mapping[str, Any]]:
        for scheme in stores:
            if not _SCHEME.fullmatch(scheme):
                raise ValueError(f"{scheme!r} is no scheme of URIs; write what stands before ://, such as s3")
        for kind, count in Counter(kind_of(scheme) for scheme in stores).items():
            if count > 1:
                names = [scheme for scheme in stores if kind_of(scheme) == kind]
                raise ValueError(f"{' and '.join(names)} are one kind of store; put all options under one of them")
        return stores

    @field_validator("state_uri")
    @classmethod
    def _check_state_uri(cls, value: str | None) -> str | None:
        if value is not None and is_web(value):
            raise ValueError(f"{value} is on a web server, where nothing can be kept; use a directory or a bucket")
        return value

    @field_validator("cache_dir")
    @classmethod
    def _check_cache_dir(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith("/"):
            raise ValueError(f"{value!r} is no absolute path; write the whole path, as each node is to open it")
        return value
