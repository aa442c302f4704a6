"""The serving app that a command deploys, waits for and removes again. This process is part of the Ray cluster."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING
from urllib.parse import quote

from serving_app.cli.cluster import Say
from serving_app.config import ServingConfig
from serving_app.core.errors import FailedPrecondition

if TYPE_CHECKING:  # importing Serve takes long
    from ray.serve.schema import ApplicationStatusOverview

_GONE_S = 60.0

_RAISED = re.compile(r"Error|\bserving_app\.[\w.]+\.[A-Z]\w+: ")
"""A line in which an exception says what it has to say: Python's own, or one of ours."""


def route_prefix(name: str) -> str:
    """Where a serving app hangs at Serve's HTTP door: each needs a place of its own; the usual one gets the root."""
    return "/" if name == "default" else f"/{quote(name, safe='')}"


def refuse_to_replace(name: str, way_out: str) -> None:
    """Raise FailedPrecondition if an application has this name: ours would replace it, and remove it at the end."""
    from ray import serve

    if name in serve.status().applications:
        raise FailedPrecondition(
            f"an application named {name!r} is on this Ray cluster already; stop it where it was started, or {way_out}"
        )


def deploy(config: ServingConfig, name: str) -> None:
    """Order the gateway, and start the controller, which loads versions while the gateway comes up."""
    from ray import serve
    from ray.serve.exceptions import RayServeException

    from serving_app import ray_private
    from serving_app.serve.builder import build_applied
    from serving_app.serve.controller import open_controller
    from serving_app.serve.wanted import Applied

    applied = Applied(time.time_ns(), config)
    try:
        ray_private.deploy([serve.RunTarget(build_applied(applied), name=name, route_prefix=route_prefix(name))])
    except RayServeException as error:
        reason = getattr(error, "cause", error)  # what Serve's controller raised, without its stack
        raise FailedPrecondition(f"Serve refuses the gateway: {reason} Another --name may help") from error
    open_controller(name, applied)


def wait_until_running(name: str, stop: threading.Event, say: Say) -> bool:
    """Wait for the gateway; False when somebody wants to stop before. Raises FailedPrecondition if it cannot start."""
    from ray import serve
    from ray.serve.schema import ApplicationStatus

    told = ""
    while not stop.wait(0.1):
        app = serve.status().applications[name]
        if app.status is ApplicationStatus.RUNNING:
            return True
        if app.status in (ApplicationStatus.DEPLOY_FAILED, ApplicationStatus.UNHEALTHY):
            raise FailedPrecondition(f"the gateway did not start: {_last_words(name) or app.message}")
        waits_for = next((each.message for each in app.deployments.values() if "to be scheduled" in each.message), "")
        if waits_for != told:
            told = waits_for
            say(f"  {waits_for}")
    return False


def refuse_failed(name: str) -> None:
    """Raise FailedPrecondition if the gateway came up, but could not open its ports later."""
    from ray import serve

    if words := why_failed(serve.status().applications.get(name)):
        raise FailedPrecondition(f"the gateway could not open its ports: {words}")


def why_failed(app: ApplicationStatusOverview | None) -> str:
    """What the replicas of an application raise that Serve brings up again and again; empty if they do not.

    One that is only lost is replaced by Serve, which tells of nothing that it raised.
    """
    if app is None or app.status not in ("DEPLOY_FAILED", "UNHEALTHY"):
        return ""
    return last_raised([deployment.message for deployment in app.deployments.values()])


def _last_words(name: str) -> str:
    """Why the gateway's replicas failed: the last line of what they raised."""
    from ray import serve

    app = serve.status().applications.get(name)
    return last_raised([deployment.message for deployment in app.deployments.values()] if app else [])


def last_raised(messages: Iterable[str]) -> str:
    """What the last exception in these texts of stacks says; empty if there is none."""
    lines = [line.strip() for message in messages for line in message.splitlines()]
    last = next((line for line in reversed(lines) if _RAISED.search(line)), "")
    return re.sub(r"^[\w.]+: ", "", last)  # the name of the exception's class tells users nothing


def drain(name: str, say: Say) -> None:
    """Delete the application, and wait until its gateways have finished what they had; versions may still be there."""
    from ray import serve

    try:
        serve.delete(name)
    except Exception as error:
        say(f"deleting the application failed: {error}")


def remove(name: str, say: Say) -> None:
    """Delete the application, and wait until its controller has removed every version."""
    drain(name, say)
    deadline = time.monotonic() + _GONE_S
    while _exists(name) and time.monotonic() < deadline:
        time.sleep(0.1)


def _exists(name: str) -> bool:
    """Whether the serving app has a controller: it is the last to go."""
    from serving_app.serve.controller import find_controller

    try:
        find_controller(name)
    except ValueError:
        return False
    return True
