"""`serving-app profile`: where the time of requests goes, and the CPU time of all processes of the app."""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from serving_app.cli import asking
from serving_app.cli.tables import table
from serving_app.client.control import Control
from serving_app.core.documents import dump
from serving_app.core.errors import InvalidArgument, NotFound
from serving_app.core.stacks import (
    MOST_S,
    AppProfile,
    FunctionTime,
    ProcessProfile,
    busiest,
    collapsed,
    speedscope,
)
from serving_app.core.stages import Breakdown, break_down

_FUNCTIONS = 15
"""How many functions are shown."""


def add_to(commands: Any) -> None:
    """Add this command to the command line."""
    parser = commands.add_parser(
        "profile", help="where the time of requests and the CPU time of all processes goes", description=__doc__
    )
    parser.add_argument("--seconds", type=float, default=5.0, help="for how long to watch (default: 5)")
    parser.add_argument("--model", help="only the requests to this model (the CPU time is that of everything)")
    parser.add_argument("--stages-only", action="store_true", help="leave the CPU time alone, which costs nothing")
    parser.add_argument(
        "--output", type=Path, metavar="FILE",
        help="write the stacks there: for speedscope if the name ends in .json, else collapsed, for flame graphs",
    )
    asking.add_json(parser)
    asking.add_app(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the command."""
    if not 0 < options.seconds <= MOST_S:
        raise InvalidArgument(f"--seconds must be more than 0 and at most {MOST_S:g}, not {options.seconds:g}")
    if options.stages_only and options.output is not None:
        raise InvalidArgument("with --stages-only there are no stacks to write; leave out that or --output")
    if options.output is not None:
        _check_place(options.output)
    return asking.run(_profile(asking.open_control(options), options))


async def _profile(control: Control, options: argparse.Namespace) -> int:
    model: str | None = options.model
    if model is not None and model not in (await control.view()).models:
        raise NotFound(f"there is no model {model!r}; `serving-app models` lists those that there are")
    before = await control.metrics()
    profile: AppProfile | None = None
    if options.stages_only:
        await asyncio.sleep(options.seconds)
    else:
        profile = await control.profile(options.seconds)
    parts = break_down(before, await control.metrics(), model)
    if options.json:
        asking.say(dump(document(options.seconds, parts, profile)))
    else:
        asking.say(page(parts, profile))
    if profile is not None and options.output is not None:
        options.output.write_text(stacks_text(options.output, profile, control.app), encoding="utf-8")
        if not options.json:
            asking.say(f"\nThe stacks are in {options.output}.")
    return asking.FINE if profile is None or not profile.silent else asking.UNHEALTHY


def _check_place(file: Path) -> None:
    """Raise now what writing would raise in the end."""
    try:
        with file.open("a", encoding="utf-8"):
            pass
    except OSError as error:
        raise InvalidArgument(f"{file} cannot be written: {error.strerror}") from error


def stacks_text(file: Path, profile: AppProfile, app: str) -> str:
    """The stacks in the form that the name of the file tells."""
    if file.suffix == ".json":
        return json.dumps(speedscope(profile.processes, app))
    return collapsed(profile.processes)


def page(parts: Sequence[Breakdown], profile: AppProfile | None) -> str:
    """What people are shown."""
    blocks = [_stages(part) for part in parts] or ["No request was answered meanwhile."]
    if profile is not None:
        blocks += [_processes(profile.processes), _functions(busiest(profile.processes, _FUNCTIONS))]
        blocks += [f"{name} gave no profile: it has ended, or is too busy to answer." for name in profile.silent]
    return "\n\n".join(blocks)


def _stages(part: Breakdown) -> str:
    requests = "1 request" if part.requests == 1 else f"{part.requests:,} requests"
    head = f"{part.model}, {part.entrypoint}: {requests}, {part.mean_s * 1e3:.3f} ms each"
    rows = [
        (each.stage.value, f"{each.mean_s * 1e3:.3f} ms".rjust(12), f"{each.share:.1%}".rjust(6))
        for each in part.stages
    ]
    return f"{head}\n{table(('STAGE', 'MEAN'.rjust(12), 'SHARE'.rjust(6)), rows)}"


def _processes(processes: Sequence[ProcessProfile]) -> str:
    rows = [
        (each.name, str(each.pid), f"{each.cpu_s:.2f} s of {each.seconds:.1f} s", each.host)
        for each in sorted(processes, key=lambda each: -each.cpu_s)
    ]
    return table(("PROCESS", "PID", "CPU TIME", "HOST"), rows)


def _functions(functions: Sequence[FunctionTime]) -> str:
    rows = [(f"{each.own:.1%}".rjust(6), f"{each.total:.1%}".rjust(6), each.function) for each in functions]
    return table(("   OWN", " TOTAL", "FUNCTION"), rows)


def document(seconds: float, parts: Sequence[Breakdown], profile: AppProfile | None) -> dict[str, Any]:
    """What programs are told."""
    told: dict[str, Any] = {
        "seconds": seconds,
        "requests": [
            {
                "model": part.model,
                "entrypoint": part.entrypoint,
                "requests": part.requests,
                "mean_s": part.mean_s,
                "stages": {
                    each.stage.value: {"mean_s": each.mean_s, "share": each.share} for each in part.stages
                },
            }
            for part in parts
        ],
    }
    if profile is not None:
        told["processes"] = [
            {"name": each.name, "host": each.host, "pid": each.pid, "cpu_s": each.cpu_s, "seconds": each.seconds}
            for each in profile.processes
        ]
        told["silent"] = list(profile.silent)
        told["functions"] = [each._asdict() for each in busiest(profile.processes, _FUNCTIONS)]
    return told
