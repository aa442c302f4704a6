"""`serving-app up`: serve models from a terminal, with progress, until Ctrl-C.

Joins the Ray cluster that is there, or starts one on this machine for as long as it runs.
"""

from __future__ import annotations

import argparse
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from serving_app.cli.cluster import join_or_start_ray, leave_ray, shut_empty_serve_down, start_serve
from serving_app.cli.deployment import deploy, refuse_to_replace, remove, wait_until_running
from serving_app.cli.progress import Reporter, follow, is_settled
from serving_app.client.control import Unreachable
from serving_app.config import ConfigError, ServingConfig, load_yaml, parse

_FIRST_STATUS_S = 60.0
_UPLOADED_S = 10.0
"""How long versions that are being written may hold up the announcement: such as only have to rest come sooner."""

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
    started_ray = join_or_start_ray(options.address, _say)
    # Only now: Ray sets handlers of its own when it is initialised.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        start_serve(options.http_port, _say)
        refuse_to_replace(options.name, "give this one a --name, a --rest-port and a --grpc-port of its own")
        try:
            _say("starting the gateway ...")
            deploy(config, options.name)
            if wait_until_running(options.name, stop, _say):
                _watch(config, options.name, stop, announce)
        except Unreachable:
            _say("the serving app was stopped from elsewhere")
        finally:
            _say("stopping ...")
            remove(options.name, _say)
            if not started_ray:  # else Serve ends with Ray
                shut_empty_serve_down()
    finally:
        leave_ray(started_ray, _say)
    _say("stopped")
    return 0


def _say(line: str) -> None:
    print(line, flush=True)


def _watch(config: ServingConfig, name: str, stop: threading.Event, announce: Announce) -> None:
    """Print everything that changes; announce once everything has had its first chance."""
    reporter = Reporter(config)
    started = time.monotonic()
    announced = False
    for view in follow(name, stop):
        for line in reporter.news(view, time.monotonic()):
            _say(line)
        took_s = time.monotonic() - started
        if not announced and (is_settled(config, view, took_s > _UPLOADED_S) or took_s > _FIRST_STATUS_S):
            announced = True
            addresses: Mapping[str, str] = next(iter(view.gateways.values()), {})
            announce(addresses)


def _announce(addresses: Mapping[str, str]) -> None:
    listening = ", ".join(f"{protocol} at {address}" for protocol, address in addresses.items())
    _say(f"serving: {listening}. Ctrl-C stops.")
