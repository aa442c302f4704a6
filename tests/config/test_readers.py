"""What users write, and the configuration that it means."""

from __future__ import annotations

import pickle
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving_app.config import (
    AutoscalingConfig,
    BatchingConfig,
    ConfigError,
    GatewayConfig,
    LoadConfig,
    ModelConfig,
    ServingConfig,
    SessionConfig,
    from_args,
    load_yaml,
    parse,
    parse_yaml,
    to_intents,
    to_yaml,
)
from serving_app.core.events import ModelIntent
from serving_app.core.policies import All, AvailabilityPreserving, Latest, ResourcePreserving, Specific
from serving_app.core.resources import Demand

EVERYTHING = ServingConfig(
    models=(
        ModelConfig(
            name="a",
            base_path="s3://bucket/a",
            version_policy=Specific((3, 5)),
            aspired_version_policy="resource_preserving",
            labels={"stable": 3, "canary": 5},
            autoscaling=AutoscalingConfig(min_replicas=2, max_replicas=7, target_ongoing_requests=1.5),
            num_cpus=2.0,
            num_gpus=0.25,
            memory=2**31,
            max_ongoing_requests=7,
            session=SessionConfig(intra_op_parallelism=2, inter_op_parallelism=3, gpu_allow_growth=True),
            tags=("serve", "gpu"),
            custom_op_libraries=("/opt/ops.so",),
            batching=BatchingConfig(max_batch_size=8, batch_timeout_micros=100),
            storage_options={"client_kwargs": {"endpoint_url": "http://localhost:9000"}},
            load_timeout_s=5.0,
            drain_timeout_s=1.0,
        ),
        ModelConfig(name="b", base_path="/models/b", version_policy=All(), replicas=3),
    ),
    gateway=GatewayConfig(replicas=2, host="0.0.0.0", rest_port=None, grpc_port=0, request_timeout_s=None),
    load=LoadConfig(max_concurrent_loads=1, retry_base_s=0.5, retry_max_s=2.0),
    poll_interval_s=0.0,
    cache_dir="/var/cache/models",
    stores={"s3": {"endpoint_url": "http://localhost:9000"}},
    state_uri="gs://bucket/state",
    model_config_file="/etc/serving/models.config",
)


@pytest.mark.parametrize("config", [ServingConfig(), EVERYTHING], ids=["defaults", "everything"])
def test_yaml_reads_back(config: ServingConfig) -> None:
    """What is in force, written as YAML and read again, is the same configuration; so it is after pickling."""
    assert parse_yaml(to_yaml(config)) == config
    assert pickle.loads(pickle.dumps(config)) == config


@pytest.mark.parametrize(
    ("models", "expected"),
    [
        ({"m": "/m"}, [("m", "/m")]),
        ({"m": {"base_path": "/m"}, "n": "s3://b/n"}, [("m", "/m"), ("n", "s3://b/n")]),
        ([{"name": "m", "base_path": "/m"}], [("m", "/m")]),
        ([{"base_path": "file:///m"}], [("default", "file:///m")]),
        ({"m": {"name": "m", "base_path": "/m"}}, [("m", "/m")]),
        ({}, []),
        ([], []),
    ],
)
def test_models_by_list_and_by_name(models: Any, expected: list) -> None:
    """Models are a list, or a mapping from name to settings or to nothing but the base path."""
    assert [(model.name, model.base_path) for model in parse({"models": models}).models] == expected


@pytest.mark.parametrize(
    ("written", "policy"),
    [
        ("latest", Latest(1)),
        ({"latest": 3}, Latest(3)),
        ({"latest": "3"}, Latest(3)),
        ({"latest": 0}, Latest(0)),
        ({"latest": None}, Latest(1)),
        ({"latest": {}}, Latest(1)),
        ({"latest": {"num_versions": 2}}, Latest(2)),
        ("all", All()),
        ({"all": {}}, All()),
        ({"all": None}, All()),
        ({"specific": [5, 3]}, Specific((5, 3))),
        ({"specific": {"versions": [5, 3]}}, Specific((5, 3))),
        ({"specific": []}, Specific(())),
        ({"specific": {}}, Specific(())),
        ({"specific": [2**63 - 1]}, Specific((2**63 - 1,))),
    ],
)
def test_version_policies(written: Any, policy: object) -> None:
    """A version policy is written as a word, as a short mapping, or as the mapping that a text proto would be."""
    assert parse({"models": {"m": {"base_path": "/m", "version_policy": written}}}).models[0].version_policy == policy


