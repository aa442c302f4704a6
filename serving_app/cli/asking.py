"""What the commands share that ask a serving app which runs: how it is named, found and asked."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any, TextIO

from serving_app.client.control import Control, join_cluster

FINE = 0
REFUSED = 1
"""What was asked for was refused, or failed."""
UNHEALTHY = 3
"""What was asked about is not healthy. (2 is argparse's, for a command line that makes no sense.)"""
UNREACHABLE = 4
"""There is no cluster, no serving app of this name on it, or its controller does not answer."""

_NEWS_S = 5.0
"""How long one wait for news takes at most; ages on a page that is watched are never older."""


def add_app(parser: argparse.ArgumentParser, *, again: bool = False) -> None:
    """The flags that say which serving app is meant; `again` for one more place where they may stand."""
    address = os.environ.get("RAY_ADDRESS") or None
    parser.add_argument(
        "--name", default=argparse.SUPPRESS if again else "default", help="name of the serving app (default: default)"
    )
    parser.add_argument(
        "--address", default=argparse.SUPPRESS if again else address,
        help="the Ray cluster that it runs on (default: RAY_ADDRESS, else what Ray finds)",
    )


def add_json(parser: argparse.ArgumentParser) -> None:
    """The flag for programs."""
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")


def open_control(options: argparse.Namespace) -> Control:
    """The controller of the app that the command line names. Raises Unreachable when there is no cluster."""
    join_cluster(options.address, logging.ERROR)  # Ray's warnings, such as that it found a token, are no answer
    return Control(options.name)


def run(work: Coroutine[Any, Any, int]) -> int:
    """The exit code of a command that asks a controller. It prints by `say` only."""
    with silence():
        return asyncio.run(work)


def run_until_interrupted(work: Coroutine[Any, Any, None]) -> int:
    """The exit code of a command that goes on until Ctrl-C or SIGTERM, at which Ray alone would print its stack."""
    before = signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        with silence():
            asyncio.run(work)
    except KeyboardInterrupt:
        return FINE
    finally:
        signal.signal(signal.SIGTERM, before)
    raise AssertionError("only Ctrl-C ends this without an error")


_outputs: list[TextIO] = []


def say(text: str) -> None:
    """Print what a command has to say."""
    print(text, file=_output(), flush=True)


def is_terminal() -> bool:
    """Whether a person looks on."""
    return _output().isatty()


def _output() -> TextIO:
    return _outputs[-1] if _outputs else sys.stdout


@contextmanager
def silence() -> Iterator[None]:
    """Let nobody print but `say`.

    Ray tells whoever is connected what happens on its cluster, such as a controller that starts again, and tells it on
    standard output, where a program expects nothing but JSON.
    """
    with open(os.devnull, "w") as nowhere:
        _outputs.append(sys.stdout)
        try:
            with redirect_stdout(nowhere):
                yield
        finally:
            _outputs.pop()


async def changes(control: Control) -> AsyncIterator[None]:
    """Now, and again whenever something may have changed, for ever."""
    seen = -1
    while True:
        seen = await control.wait_for_change(seen, _NEWS_S)
        yield
