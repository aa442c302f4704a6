"""`serving-app traffic`: how a model's requests are shared among its versions; share them, or share them no more."""

from __future__ import annotations

import argparse
from typing import Any

from serving_app.cli import asking
from serving_app.cli.tables import table
from serving_app.client.control import Control
from serving_app.config import read_mapping
from serving_app.core.documents import dump, targets_document
from serving_app.core.errors import InvalidArgument
from serving_app.core.health import find_model, ready
from serving_app.core.traffic import DEFAULT_TARGET
from serving_app.core.views import ModelView


def add_to(commands: Any) -> None:
    """Add this command to the command line."""
    parser = commands.add_parser(
        "traffic", help="how requests are shared among versions; share them", description=__doc__,
        usage="serving-app traffic [flags] MODEL [set TARGET VERSION=WEIGHT... | delete TARGET]",
    )
    parser.add_argument("model", metavar="MODEL", help="the model's name")
    asking.add_json(parser)
    asking.add_app(parser)
    actions = parser.add_subparsers(
        dest="action", metavar="ACTION", prog="serving-app traffic MODEL", help="what to do; without, it is shown"
    )
    set_ = actions.add_parser(
        "set", help="share requests among versions", description="Share the requests for a target among versions."
    )
    delete = actions.add_parser(
        "delete", help="share requests no more", description="Share the requests for a target no more."
    )
    for action in (set_, delete):
        action.add_argument(
            "target", metavar="TARGET",
            help=f"the label that requests name, or {DEFAULT_TARGET} for those that name neither a version nor a label",
        )
        asking.add_app(action, again=True)
    set_.add_argument(
        "weights", metavar="VERSION=WEIGHT", nargs="+", type=_weight, help="percentages, which add up to 100"
    )
    set_.add_argument(
        "--sticky", metavar="ATTRIBUTE",
        help="the header, or `input:NAME`, by whose value a user stays on one version; without, chance decides",
    )
    set_.add_argument(
        "--audience", metavar="RULE", action="append", type=_mapping, default=[],
        help="a rule that comes before the weights, in YAML: {attribute: x-team, equals: ads, version: 4}; may be "
        "given several times",
    )
    set_.add_argument(
        "--mirror", metavar="VERSION=SHARE", type=_weight,
        help="the version that gets copies of requests, and of how many in percent; nobody gets to see its answers, "
        "but they are compared",
    )
    set_.add_argument(
        "--tolerances", metavar="TOLERANCES", type=_mapping, default={},
        help="how far its outputs may be from the others, in YAML: {y: {absolute: 0.1, relative: 0.01}}",
    )
    parser.set_defaults(run=run)


def _weight(text: str) -> tuple[int, float]:
    version, sign, weight = text.partition("=")
    try:
        if sign:
            return int(version), float(weight)
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"{text!r} is no VERSION=WEIGHT, such as 4=10")


def _mapping(text: str) -> dict[str, Any]:
    try:
        return read_mapping(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def run(options: argparse.Namespace) -> int:
    """Run the command."""
    return asking.run(_act(asking.open_control(options), options))


async def _act(control: Control, options: argparse.Namespace) -> int:
    if options.action == "set":
        await control.set_traffic(options.model, options.target, _traffic(options))
    elif options.action == "delete":
        await control.delete_traffic(options.model, options.target)
    model = find_model(await control.view(), options.model)
    if options.action is None and options.json:
        asking.say(dump(targets_document(model)))
    else:
        asking.say(page(model))
    return asking.FINE


def _traffic(options: argparse.Namespace) -> dict[str, Any]:
    """What is wanted, as in a configuration."""
    weights = dict(options.weights)
    if len(weights) < len(options.weights):
        raise InvalidArgument("a version is given twice; each has one weight")
    traffic = {"weights": weights, "sticky": options.sticky, "audience": options.audience}
    if options.mirror is not None:
        version, share = options.mirror
        traffic["mirror"] = {"version": version, "share": share, "tolerances": options.tolerances}
    elif options.tolerances:
        raise InvalidArgument("--tolerances is about a mirror; give --mirror VERSION=SHARE, too")
    return traffic


def page(model: ModelView) -> str:
    """A table with a line for each target's rules and weights, in the order in which they count."""
    if not model.traffic:
        return f"the requests for {model.name} are not shared"
    return table(("TARGET", "REQUESTS", "VERSION", "STATE"), _rows(model))


def _rows(model: ModelView) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for target, traffic in sorted(model.traffic.items()):
        name = target or DEFAULT_TARGET
        shares = [(rule.condition, rule.version) for rule in traffic.rules]
        by = f" by {traffic.sticky}" if traffic.sticky else ""
        shares += [(f"{weight:g} %{by}", version) for version, weight in traffic.weights.items()]
        rows += [
            (name, requests, str(version), "ready" if version in ready(model) else "not ready: others get them")
            for requests, version in shares
        ]
        if (mirror := traffic.mirror) is not None:
            state = "ready" if mirror.version in ready(model) else "not ready: nothing is copied"
            rows.append((name, f"copies of {mirror.share:g} %", str(mirror.version), state))
    return rows