@pytest.mark.parametrize(
    ("written", "size"),
    [
        (1, 1),
        ("1024", 1024),
        ("2GiB", 2 * 2**30),
        ("2 gib", 2 * 2**30),
        ("500MB", 500_000_000),
        ("1.5KiB", 1536),
        ("3TB", 3 * 10**12),
        ("7B", 7),
    ],
)
def test_amounts_of_memory(written: Any, size: int) -> None:
    """Memory is a number of bytes, or a number with a decimal or binary unit in any case."""
    assert parse({"models": {"m": {"base_path": "/m", "memory": written}}}).models[0].memory == size


@pytest.mark.parametrize(
    ("text", "port"), [("8601", 8601), ("0", 0), ("null", None), ("off", None), ("no", None), ("'none'", None)]
)
def test_ports(text: str, port: int | None) -> None:
    """A port is a number, 0 for a free one, and null for none, which YAML's `off` and `no` mean as well."""
    assert parse_yaml(f"gateway: {{rest_port: {text}}}").gateway.rest_port == port


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ({}, {}),
        ({"model_base_path": "/m"}, {"models": {"default": "/m"}}),
        ({"model_name": "m", "model_base_path": "/m"}, {"models": {"m": "/m"}}),
        (
            {"model_base_path": "/m", "replicas": "2", "num_gpus": "0.5", "version_policy": "{latest: 2}"},
            {"models": [{"base_path": "/m", "replicas": 2, "num_gpus": 0.5, "version_policy": {"latest": 2}}]},
        ),
        (
            {
                "model_base_path": "/m",
                "labels": "{stable: 1}",
                "saved_model_tags": "serve,gpu",
                "version_policy": "all",
            },
            {
                "models": [
                    {"base_path": "/m", "labels": {"stable": 1}, "tags": ["serve", "gpu"], "version_policy": "all"}
                ]
            },
        ),
        ({"rest_port": "8601", "grpc_port": "0"}, {"gateway": {"rest_port": 8601, "grpc_port": 0}}),
        ({"rest_api_port": "8601", "port": "8600"}, {"gateway": {"rest_port": 8601, "grpc_port": 8600}}),
        ({"rest_api_port": "0", "port": 0}, {"gateway": {"rest_port": None, "grpc_port": None}}),
        ({"rest_api_timeout_in_ms": "1500"}, {"gateway": {"request_timeout_s": 1.5}}),
        ({"rest_api_timeout_in_ms": "0"}, {"gateway": {"request_timeout_s": None}}),
        ({"file_system_poll_wait_seconds": "5", "host": "::"}, {"poll_interval_s": 5, "gateway": {"host": "::"}}),
        (
            {"models": {"m": "/m"}, "gateway": {"replicas": 2}, "rest_port": 1},
            {"models": {"m": "/m"}, "gateway": {"replicas": 2, "rest_port": 1}},
        ),
        (
            {"model_config_file": "/f", "model_config_file_poll_wait_seconds": "-1"},
            {"model_config_file": "/f", "model_config_file_poll_s": 0},
        ),
        (
            {"max_num_load_retries": "2", "load_retry_interval_micros": "250000", "num_load_threads": "8"},
            {"load": {"quick_retries": 2, "retry_base_s": 0.25, "retry_max_s": 0.25, "max_concurrent_loads": 8}},
        ),
        ({"load_retry_interval_micros": "-1"}, {"load": {"retry_base_s": 0.001, "retry_max_s": 0.001}}),
        ({"num_load_threads": 0, "load": {"quick_retries": 2}}, {"load": {"quick_retries": 2}}),
        (
            {"allow_version_labels_for_unavailable_models": "true"},
            {"allow_version_labels_for_unavailable_models": True},
        ),
        (
            {"model_base_path": "/m", "enable_model_warmup": "false", "num_request_iterations_for_warmup": "0"},
            {"models": [{"base_path": "/m", "warmup": {"enabled": False}}]},
        ),
        (
            {"model_base_path": "/m", "warmup": "{synthetic: true}", "num_request_iterations_for_warmup": "3"},
            {"models": [{"base_path": "/m", "warmup": {"synthetic": True, "iterations": 3}}]},
        ),
        (
            {"model_base_path": "/m", "tensorflow_session_parallelism": "2", "per_process_gpu_memory_fraction": "0.0"},
            {"models": [{"base_path": "/m", "session": {"intra_op_parallelism": 2, "inter_op_parallelism": 2}}]},
        ),
        (
            {"model_base_path": "/m", "per_process_gpu_memory_fraction": "0.5", "enable_batching": "true"},
            {"models": [{"base_path": "/m", "session": {"gpu_memory_fraction": 0.5}, "batching": {}}]},
        ),
        ({"model_base_path": "/m", "enable_batching": "false"}, {"models": {"default": "/m"}}),
        (
            {"model_base_path": "/m", "gateway": "{replicas: 2}"},
            {"models": {"default": "/m"}, "gateway": {"replicas": 2}},
        ),
    ],
)
def test_arguments(args: dict, expected: dict) -> None:
    """Arguments, texts as they may be, mean what the same settings mean in a whole configuration."""
    assert from_args(args) == parse(expected)


