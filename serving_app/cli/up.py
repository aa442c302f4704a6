"""`serving-app up`: serve models from a terminal, with progress, until Ctrl-C.

Joins the Ray cluster that is there, or starts one on this machine for as long as it runs.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import quote

from serving_app.cli.asking import use_token
from serving_app.client.control import Control, Unreachable
from serving_app.config import ConfigError, ServingConfig, load_yaml, parse
from serving_app.core.errors import FailedPrecondition, ServingError, Unavailable
from serving_app.core.servable import ServableId
from serving_app.core.states import PublicState, State, public_state
from serving_app.core.views import AppView, ModelView, VersionView

_FIRST_STATUS_S = 60.0
_UPLOADED_S = 10.0
"""How long versions that are being written may hold up the announcement: such as only have to rest come sooner."""
_GONE_S = 60.0

_PACE_S = 0.1
"""Between two looks at least, however much happens."""
_PATIENCE_S = 0.4
"""How long to wait for news: Ctrl-C has to wait as long."""
_PROGRESS_S = 5.0
"""Before the first line about how far a load is, and between two of them."""

Announce = Callable[[Mapping[str, str]], None]
"""Called once, with the gateway's addresses by protocol, when every model has answered or failed for the first time."""


def add_to(commands: Any) -> None:
    """Add this command to the command line."""
    parser = commands.add_parser("up", help="serve models until Ctrl-C", description=__doc__)
    parser.add_argument("config", nargs="?", metavar="CONFIG.yaml", help="a configuration file (docs/configuration.md)")
    parser.add_argument(
        "--model", action="append", default=[], metavar="NAME=BASE_PATH", help="serve this model; may be repeated"
    )
    add_listening(parser)
    parser.set_defaults(run=run)


def add_listening(parser: argparse.ArgumentParser) -> None:
    """The flags that say where to run and to listen."""
    parser.add_argument("--host", help="address to listen on (default: the configuration's, 127.0.0.1)")
    parser.add_argument("--rest-port", metavar="PORT", help="port for REST (default: the configuration's, 8501)")
    parser.add_argument("--grpc-port", metavar="PORT", help="port for gRPC (default: the configuration's, 8500)")
    parser.add_argument(
        "--http-port", type=int, default=8000, metavar="PORT",
        help="port of Ray Serve's own HTTP door, which answers REST too; 0 leaves it closed (default: 8000)",
    )
    parser.add_argument("--name", default="default", help="name of the serving app on the cluster (default: default)")
    parser.add_argument(
        # Read here, so that a cluster that is named and does not answer is an error, and no reason to start another.
        "--address", default=os.environ.get("RAY_ADDRESS") or None,
        help="the Ray cluster to join, or `local` to start one (default: RAY_ADDRESS, else what Ray finds, else a new "
        "one)",
    )


def run(options: argparse.Namespace) -> int:
    """Run the command."""
    return serve_until_stopped(read_config(options), options, _announce)


def read_config(options: argparse.Namespace) -> ServingConfig:
    """The configuration of the file, with the models and the listeners of the command line."""
    base = load_yaml(options.config) if options.config else ServingConfig()
    settings = base.model_dump(exclude_unset=True)
    named = [_read_model(text) for text in options.model]
    settings["models"] = [*settings.get("models", ()), *named]
    if not settings["models"] and not settings.get("model_config_file"):
        raise ConfigError("nothing to serve: give a CONFIG.yaml, or --model NAME=/path/of/the/model")
    given = {"host": options.host, "rest_port": options.rest_port, "grpc_port": options.grpc_port}
    gateway = {**settings.get("gateway", {}), **{name: value for name, value in given.items() if value is not None}}
    return parse({**settings, "gateway": gateway}, "The command line")


def _read_model(text: str) -> dict[str, str]:
    name, _, base_path = text.partition("=")
    if not name or not base_path:
        raise ConfigError(f"--model {text}: write it as NAME=BASE_PATH, such as half_plus_two=/models/half_plus_two")
    if "://" not in base_path:
        base_path = os.path.abspath(base_path)
    return {"name": name, "base_path": base_path}


def serve_until_stopped(config: ServingConfig, options: argparse.Namespace, announce: Announce) -> int:
    """Serve, tell what happens, and clean up at Ctrl-C or SIGTERM."""
    stop = threading.Event()
    started_ray = _join_or_start_ray(options.address)
    # Only now: Ray sets handlers of its own when it is initialised.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        _start_serve(options.http_port)
        _refuse_to_replace(options.name)
        try:
            if _deploy(config, options.name, stop):
                _watch(config, options.name, stop, announce)
        finally:
            _say("stopping ...")
            _remove(options.name)
            if not started_ray:  # else Serve ends with Ray
                _shut_empty_serve_down()
    finally:
        _leave_ray(started_ray)
    _say("stopped")
    return 0


