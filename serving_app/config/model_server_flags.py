"""The flags of TensorFlow Serving's server: their names, types and defaults, and how a command line is read.

The syntax is that of TensorFlow's own parser (tensorflow/core/util/command_line_flags.cc), which is none of the usual
ones: only `--name=value`, a wrong value ends the server, and an argument that nobody knows does not. What each flag
means here is told by `serving_app.config.model_server`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["bool", "int32", "int64", "float", "string"]


@dataclass(frozen=True, slots=True)
class Flag:
    """One flag. A default that depends on the machine is a function of the number of its CPUs."""

    name: str
    kind: Kind
    default: bool | int | float | str | Callable[[int], int]
    help: str

    def default_for(self, cpus: int) -> bool | int | float | str:
        """The value when nothing is given."""
        return self.default(cpus) if callable(self.default) else self.default


FLAGS = (
    Flag("port", "int32", 8500, "TCP port for gRPC. If 0, gRPC has no TCP port."),
    Flag("grpc_socket_path", "string", "", "If not empty, gRPC is served on this UNIX socket, too."),
    Flag("rest_api_port", "int32", 0, "Port for REST. If 0, there is no REST. Must not be that of gRPC."),
    Flag("rest_api_num_threads", "int32", lambda cpus: 4 * cpus, "Accepted, without effect: REST needs no threads."),
    Flag("rest_api_timeout_in_ms", "int32", 30000, "Timeout for a REST request, in milliseconds. If 0, none."),
    Flag("rest_api_enable_cors_support", "bool", False, "Whether REST answers have CORS headers."),
    Flag("enable_batching", "bool", False, "Whether requests are joined into batches."),
    Flag(
        "allow_version_labels_for_unavailable_models", "bool", False,
        "Whether a new label may name a version that is not available yet.",
    ),
    Flag("batching_parameters_file", "string", "", "File with BatchingParameters in text form; needs enable_batching."),
    Flag(
        "enable_per_model_batching_parameters", "bool", False,
        "Whether each version is batched by the file batching_params.pbtxt in its directory.",
    ),
    Flag(
        "model_config_file", "string", "",
        "File with a ModelServerConfig in text form: the models to serve, instead of model_name and model_base_path.",
    ),
    Flag(
        "model_config_file_poll_wait_seconds", "int32", 0,
        "Seconds between two looks at model_config_file. If 0 or less, it is read once.",
    ),
    Flag("model_name", "string", "default", "Name of the model, without model_config_file."),
    Flag("model_base_path", "string", "", "Base path of the model, without model_config_file."),
    Flag("num_load_threads", "int32", 0, "Versions that may be loading at the same time. If 0, 4."),
    Flag("num_unload_threads", "int32", 0, "Accepted, without effect: versions are unloaded side by side."),
    Flag("max_num_load_retries", "int32", 5, "Tries of a load after the first, before it has failed."),
    Flag("load_retry_interval_micros", "int64", 60_000_000, "Microseconds between two tries of a load."),
    Flag(
        "file_system_poll_wait_seconds", "int32", 1,
        "Seconds between two looks for new versions. If 0, there is one look.",
    ),
    Flag("flush_filesystem_caches", "bool", True, "Accepted, without effect."),
    Flag(
        "tensorflow_session_parallelism", "int64", 0,
        "Threads of a session, for running operations side by side and for each of them. If 0, TensorFlow chooses.",
    ),
    Flag("tensorflow_session_config_file", "string", "", "File with a tensorflow.ConfigProto in text form."),
    Flag(
        "tensorflow_intra_op_parallelism", "int64", 0,
        "Threads that one operation may use. If 0, TensorFlow chooses.",
    ),
    Flag(
        "tensorflow_inter_op_parallelism", "int64", 0,
        "Operations that may run side by side. If 0, TensorFlow chooses.",
    ),
    Flag("use_alts_credentials", "bool", False, "Not offered: Google's ALTS. The server does not start with it."),
    Flag("ssl_config_file", "string", "", "File with an SSLConfig in text form: gRPC is served over TLS."),
    Flag(
        "platform_config_file", "string", "",
        "File with a PlatformConfigMap in text form, which takes the place of the flags for batching and sessions.",
    ),
    Flag("per_process_gpu_memory_fraction", "float", 0.0, "Share of a GPU's memory that a version may take."),
    Flag("saved_model_tags", "string", "serve", "Tags of the graph to load from a SavedModel, separated by commas."),
    Flag("grpc_channel_arguments", "string", "", "Arguments for the gRPC server, as key=value, separated by commas."),
    Flag("grpc_max_threads", "int32", lambda cpus: 4 * cpus, "Accepted, without effect: gRPC needs no threads."),
    Flag("enable_model_warmup", "bool", True, "Whether a version's warm-up requests are run before it takes traffic."),
    Flag("num_request_iterations_for_warmup", "int32", 0, "How often each warm-up request is run. If 0, once."),
    Flag("version", "bool", False, "Print the version and exit."),
    Flag("monitoring_config_file", "string", "", "File with a MonitoringConfig in text form; needs rest_api_port."),
    Flag("remove_unused_fields_from_bundle_metagraph", "bool", True, "Accepted, without effect."),
    Flag("prefer_tflite_model", "bool", False, "Whether model.tflite is served where a version has one."),
    Flag("num_tflite_pools", "int32", lambda cpus: cpus, "TFLite interpreters that run side by side."),
    Flag("num_tflite_interpreters_per_pool", "int32", 1, "TFLite interpreters in each of these pools."),
    Flag(
        "enable_signature_method_name_check", "bool", False,
        "Whether a signature answers only the calls that its method_name is made for.",
    ),
    Flag("xla_cpu_compilation_enabled", "bool", False, "Whether XLA compiles for CPUs."),
    Flag("xla_gpu_compilation_enabled", "bool", False, "Whether XLA compiles for GPUs."),
    Flag("enable_profiler", "bool", True, "Accepted, without effect: there is no profiler service."),
    Flag(
        "thread_pool_factory_config_file", "string", "",
        "Not offered: as in the stock binary, there is no factory that it could configure.",
    ),
    Flag("mixed_precision", "string", "", "If bfloat16, models are run in mixed precision."),
    Flag("skip_initialize_tpu", "bool", False, "Accepted, without effect: there are no TPUs."),
    Flag("enable_grpc_healthcheck_service", "bool", False, "Whether gRPC's health service answers."),
    Flag(
        "enable_serialization_as_tensor_content", "bool", False,
        "Whether gRPC answers carry tensors as bytes instead of lists of values.",
    ),
)
"""All flags of TensorFlow Serving's server, in the order of its usage text."""

