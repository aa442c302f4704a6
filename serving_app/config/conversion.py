"""A configuration of ours out of the files that TensorFlow Serving's flags name.

Nothing is dropped in silence: what has no place here is named in the notes, with the reason.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from google.protobuf.wrappers_pb2 import DESCRIPTOR as _WRAPPERS
from pydantic import ValidationError

from serving_app.config.batching import BatchingConfig
from serving_app.config.errors import ConfigError, describe
from serving_app.config.model import ModelConfig, SessionConfig, TfliteConfig, WarmupConfig
from serving_app.config.model_server_config import TENSORFLOW, read_model_server_config, to_models
from serving_app.config.monitoring import read_monitoring
from serving_app.config.parsing import revise
from serving_app.config.plan import replace_models
from serving_app.config.proto_text import parse_proto_text, write_proto_text
from serving_app.config.serving import ServingConfig
from serving_app.protocol import messages
from serving_app.protocol.batching_proto import batching_fields

_NO_SETTING = "there is no such setting here"


@dataclass(frozen=True, slots=True)
class Conversion:
    """What a conversion made, and what of the original it left out, one sentence each."""

    config: ServingConfig
    notes: tuple[str, ...] = ()


def convert(
    model_config_text: str,
    batching_text: str | None = None,
    monitoring_text: str | None = None,
    platform_text: str | None = None,
) -> Conversion:
    """The configuration that these texts mean: those of the files given by --model_config_file,
    --batching_parameters_file, --monitoring_config_file and --platform_config_file.

    Raises ConfigError where one of them cannot be read, and TensorFlow Serving's own errors where it refuses one.
    """
    notes: list[str] = []
    models = read_model_server_config(model_config_text, "--model_config_file")
    _drop_logging(models, notes)
    config = replace_models(ServingConfig(), to_models(models, ServingConfig()))
    settings: dict[str, Any] = {}
    if batching_text is not None:
        settings["batching"] = read_batching(batching_text, "--batching_parameters_file")
    if platform_text is not None:
        # TensorFlow Serving reads the batching file only where it makes the platform's configuration itself.
        if settings.pop("batching", None):
            notes.append("batching: the parameters are left out, because --platform_config_file takes their place")
        settings.update(read_platforms(platform_text, "--platform_config_file", notes) or {})
    if monitoring_text is not None:
        path = read_monitoring(monitoring_text, "--monitoring_config_file")
        config = revise(config, "The configuration", gateway=revise(config.gateway, "gateway", metrics_path=path))
    changed = tuple(_revise_model(model, settings) for model in config.models)
    return Conversion(replace_models(config, changed), tuple(notes))


def read_batching(text: str, source: str) -> BatchingConfig:
    """The batching that BatchingParameters in text form mean."""
    return to_batching(parse_proto_text(text, messages.BatchingParameters(), source), source)


def to_batching(parameters: Any, source: str) -> BatchingConfig:
    """The batching that a BatchingParameters message means."""
    try:
        return BatchingConfig.model_validate(batching_fields(parameters))
    except ValidationError as error:
        raise ConfigError(describe(error, BatchingConfig, source)) from error


def _drop_logging(models: Any, notes: list[str]) -> None:
    for entry in models.model_config_list.config:
        if entry.HasField("logging_config"):
            entry.ClearField("logging_config")
            notes.append(
                f"model {entry.name}: logging_config is left out: requests are not logged here, and TensorFlow "
                "Serving's stock server refuses it"
            )


def _revise_model(model: ModelConfig, settings: dict[str, Any]) -> ModelConfig:
    return revise(model, f"Model {model.name}", **settings) if model.platform == TENSORFLOW else model


# --- platforms -------------------------------------------------------------------------------------------------------


def read_platforms(text: str, source: str, notes: list[str]) -> dict[str, Any] | None:
    """The settings that a PlatformConfigMap in text form gives to every model of the platform `tensorflow`.

    None where it has no such platform. What has no place here is told in the notes.
    """
    platforms = parse_proto_text(text, messages.PlatformConfigMap(), source)
    settings: dict[str, Any] | None = None
    for name, platform in sorted(platforms.platform_configs.items()):
        adapter = messages.SavedModelBundleSourceAdapterConfig()
        any_config = platform.source_adapter_config
        if name != TENSORFLOW:
            notes.append(f"platform {name}: its configuration is left out: {_NO_SETTING}")
        elif not any_config.Unpack(adapter):
            settings = {}
            notes.append(
                f"platform {name}: {any_config.type_url or 'source_adapter_config'} is left out: {_NO_SETTING}"
            )
        else:
            settings = _convert_session_bundle(adapter.legacy_config, notes)
    return settings


_CONVERTED = (
    "session_config",
    "mixed_precision",
    "prefer_tflite_model",
    "num_tflite_pools",
    "num_tflite_interpreters_per_pool",
    "remove_unused_fields_from_bundle_metagraph",  # which saves memory there, and changes nothing
    "batching_parameters",
    "saved_model_tags",
    "enable_model_warmup",
    "model_warmup_options",
    "enable_per_model_batching_params",
)


def _convert_session_bundle(bundle: Any, notes: list[str]) -> dict[str, Any]:
    """What a SessionBundleConfig says that has a place in a model's settings."""
    settings: dict[str, Any] = {"prefer_tflite": bundle.prefer_tflite_model}
    session = _convert_session(bundle.session_config)
    if bundle.mixed_precision == "bfloat16":
        session["mixed_precision"] = bundle.mixed_precision
    settings["session"] = revise(SessionConfig(), "session", **session)
    if bundle.num_tflite_pools > 0:
        pools, each = bundle.num_tflite_pools, max(1, bundle.num_tflite_interpreters_per_pool)
        settings["tflite"] = TfliteConfig(interpreters=pools * each)
    if bundle.saved_model_tags:
        settings["tags"] = tuple(bundle.saved_model_tags)
    if bundle.HasField("batching_parameters"):
        settings["batching"] = to_batching(bundle.batching_parameters, "batching_parameters of --platform_config_file")
    if bundle.enable_per_model_batching_params:
        settings["batching"] = revise(
            settings.get("batching", BatchingConfig()), "batching", enable_per_model_batching_parameters=True
        )
    options = bundle.model_warmup_options
    # Here as there: without the field, a platform of one's own is not warmed up.
    settings["warmup"] = WarmupConfig(
        enabled=bundle.enable_model_warmup, iterations=max(1, options.num_request_iterations.value)
    )
    left = [name for name in _set_fields(options) if name != "num_request_iterations"]
    _note_left(notes, [f"model_warmup_options.{name}" for name in left])
    _note_left(notes, (name for name in _set_fields(bundle) if name.partition(".")[0] not in _CONVERTED))
    return settings


