"""From the configuration to what Serve and the replicas are told."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import cloudpickle
import pytest
from ray.serve.config import AutoscalingConfig as ServeAutoscaling

from serving_app.config import ConfigError, ModelConfig, ServingConfig
from serving_app.core.servable import ServableId
from serving_app.host import Assignment, Batching
from serving_app.runtime.loader import LoadOptions
from serving_app.serve.assignments import assignment_for
from serving_app.serve.autoscaling import CALLS, by_calls, serve_options
from serving_app.serve.builder import app, build
from serving_app.serve.replica import Servable


def model(**settings: Any) -> ModelConfig:
    return ModelConfig.model_validate({"name": "m", "base_path": "/models/m", **settings})


def test_a_plain_model_leaves_the_choices_to_the_runtime() -> None:
    """Without settings a version is loaded by TensorFlow from its path, without batching."""
    servable = ServableId("m", 3)
    assignment = assignment_for(servable, "/models/m/3", model(), ServingConfig())
    assert assignment == Assignment(
        servable,
        "/models/m/3",
        load=LoadOptions(
            gpu_memory_fraction=assignment.load.gpu_memory_fraction,
            gpu_allow_growth=assignment.load.gpu_allow_growth,
        ),
    )


def test_every_setting_reaches_the_replica() -> None:
    """What a configuration says of loading and running a version is in its assignment."""
    assignment = assignment_for(
        ServableId("m", 3),
        "s3://bucket/m/3",
        model(
            base_path="s3://bucket/m",
            platform="my_package.loaders:Mine",
            tags=["serve", "gpu"],
            session={"intra_op_parallelism": 2, "inter_op_parallelism": 3, "gpu_allow_growth": True},
            custom_op_libraries=["/ops/a.so"],
            batching={"max_batch_size": 32, "batch_timeout_micros": 500},
            storage_options={"key": "k"},
        ),
        ServingConfig(cache_dir="/cache", cache_max_bytes=10**9, stores={"s3": {"endpoint_url": "http://s3"}}),
    )
    assert (assignment.path, assignment.platform) == ("s3://bucket/m/3", "my_package.loaders:Mine")
    assert assignment.load.tags == ("serve", "gpu")
    assert (assignment.load.intra_op_parallelism, assignment.load.inter_op_parallelism) == (2, 3)
    assert assignment.load.gpu_allow_growth is True
    assert assignment.load.custom_op_libraries == ("/ops/a.so",)
    assert assignment.batching == Batching(max_batch_size=32, batch_timeout_micros=500)
    assert assignment.storage_options == {"key": "k", "endpoint_url": "http://s3"}
    assert (assignment.cache_dir, assignment.cache_max_bytes) == ("/cache", 10**9)


def test_a_share_of_a_gpu_limits_its_memory() -> None:
    """A replica that reserves a part of a GPU takes less than that part of its memory."""
    fraction = assignment_for(ServableId("m", 1), "/m/1", model(num_gpus=0.5), ServingConfig()).load.gpu_memory_fraction
    assert fraction is not None
    assert 0 < fraction < 0.5


def test_assignments_travel() -> None:
    """An assignment arrives at another process as it was."""
    assignment = assignment_for(ServableId("m", 1), "/m/1", model(batching={}), ServingConfig())
    assert cloudpickle.loads(cloudpickle.dumps(assignment)) == assignment


def asked(metrics: Mapping[str, Mapping[str, float]] | None, waiting: float = 0.0, target: float = 4.0) -> Any:
    """What Serve shows to an autoscaling policy."""
    return SimpleNamespace(
        aggregated_metrics=metrics,
        total_num_requests=waiting,
        config=SimpleNamespace(target_ongoing_requests=target),
    )


@pytest.mark.parametrize(
    ("context", "right"),
    [
        (asked(None), 0),
        (asked({}), 0),
        (asked({CALLS: {}}), 0),
        (asked({CALLS: {"a": 6.0, "b": 2.0}}), 2),
        (asked({CALLS: {"a": 6.0}}, waiting=40.0), 10),
        (asked({"other": {"a": 100.0}, CALLS: {"a": 4.0}}), 1),
        (asked({CALLS: {"a": 1.0}}, target=2.0), 0.5),
    ],
)
def test_replicas_follow_the_calls_in_hand(context: Any, right: float) -> None:
    """As many replicas are wanted as it takes for each to have the target in hand; none without calls."""
    assert by_calls(context) == (right, {})


def test_serve_takes_the_autoscaling_that_is_configured() -> None:
    """The settings are ones that Serve knows, and say what the configuration says."""
    taken = served_autoscaling(min_replicas=2, max_replicas=5, target_ongoing_requests=3)
    assert (taken.min_replicas, taken.max_replicas, taken.target_ongoing_requests) == (2, 5, 3)


def served_autoscaling(**settings: float) -> ServeAutoscaling:
    """What Serve makes of the settings of a model, as a deployment has it."""
    autoscaling = model(autoscaling=settings).autoscaling
    assert autoscaling is not None
    deployment = Servable.options(autoscaling_config=serve_options(autoscaling))
    taken = deployment._deployment_config.autoscaling_config
    assert taken is not None
    return taken


def test_the_policy_runs_without_this_package() -> None:
    """Serve's controller, a process that may not have this package, can unpickle the policy and run it."""
    program = (
        "import pickle, sys; sys.modules['serving_app'] = None; from types import SimpleNamespace as N;"
        "policy = pickle.loads(sys.stdin.buffer.read());"
        "print(policy(N(aggregated_metrics={}, total_num_requests=6, config=N(target_ongoing_requests=2))))"
    )
    sent = served_autoscaling(max_replicas=5).policy.get_serialized_policy_def()
    done = subprocess.run([sys.executable, "-c", program], input=sent, capture_output=True)
    assert done.stdout == b"(3.0, {})\n", done.stderr


def test_the_builder_takes_short_and_whole_arguments() -> None:
    """`serve run` may name one model by flags, or give the whole configuration; mistakes are told before anything."""
    application = app({"model_name": "m", "model_base_path": "/models/m"})
    assert application._bound_deployment.name == "Gateway"
    with pytest.raises(ConfigError, match="base_path"):
        app({"models": [{"name": "m"}]})


def test_a_newer_build_is_newer() -> None:
    """Of two builds the later one has the higher generation, so gateways agree on which configuration is in force."""
    config = ServingConfig.model_validate({"models": {"m": "/models/m"}, "gateway": {"replicas": 2}})
    first, second = (build(config)._bound_deployment for _ in range(2))
    assert first.init_args[0].generation < second.init_args[0].generation
    assert first.init_args[0].config == config
    assert first.num_replicas == 2