def _say(line: str) -> None:
    print(line, flush=True)


def _join_or_start_ray(address: str | None) -> bool:
    """Whether a Ray of our own was started."""
    if address != "local":
        use_token(address)
    import ray

    from serving_app import ray_private

    quiet: dict[str, Any] = {"logging_level": logging.WARNING, "log_to_driver": False}
    if address != "local" and ray_private.find_cluster(address) is None:
        if address:
            raise FailedPrecondition(f"no Ray cluster answers at {address}; start one, or leave the address out")
        address = "local"
    if address != "local":
        try:
            ray.init(address=address or "auto", **quiet)
        except (ConnectionError, RuntimeError) as error:
            if address:
                raise FailedPrecondition(
                    f"no Ray cluster at {address}: {error}. If it asks for a token, set RAY_AUTH_MODE=token"
                ) from error
        else:
            _say(f"joined the Ray cluster at {ray.get_runtime_context().gcs_address}")
            return False
    _say("starting Ray on this machine ...")
    try:
        ray.init(address="local", include_dashboard=False, **quiet)
    except Exception as error:  # Ray raises whatever it comes upon, and a bare Exception where it waited in vain
        raise Unavailable(
            f"Ray did not start on this machine: {error}. If the machine is very busy, try again later; else look "
            "into Ray's logs, in /tmp/ray/session_latest/logs unless RAY_TMPDIR says otherwise"
        ) from error
    _say(f"started a Ray cluster at {ray.get_runtime_context().gcs_address}")
    return True


def _leave_ray(started_here: bool) -> None:
    import ray

    if started_here:
        _say("stopping Ray ...")
    ray.shutdown()  # type: ignore[no-untyped-call]  # Ray leaves it untyped


def _start_serve(http_port: int) -> None:
    from ray import serve
    from ray.serve.config import HTTPOptions, ProxyLocation

    from serving_app import ray_private

    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    if ray_private.serve_is_running():
        return
    _say("starting Ray Serve ...")
    if http_port:
        serve.start(http_options=HTTPOptions(port=http_port))
    else:
        serve.start(proxy_location=ProxyLocation.Disabled)


def _refuse_to_replace(name: str) -> None:
    """Raise FailedPrecondition if an application has this name: ours would replace it, and remove it at the end."""
    from ray import serve

    if name in serve.status().applications:
        raise FailedPrecondition(
            f"an application named {name!r} is on this Ray cluster already; stop it where it was started, or give this "
            "one a --name, a --rest-port and a --grpc-port of its own"
        )


def route_prefix(name: str) -> str:
    """Where a serving app hangs at Serve's HTTP door: each needs a place of its own; the usual one gets the root."""
    return "/" if name == "default" else f"/{quote(name, safe='')}"


def _deploy(config: ServingConfig, name: str, stop: threading.Event) -> bool:
    """Start the gateway and wait until it runs; False when somebody wants to stop before."""
    from ray import serve
    from ray.serve.exceptions import RayServeException
    from ray.serve.schema import ApplicationStatus

    from serving_app import ray_private
    from serving_app.serve.builder import build

    _say("starting the gateway ...")
    try:
        ray_private.deploy([serve.RunTarget(build(config), name=name, route_prefix=route_prefix(name))])
    except RayServeException as error:
        reason = getattr(error, "cause", error)  # what Serve's controller raised, without its stack
        raise FailedPrecondition(f"Serve refuses the gateway: {reason} Another --name may help") from error
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
            _say(f"  {waits_for}")
    return False


def _last_words(name: str) -> str:
    """Why the gateway's replicas failed: the last line of what they raised."""
    from ray import serve

    app = serve.status().applications.get(name)
    messages = [deployment.message for deployment in app.deployments.values()] if app else []
    lines = [line for message in messages for line in message.splitlines() if line.strip()]
    last = next((line for line in reversed(lines) if "PortTaken" in line or "Error" in line), "")
    return re.sub(r"^[\w.]+: ", "", last.strip())  # the name of the exception's class tells users nothing


