"""`serving-app model-server`: TensorFlow Serving's server by its own flags, on a Ray cluster.

What it prints, where, and how it ends are those of tensorflow_model_server: people and scripts wait for its lines and
look at its exit status. Installed as `tensorflow_model_server`, too.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from datetime import datetime
from importlib import metadata
from typing import Any, TextIO

from serving_app import __version__
from serving_app.cli.cluster import (
    has_gpus,
    join_or_start_ray,
    leave_ray,
    shut_empty_serve_down,
    start_ray,
    start_serve,
)
from serving_app.cli.deployment import deploy, drain, refuse_failed, refuse_to_replace, remove, wait_until_running
from serving_app.cli.progress import follow
from serving_app.cli.server_log import ServerLog
from serving_app.client.control import Unreachable
from serving_app.config import ServingConfig
from serving_app.config.model_server import share_machine, to_config
from serving_app.config.model_server_flags import parse_flags, usage
from serving_app.config.parsing import revise
from serving_app.config.proto_text import ProtoTextError
from serving_app.core.errors import Code, InvalidArgument, RuntimeFailure, ServingError, Unavailable
from serving_app.serve.reloads import find_first_outcome

FAILED = 255
"""How it ends when it could not start: main's -1."""


def add_to(commands: Any) -> None:
    """Add this command to the command line. Its flags are not argparse's: `main` reads them."""
    commands.add_parser(
        "model-server", help="serve as tensorflow_model_server does, by its flags", description=__doc__, add_help=False
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    cpus = len(os.sched_getaffinity(0))
    line = parse_flags(sys.argv[1:] if arguments is None else arguments, cpus)
    for mistake in line.mistakes:
        log("E", mistake)
    if line.needs_usage:
        _print(usage(sys.argv[0], cpus), sys.stdout)
        return FAILED
    if line.values["version"]:
        _print(f"TensorFlow ModelServer: {__version__}\nTensorFlow Library: {_library_version()}\n", sys.stdout)
        return 0
    if line.unknown:
        _print(f"unknown argument: {line.unknown[0]}\n{usage(sys.argv[0], cpus)}", sys.stdout)
    stop = _Stop()
    try:
        _serve(line.values, stop)
    except ServingError as error:
        if isinstance(error, ProtoTextError):
            _print(f"{error.parser_line}\n", sys.stderr)
        _print(f"Failed to start server. Error: {error.code.name}: {error.message}\n", sys.stdout)
        return FAILED
    except KeyboardInterrupt:  # before signals are listened to
        stop.number = signal.SIGINT
    except SystemExit:  # what Ray, while it starts, makes of SIGTERM
        stop.number = signal.SIGTERM
    return stop.end()


def log(severity: str, text: str) -> None:
    """A line on standard error, in the form of TensorFlow's."""
    _print(f"{datetime.now():%Y-%m-%d %H:%M:%S.%f}: {severity} model_server] {text}\n", sys.stderr)


def _print(text: str, stream: TextIO | None) -> None:
    """Write what is for people. That nobody reads it any more, or that the disk is full, ends no server.

    An argument may have bytes that are no text; they are shown by their numbers.
    """
    if stream is not None:  # None where it was closed before the start
        with contextlib.suppress(OSError):
            stream.write(text.encode(errors="backslashreplace").decode())
            stream.flush()


class _Stop(threading.Event):
    """Set by the first SIGTERM or SIGINT; a second one ends the process where it is."""

    number = 0

    def listen(self) -> None:
        """From now on. Ray sets handlers of its own when it is initialised, so this comes after."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._handle)

    def _handle(self, number: int, _frame: object) -> None:
        self.number = number
        signal.signal(number, signal.SIG_DFL)
        self.set()

    def end(self) -> int:
        """End by the signal itself, as a process without a handler does: whoever started it sees that in its status.

        Returns the status where there was none, or where it is the first process of a container, which it cannot end.
        """
        if not self.number:
            return 0
        signal.signal(self.number, signal.SIG_DFL)
        signal.raise_signal(self.number)
        return 128 + self.number


def _serve(values: Mapping[str, Any], stop: _Stop) -> None:
    """Serve until somebody wants to stop. Raises what keeps the server from starting."""
    conversion = to_config(values, _read, os.getcwd())
    for note in conversion.notes:
        log("W", note)
    name, address = values["app_name"], values["ray_address"]
    config = conversion.config
    if address:
        join_or_start_ray(address, _say)
    else:
        config = _without_taken_ports(config)
        start_ray(_say, bare=True)
    stop.listen()
    try:
        if not address:
            # Gateways, where models live that are to be colocated, have no GPU.
            config = share_machine(config, has_gpus=values["placement"] != "colocated" and has_gpus())
        start_serve(0, _say)
        refuse_to_replace(name, "give this one an --app_name, a --port and a --rest_api_port of its own")
        try:
            log("I", f"deploying the serving app {name} ...")
            deploy(config, name)
            if wait_until_running(name, stop, _say):
                _watch(config, name, stop)
        except Unreachable:
            raise Unavailable("the serving app was stopped from elsewhere") from None
        finally:
            # What runs on a cluster of our own ends with it; only requests under way have to be waited for.
            (remove if address else drain)(name, _say)
            if address:
                shut_empty_serve_down()
    finally:
        leave_ray(not address, _say)


def _say(text: str) -> None:
    log("I", text)


def _read(path: str) -> str:
    from serving_app.serve.config_file import read_text

    return read_text(path, {})


def _without_taken_ports(config: ServingConfig) -> ServingConfig:
    """The configuration with the ports of this machine that are free; without gRPC's there is no server.

    As in TensorFlow Serving a server goes on without REST, if that is all that it lacks.
    """
    from serving_app.serve.neighbours import is_free

    gateway = config.gateway
    if gateway.grpc_port and not is_free(gateway.host, gateway.grpc_port):
        raise InvalidArgument(
            f"Failed to BuildAndStart gRPC server: {gateway.host}:{gateway.grpc_port} is in use; stop what listens "
            "there, or choose another --port"
        )
    if gateway.rest_port and not is_free(gateway.host, gateway.rest_port):
        log(
            "E", f"Failed to start HTTP Server at {gateway.host}:{gateway.rest_port}, which is in use; REST is not "
            "served. Stop what listens there, or choose another --rest_api_port",
        )
        return revise(config, "The command line", gateway=revise(gateway, "gateway", rest_port=None))
    return config


def _watch(config: ServingConfig, name: str, stop: _Stop) -> None:
    """Log what happens until somebody wants to stop. Raises what keeps the first versions from being loaded."""
    states = ServerLog()
    is_open = False
    for view in follow(name, stop):
        for severity, text in states.news(view):
            log(severity, text)
        if is_open:
            continue
        if outcome := find_first_outcome(view.models, config.load.quick_retries):
            raise RuntimeFailure(Code.UNKNOWN, outcome)
        addresses: Mapping[str, str] = next(iter(view.gateways.values()), {})
        is_open = bool(addresses)
        if not is_open:
            refuse_failed(name)  # as where somebody took a port while the models were loading
        for text in announcements(addresses):
            log("I", text)


def announcements(addresses: Mapping[str, str]) -> list[str]:
    """What people and scripts wait for, for a gateway's addresses by protocol (model_servers/server.cc)."""
    lines = []
    if "gRPC" in addresses:
        lines.append(f"Running gRPC ModelServer at {addresses['gRPC']} ...")
    if path := addresses.get("gRPC (UNIX socket)", "").removeprefix("unix:"):
        lines.append(f"Running gRPC ModelServer at UNIX socket {path} ...")
    if "REST" in addresses:
        # "localhost", whatever it listens on, as there.
        lines.append(f"Exporting HTTP/REST API at:localhost:{addresses['REST'].rpartition(':')[2]} ...")
    return lines


def _library_version() -> str:
    """The version of the TensorFlow that is installed, without importing it."""
    for package in ("tensorflow", "tensorflow-cpu"):
        try:
            return metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return "not installed"
