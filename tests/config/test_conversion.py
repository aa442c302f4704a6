"""TensorFlow Serving's files as a configuration of ours, with notes about what was left out."""

from __future__ import annotations

from typing import Any

import pytest

from serving_app.config import (
    BatchingConfig,
    ConfigError,
    ModelConfig,
    SessionConfig,
    convert,
    parse_yaml,
    to_yaml,
)
from serving_app.config.model import TfliteConfig, WarmupConfig
from serving_app.core.errors import InvalidArgument

MODELS = """
model_config_list {
  config { name: "m" base_path: "/m" model_platform: "tensorflow" }
  config { name: "own" base_path: "/own" model_platform: "my.package:Loader" }
}
"""


def platform(bundle: str) -> str:
    """A PlatformConfigMap whose platform `tensorflow` has this SessionBundleConfig."""
    adapter = "type.googleapis.com/tensorflow.serving.SavedModelBundleSourceAdapterConfig"
    value = f"source_adapter_config {{ [{adapter}] {{ legacy_config {{ {bundle} }} }} }}"
    return f'platform_configs {{ key: "tensorflow" value {{ {value} }} }}'


def converted(**texts: str) -> tuple[ModelConfig, tuple[str, ...]]:
    """The model `m` of a conversion, and the notes."""
    conversion = convert(MODELS, **texts)
    model, own = conversion.config.models
    assert own == ModelConfig(name="own", base_path="/own", platform="my.package:Loader")
    assert parse_yaml(to_yaml(conversion.config)) == conversion.config
    return model, conversion.notes


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        ("max_batch_size { value: 128 }", {"max_batch_size": 128}),
        ("batch_timeout_micros { value: 0 } max_enqueued_batches { value: 7 }", {"max_enqueued_batches": 7}),
        (
            "max_batch_size { value: 8 } allowed_batch_sizes: [2, 8] pad_variable_length_inputs: true",
            {"max_batch_size": 8, "allowed_batch_sizes": (2, 8), "pad_variable_length_inputs": True},
        ),
        (
            "max_batch_size { value: 8 } enable_large_batch_splitting { value: true } "
            "max_execution_batch_size { value: 4 } num_batch_threads { value: 2 } thread_pool_name { value: 'p' }",
            {
                "max_batch_size": 8,
                "enable_large_batch_splitting": True,
                "max_execution_batch_size": 4,
                "num_batch_threads": 2,
                "thread_pool_name": "p",
            },
        ),
    ],
)
def test_batching(text: str, expected: dict[str, Any]) -> None:
    """Batching parameters become the batching of every SavedModel, all of them and without notes."""
    model, notes = converted(batching_text=text)
    assert (model.batching, notes) == (BatchingConfig(**expected), ())


@pytest.mark.parametrize(
    ("bundle", "expected"),
    [
        ("", {}),
        ("saved_model_tags: ['serve', 'gpu']", {"tags": ("serve", "gpu")}),
        (
            "session_config { intra_op_parallelism_threads: 2 inter_op_parallelism_threads: 3 "
            "allow_soft_placement: true gpu_options { per_process_gpu_memory_fraction: 0.5 allow_growth: true } }",
            {
                "session": SessionConfig(
                    intra_op_parallelism=2, inter_op_parallelism=3, gpu_memory_fraction=0.5, gpu_allow_growth=True
                )
            },
        ),
        (
            "session_config { inter_op_parallelism_threads: -1 allow_soft_placement: true "
            "gpu_options { per_process_gpu_memory_fraction: 2 allow_growth: true } }",
            {
                "session": SessionConfig(
                    gpu_allow_growth=True,
                    config_proto="inter_op_parallelism_threads: -1\n"
                    "gpu_options {\n  per_process_gpu_memory_fraction: 2.0\n}\n",
                )
            },
        ),
        ("mixed_precision: 'bfloat16'", {"session": SessionConfig(mixed_precision="bfloat16")}),
        (
            "prefer_tflite_model: true num_tflite_pools: 2 num_tflite_interpreters_per_pool: 3",
            {"prefer_tflite": True, "tflite": TfliteConfig(interpreters=6)},
        ),
        (
            "enable_model_warmup: true model_warmup_options { num_request_iterations { value: 3 } }",
            {"warmup": WarmupConfig(enabled=True, iterations=3)},
        ),
        ("enable_model_warmup: true", {"warmup": WarmupConfig()}),
        ("batching_parameters { max_batch_size { value: 8 } }", {"batching": BatchingConfig(max_batch_size=8)}),
        ("batching_parameters {}", {"batching": BatchingConfig()}),
        (
            "enable_per_model_batching_params: true",
            {"batching": BatchingConfig(enable_per_model_batching_parameters=True)},
        ),
    ],
)
def test_platforms(bundle: str, expected: dict[str, Any]) -> None:
    """What the platform's configuration says of sessions, tags, batching and warm-up holds for every SavedModel."""
    model, notes = converted(platform_text=platform(bundle))
    without_warmup = {"warmup": WarmupConfig(enabled=False)}  # as TensorFlow Serving has it without the field
    assert model == ModelConfig(**{"name": "m", "base_path": "/m", **without_warmup, **expected})
    assert notes == ()


