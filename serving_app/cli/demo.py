"""`serving-app demo`: make two small models, serve them, and say what to try."""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from serving_app.cli.up import add_listening, read_config, serve_until_stopped
from serving_app.core.errors import FailedPrecondition


def add_to(commands: Any) -> None:
    """Add this command to the command line."""
    parser = commands.add_parser("demo", help="serve two demo models until Ctrl-C", description=__doc__)
    parser.add_argument("--dir", default=".demo", metavar="DIR", help="where the models are kept (default: .demo)")
    add_listening(parser)
    parser.set_defaults(run=run, config=None, model=[])


def run(options: argparse.Namespace) -> int:
    """Run the command."""
    home = Path(options.dir).resolve()
    print(f"making the demo models in {home} (only once) ...", flush=True)
    # TensorFlow's Python package makes the models, in a process of its own; serving them needs only its library.
    if subprocess.run([sys.executable, "-m", "serving_app.demo.models", str(home)], check=False).returncode:
        raise FailedPrecondition("the demo models could not be made; see above")
    ready = home / "ready"
    options.model = [f"{path.name}={path}" for path in sorted(ready.iterdir()) if path.is_dir()]
    return serve_until_stopped(
        read_config(options), options, lambda addresses: _announce(home, options.name, addresses)
    )


def _announce(home: Path, app: str, addresses: Mapping[str, str]) -> None:
    print(try_this(home, app, addresses.get("REST", "127.0.0.1:8501")), flush=True)


def try_this(home: Path, app: str, rest: str) -> str:
    """What a newcomer may do now. Each command is one line, for pasting it into another terminal with its indentation.

    The Python there is this one, so nothing has to be activated first.
    """
    python = f"from serving_app import connect; print(connect({'' if app == 'default' else json.dumps(app)})"
    python += '.model("half_plus_two").predict(x=[1.0, 2.0, 5.0]))'
    ready = home / "ready" / "half_plus_two"
    return f"""
Serving. In another terminal, try

  1. REST, as TensorFlow Serving's clients speak it:

     curl -d '{{"instances": [1.0, 2.0, 5.0]}}' http://{rest}/v1/models/half_plus_two:predict

  2. Python, from any process on the Ray cluster, without a socket:

     {shlex.join([sys.executable, "-c", python])}

  3. A new version: drop it in, and a moment later it takes over without a lost request (then repeat 1 or 2):

     {shlex.join(["cp", "-r", str(home / "staged" / "half_plus_two" / "2"), f"{ready}/"])}

  4. The way back: remove it, and version 1 takes over again:

     {shlex.join(["rm", "-r", str(ready / "2")])}

Ctrl-C stops everything.
"""
