"""An environment for each peer, made once under `.bench/`, with the packages of its requirements file."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.suite.works import ROOT

PEERS = ROOT / "benchmarks" / "peers"


class Failed(Exception):
    """A peer cannot be measured; the text says why."""


def python_of(peer: str, folder: Path) -> Path:
    """The interpreter of a peer's environment, which is made if it is missing or if its requirements have changed.
    Failed, with the end of the installer's log, if that does not work."""
    requirements = PEERS / f"{peer}.txt"
    place = folder / "envs" / peer
    python = place / "bin" / "python"
    mark = place / "installed"
    wanted = _digest(requirements)
    if python.exists() and mark.exists() and mark.read_text() == wanted:
        return python
    shutil.rmtree(place, ignore_errors=True)
    log = folder / "logs" / f"install-{peer}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    print(f"installing {peer} (minutes, once)", flush=True)
    for command in (
        [sys.executable, "-m", "venv", str(place)],
        [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", str(requirements)],
    ):
        with log.open("ab") as output:
            done = subprocess.run(command, stdout=output, stderr=output)
        if done.returncode != 0:
            raise Failed(f"cannot be installed; {log} ends with\n{tail(log)}")
    mark.write_text(wanted)
    return python


def _digest(requirements: Path) -> str:
    """Of the packages and of the Python that they are for."""
    lines = [line for line in requirements.read_text().splitlines() if not line.startswith("#")]
    return hashlib.sha256("\n".join([*lines, sys.version]).encode()).hexdigest()


def tail(log: Path, lines: int = 15) -> str:
    """The last lines of a log, indented."""
    text = log.read_text(errors="replace").splitlines() if log.exists() else []
    return "\n".join(f"    {line}" for line in text[-lines:])