OWN_FLAGS = (
    Flag("host", "string", "0.0.0.0", "Address to listen on."),
    Flag(
        "ray_address", "string", "",
        "Ray cluster to join. If empty, one is started on this machine, which ends with the server.",
    ),
    Flag("app_name", "string", "default", "Name of the serving app on the Ray cluster."),
    Flag(
        "placement", "string", "",
        "Where models live: colocated, in the gateway's process, or dedicated, in processes of their own. If empty, "
        "colocated on a machine without GPUs.",
    ),
)
"""What TensorFlow Serving has no flags for."""


@dataclass(frozen=True, slots=True)
class CommandLine:
    """A command line as it was understood: each flag's value, the arguments that are no flags, and what is wrong."""

    values: Mapping[str, Any]
    unknown: tuple[str, ...] = ()
    mistakes: tuple[str, ...] = ()

    @property
    def needs_usage(self) -> bool:
        """Whether the server ends with its usage text: a value could not be read, or the text was asked for."""
        return bool(self.mistakes) or self.unknown[:1] == ("--help",)


def parse_flags(arguments: Sequence[str], cpus: int) -> CommandLine:
    """Read the arguments (without the program's name) on a machine of so many CPUs. Of a repeated flag the last counts.
    """
    flags = {flag.name: flag for flag in (*FLAGS, *OWN_FLAGS)}
    values: dict[str, Any] = {name: flag.default_for(cpus) for name, flag in flags.items()}
    unknown: list[str] = []
    mistakes: list[str] = []
    for at, argument in enumerate(arguments):
        if argument == "--":
            unknown += arguments[at:]
            break
        name, equals, text = argument.removeprefix("--").partition("=")
        flag = flags.get(name) if argument.startswith("--") else None
        if flag is None or not (equals or flag.kind == "bool"):
            unknown.append(argument)
            continue
        try:
            values[name] = _READERS[flag.kind](text if equals else "true")
        except ValueError:
            mistakes.append(f"Couldn't interpret value {argument} for flag {name}.")
    return CommandLine(values, tuple(unknown), tuple(mistakes))


def usage(program: str, cpus: int) -> str:
    """The usage text: every flag with its default, its type and its meaning."""
    return "".join(
        [f"usage: {program}\n", "Flags:\n", *_usage_lines(FLAGS, cpus), "Flags of serving-app:\n",
         *_usage_lines(OWN_FLAGS, cpus)]
    )


def _usage_lines(flags: Sequence[Flag], cpus: int) -> Iterator[str]:
    for flag in flags:
        default = flag.default_for(cpus)
        shown: Mapping[Kind, str] = {
            "bool": str(default).lower(),
            "float": f"{default:f}" if isinstance(default, float) else "",
            "string": f'"{default}"',
        }
        given = f"--{flag.name}={shown.get(flag.kind, default)}"
        yield f"\t{given:<33}\t{flag.kind}\t{flag.help}\n"


# --- values ----------------------------------------------------------------------------------------------------------


def _read_bool(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError(text)
    return text == "true"


def _read_integer(bits: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        # Blanks before a number are skipped, as by scanf; int() alone would take underscores and blanks after it.
        if not re.fullmatch(r"\s*[+-]?[0-9]+", text, re.ASCII):
            raise ValueError(text)
        number = int(text)
        if not -(1 << bits - 1) <= number < 1 << bits - 1:
            raise ValueError(text)
        return number

    return read


def _read_float(text: str) -> float:
    if not re.fullmatch(r"\s*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", text, re.ASCII):
        raise ValueError(text)
    return float(text)


def _read_text(text: str) -> str:
    text.encode()  # bytes of the command line that are no UTF-8 came as halves of surrogate pairs: a ValueError
    return text


_READERS: Mapping[Kind, Callable[[str], Any]] = {
    "bool": _read_bool,
    "int32": _read_integer(32),
    "int64": _read_integer(64),
    "float": _read_float,
    "string": _read_text,
}
