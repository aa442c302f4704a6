"""`serving-app rollout`: move requests from one version to another step by step; look on, go on, or go back."""

from __future__ import annotations

import argparse
import shutil
import time
from collections.abc import Sequence
from typing import Any

import yaml

from serving_app.cli import asking
from serving_app.cli.tables import table
from serving_app.cli.times import ago, local
from serving_app.client.control import Control
from serving_app.core.documents import dump, rollout_document
from serving_app.core.rollout import Phase, Rollout, Transition
from serving_app.core.traffic import DEFAULT_TARGET

_CLEAR = "\x1b[H\x1b[2J\x1b[3J"
_EXAMPLE = "{steps: [10, {pause_s: 600}]}"
_LEAST_STORY = 3

_MOVES = {
    "promote": "go on to the next step, whatever gates say",
    "pause": "stay at this step until told",
    "resume": "go on; what was inconclusive is measured again",
    "abort": "go back: the old version gets all requests at once",
    "retry": "try again from the first step, after it failed, or was aborted or undone",
    "undo": "go back after it was promoted, without steps, while the old version is kept",
}


def add_to(commands: Any) -> None:
    """Add this command to the command line."""
    parser = commands.add_parser(
        "rollout", help="move requests from one version to another", description=__doc__,
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True, help="what to do")
    start = _add(actions, "start", "begin to move requests to a version")
    start.add_argument("model", metavar="MODEL", help="the model's name")
    start.add_argument("--to", type=int, required=True, metavar="VERSION", help="the version that is to get them")
    start.add_argument(
        "--target", default=DEFAULT_TARGET, metavar="TARGET",
        help=f"the label whose requests are meant, or {DEFAULT_TARGET} for those that name neither a version nor a "
        f"label (default: {DEFAULT_TARGET})",
    )
    start.add_argument(
        "--strategy", required=True, type=_strategy, metavar="STRATEGY",
        help=f"the name of one in the configuration, or its settings in YAML: {_EXAMPLE}",
    )
    status = _add(actions, "status", "how one stands, and what it did")
    status.add_argument("id", metavar="ID", type=int, help="the rollout's number")
    for action in (start, status):
        action.add_argument("--watch", action="store_true", help="go on until it is decided, and print what it does")
    listed = _add(actions, "list", "those that go on, and the last that did")
    listed.add_argument("model", nargs="?", metavar="MODEL", help="only of this model")
    for name, meaning in _MOVES.items():
        move = _add(actions, name, meaning)
        move.add_argument("id", metavar="ID", type=int, help="the rollout's number")
        if name == "promote":
            move.add_argument("--full", action="store_true", help="to the end at once")
    parser.set_defaults(run=run)