def _convert_session(session: Any) -> dict[str, Any]:
    """The settings of a session: those that have a name of their own, and all the rest as it is."""
    rest = type(session)()
    rest.CopyFrom(session)
    rest.ClearField("allow_soft_placement")  # which always is on here
    given: dict[str, Any] = {}
    for message, field, setting, limit in (
        (rest, "intra_op_parallelism_threads", "intra_op_parallelism", math.inf),
        (rest, "inter_op_parallelism_threads", "inter_op_parallelism", math.inf),
        (rest.gpu_options, "per_process_gpu_memory_fraction", "gpu_memory_fraction", 1),
        (rest.gpu_options, "allow_growth", "gpu_allow_growth", 1),
    ):
        if 0 < (value := getattr(message, field)) <= limit:
            given[setting] = value
            message.ClearField(field)
    if not rest.gpu_options.ListFields():
        rest.ClearField("gpu_options")
    return {**given, "config_proto": write_proto_text(rest)}


def _note_left(notes: list[str], names: Iterable[str]) -> None:
    notes.extend(f"platform {TENSORFLOW}: {name} is left out: {_NO_SETTING}" for name in names)


# --- messages --------------------------------------------------------------------------------------------------------


def _set_fields(message: Any, prefix: str = "") -> Iterator[str]:
    """The path of every field that is set, down to those that are no messages, lists or maps."""
    for field, value in message.ListFields():
        path = f"{prefix}{field.name}"
        inner = list(_set_fields(value, f"{path}.")) if _is_plain_message(field) else []
        yield from inner or [path]


def _is_plain_message(field: Any) -> bool:
    return field.message_type is not None and not field.is_repeated and not _is_wrapper(field)


def _is_wrapper(field: Any) -> bool:
    """Whether the field is of one of protobuf's messages that tell an absent number from 0."""
    return field.message_type is not None and field.message_type.full_name in _WRAPPER_NAMES


_WRAPPER_NAMES = {message.full_name for message in _WRAPPERS.message_types_by_name.values()}