def test_arguments_may_be_everything() -> None:
    """The whole configuration passes through the arguments of the application unchanged."""
    deployable = EVERYTHING.model_copy(update={"model_config_file": None})
    assert from_args(deployable.model_dump(mode="json")) == deployable


@pytest.mark.parametrize(
    "text", ["a\x85b", "a\u2028b", "\n a \n", "\ufeff", "\x00\x07", "'\"", "~", "1", " ", "é\U0001f600"]
)
def test_yaml_keeps_every_text(text: str) -> None:
    """Whatever a label is called, it is called so after the way through YAML."""
    config = parse({"models": {"m": {"base_path": "/m", "labels": {text: 1}}}})
    assert parse_yaml(to_yaml(config)) == config


def test_files(tmp_path: Path) -> None:
    """A configuration is read from a file, and an empty file is a configuration without models."""
    (tmp_path / "models.yaml").write_text("models: {m: /m}")
    (tmp_path / "empty.yaml").touch()
    assert load_yaml(tmp_path / "models.yaml") == parse({"models": {"m": "/m"}})
    assert load_yaml(tmp_path / "empty.yaml") == ServingConfig()


def test_intents() -> None:
    """The manager is told each model's name, policies, labels and needs, in the order of the configuration."""
    assert to_intents(EVERYTHING) == (
        ModelIntent("a", Specific((3, 5)), ResourcePreserving(), {"stable": 3, "canary": 5}, Demand(2.0, 0.25, 2**31)),
        ModelIntent("b", All(), AvailabilityPreserving(), {}, Demand(0.1, 0.0, None)),
    )
    estimated = parse({"models": {"m": {"base_path": "/m", "memory": "estimate", "memory_factor": 3}}})
    assert [(intent.demand.memory, intent.memory_factor) for intent in to_intents(estimated)] == [(None, 3.0)]


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(["/m", "all"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from([*ServingConfig.model_fields, *ModelConfig.model_fields, *GatewayConfig.model_fields, "x"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=10,
)


@settings(max_examples=100)
@given(_JSON)
def test_never_fails_in_another_way(data: Any) -> None:
    """Whatever is written, the answer is a configuration or a ConfigError, from every reader."""
    for read in (parse, lambda value: from_args(value) if isinstance(value, dict) else None):
        with suppress(ConfigError):
            read(data)
