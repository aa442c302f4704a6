"""`serving-app publish`: put a new version of a model where it is served from, and wait for it if asked."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from typing import Any

from serving_app.cli import asking
from serving_app.cli.store_options import add_store_options, read_store_options
from serving_app.cli.tables import size
from serving_app.core.documents import dump
from serving_app.core.errors import InvalidArgument
from serving_app.publishing import Published, publish
from serving_app.store import Progress

_PROGRESS_S = 5.0
"""Between two lines about how far an upload is. A quick one says nothing."""


def add_to(commands: Any) -> None:
    """Add this command to the command line."""
    parser = commands.add_parser("publish", help="put a new version where it is served from", description=__doc__)
    parser.add_argument("path", metavar="PATH", help="the directory of a SavedModel")
    parser.add_argument("--model", metavar="NAME", help="the model of the serving app that gets the version")
    parser.add_argument(
        "--base-path", metavar="PATH", help="where the model's versions lie; needed where no app serves it"
    )
    parser.add_argument("--version", metavar="N", type=int, help="the version's number (default: the next one)")
    parser.add_argument(
        "--label", metavar="LABEL", action="append", default=[],
        help="let this label name the version when it is ready; may be repeated",
    )
    parser.add_argument("--wait", action="store_true", help="wait until every gateway routes to the version")
    parser.add_argument(
        "--timeout", metavar="SECONDS", type=float, default=600.0, help="how long to wait for that (default: 600)"
    )
    parser.add_argument("--add", action="store_true", help="have the app serve the model if it does not yet")
    parser.add_argument(
        "--metadata", metavar="NAME=VALUE", action="append", default=[],
        help="keep this text beside the version; may be repeated",
    )
    add_store_options(parser, "--storage-options", "the base path")
    asking.add_json(parser)
    asking.add_app(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the command."""
    metadata = dict(_read_pair(text) for text in options.metadata)
    storage_options = read_store_options("--storage-options", options.storage_options)
    with asking.silence():
        published = publish(
            options.path,
            options.model,
            options.base_path,
            version=options.version,
            labels=options.label,
            wait=options.wait,
            timeout=options.timeout,
            metadata=metadata,
            storage_options=storage_options,
            add=options.add,
            progress=_reporter(),
            app=options.name,
            address=options.address,
        )
        asking.say(dump(_document(published, options.model)) if options.json else page(published, options.model))
    return asking.FINE


def page(published: Published, model: str | None) -> str:
    """What was done, for people."""
    what = f"{model} version {published.version}" if model else f"version {published.version}"
    lines = [f"{what} is at {published.path} ({size(published.size)})"]
    if published.is_served:
        named = f", and is named by {', '.join(published.labels)}" if published.labels else ""
        lines.append(f"{what} is served by every gateway{named}")
    return "\n".join(lines)


def _document(published: Published, model: str | None) -> dict[str, Any]:
    return {
        "model": model,
        "version": published.version,
        "path": published.path,
        "size": published.size,
        "labels": list(published.labels),
        "served": published.is_served,
    }


def _read_pair(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not (name and sign):
        raise InvalidArgument(f"--metadata: {text!r} is no pair; write NAME=VALUE")
    return name, value


def _reporter(clock: Callable[[], float] = time.monotonic) -> Progress:
    """Tells on standard error how far an upload is, now and then."""
    told_at = clock()

    def report(done: int, total: int) -> None:
        nonlocal told_at
        if clock() - told_at >= _PROGRESS_S and done < total:
            told_at = clock()
            print(f"uploaded {size(done)} of {size(total)}", file=sys.stderr, flush=True)

    return report