def _add(actions: Any, name: str, meaning: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = actions.add_parser(name, help=meaning, description=f"{meaning.capitalize()}.")
    asking.add_json(parser)
    asking.add_app(parser)
    return parser


def _strategy(text: str) -> str | dict[str, Any]:
    """A name, or settings, which are a mapping."""
    try:
        written = yaml.safe_load(text)
    except yaml.YAMLError:
        written = None
    if isinstance(written, dict):
        return written
    if "{" in text or ":" in text:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a name nor a mapping such as {_EXAMPLE}")
    return text


def run(options: argparse.Namespace) -> int:
    """Run the command."""
    return asking.run(_act(asking.open_control(options), options))


async def _act(control: Control, options: argparse.Namespace) -> int:
    match options.action:
        case "list":
            rollouts = await control.rollouts(options.model)
            asking.say(dump([rollout_document(each) for each in rollouts]) if options.json else overview(rollouts))
            return asking.FINE
        case "start":
            rollout = await control.start_rollout(options.model, options.to, options.target, options.strategy)
        case "status":
            rollout = await control.rollout(options.id)
        case action:
            full = "_full" if getattr(options, "full", False) else ""
            rollout = await control.move_rollout(options.id, action + full)
    if getattr(options, "watch", False):
        return await _watch(control, rollout.id, options.json)
    _tell(rollout, options)
    return _code(rollout) if options.action == "status" else asking.FINE


def _tell(rollout: Rollout, options: argparse.Namespace) -> None:
    if options.json:
        asking.say(dump(rollout_document(rollout)))
    else:
        asking.say(page(rollout, time.time()) if options.action == "status" else str(rollout))


def _code(rollout: Rollout) -> int:
    """Where the requests went back to the old version, whoever relies on the new one should know."""
    return asking.FINE if rollout.is_active or rollout.phase is Phase.PROMOTED else asking.UNHEALTHY


async def _watch(control: Control, number: int, as_json: bool) -> int:
    """One JSON document per line; on a terminal the page again and again, in its place; elsewhere the page once, and
    then line by line what the rollout does."""
    told: str | None = None
    known: tuple[Transition, ...] = ()
    async for _ in asking.changes(control):
        rollout = await control.rollout(number)
        if as_json:
            document = dump(rollout_document(rollout), in_one_line=True)
            if document != told:
                asking.say(document)
                told = document
        elif asking.is_terminal():
            asking.say(_CLEAR + page(rollout, time.time(), shutil.get_terminal_size().lines))
        elif told is None:
            asking.say(page(rollout, time.time()))
            told, known = "", rollout.transitions
        else:
            for news in [each for each in rollout.transitions if each not in known]:
                asking.say(f"{local(news.at, time.time())}  {news.what}")
            known = rollout.transitions
        if not rollout.is_active:
            if not as_json:
                asking.say(str(rollout))
            return _code(rollout)
    raise AssertionError("changes go on for ever")


def overview(rollouts: Sequence[Rollout]) -> str:
    """A line for each."""
    if not rollouts:
        return "there are no rollouts"
    return table(
        ("ID", "MODEL", "TARGET", "VERSIONS", "STRATEGY", "PHASE", "WEIGHT", "WHY"),
        [
            (
                str(each.id), each.model, each.target, f"{each.from_version} to {each.to_version}", each.strategy.name,
                each.phase.value, f"{each.weight:g} %", each.reason,
            )
            for each in rollouts
        ],
    )


def page(rollout: Rollout, now: float, lines: int | None = None) -> str:
    """All of one rollout, for people; of its story only the end, if there is no room for more lines."""
    above = "\n".join([str(rollout), "", _steps(rollout), *_section(_gates(rollout))])
    story = _story(rollout, now)
    if lines is not None:
        head, *told = story.splitlines()
        room = max(_LEAST_STORY, lines - above.count("\n") - 4)
        story = "\n".join([head, *told[-room:]])
    return "\n".join([above, *_section(story)])


def _section(text: str) -> list[str]:
    return ["", text] if text else []


def _steps(rollout: Rollout) -> str:
    def state(index: int) -> str:
        if index == rollout.step and rollout.is_active:
            return "now"
        return "done" if index < rollout.step or rollout.phase is Phase.PROMOTED else ""

    steps = enumerate(rollout.strategy.steps)
    return table(("STEP", "WHAT", "STATE"), [(str(index + 1), str(step), state(index)) for index, step in steps])


def _gates(rollout: Rollout) -> str:
    if not rollout.strategy.all_gates:
        return ""
    rows = []
    for gate in rollout.strategy.all_gates:
        check = rollout.checks.get(gate.name)
        verdict = str(check.last) if check is not None and check.last is not None else "not measured yet"
        failures = f"{check.failures if check is not None else 0} of {rollout.strategy.failure_limit} allowed"
        rows.append((gate.name, failures, verdict))
    return table(("GATE", "FAILURES", "LAST"), rows)


def _story(rollout: Rollout, now: float) -> str:
    rows = [(local(each.at, now), ago(each.at, now), each.what) for each in rollout.transitions]
    return table(("AT", "AGO", "WHAT"), rows)