def _watch(config: ServingConfig, name: str, stop: threading.Event, announce: Announce) -> None:
    """Print everything that changes; announce once everything has had its first chance."""
    reporter = Reporter(config)
    control = Control(name)
    started = time.monotonic()
    announced = False
    seen = -1
    while not stop.wait(_PACE_S):
        try:
            seen = asyncio.run(control.wait_for_change(seen, _PATIENCE_S))
            view = asyncio.run(control.view())
        except Unreachable:
            _say("the serving app was stopped from elsewhere")
            return
        except ServingError:
            continue  # the controller is slow, or about to go; the gateway serves on
        for line in reporter.news(view, time.monotonic()):
            _say(line)
        took_s = time.monotonic() - started
        if not announced and (is_settled(config, view, took_s > _UPLOADED_S) or took_s > _FIRST_STATUS_S):
            announced = True
            addresses: Mapping[str, str] = next(iter(view.gateways.values()), {})
            announce(addresses)


class Reporter:
    """Says once what is new: a version that moves, one that is waited for, a load that gets on, something wrong."""

    def __init__(self, config: ServingConfig) -> None:
        self._base_paths = {model.name: model.base_path for model in config.models}
        self._states: dict[ServableId, str] = {}
        self._progress: dict[ServableId, tuple[str, float]] = {}
        self._complaints: set[str] = set()

    def news(self, view: AppView, now: float) -> list[str]:
        """The lines to print now."""
        versions = [version for model in view.models.values() for version in in_order(model.versions)]
        states = {version.servable: _state_line(version) for version in versions}
        lines = [line for servable, line in states.items() if self._states.get(servable) != line]
        self._states |= states  # also of those that are not seen: a controller that starts again knows none at first
        lines += self._progress_lines(versions, now)
        complaints = list(self._complain(view))
        lines += [line for line in complaints if line not in self._complaints]
        self._complaints = set(complaints)
        return lines

    def _progress_lines(self, versions: Iterable[VersionView], now: float) -> Iterator[str]:
        told, self._progress = self._progress, {}
        for version in versions:
            if version.progress:
                before, at = told.get(version.servable, ("", now))  # a quick load says nothing
                if before != version.progress and now - at >= _PROGRESS_S:
                    before, at = version.progress, now
                    yield f"  {version.servable.name} version {version.servable.version}: {version.progress}"
                self._progress[version.servable] = before, at

    def _complain(self, view: AppView) -> Iterator[str]:
        for model in view.models.values():
            lines = [*obstacles(model, self._base_paths.get(model.name)), *model.warnings]
            yield from (f"  {model.name}: {line}" for line in lines)
        yield from (f"  {problem}" for problem in view.problems)


def in_order(versions: Iterable[VersionView]) -> list[VersionView]:
    """What answers goes first: who reads that the old version goes has read by then that the new one is there."""
    return sorted(versions, key=lambda each: (each.state is not State.READY, each.servable.version))


def _state_line(version: VersionView) -> str:
    state = public_state(version.state)
    reason = f": {version.error}" if version.error and state is PublicState.END else ""
    return f"  {version.servable.name} version {version.servable.version}: {state.name}{reason}"


def obstacles(model: ModelView, base_path: str | None = None) -> Iterator[str]:
    """What keeps a model, or a version of it, from being loaded at all: no version's state tells of it."""
    if model.listing_failure is not None:
        yield str(model.listing_failure)
    elif model.configured and model.aspired is not None and not model.aspired and not model.waiting:
        where = f" under {base_path}" if base_path else ""
        yield f"no version to serve{where}; versions are directories named by a number, such as 1"
    for number, lacks in sorted(model.waiting.items()):
        yield f"version {number} waits: {lacks}"


def is_settled(config: ServingConfig, view: AppView, is_late: bool = False) -> bool:
    """Whether each model has a version that answers, or one that failed, or none that could be loaded now.

    A model all of whose versions are still being written is waited for until it `is_late`.
    """
    names = {model.name for model in config.models} | {model.name for model in view.models.values() if model.configured}
    return all(name in view.models and _has_had_its_chance(view.models[name], is_late) for name in names)


def _has_had_its_chance(model: ModelView, is_late: bool) -> bool:
    settled = (PublicState.AVAILABLE, PublicState.END)
    if any(public_state(version.state) in settled for version in model.versions):
        return True
    return any(obstacles(model)) and (is_late or not model.waiting)


def _announce(addresses: Mapping[str, str]) -> None:
    listening = ", ".join(f"{protocol} at {address}" for protocol, address in addresses.items())
    _say(f"serving: {listening}. Ctrl-C stops.")


def _remove(name: str) -> None:
    """Delete the application, and wait until its controller has removed every version."""
    from ray import serve

    try:
        serve.delete(name)
    except Exception as error:
        _say(f"deleting the application failed: {error}")
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


def _shut_empty_serve_down() -> None:
    from ray import serve

    if not serve.status().applications:
        serve.shutdown()
