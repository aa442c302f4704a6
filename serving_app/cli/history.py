"""`serving-app history`: what happened to models and versions, when, and why."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from typing import Any

from serving_app.cli import asking
from serving_app.cli.times import ago, local
from serving_app.client.control import Control
from serving_app.core.documents import dump, happening_document
from serving_app.core.health import find_model
from serving_app.core.history import Happening

_CATCH_UP = 1000
"""What may happen between two looks of `--follow`."""


def add_to(commands: Any) -> None:
    """Add this command to the command line."""
    parser = commands.add_parser("history", help="what happened, when, and why", description=__doc__)
    parser.add_argument("model", nargs="?", metavar="MODEL", help="only of this model")
    parser.add_argument("--version", type=int, metavar="N", help="only of this version of the model")
    parser.add_argument("--limit", type=int, default=100, metavar="N", help="the newest N (default: 100)")
    parser.add_argument("--follow", action="store_true", help="go on, and print what happens")
    asking.add_json(parser)
    asking.add_app(parser)
    parser.set_defaults(run=run, parser=parser)


def run(options: argparse.Namespace) -> int:
    """Run the command."""
    if options.version is not None and options.model is None:
        options.parser.error("--version needs a MODEL")
    if options.limit < 1:
        options.parser.error("--limit must be 1 or more")
    control = asking.open_control(options)
    if options.follow:
        return asking.run_until_interrupted(_follow(control, options))
    return asking.run(_show(control, options))


async def _show(control: Control, options: argparse.Namespace) -> int:
    found = await control.history(options.model, options.version, options.limit)
    if not found and options.model is not None:
        find_model(await control.view(), options.model)  # raises where the name is wrong
    if not found and not options.json:
        asking.say("nothing has happened yet")
    _tell(found, options)
    return asking.FINE


async def _follow(control: Control, options: argparse.Namespace) -> None:
    told: list[Happening] = []
    async for _ in asking.changes(control):
        limit = options.limit if not told else _CATCH_UP
        found = await control.history(options.model, options.version, limit)
        _tell(newer(found, told), options)
        told = [*told, *found][-_CATCH_UP:]


def newer(found: Sequence[Happening], told: Sequence[Happening]) -> list[Happening]:
    """Those that were not told: of the same moment there may be some that were and some that were not."""
    known = set(told)
    oldest = told[-1].at if told else 0.0
    return [each for each in found if each not in known and each.at >= oldest]


def _tell(happenings: Sequence[Happening], options: argparse.Namespace) -> None:
    now = time.time()
    for each in happenings:
        text = dump(happening_document(each), in_one_line=True) if options.json else line(each, now)
        asking.say(text)


def line(happening: Happening, now: float) -> str:
    """One happening, for people."""
    return f"{local(happening.at, now)}  {ago(happening.at, now):>12}  {happening}"
