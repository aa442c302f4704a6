"""The demo's models, for notebooks to play with."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from serving_app.core.errors import FailedPrecondition
from serving_app.demo.models import READY, STAGED


def demo_models(cache: str | os.PathLike[str] = ".demo") -> Path:
    """A new folder with the models that `serving_app.demo.models` makes, to be changed and deleted as one likes.

    They are made once, in `cache`, by a process of its own: making them needs TensorFlow, which this one does not load.
    """
    home = Path(cache).resolve()
    _make("models", home)
    folder = _new_folder()
    for part in (READY, STAGED):
        shutil.copytree(home / part, folder / part)
    return folder


def digit_versions(cache: str | os.PathLike[str] = ".demo") -> Path:
    """A new base path with the versions that `serving_app.demo.digit_versions` makes, and its images; made likewise."""
    home = Path(cache).resolve() / "digit_versions"
    _make("digit_versions", home)
    return Path(shutil.copytree(home, _new_folder() / "digits"))


def _make(tool: str, home: Path) -> None:
    command = [sys.executable, "-m", f"serving_app.demo.{tool}", str(home)]
    made = subprocess.run(command, check=False, capture_output=True, text=True)
    if made.returncode:
        raise FailedPrecondition(f"the demo's models could not be made: {made.stderr.strip()}")


def _new_folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="serving-app-"))
