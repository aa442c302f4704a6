"""`serving-app status`: what a serving app serves, where, and what is wrong with it."""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

from serving_app.cli import asking
from serving_app.cli.health import is_colocated, label_news, news
from serving_app.cli.tables import some, table
from serving_app.client.control import Control
from serving_app.core.documents import app_document, dump
from serving_app.core.health import are_healthy, is_healthy, ready
from serving_app.core.views import AppView, ModelView

_CLEAR = "\x1b[H\x1b[2J\x1b[3J"


def add_to(commands: Any) -> None:
    """Add this command to the command line."""
    parser = commands.add_parser("status", help="what is served, and what is wrong", description=__doc__)
    parser.add_argument("--watch", action="store_true", help="go on, and print it again at every change")
    asking.add_json(parser)
    asking.add_app(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the command."""
    control = asking.open_control(options)
    if options.watch:
        return asking.run_until_interrupted(_watch(control, options.json))
    return asking.run(_show(control, options.json))


async def _show(control: Control, as_json: bool) -> int:
    view = await control.view()
    asking.say(dump(app_document(view)) if as_json else page(view, time.time()))
    return asking.FINE if are_healthy(view) else asking.UNHEALTHY


async def _watch(control: Control, as_json: bool) -> None:
    """One JSON document per line, or the page again: in its place on a terminal, below the last one elsewhere."""
    told = ""
    async for _ in asking.changes(control):
        view = await control.view()
        if as_json:
            news = text = dump(app_document(view), in_one_line=True)
        else:
            news, text = page(view, 0.0), page(view, time.time())  # that time goes by is no news
        if asking.is_terminal() and not as_json:
            asking.say(_CLEAR + text)
        elif news != told:
            asking.say(text if as_json else f"{text}\n")
        told = news


def page(view: AppView, now: float) -> str:
    """All of a serving app, for people."""
    return "\n".join(_lines(view, now))


def _lines(view: AppView, now: float) -> Iterator[str]:
    configured = [model for model in view.models.values() if model.configured]
    answering = sum(map(is_healthy, configured))
    yield f"{view.app}: {answering} of {len(configured)} models answer"
    yield from _gateways(view)
    if view.models:
        yield ""
        yield table(
            ("MODEL", "READY", "NEWS"),
            [
                (model.name, _ready(model), "\n".join([*news(model, now), *label_news(model)]))
                for _, model in sorted(view.models.items())
            ],
        )
    if view.problems:
        yield ""
        yield from (f"problem: {problem}" for problem in view.problems)


def _ready(model: ModelView) -> str:
    """The versions that answer, and whether they do so in the gateways' own processes."""
    versions = some(ready(model)) or "none"
    return f"{versions} (colocated)" if is_colocated(model) else versions


def _gateways(view: AppView) -> Iterator[str]:
    """Gateways of one node share its addresses."""
    places = Counter(
        ", ".join(f"{protocol} at {address}" for protocol, address in addresses.items()) or "no listener of its own"
        for addresses in view.gateways.values()
    )
    for place, count in places.items():
        yield f"{count} gateways: {place}" if count > 1 else f"gateway: {place}"
    if not places:
        yield "no gateway is up"
