"""TensorFlow Serving's list of models (ModelServerConfig), read from its text form and written in it.

The rules and sentences are those of TensorFlow Serving's server_core.cc, in its order, because clients see them in the
answer to HandleReloadConfigRequest. What the form cannot express (resources, replicas, batching, …) a model keeps from
the configuration before.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from google.protobuf.message import DecodeError
from pydantic import ValidationError

from serving_app.config.errors import ConfigError, describe
from serving_app.config.locations import is_absolute
from serving_app.config.model import ModelConfig
from serving_app.config.plan import check_platform
from serving_app.config.proto_text import parse_proto_text, write_proto_text
from serving_app.config.serving import ServingConfig
from serving_app.core.errors import FailedPrecondition, InvalidArgument
from serving_app.core.policies import All, Latest, Specific, VersionPolicy
from serving_app.protocol import messages

TENSORFLOW = "tensorflow"
_MAX_NUM_VERSIONS = 2**32 - 1
"""`num_versions` is a uint32."""


def read_model_server_config(text: str, file: str | None = None) -> Any:
    """The ModelServerConfig that the text describes. Raises ConfigError with the place of what is wrong in it."""
    return parse_proto_text(text, messages.ModelServerConfig(), file)


def read_reload_config(serialized: bytes) -> Any:
    """The ModelServerConfig of a HandleReloadConfigRequest. Raises InvalidArgument if it holds no list of models."""
    try:
        config = messages.ModelServerConfig.FromString(serialized)
    except DecodeError as error:
        raise InvalidArgument(f"The configuration is no serialized ModelServerConfig: {error}") from error
    if config.WhichOneof("config") != "model_config_list":
        # model_servers/model_service_impl.cc
        raise InvalidArgument(
            "ServerModelConfig type not supported by HandleReloadConfigRequest. Only ModelConfigList is currently "
            "supported"
        )
    return config


def to_models(config: Any, before: ServingConfig) -> tuple[ModelConfig, ...]:
    """The models of a ModelServerConfig.

    A model that is in `before` keeps the settings that this form cannot express; others get those that `before` has in
    `model_defaults`. A configuration that says nothing at
    all changes nothing, as in TensorFlow Serving: an empty file is legal. Raises InvalidArgument or FailedPrecondition;
    nothing of such a configuration may be put in force.
    """
    kind = config.WhichOneof("config")
    if kind is None:
        return before.models
    if kind != "model_config_list":
        raise FailedPrecondition(
            "Cannot transition to requested config. It is only legal to transition from one ModelConfigList to another."
        )
    entries = list(config.model_config_list.config)
    old = {model.name: model for model in before.models}
    _check_names(entries)
    _check_base_paths(entries)
    for entry in entries:
        if entry.name in old:
            check_platform(entry.name, old[entry.name].platform, _platform(entry))
    models = tuple(_to_model(entry, old.get(entry.name), before) for entry in entries)
    _check_logging(entries)
    return models


def write_model_server_config(config: ServingConfig) -> str:
    """The models of a configuration in TensorFlow Serving's text form, as far as it can express them."""
    message = messages.ModelServerConfig()
    message.model_config_list.SetInParent()
    for model in config.models:
        entry = message.model_config_list.config.add(
            name=model.name, base_path=model.base_path, model_platform=model.platform, version_labels=model.labels
        )
        _write_policy(model.version_policy, entry)
    return write_proto_text(message)


# --- checks ----------------------------------------------------------------------------------------------------------


def _check_names(entries: Sequence[Any]) -> None:
    # ValidateNoModelsAppearMultipleTimes
    for name, count in Counter(entry.name for entry in entries).items():
        if count > 1:
            raise InvalidArgument(f"Illegal to list model {name} multiple times in config list")


def _check_base_paths(entries: Iterable[Any]) -> None:
    # ValidateModelConfigList, UpdateModelConfigListRelativePaths
    for entry in entries:
        if not is_absolute(entry.base_path):
            raise InvalidArgument(
                f"Expected model {entry.name} to have an absolute path or URI; got base_path()={entry.base_path}"
            )


def _check_logging(entries: Iterable[Any]) -> None:
    for entry in entries:
        if entry.HasField("logging_config"):
            # The first sentence is the stock server's, which finds it out when all models are loaded already.
            raise InvalidArgument(
                f"No request-logger-creator provided. Model {entry.name} has a logging_config, and requests are not "
                "logged here; remove it"
            )


def _platform(entry: Any) -> str:
    # GetPlatform
    name = entry.name
    if entry.model_type != 0:
        if entry.model_platform:
            raise InvalidArgument(
                "Illegal setting both ModelServerConfig::model_type (deprecated) and "
                f"ModelServerConfig::model_platform, model name is {name}"
            )
        if entry.model_type != 1:
            raise InvalidArgument(f"ModelServerConfig::model_type choice {entry.model_type} not supported.")
        return TENSORFLOW
    platform = str(entry.model_platform)
    if not platform:
        raise InvalidArgument(
            "Illegal setting neither ModelServerConfig::model_type (deprecated) nor "
            f"ModelServerConfig::model_platform, model name is {name}"
        )
    # A loader class of the user's own, `package.module:Class`, is a platform here.
    if platform != TENSORFLOW and ":" not in platform:
        raise InvalidArgument(f"Model {name} requests unsupported platform {platform}")
    return platform


# --- entries ---------------------------------------------------------------------------------------------------------


def _to_model(entry: Any, before: ModelConfig | None, whole: ServingConfig) -> ModelConfig:
    known: Mapping[str, Any] = whole.model_defaults
    if before is not None:
        known = {name: getattr(before, name) for name in ModelConfig.model_fields}
    given = {
        "name": entry.name,
        "base_path": entry.base_path,
        "platform": _platform(entry),
        "version_policy": _read_policy(entry),
        "labels": dict(entry.version_labels),
    }
    try:
        return ModelConfig.model_validate({**known, **given})
    except ValidationError as error:
        raise ConfigError(describe(error, ModelConfig, f"Model {entry.name or '(without a name)'}")) from error


def _read_policy(entry: Any) -> VersionPolicy | dict[str, Any]:
    policy = entry.model_version_policy
    choice = policy.WhichOneof("policy_choice")
    if choice == "latest":
        return Latest(policy.latest.num_versions)
    if choice == "all":
        return All()
    if choice == "specific":
        return {"specific": list(policy.specific.versions)}  # checked where a configuration is
    return Latest()


def _write_policy(policy: VersionPolicy, entry: Any) -> None:
    """Nothing for the default, as people write it."""
    written = entry.model_version_policy
    if isinstance(policy, All):
        written.all.SetInParent()
    elif isinstance(policy, Specific):
        written.specific.SetInParent()
        written.specific.versions.extend(policy.versions)
    elif policy != Latest():
        written.latest.num_versions = min(policy.num_versions, _MAX_NUM_VERSIONS)  # more than that is all of them
