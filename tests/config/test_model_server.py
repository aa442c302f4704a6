"""What each flag of TensorFlow Serving's server means, alone and with others."""

from __future__ import annotations

import re
from typing import Any

import pytest

from serving_app.config import ConfigError, ModelConfig, ServingConfig
from serving_app.config.conversion import Conversion
from serving_app.config.model_server import share_machine, to_config
from serving_app.config.model_server_flags import parse_flags
from serving_app.config.proto_text import ProtoTextError
from serving_app.core.errors import FailedPrecondition, InvalidArgument, NotFound, ServingError, Unimplemented

MODEL = ("--model_base_path=/m",)
CPUS = 3


def convert(*arguments: str, **files: str) -> Conversion:
    """The configuration of a command line in the folder /here, where these files are."""

    def read(path: str) -> str:
        name = path.removeprefix("/here/")
        if name not in files:
            raise NotFound(f"{path}; No such file or directory")
        return files[name]

    line = parse_flags(arguments, CPUS)
    assert line.unknown == line.mistakes == ()
    return to_config(line.values, read, "/here")


def config(*arguments: str, **files: str) -> ServingConfig:
    conversion = convert(*arguments, **files)
    assert conversion.notes == ()
    return conversion.config


def model(*arguments: str, **files: str) -> ModelConfig:
    """The one model of a command line, whose settings are those of every model that comes later."""
    whole = config(*MODEL, *arguments, **files)
    (one,) = whole.models
    later = ModelConfig.model_validate({"base_path": "/m", **whole.model_defaults})
    assert later == one
    return one


def setting(whole: Any, path: str) -> Any:
    for name in path.split("."):
        whole = getattr(whole, name)
    return whole


def test_defaults() -> None:
    """With nothing but a base path it serves as TensorFlow Serving does: gRPC everywhere at 8500, and nothing else."""
    whole = config(*MODEL)
    assert [(each.name, each.base_path, each.platform) for each in whole.models] == [("default", "/m", "tensorflow")]
    gateway = whole.gateway
    assert (gateway.host, gateway.grpc_port, gateway.rest_port) == ("0.0.0.0", 8500, None)
    assert (gateway.grpc_socket_path, gateway.ssl_config_file, gateway.metrics_path) == (None, None, None)
    assert (gateway.open_when_loaded, gateway.grpc_health, gateway.rest_cors) == (True, False, False)
    assert (whole.load.quick_retries, whole.load.retry_base_s, whole.load.retry_max_s) == (5, 60.0, 60.0)
    assert (gateway.request_timeout_s, gateway.grpc_timeout_s) == (30.0, None)
    assert (whole.poll_interval_s, whole.model_config_file) == (1.0, None)


@pytest.mark.parametrize(
    ("flag", "path", "value"),
    [
        ("--port=9000", "gateway.grpc_port", 9000),
        ("--grpc_socket_path=/run/s", "gateway.grpc_socket_path", "/run/s"),
        ("--grpc_socket_path=s", "gateway.grpc_socket_path", "/here/s"),
        ("--rest_api_port=8501", "gateway.rest_port", 8501),
        ("--rest_api_timeout_in_ms=250", "gateway.request_timeout_s", 0.25),
        ("--rest_api_timeout_in_ms=0", "gateway.request_timeout_s", None),
        ("--rest_api_timeout_in_ms=-1", "gateway.request_timeout_s", None),
        ("--rest_api_enable_cors_support", "gateway.rest_cors", True),
        ("--ssl_config_file=ssl --ray_address=head:6379", "gateway.ssl_config_file", "/here/ssl"),
        ("--grpc_channel_arguments=a=1,b=x,c=2147483648", "gateway.grpc_channel_arguments",
         {"a": 1, "b": "x", "c": "2147483648"}),
        ("--enable_grpc_healthcheck_service", "gateway.grpc_health", True),
        ("--enable_serialization_as_tensor_content", "gateway.tensor_content", True),
        ("--enable_signature_method_name_check", "gateway.check_method_names", True),
        ("--host=127.0.0.1", "gateway.host", "127.0.0.1"),
        ("--allow_version_labels_for_unavailable_models", "allow_version_labels_for_unavailable_models", True),
        ("--num_load_threads=9", "load.max_concurrent_loads", 9),
        ("--num_load_threads=0", "load.max_concurrent_loads", 4),
        ("--max_num_load_retries=0", "load.quick_retries", 0),
        ("--load_retry_interval_micros=500000", "load.retry_base_s", 0.5),
        ("--load_retry_interval_micros=500000", "load.retry_max_s", 0.5),
        ("--load_retry_interval_micros=-1", "load.retry_base_s", 0.001),
        ("--file_system_poll_wait_seconds=7", "poll_interval_s", 7.0),
        ("--file_system_poll_wait_seconds=0", "poll_interval_s", 0.0),
    ],
)
def test_flags_of_the_whole(flag: str, path: str, value: Any) -> None:
    """Each of these flags is one setting."""
    assert setting(config(*MODEL, *re.split(" (?=--)", flag)), path) == value


