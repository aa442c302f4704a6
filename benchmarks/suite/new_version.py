"""How soon a new version of a model serves once it has been seen."""

from __future__ import annotations

import datetime
import json
import re
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from benchmarks.suite.contenders import base_path_of
from benchmarks.suite.environments import Failed
from benchmarks.suite.measure import Target
from benchmarks.suite.works import ROOT

_PATIENCE_S = 60.0


def measure(target: Target, rounds: int) -> list[float]:
    """Seconds from the first entry about a version in the app's history, which says that it was seen, to its first
    answer; a new version for each round. It comes by a rename, and the model's `settle_s` is 0 as there is nothing to
    wait for then."""
    base_path = base_path_of(target.folder, target.door.setup)
    address = _address(target)
    took = []
    for version in range(2, 2 + rounds):
        incoming = base_path / "incoming"
        shutil.copytree(base_path / "1", incoming)
        incoming.rename(base_path / str(version))
        served = _wait_until_served(target, version)
        took.append(served - _seen(target.door.model, version, address))
    return took


def _wait_until_served(target: Target, version: int) -> float:
    url = target.url.replace(":predict", f"/versions/{version}:predict")
    request = urllib.request.Request(url, target.work.request(target.door.form, target.door.model))
    deadline = time.time() + _PATIENCE_S
    while time.time() < deadline:
        try:
            with urllib.request.urlopen(request, timeout=10):
                return time.time()
        except (urllib.error.URLError, OSError):
            time.sleep(0.005)
    raise Failed(f"version {version} did not answer within {_PATIENCE_S:.0f} s")


def _seen(model: str, version: int, address: str) -> float:
    command = [
        sys.executable, "-m", "serving_app.cli", "history", model, "--version", str(version), "--json",
        "--address", address,
    ]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode != 0 or not done.stdout:
        raise Failed(f"no history of version {version}: {done.stderr.strip()[-500:]}")
    at = datetime.datetime.fromisoformat(json.loads(done.stdout.splitlines()[0])["at"])
    return at.timestamp()


def _address(target: Target) -> str:
    """Where the Ray cluster of this server is to be found: as its processes were told."""
    for pid in target.server.pids():
        try:
            line = Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
        except OSError:
            continue
        if found := re.search(r"gcs-address=([\w.:]+)", line):
            return found[1]
    raise Failed("none of the server's processes tells the address of its Ray cluster")
