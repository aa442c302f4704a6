"""Servable versions as Serve applications: deploying, deleting and observing them.

Everything here blocks; the controller calls it from threads, one order at a time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple

import ray
from ray import serve
from ray.serve.schema import ApplicationStatus, ApplicationStatusOverview

from serving_app import ray_private
from serving_app.config import ModelConfig
from serving_app.core.names import SERVABLE_DEPLOYMENT, parse_servable_app
from serving_app.core.resources import NodeResources
from serving_app.core.servable import ServableId
from serving_app.serve.autoscaling import serve_options
from serving_app.serve.replica import Description, Servable


class AppState(Enum):
    """What Serve says of an application, as far as it matters here."""

    STARTING = "starting"
    RUNNING = "running"
    BROKEN = "broken"
    DELETING = "deleting"


@dataclass(frozen=True, slots=True)
class AppSeen:
    """One application as Serve reports it."""

    state: AppState
    message: str = ""


@dataclass(frozen=True, slots=True)
class Observation:
    """What exists now. `serve_running` False means that the whole Serve instance is gone."""

    serve_running: bool
    owner: AppSeen | None
    servables: Mapping[ServableId, AppSeen]


_STATES = {
    ApplicationStatus.NOT_STARTED: AppState.STARTING,
    ApplicationStatus.DEPLOYING: AppState.STARTING,
    ApplicationStatus.RUNNING: AppState.RUNNING,
    ApplicationStatus.UNHEALTHY: AppState.BROKEN,
    ApplicationStatus.DEPLOY_FAILED: AppState.BROKEN,
    ApplicationStatus.DELETING: AppState.DELETING,
}


def observe(owner: str) -> Observation | None:
    """Look at Serve's applications; None when Serve cannot be asked right now (its controller restarts, say)."""
    running = ray_private.serve_is_running()
    if not running:
        return None if running is None else Observation(False, None, {})
    try:
        applications = serve.status().applications
    except (ray.exceptions.RayError, serve.exceptions.RayServeException):
        return None
    seen = {name: AppSeen(_STATES[app.status], _find_message(app)) for name, app in applications.items()}
    servables = {
        servable: app for name, app in seen.items() if (servable := parse_servable_app(owner, name)) is not None
    }
    return Observation(True, seen.get(owner), servables)


def _find_message(app: ApplicationStatusOverview) -> str:
    """Why it is as it is. Of an application Serve says only that its deployment failed, and of that, why."""
    told = [deployment.message for deployment in app.deployments.values() if deployment.message]
    return "; ".join(told) or app.message


class Target(NamedTuple):
    """An application to deploy: its name, its model, the ticket that its replicas show when they report, and the memory
    that each of them reserves.

    Deployed again with the same ticket, its replicas go on running, and only their number and limits change.
    """

    app: str
    model: ModelConfig
    ticket: str
    memory: int | None = None


def deploy(controller: str, targets: Sequence[Target]) -> None:
    """Order these applications; returns before they run."""
    ray_private.deploy(
        [
            serve.RunTarget(
                target=_deployment(target).bind(controller, target.app, target.ticket),
                name=target.app,
                route_prefix=None,
            )
            for target in targets
        ]
    )


def _deployment(target: Target) -> serve.Deployment:
    model = target.model
    options: dict[str, Any] = {
        "name": SERVABLE_DEPLOYMENT,
        "max_ongoing_requests": model.max_ongoing_requests,
        "ray_actor_options": actor_options(model, target.memory),
        # Requests are drained before an unload is ordered; what is left for Serve is to notice that.
        "graceful_shutdown_wait_loop_s": 0.1,
        "graceful_shutdown_timeout_s": model.drain_timeout_s,
        # A line per hop says nothing about any request.
        "logging_config": {"enable_access_log": False},
        # How soon a replica that died is replaced: where it was the only one, requests fail for so long.
        "health_check_period_s": 2.0,
        # A load that failed is retried by the controller, with backoff and a reason; Serve must not do it as well.
        "max_constructor_retry_count": 1,
    }
    if model.autoscaling is None:
        options["num_replicas"] = model.replicas or 1
    else:
        options["autoscaling_config"] = serve_options(model.autoscaling)
    return ray_private.versioned(Servable.options(**options), target.ticket)


def actor_options(model: ModelConfig, memory: int | None) -> dict[str, Any]:
    """What a replica of this model asks of the cluster."""
    options: dict[str, Any] = {"num_cpus": model.num_cpus, "runtime_env": ray_private.servable_runtime_env()}
    if model.num_gpus:
        options["num_gpus"] = model.num_gpus
    if memory is not None:
        options["memory"] = memory
    return options


def describe(app: str) -> Description:
    """Ask a running version what it is."""
    description: Description = ray_private.ask_once(app, "describe", timeout_s=10.0)
    return description


def nodes() -> tuple[NodeResources, ...]:
    """What the nodes of the cluster have, those that could be added among them; equal ones are named once."""
    seen = {
        NodeResources(node.get("CPU", 0.0), node.get("GPU", 0.0), int(node.get("memory", 0.0)))
        for node in ray_private.nodes()
    }
    return tuple(sorted(seen, key=lambda node: (node.cpus, node.gpus, node.memory)))


def delete(app: str) -> None:
    """Order the removal of an application."""
    ray_private.delete_app(app)
