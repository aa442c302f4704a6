"""The configuration that the flags of TensorFlow Serving's server mean, and the files that they name.

A flag that sets one thing means what `SHORT_ARGUMENTS` says; here is what those mean that need one another or a file.
Checks, their order and their sentences are those of model_servers/server.cc.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from serving_app.config.batching import BatchingConfig
from serving_app.config.conversion import Conversion, read_batching, read_platforms
from serving_app.config.locations import is_absolute
from serving_app.config.model import ModelConfig
from serving_app.config.model_server_config import TENSORFLOW, read_model_server_config, to_models
from serving_app.config.model_server_flags import FLAGS
from serving_app.config.monitoring import read_monitoring
from serving_app.config.parsing import parse, revise
from serving_app.config.plan import replace_models
from serving_app.config.proto_text import parse_proto_text, write_proto_text
from serving_app.config.serving import ServingConfig
from serving_app.config.settings import Settings
from serving_app.config.short_arguments import DEFAULT, SHORT_ARGUMENTS
from serving_app.config.ssl_config import parse_ssl_config
from serving_app.core.errors import InvalidArgument, Unimplemented
from serving_app.protocol import messages

Read = Callable[[str], str]
"""Gives the text of a file, by its absolute path or URI; raises a ServingError."""

FILE_FLAGS = tuple(flag.name for flag in FLAGS if flag.name.endswith("_file"))
"""The flags that name a file."""

_PATHS = (*FILE_FLAGS, "grpc_socket_path")

_COMBINED = (
    "model_name",
    "model_base_path",
    "model_config_file_poll_wait_seconds",
    "enable_batching",
    "mixed_precision",
    "num_tflite_pools",
    "tensorflow_session_parallelism",
    "tensorflow_intra_op_parallelism",
    "tensorflow_inter_op_parallelism",
)
"""Flags that SHORT_ARGUMENTS knows, but whose meaning for a server depends on others."""

_PLATFORMS_OWN = ("tags", "session", "batching", "warmup", "prefer_tflite", "tflite")
"""Settings of a model that `--platform_config_file` decides, if it is given, and the flags do not."""


_GIVE_UP_S = 10.0

_GPU_SHARE = 0.001
"""Of a GPU, for each version: Ray shows a process only a GPU of which it has reserved something."""


def to_config(values: Mapping[str, Any], read: Read, folder: str) -> Conversion:
    """The configuration for these values of all flags, and what of them it leaves out.

    `read` reads the files that they name; relative paths are taken from `folder`. Raises what ends the server.
    """
    values = {**values, **{name: _absolute(values[name], folder) for name in _PATHS}}
    check_flags(values)
    notes: list[str] = []
    gateway = {"host": values["host"], "open_when_loaded": True, "grpc_timeout_s": None}
    whole: dict[str, Any] = {"gateway": gateway, "load": {}}
    # There what a directory lacks is an error at once; here a moment later, and a load is tried again when it comes.
    defaults: dict[str, Any] = {"give_up_s": _GIVE_UP_S, "placement": values["placement"] or "colocated"}
    for name, argument in SHORT_ARGUMENTS.items():
        if name not in values or name in _COMBINED or name == "host":
            continue
        turned = argument.turn(f"--{name}", values[name])
        for setting in argument.settings if turned is not DEFAULT else ():
            _place(setting, turned, whole, defaults)
    if values["rest_api_port"] == values["port"] != 0:
        notes.append(f"REST is not served: --rest_api_port and --port are both {values['port']}")
        whole["gateway"]["rest_port"] = None
    whole["gateway"]["metrics_path"] = _find_metrics_path(values, read)
    whole["allow_version_labels_for_unavailable_models"] = values["allow_version_labels_for_unavailable_models"]
    if values["ssl_config_file"] and not values["ray_address"]:  # else it is read on the gateway's node alone
        parse_ssl_config(read(values["ssl_config_file"]), values["ssl_config_file"])
    models = _read_models(values, read)
    _combine(values, read, defaults, notes)
    if values["platform_config_file"]:
        _take_platforms(values["platform_config_file"], read, defaults, notes, models)
    if values["model_config_file"] and values["model_config_file_poll_wait_seconds"] > 0:
        whole["model_config_file"] = values["model_config_file"]
        whole["model_config_file_poll_s"] = values["model_config_file_poll_wait_seconds"]
    config = parse({**whole, "model_defaults": _plain(defaults)}, "The command line")
    return Conversion(replace_models(config, to_models(models, config)), tuple(notes))


def check_flags(values: Mapping[str, Any]) -> None:
    """Raise what ends the server where flags cannot be together."""
    if values["port"] == 0 and not values["grpc_socket_path"]:
        raise InvalidArgument(
            "At least one of server_options.grpc_port or server_options.grpc_socket_path must be set."
        )
    if values["use_alts_credentials"] and values["ssl_config_file"]:
        raise InvalidArgument("Either use_alts_credentials must be false or ssl_config_file must be empty.")
    if not values["model_base_path"] and not values["model_config_file"]:
        raise InvalidArgument("Both server_options.model_base_path and server_options.model_config_file are empty!")
    if values["batching_parameters_file"] and not values["enable_batching"]:
        raise InvalidArgument(
            "server_options.batching_parameters_file is set without setting server_options.enable_batching to true."
        )
    if values["placement"] not in ("", "colocated", "dedicated"):
        raise InvalidArgument(f"--placement is {values['placement']}; it must be colocated, dedicated or empty")
    parallelism = ("session", "intra_op", "inter_op")
    if all(values[f"tensorflow_{kind}_parallelism"] > 0 for kind in parallelism):
        raise InvalidArgument(
            "Either configure server_options.tensorflow_session_parallelism or "
            "(server_options.tensorflow_intra_op_parallelism, server_options.tensorflow_inter_op_parallelism) "
            "separately. You cannot configure all."
        )
    if values["use_alts_credentials"]:
        raise Unimplemented("--use_alts_credentials is not offered; use --ssl_config_file for TLS")
    if values["thread_pool_factory_config_file"]:
        raise Unimplemented("--thread_pool_factory_config_file is not offered: there is no factory to configure")


def share_machine(config: ServingConfig, *, has_gpus: bool) -> ServingConfig:
    """The configuration in which models reserve nothing, for a machine that is the server's alone.

    As in TensorFlow Serving all of them then see the first GPU, if there is one to be used; each is a process then, so
    memory of the GPU is taken as it is needed, unless the flags give each version a share of it.
    """
    models = tuple(revise(each, f"Model {each.name}", **_shared(each, has_gpus)) for each in config.models)
    later = _shared(ModelConfig.model_validate({**config.model_defaults, "base_path": "/any"}), has_gpus)
    defaults = {**config.model_defaults, **_plain(later)}
    return revise(config, "The configuration", models=models, model_defaults=defaults)


def _shared(model: ModelConfig, has_gpus: bool) -> dict[str, Any]:
    if not has_gpus:
        return {"num_cpus": 0.0}
    session = model.session
    if session.gpu_memory_fraction is None:
        session = revise(session, "session", gpu_memory_fraction=1.0, gpu_allow_growth=True)
    return {"num_cpus": 0.0, "num_gpus": _GPU_SHARE, "placement": "dedicated", "session": session}


# --- the steps -------------------------------------------------------------------------------------------------------


def _absolute(path: str, folder: str) -> str:
    return path if not path or is_absolute(path) else f"{folder.rstrip('/')}/{path}"


def _place(setting: str, value: Any, whole: dict[str, Any], defaults: dict[str, Any]) -> None:
    group, _, name = setting.rpartition(".")
    if group == "model":
        defaults[name] = value
    elif group.startswith("model."):
        defaults.setdefault(group.removeprefix("model."), {})[name] = value
    elif group:
        whole[group][name] = value
    else:
        whole[name] = value


def _find_metrics_path(values: Mapping[str, Any], read: Read) -> str | None:
    file = values["monitoring_config_file"]
    return read_monitoring(read(file), file) if file and values["rest_api_port"] else None


def _read_models(values: Mapping[str, Any], read: Read) -> Any:
    """The ModelServerConfig of the file, or one that lists the one model of the flags."""
    file = values["model_config_file"]
    if file:
        return read_model_server_config(read(file), file)
    config = messages.ModelServerConfig()
    config.model_config_list.config.add(
        name=values["model_name"], base_path=values["model_base_path"], model_platform=TENSORFLOW
    )
    return config


def _combine(values: Mapping[str, Any], read: Read, defaults: dict[str, Any], notes: list[str]) -> None:
    """Put the settings of models to the defaults that depend on several flags, or on a file."""
    if values["enable_batching"] or values["enable_per_model_batching_parameters"]:
        file = values["batching_parameters_file"]
        batching = read_batching(read(file), file) if file else BatchingConfig()
        defaults["batching"] = revise(
            batching, "batching",
            enable_per_model_batching_parameters=values["enable_per_model_batching_parameters"],
        )
    session = defaults.setdefault("session", {})
    threads = values["tensorflow_session_parallelism"]
    intra, inter = values["tensorflow_intra_op_parallelism"], values["tensorflow_inter_op_parallelism"]
    if intra <= 0 and inter <= 0:
        intra = inter = max(0, threads)
    session.update(intra_op_parallelism=max(0, intra), inter_op_parallelism=max(0, inter))
    if file := values["tensorflow_session_config_file"]:
        base = parse_proto_text(read(file), messages.ConfigProto(), file)
        session["config_proto"] = write_proto_text(base)
    if values["xla_cpu_compilation_enabled"] or values["xla_gpu_compilation_enabled"]:
        session["xla"] = True
    if values["mixed_precision"] == "bfloat16":
        session["mixed_precision"] = "bfloat16"
    elif values["mixed_precision"]:
        notes.append(f"--mixed_precision={values['mixed_precision']} has no effect: only bfloat16 has")
    pools, each = values["num_tflite_pools"], values["num_tflite_interpreters_per_pool"]
    defaults["tflite"] = {"interpreters": max(1, pools) * max(1, each)}


def _take_platforms(file: str, read: Read, defaults: dict[str, Any], notes: list[str], models: Any) -> None:
    """Let the file's platform take the place of all flags for batching and sessions."""
    settings = read_platforms(read(file), file, notes)
    unsupported = [each.name for each in models.model_config_list.config if ":" not in each.model_platform]
    if settings is None and unsupported:
        raise InvalidArgument(f"Model {unsupported[0]} requests unsupported platform {TENSORFLOW}")  # server_core.cc
    for name in _PLATFORMS_OWN:
        defaults.pop(name, None)
    defaults.update(settings or {})


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings as texts, numbers, lists and mappings, in which a configuration is kept."""
    return {
        name: value.model_dump(mode="json", exclude_defaults=True) if isinstance(value, Settings) else value
        for name, value in settings.items()
    }
