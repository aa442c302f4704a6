"""The Ray cluster that a command serves on: joined, or started for as long as the command runs."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

from serving_app.cli.warden import children, end_with_this_process
from serving_app.client.ray_token import use_token
from serving_app.core.errors import FailedPrecondition, Unavailable

Say = Callable[[str], None]
"""Prints a line for whoever looks on."""

_QUIET: dict[str, Any] = {"logging_level": logging.WARNING, "log_to_driver": False}


def join_or_start_ray(address: str | None, say: Say) -> bool:
    """Whether a Ray of our own was started: for the address `local`, or for none where no cluster is found."""
    if address != "local":
        use_token(address)
    import ray

    from serving_app import ray_private

    if address != "local" and ray_private.find_cluster(address) is None:
        if address:
            raise FailedPrecondition(f"no Ray cluster answers at {address}; start one, or leave the address out")
        address = "local"
    if address != "local":
        try:
            ray.init(address=address or "auto", **_QUIET)
        except (ConnectionError, RuntimeError) as error:
            if address:
                raise FailedPrecondition(
                    f"no Ray cluster at {address}: {error}. If it asks for a token, set RAY_AUTH_MODE=token"
                ) from error
        else:
            say(f"joined the Ray cluster at {ray.get_runtime_context().gcs_address}")
            return False
    start_ray(say)
    return True


def start_ray(say: Say, *, bare: bool = False) -> None:
    """Start a cluster on this machine; a bare one has no processes but those that an app needs.

    Call it from the main thread: Ray's processes end with the thread that starts them. Of a bare cluster this holds
    for all of them; of others some look for its head first, for a minute.
    """
    import ray

    from serving_app import ray_private

    say("starting Ray on this machine ...")
    try:
        with ray_private.bare_head() if bare else nullcontext():
            ray.init(address="local", include_dashboard=False, **_QUIET)
    except BaseException as error:  # Ray raises whatever it comes upon, and a bare Exception where it waited in vain
        # What it had started ends with this process; what that had started would look for its head for a minute.
        end_with_this_process(each for child in children(os.getpid()) for each in children(child))
        if not isinstance(error, Exception):  # somebody stops us
            raise
        raise Unavailable(
            f"Ray did not start on this machine: {error}. If the machine is very busy, try again later; else look "
            "into Ray's logs, in /tmp/ray/session_latest/logs unless RAY_TMPDIR says otherwise"
        ) from error
    if bare:
        end_with_this_process(children(ray_private.raylet_pid()))
    say(f"started a Ray cluster at {ray.get_runtime_context().gcs_address}")


def has_gpus() -> bool:
    """Whether the cluster that this process is part of has GPUs."""
    import ray

    return ray.cluster_resources().get("GPU", 0) > 0


def leave_ray(started_here: bool, say: Say) -> None:
    """Leave the cluster; one that was started here ends."""
    import ray

    if started_here:
        say("stopping Ray ...")
    ray.shutdown()  # type: ignore[no-untyped-call]  # Ray leaves it untyped


def start_serve(http_port: int, say: Say) -> None:
    """Start Ray Serve unless it runs, with its HTTP door at this port, or without one for 0."""
    from ray import serve
    from ray.serve.config import HTTPOptions, ProxyLocation

    from serving_app import ray_private

    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    if ray_private.serve_is_running():
        return
    say("starting Ray Serve ...")
    if http_port:
        serve.start(http_options=HTTPOptions(port=http_port))
    else:
        serve.start(proxy_location=ProxyLocation.Disabled)


def shut_empty_serve_down() -> None:
    """End Ray Serve if nothing is left on it."""
    from ray import serve

    if not serve.status().applications:
        serve.shutdown()