@pytest.mark.parametrize(
    ("flags", "path", "value"),
    [
        ("--saved_model_tags=serve,gpu", "tags", ("serve", "gpu")),
        ("--enable_model_warmup=false", "warmup.enabled", False),
        ("--num_request_iterations_for_warmup=3", "warmup.iterations", 3),
        ("--num_request_iterations_for_warmup=0", "warmup.iterations", 1),
        ("--per_process_gpu_memory_fraction=0.5", "session.gpu_memory_fraction", 0.5),
        ("--per_process_gpu_memory_fraction=0", "session.gpu_memory_fraction", None),
        ("--tensorflow_session_parallelism=2", "session.intra_op_parallelism", 2),
        ("--tensorflow_session_parallelism=2", "session.inter_op_parallelism", 2),
        ("--tensorflow_intra_op_parallelism=2", "session.inter_op_parallelism", 0),
        ("--tensorflow_session_parallelism=2 --tensorflow_intra_op_parallelism=4", "session.intra_op_parallelism", 4),
        ("--tensorflow_session_parallelism=2 --tensorflow_intra_op_parallelism=4", "session.inter_op_parallelism", 0),
        ("--xla_cpu_compilation_enabled", "session.xla", True),
        ("--xla_gpu_compilation_enabled", "session.xla", True),
        ("", "session.xla", None),
        ("--mixed_precision=bfloat16", "session.mixed_precision", "bfloat16"),
        ("--prefer_tflite_model", "prefer_tflite", True),
        ("", "tflite.interpreters", CPUS),
        ("--num_tflite_pools=2 --num_tflite_interpreters_per_pool=4", "tflite.interpreters", 8),
        ("", "batching", None),
        ("--enable_batching", "batching.max_batch_size", 1000),
        ("--enable_batching --batching_parameters_file=b", "batching.max_batch_size", 64),
        ("--enable_batching --enable_per_model_batching_parameters",
         "batching.enable_per_model_batching_parameters", True),
        ("--enable_per_model_batching_parameters", "batching.enable_per_model_batching_parameters", True),
        ("--tensorflow_session_config_file=s", "session.config_proto", "allow_soft_placement: true\n"),
        ("--tensorflow_session_config_file=s", "session.intra_op_parallelism", 0),
        ("--platform_config_file=p --saved_model_tags=serve,gpu --enable_batching", "tags", ("tpu",)),
        ("--platform_config_file=p --enable_batching", "batching", None),
        ("--platform_config_file=p", "warmup.enabled", False),
    ],
)
def test_flags_of_models(flags: str, path: str, value: Any) -> None:
    """Each of these flags is a setting of every model, also of those that are added later."""
    adapter = "type.googleapis.com/tensorflow.serving.SavedModelBundleSourceAdapterConfig"
    platform = f'platform_configs {{ key: "tensorflow" value {{ source_adapter_config {{ [{adapter}] ' \
        '{ legacy_config { saved_model_tags: "tpu" } } } } }'
    files = {"b": "max_batch_size { value: 64 }", "s": "allow_soft_placement: true", "p": platform}
    assert setting(model(*flags.split(), **files), path) == value