NO_SETTING = "is left out: there is no such setting here"


@pytest.mark.parametrize(
    ("texts", "notes"),
    [
        (
            {"platform_text": platform(""), "batching_text": "max_batch_size { value: 1 }"},
            ["batching: the parameters are left out, because --platform_config_file takes their place"],
        ),
        (
            {"platform_text": 'platform_configs { key: "fish" value {} }'},
            [f"platform fish: its configuration {NO_SETTING}"],
        ),
        (
            {"platform_text": 'platform_configs { key: "tensorflow" value {} }'},
            [f"platform tensorflow: source_adapter_config {NO_SETTING}"],
        ),
        (
            {
                "platform_text": platform(
                    "session_target: 'grpc://x' enable_session_metadata: true "
                    "model_warmup_options { num_model_warmup_threads { value: 2 } }"
                )
            },
            [
                f"platform tensorflow: {name} {NO_SETTING}"
                for name in (
                    "model_warmup_options.num_model_warmup_threads",
                    "session_target",
                    "enable_session_metadata",
                )
            ],
        ),
    ],
)
def test_nothing_is_dropped_in_silence(texts: dict[str, str], notes: list[str]) -> None:
    """Each field that has no place here is named with its whole path and the reason."""
    assert list(converted(**texts)[1]) == notes


@pytest.mark.parametrize(
    ("text", "path"),
    [("prometheus_config { enable: true path: '/metrics' }", "/metrics"), ("prometheus_config { path: '/x' }", None)],
)
def test_monitoring(text: str, path: str | None) -> None:
    """The metrics page is where the monitoring file wants it, or nowhere."""
    conversion = convert(MODELS, monitoring_text=text)
    assert (conversion.config.gateway.metrics_path, conversion.notes) == (path, ())


def test_request_logging_is_left_out() -> None:
    """A conversion goes on without a logging_config, which cannot be in force, and says so."""
    conversion = convert("model_config_list { config { name: 'm' base_path: '/m' model_type: 1 logging_config {} } }")
    assert conversion.config.models == (ModelConfig(name="m", base_path="/m"),)
    assert conversion.notes == (
        "model m: logging_config is left out: requests are not logged here, and TensorFlow Serving's stock server "
        "refuses it",
    )


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ({"model_config_text": "models {}"}, "Invalid protobuf file: '--model_config_file', line 1, column 1: "),
        (
            {"model_config_text": "model_config_list { config { name: 'm' base_path: 'm' } }"},
            "Expected model m to have an absolute path or URI; got base_path()=m",
        ),
        ({"batching_text": "max_batch_size: 8"}, "Invalid protobuf file: '--batching_parameters_file', line 1, column"),
        (
            {"batching_text": "max_batch_size { value: 8 } allowed_batch_sizes: 4"},
            "--batching_parameters_file has 1 problem:\n  (the whole): Last entry in allowed_batch_sizes must match",
        ),
        ({"monitoring_text": "path: 1"}, "Invalid protobuf file: '--monitoring_config_file', line 1, column 1: "),
        ({"platform_text": "{"}, "Invalid protobuf file: '--platform_config_file', line 1, column 1: "),
        (
            {"platform_text": platform("batching_parameters { max_batch_size { value: -1 } }")},
            "batching_parameters of --platform_config_file has 1 problem:\n  max_batch_size: ",
        ),
    ],
)
def test_tells_which_file_is_wrong(texts: dict[str, str], message: str) -> None:
    """An error names the file by its flag, and the place in it."""
    with pytest.raises((ConfigError, InvalidArgument)) as caught:
        convert(**{"model_config_text": MODELS, **texts})
    assert str(caught.value).startswith(message)
