"""The `serving-app` command."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from serving_app import __version__
from serving_app.cli import (
    asking,
    batch,
    config,
    demo,
    history,
    labels,
    model_server,
    models,
    profile,
    publish,
    rollout,
    status,
    traffic,
    up,
    versions,
)
from serving_app.client.control import Unreachable
from serving_app.core.errors import DeadlineExceeded, ServingError


def make_parser() -> argparse.ArgumentParser:
    """The command line, one sub-command per module."""
    parser = argparse.ArgumentParser(
        prog="serving-app", description="TensorFlow Serving as a distributed application on Ray Serve."
    )
    parser.add_argument("--version", action="version", version=f"serving-app {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    asking_ones = (status, models, versions, labels, traffic, rollout, config, history, profile)
    for command in (up, demo, model_server, *asking_ones, batch, publish):
        command.add_to(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    if given[:1] == ["model-server"]:  # whose command line argparse cannot read
        return model_server.main(given[1:])
    options = make_parser().parse_args(given)
    try:
        code: int = options.run(options)
        sys.stdout.flush()
    except ServingError as error:
        print(f"serving-app: {error}", file=sys.stderr)
        return asking.UNREACHABLE if isinstance(error, Unreachable | DeadlineExceeded) else asking.REFUSED
    except KeyboardInterrupt:  # before `up` listens to it, while models are made or Ray starts
        print("serving-app: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # whoever reads has seen enough, such as `head`; nothing may be written at the end either
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return asking.FINE
    return code
