"""`serving-app labels`: the labels of a model; set one, or take one away."""

from __future__ import annotations

import argparse
from typing import Any

from serving_app.cli import asking
from serving_app.cli.tables import table
from serving_app.client.control import Control
from serving_app.core.documents import dump, labels_document
from serving_app.core.health import find_model, is_active
from serving_app.core.views import ModelView


def add_to(commands: Any) -> None:
    """Add this command to the command line."""
    parser = commands.add_parser(
        "labels", help="the labels of a model; set and delete them", description=__doc__,
        usage="serving-app labels [flags] MODEL [set LABEL VERSION | delete LABEL]",
    )
    parser.add_argument("model", metavar="MODEL", help="the model's name")
    asking.add_json(parser)
    asking.add_app(parser)
    actions = parser.add_subparsers(
        dest="action", metavar="ACTION", prog="serving-app labels MODEL", help="what to do; without, they are shown"
    )
    set_ = actions.add_parser("set", help="let a label name a version", description="Let a label name a version.")
    delete = actions.add_parser("delete", help="take a label away", description="Take a label away.")
    for action in (set_, delete):
        action.add_argument("label", metavar="LABEL", help="the label's name")
        asking.add_app(action, again=True)
    set_.add_argument("version", metavar="VERSION", type=int, help="the version's number")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the command."""
    return asking.run(_act(asking.open_control(options), options))


async def _act(control: Control, options: argparse.Namespace) -> int:
    if options.action == "set":
        await control.set_label(options.model, options.label, options.version)
        asking.say(f"{options.label} of {options.model} is version {options.version} now")
    elif options.action == "delete":
        await control.delete_label(options.model, options.label)
        asking.say(f"{options.model} has no {options.label} any more")
    else:
        model = find_model(await control.view(), options.model)
        asking.say(dump(labels_document(model)) if options.json else page(model))
    return asking.FINE


def page(model: ModelView) -> str:
    """A table with a line for each label. A pending one answers NOT_FOUND until its version is ready."""
    if not model.labels:
        return f"{model.name} has no labels"
    return table(
        ("LABEL", "VERSION", "STATE"),
        [
            (label, str(version), "active" if is_active(model, label) else "pending")
            for label, version in sorted(model.labels.items())
        ],
    )