@pytest.mark.parametrize(
    ("flags", "has_gpus", "expected"),
    [
        ("", False, "colocated"),
        ("", True, "dedicated"),
        ("--placement=dedicated", False, "dedicated"),
        ("--placement=colocated", False, "colocated"),
    ],
)
def test_where_models_live(flags: str, has_gpus: bool, expected: str) -> None:
    """Without a GPU models live where requests come in, unless a flag says something else."""
    whole = share_machine(config(*MODEL, *flags.split()), has_gpus=has_gpus)
    assert [each.placement for each in whole.models] == [expected]
    assert ModelConfig.model_validate({"base_path": "/m", **whole.model_defaults}).placement == expected


MODELS = 'model_config_list { config { name: "a" base_path: "/a" model_platform: "tensorflow" } }'


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ((), (None, 10.0)),
        (("--model_config_file_poll_wait_seconds=-1",), (None, 10.0)),
        (("--model_config_file_poll_wait_seconds=5",), ("/here/models", 5.0)),
    ],
)
def test_the_file_of_models(flags: tuple[str, ...], expected: tuple[str | None, float]) -> None:
    """A file of models goes before the flags of the one model, and is watched only if there is an interval."""
    whole = config(*MODEL, "--model_config_file=models", "--enable_batching", *flags, models=MODELS)
    assert [each.name for each in whole.models] == ["a"]
    assert whole.models[0].batching is not None
    assert (whole.model_config_file, whole.model_config_file_poll_s) == expected


@pytest.mark.parametrize("text", ["", "model_config_list {}"])
def test_a_file_without_models(text: str) -> None:
    """A file that says nothing starts a server that has no models yet."""
    assert config("--model_config_file=models", models=text).models == ()


@pytest.mark.parametrize(
    ("flags", "text", "path"),
    [
        ("--rest_api_port=8501", "", None),
        ("--rest_api_port=8501 --monitoring_config_file=f", "prometheus_config { enable: true }",
         "/monitoring/prometheus/metrics"),
        ("--rest_api_port=8501 --monitoring_config_file=f", "prometheus_config { enable: true path: '/x' }", "/x"),
        ("--rest_api_port=8501 --monitoring_config_file=f", "prometheus_config { path: '/x' }", None),
        ("--monitoring_config_file=f", "this is not read without a port", None),
    ],
)
def test_metrics(flags: str, text: str, path: str | None) -> None:
    """Metrics are shown where the monitoring file says so, and only beside REST."""
    assert config(*MODEL, *flags.split(), f=text).gateway.metrics_path == path


@pytest.mark.parametrize(
    ("flags", "note", "rest_port"),
    [
        ("--port=9000 --rest_api_port=9000", "REST is not served: --rest_api_port and --port are both 9000", None),
        ("--mixed_precision=float16", "--mixed_precision=float16 has no effect: only bfloat16 has", None),
    ],
)
def test_what_is_not_fatal(flags: str, note: str, rest_port: int | None) -> None:
    """What TensorFlow Serving complains of and lives with is told, and the server starts."""
    conversion = convert(*MODEL, *flags.split())
    assert conversion.notes == (note,)
    assert conversion.config.gateway.rest_port == rest_port


BOTH_EMPTY = "Both server_options.model_base_path and server_options.model_config_file are empty!"


