"""`serving-app versions`: every known version of a model, where it is in its life, and why."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from typing import Any

from serving_app.cli import asking
from serving_app.cli.health import failure_words, state_words
from serving_app.cli.tables import size, table
from serving_app.cli.times import ago, local
from serving_app.client.control import Control
from serving_app.core.documents import dump, model_document
from serving_app.core.health import find_model, is_healthy, labels_of
from serving_app.core.placement import Placement
from serving_app.core.views import ModelView, VersionView


def add_to(commands: Any) -> None:
    """Add this command to the command line."""
    parser = commands.add_parser("versions", help="the versions of a model, and why they are so", description=__doc__)
    parser.add_argument("model", metavar="MODEL", help="the model's name")
    asking.add_json(parser)
    asking.add_app(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the command."""
    return asking.run(_show(asking.open_control(options), options.model, options.json))


async def _show(control: Control, name: str, as_json: bool) -> int:
    model = find_model(await control.view(), name)
    asking.say(dump(model_document(model)) if as_json else page(model, time.time()))
    return asking.FINE if is_healthy(model) else asking.UNHEALTHY


def page(model: ModelView, now: float) -> str:
    """A table with a line, or some, for each version, newest first; then what is wrong with the model as a whole."""
    rows = [(version.servable.version, _row(model, version, now)) for version in model.versions]
    rows += [
        (number, (str(number), "waiting", "", "", ", ".join(labels_of(model, number)), lacks))
        for number, lacks in model.waiting.items()
    ]
    parts = []
    if rows:
        rows.sort(key=lambda row: -row[0])
        head = ("VERSION", "STATE", "SINCE", "SIZE", "LABELS", "MORE")
        parts.append(table(head, [row for _, row in rows]))
    else:
        parts.append(f"no version of {model.name} is known")
    if model.listing_failure is not None:
        parts.append(f"the base path could not be listed: {model.listing_failure}")
    return "\n".join([*parts, *model.warnings])


def _row(model: ModelView, version: VersionView, now: float) -> tuple[str, ...]:
    return (
        str(version.servable.version),
        state_words(version),
        f"{local(version.since, now)}, {ago(version.since, now)}",
        size(version.size),
        ", ".join(labels_of(model, version.servable.version)),
        "\n".join(_more(version, now)),
    )


def _more(version: VersionView, now: float) -> Iterator[str]:
    if version.progress:
        yield version.progress
    if version.error is not None:
        yield failure_words(version, now)
    if version.aspired is False:
        yield "not aspired"
    if version.placement is Placement.COLOCATED:
        yield "colocated: in every gateway"
    if version.batching is not None:
        yield f"batched: {version.batching}"
    if version.path:
        yield version.path
