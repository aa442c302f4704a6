"""The application builder: what `serve run serving_app:app …` and a Serve config file import.

    serve run serving_app:app model_name=half_plus_two model_base_path=/models/half_plus_two
    serve run cluster_configs/quickstart.yaml
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from ray import serve

from serving_app import ray_private
from serving_app.config import ServingConfig, from_args
from serving_app.core.names import GATEWAY_DEPLOYMENT
from serving_app.serve.gateway import Gateway
from serving_app.serve.wanted import Applied


def app(args: Mapping[str, Any]) -> serve.Application:
    """The application for these arguments: the short form, or the whole configuration."""
    return build(from_args(dict(args)))


def build(config: ServingConfig) -> serve.Application:
    """The application for a configuration. Building it again makes a newer one, which wins over the older."""
    return build_applied(Applied(time.time_ns(), config))


def build_applied(applied: Applied) -> serve.Application:
    """The application for a configuration that somebody applies."""
    gateway = applied.config.gateway
    deployment = Gateway.options(
        name=GATEWAY_DEPLOYMENT,
        num_replicas=gateway.replicas,
        max_ongoing_requests=10_000,
        ray_actor_options={"num_cpus": gateway.num_cpus, "runtime_env": {"env_vars": ray_private.GATEWAY_ENV}},
        graceful_shutdown_wait_loop_s=0.1,
        graceful_shutdown_timeout_s=gateway.drain_timeout_s + 5.0,
        # How soon one that died is replaced: where it was the only one, nobody is answered for so long.
        health_check_period_s=2.0,
        # Replacements listen before the old ones stop; by default it would be the other way round.
        max_surge_percent=100,
        # A port that is taken stays taken: say so soon instead of trying for minutes.
        max_constructor_retry_count=2,
    )
    return deployment.bind(applied)
