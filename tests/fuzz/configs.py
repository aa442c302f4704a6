"""Targets that read what operators write: YAML, TensorFlow Serving's text files, flags."""

from __future__ import annotations

from typing import Any

import yaml
from hypothesis import strategies as st

from serving_app.config import (
    GatewayConfig,
    LoadConfig,
    ModelConfig,
    ServingConfig,
    convert,
    from_args,
    parse_yaml,
    read_any,
    read_edit,
    to_yaml,
)
from serving_app.config.model_server import to_config
from serving_app.config.model_server_flags import FLAGS, parse_flags
from serving_app.config.settings import Settings
from serving_app.core.errors import NotFound, ServingError
from tests.conformance.models import FLAGS as SUITE_FLAGS
from tests.conformance.models import MODELS_TEXT
from tests.fuzz.codecs import refuse_our_faults
from tests.fuzz.inputs import edited

# --- YAML ------------------------------------------------------------------------------------------------------------

_EVERYTHING = to_yaml(
    parse_yaml(
        """
models:
  line: {base_path: /models/line, version_policy: all, labels: {stable: 1}, batching: {max_batch_size: 8}}
  other: s3://bucket/other
  third: {base_path: gs://bucket/third, version_policy: {specific: [1, 2]}, warmup: {iterations: 2}, num_gpus: 0.5}
gateway: {replicas: 2, grpc_channel_arguments: {a: 1}, max_request_bytes: 1 MiB}
load: {retry_base_s: 0.5}
""",
        "the seed",
    )
)
_SHORT = b"models:\n  m: /models/m\n  n: {base_path: /models/n, replicas: 2}\ngateway:\n  rest_port: 8601\n"
_ANCHORS = b"a: &a {x: 1}\nmodels: {m: {<<: *a, base_path: /m}, n: *a}\n"

_VALUES = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=6),
        st.sampled_from(("1 GiB", "/m", "s3://b/m", "all", "1", "1e3", "{stable: 1}", "[1, 2]", "float('x')", "a:b")),
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=3),
    max_leaves=5,
)


def _given(settings: type[Settings], *, more: dict[str, st.SearchStrategy[Any]] | None = None) -> Any:
    """Some of the settings of a group, with values that may be anything."""
    names = dict.fromkeys(settings.model_fields, _VALUES)
    return st.fixed_dictionaries({}, optional={**names, **(more or {})})


_MODELS = st.dictionaries(
    st.sampled_from(("m", "n", "a/b", "")), st.just("/m") | _given(ModelConfig, more={"base_path": st.just("/m")}),
    max_size=2,
)
_CONFIGURATIONS = _given(
    ServingConfig, more={"models": _MODELS, "gateway": _given(GatewayConfig), "load": _given(LoadConfig)}
).map(lambda data: yaml.safe_dump(data, allow_unicode=True).encode("utf-8", "replace"))

YAML = _CONFIGURATIONS | edited([_EVERYTHING.encode(), _SHORT, _ANCHORS, MODELS_TEXT.encode()])


def check_yaml(encoded: bytes) -> None:
    """A configuration is refused with what is wrong in it, or can be written and read again."""
    text = encoded.decode("utf-8", "replace")
    try:
        config = read_any(text, "The file")
        edited_config = read_edit(text, "The file", ServingConfig())
    except ServingError as error:
        refuse_our_faults(error)
        return
    if isinstance(config, ServingConfig):
        assert parse_yaml(to_yaml(edited_config), "The copy") == edited_config


# --- TensorFlow Serving's files --------------------------------------------------------------------------------------

_BATCHING = b"""max_batch_size { value: 128 } batch_timeout_micros { value: 1000 } num_batch_threads { value: 4 }
allowed_batch_sizes: 32 allowed_batch_sizes: 128 enable_large_batch_splitting { value: true }
max_execution_batch_size { value: 64 } pad_variable_length_inputs: true"""
_MONITORING = b'prometheus_config { enable: true path: "/metrics" }'
_PLATFORMS = b"""platform_configs { key: "tensorflow" value { source_adapter_config {
  [type.googleapis.com/tensorflow.serving.SavedModelBundleSourceAdapterConfig] { legacy_config {
    batching_parameters { max_batch_size { value: 8 } } saved_model_tags: "serve"
    session_config { intra_op_parallelism_threads: 2 gpu_options { per_process_gpu_memory_fraction: 0.5 } }
  } } } } }"""

TEXTS = edited([MODELS_TEXT.encode(), _BATCHING, _MONITORING, _PLATFORMS])


def check_text(encoded: bytes) -> None:
    """Each of the files that TensorFlow Serving's flags name is refused, or means a configuration."""
    text = encoded.decode("utf-8", "replace")
    for texts in ((text,), (MODELS_TEXT, text), (MODELS_TEXT, None, text), (MODELS_TEXT, None, None, text)):
        try:
            convert(*texts)
        except ServingError as error:
            refuse_our_faults(error)


# --- flags -----------------------------------------------------------------------------------------------------------

_LINES = [
    " ".join(SUITE_FLAGS).encode(),
    b"--port=8500 --rest_api_port=8501 --model_name=m --model_base_path=/models/m --enable_batching",
    b"--model_base_path=/m --enable_batching=true --batching_parameters_file=/f --platform_config_file=/f",
    b"--model_base_path=/m --ssl_config_file=/f --monitoring_config_file=/f --tensorflow_session_config_file=/f",
    b"--model_base_path=/m --grpc_channel_arguments=a=1,b=c --saved_model_tags=serve,gpu --mixed_precision=bfloat16",
    *(f"--model_base_path=/m --{flag.name}={value}".encode() for flag in FLAGS for value in ("1", "true", "x")),
]

COMMAND_LINES = st.tuples(edited(_LINES), TEXTS)


def check_flags(given: tuple[bytes, bytes]) -> None:
    """A command line is refused, or means a configuration; so do the arguments of the application."""
    line, file = (part.decode("utf-8", "replace") for part in given)

    def read(path: str) -> str:
        if "missing" in path:
            raise NotFound(path)
        return file

    command = parse_flags(line.split(" "), cpus=4)
    try:
        if not command.needs_usage:
            to_config(command.values, read, "/folder")
    except ServingError as error:
        refuse_our_faults(error)
    pairs = (argument.removeprefix("--").partition("=") for argument in line.split(" "))
    try:
        from_args({name: value for name, _, value in pairs})
    except ServingError as error:
        refuse_our_faults(error)
