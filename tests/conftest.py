"""What tests of several packages share."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest
from hypothesis import settings

from tests.zoo import Zoo

if TYPE_CHECKING:
    from tests.serve.fronts import Front, LoopThread

# A machine may be busy; a test that hangs is noticed otherwise. The inputs are the same each time, so that a change is
# judged by what it changes; HYPOTHESIS_PROFILE=deep looks for others.
settings.register_profile("patient", deadline=None, derandomize=True)
settings.register_profile("deep", deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "patient"))

# Whoever is started in the background of a script ignores Ctrl-C, and so would all commands that are tried here.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

_ZOO_SOURCES = Path(__file__).parent / "zoo"


@pytest.fixture(scope="session")
def zoo(pytestconfig: pytest.Config) -> Zoo:
    """Models of every kind, made by TensorFlow in its own process; kept on disk until a maker changes.

    Of several runs of the tests at the same time one makes them, the others wait for it.
    """
    digest = hashlib.sha256()
    for source in sorted(_ZOO_SOURCES.iterdir()):
        if source.is_file():
            digest.update(source.read_bytes())
    cache = pytestconfig.rootpath / ".pytest_cache" / "zoo"  # not pytest's own, of which each run may have another
    cache.mkdir(parents=True, exist_ok=True)
    folder = cache / digest.hexdigest()[:16]
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            for outdated in cache.glob("?" * len(folder.name)):
                shutil.rmtree(outdated)
            making = Path(tempfile.mkdtemp(prefix="making-models-", dir=cache))
            made = subprocess.run(
                [sys.executable, "-m", "tests.zoo", str(making)],
                cwd=_ZOO_SOURCES.parents[1],
                capture_output=True,
                text=True,
            )
            assert made.returncode == 0, made.stderr
            making.rename(folder)
    return Zoo(folder)


@pytest.fixture(scope="session")
def loop_thread() -> Iterator[LoopThread]:
    """One loop for all front ends: gRPC's servers are best off when they share one."""
    from tests.serve.fronts import LoopThread  # most tests need nothing of what that imports

    loop = LoopThread()
    yield loop
    loop.stop()


@pytest.fixture(scope="session")
def front(loop_thread: LoopThread, zoo: Zoo) -> Iterator[Front]:
    """Both front ends over a Host with models of the zoo."""
    from tests.serve.fronts import Front

    front = Front(loop_thread, zoo)
    yield front
    front.close()


class Demo(NamedTuple):
    """The folder with the demo's models, and what the command that makes them printed."""

    folder: Path
    said: str


def make_demo(folder: Path) -> Demo:
    """Run the command in a process of its own, as a user runs it."""
    return Demo(folder, _run_tool("serving_app.demo.models", folder))


def make_digit_versions(folder: Path) -> Demo:
    """Likewise the versions to roll out and to compare."""
    return Demo(folder, _run_tool("serving_app.demo.digit_versions", folder))


def _run_tool(module: str, folder: Path) -> str:
    command = [sys.executable, "-m", module, str(folder)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """The demo's models, as the command leaves them. Nobody may change them."""
    return make_demo(tmp_path_factory.mktemp("demo"))


@pytest.fixture(scope="session")
def digit_versions(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """The versions to roll out and to compare, likewise."""
    return make_digit_versions(tmp_path_factory.mktemp("digit_versions"))