@pytest.mark.parametrize(
    ("flags", "error", "message"),
    [
        ("", InvalidArgument, BOTH_EMPTY),
        ("--port=0", InvalidArgument,
         "At least one of server_options.grpc_port or server_options.grpc_socket_path must be set."),
        ("--port=0 --grpc_socket_path=/s", InvalidArgument, BOTH_EMPTY),
        ("--use_alts_credentials --ssl_config_file=x", InvalidArgument,
         "Either use_alts_credentials must be false or ssl_config_file must be empty."),
        ("--model_base_path=/m --batching_parameters_file=b", InvalidArgument,
         "server_options.batching_parameters_file is set without setting server_options.enable_batching to true."),
        ("--model_base_path=/m --tensorflow_session_parallelism=1 --tensorflow_intra_op_parallelism=1 "
         "--tensorflow_inter_op_parallelism=1", InvalidArgument,
         "Either configure server_options.tensorflow_session_parallelism or "
         "(server_options.tensorflow_intra_op_parallelism, server_options.tensorflow_inter_op_parallelism) "
         "separately. You cannot configure all."),
        ("--model_base_path=/m --ssl_config_file=empty", ConfigError,
         "/here/empty: server_key is missing; give it the PEM text itself, with \\n for its line breaks"),
        ("--model_base_path=m", InvalidArgument,
         "Expected model default to have an absolute path or URI; got base_path()=m"),
        ("--model_config_file=missing", NotFound, "/here/missing; No such file or directory"),
        ("--model_config_file=twice", InvalidArgument, "Illegal to list model a multiple times in config list"),
        ("--model_config_file=custom", FailedPrecondition,
         "Cannot transition to requested config. It is only legal to transition from one ModelConfigList to another."),
        ("--model_config_file=models --platform_config_file=empty", InvalidArgument,
         "Model a requests unsupported platform tensorflow"),
        ("--model_config_file=caffe", InvalidArgument, "Model a requests unsupported platform caffe"),
        ("--model_base_path=/m --placement=here", InvalidArgument,
         "--placement is here; it must be colocated, dedicated or empty"),
        ("--model_base_path=/m --use_alts_credentials", Unimplemented,
         "--use_alts_credentials is not offered; use --ssl_config_file for TLS"),
        ("--model_base_path=/m --thread_pool_factory_config_file=x", Unimplemented,
         "--thread_pool_factory_config_file is not offered: there is no factory to configure"),
        ("--model_base_path=/m --grpc_channel_arguments=a=1,b", ConfigError,
         "--grpc_channel_arguments: 'b' is not written as key=value, such as grpc.max_connection_age_ms=2000"),
        ("--model_base_path=/m --file_system_poll_wait_seconds=-1", ConfigError,
         "--file_system_poll_wait_seconds: -1 would never look for versions; write 0 to look once, or seconds"),
    ],
)
def test_what_ends_the_server(flags: str, error: type[ServingError], message: str) -> None:
    """What cannot be is refused before anything starts, in TensorFlow Serving's words where it has some."""
    entry = MODELS.removeprefix("model_config_list { ").removesuffix(" }")
    files = {
        "models": MODELS, "empty": "", "twice": f"model_config_list {{ {entry} {entry} }}",
        "custom": "custom_model_config {}", "caffe": MODELS.replace("tensorflow", "caffe"),
    }
    with pytest.raises(error) as caught:
        convert(*flags.split(), **files)
    assert caught.value.message == message


@pytest.mark.parametrize(
    ("flag", "needs", "message"),
    [
        ("model_config_file", "", "tensorflow.serving.ModelServerConfig"),
        ("batching_parameters_file", "--enable_batching", "tensorflow.serving.BatchingParameters"),
        ("tensorflow_session_config_file", "", "tensorflow.ConfigProto"),
        ("platform_config_file", "", "tensorflow.serving.PlatformConfigMap"),
        ("monitoring_config_file", "--rest_api_port=1", "tensorflow.serving.MonitoringConfig"),
    ],
)
def test_files_that_cannot_be_read(flag: str, needs: str, message: str) -> None:
    """Of a file that is no text of its message the error names the file, and protobuf's own line is at hand."""
    with pytest.raises(ProtoTextError, match=r"^Invalid protobuf file: '/here/bad'") as caught:
        convert(*MODEL, f"--{flag}=bad", *needs.split(), bad="nonsense: {")
    assert caught.value.parser_line.startswith(f"Error parsing text-format {message}: 1:1: ")


@pytest.mark.parametrize(
    ("flags", "has_gpus", "gpus", "memory"),
    [
        ("--enable_batching", False, 0.0, (None, None)),
        ("--enable_batching", True, 0.001, (1.0, True)),
        ("--enable_batching --per_process_gpu_memory_fraction=0.5", True, 0.001, (0.5, None)),
    ],
)
def test_a_machine_of_its_own(
    flags: str, has_gpus: bool, gpus: float, memory: tuple[float | None, bool | None]
) -> None:
    """On a machine of its own models reserve nothing, so that any number fits, and all of them see its GPU."""
    whole = share_machine(config(*MODEL, *flags.split()), has_gpus=has_gpus)
    (one,) = whole.models
    assert (one.num_cpus, one.num_gpus, one.batching is None) == (0.0, gpus, False)
    assert (one.session.gpu_memory_fraction, one.session.gpu_allow_growth) == memory
    assert ModelConfig.model_validate({"base_path": "/m", **whole.model_defaults}) == one
