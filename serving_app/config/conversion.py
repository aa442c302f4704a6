"""A configuration of ours out of the files that TensorFlow Serving's flags name.

Nothing is dropped in silence: what has no place here is named in the notes, with the reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from google.protobuf.wrappers_pb2 import DESCRIPTOR as _WRAPPERS
from pydantic import ValidationError

from serving_app.config.batching import BatchingConfig
from serving_app.config.errors import ConfigError, describe
from serving_app.config.model import ModelConfig, SessionConfig, WarmupConfig
from serving_app.config.model_server_config import TENSORFLOW, read_model_server_config, to_models
from serving_app.config.parsing import revise
from serving_app.config.plan import replace_models
from serving_app.config.proto_text import parse_proto_text
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
        batching = parse_proto_text(batching_text, messages.BatchingParameters(), "--batching_parameters_file")
        settings["batching"] = to_batching(batching, "--batching_parameters_file")
    if platform_text is not None:
        # TensorFlow Serving reads the batching file only where it makes the platform's configuration itself.
        if settings.pop("batching", None):
            notes.append("batching: the parameters are left out, because --platform_config_file takes their place")
        platforms = parse_proto_text(platform_text, messages.PlatformConfigMap(), "--platform_config_file")
        settings.update(_convert_platforms(platforms, notes))
    if monitoring_text is not None:
        monitoring = parse_proto_text(monitoring_text, messages.MonitoringConfig(), "--monitoring_config_file")
        why = "gateways offer no metrics page; the metrics of the cluster are Ray's own"
        notes.extend(f"monitoring: {name} is left out: {why}" for name in _set_fields(monitoring))
    changed = tuple(_revise_model(model, settings) for model in config.models)
    return Conversion(replace_models(config, changed), tuple(notes))


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


def _convert_platforms(platforms: Any, notes: list[str]) -> dict[str, Any]:
    """The settings that every model of the platform `tensorflow` gets."""
    settings: dict[str, Any] = {}
    for name, platform in sorted(platforms.platform_configs.items()):
        adapter = messages.SavedModelBundleSourceAdapterConfig()
        any_config = platform.source_adapter_config
        if name != TENSORFLOW:
            notes.append(f"platform {name}: its configuration is left out: {_NO_SETTING}")
        elif not any_config.Unpack(adapter):
            notes.append(
                f"platform {name}: {any_config.type_url or 'source_adapter_config'} is left out: {_NO_SETTING}"
            )
        else:
            settings = _convert_session_bundle(adapter.legacy_config, notes)
    return settings


_CONVERTED = (
    "session_config",
    "batching_parameters",
    "saved_model_tags",
    "enable_model_warmup",
    "model_warmup_options",
    "enable_per_model_batching_params",
)


def _convert_session_bundle(bundle: Any, notes: list[str]) -> dict[str, Any]:
    """What a SessionBundleConfig says that has a place in a model's settings."""
    settings: dict[str, Any] = {"session": _convert_session(bundle.session_config, notes)}
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


def _convert_session(session: Any, notes: list[str]) -> SessionConfig:
    given: dict[str, Any] = {}
    taken = {"allow_soft_placement"}  # which always is on here
    fraction = session.gpu_options.per_process_gpu_memory_fraction
    for field, setting, value, has_place in (
        ("intra_op_parallelism_threads", "intra_op_parallelism", session.intra_op_parallelism_threads, True),
        ("inter_op_parallelism_threads", "inter_op_parallelism", session.inter_op_parallelism_threads, True),
        ("gpu_options.per_process_gpu_memory_fraction", "gpu_memory_fraction", fraction, fraction <= 1),
        ("gpu_options.allow_growth", "gpu_allow_growth", session.gpu_options.allow_growth, True),
    ):
        if value > 0 and has_place:
            given[setting] = value
            taken.add(field)
    _note_left(notes, [f"session_config.{name}" for name in _set_fields(session) if name not in taken])
    return SessionConfig(**given)


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
