"""Locks between the processes of a node."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from serving_app.store import locks
from serving_app.store.locks import try_lock

_HOLD = """
import sys
from pathlib import Path
from serving_app.store.locks import try_lock
held = try_lock(Path(sys.argv[1]), shared=sys.argv[2] == "shared")
print(held is not None, flush=True)
sys.stdin.read()
"""


@contextmanager
def held_elsewhere(path: Path, how: str) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the file."""
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", _HOLD, str(path), how], stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "True\n"
        yield process
        process.kill()


@pytest.mark.parametrize(("how", "may_share"), [("shared", True), ("alone", False)])
def test_holds_of_another_process(tmp_path: Path, how: str, may_share: bool) -> None:
    """A file is shared or held alone across processes, and one that is killed has let go of it."""
    path = tmp_path / "lock"
    with held_elsewhere(path, how) as process:
        assert try_lock(path) is None
        shared = try_lock(path, shared=True)
        assert (shared is not None) is may_share
        if shared is not None:
            shared.close()
        process.kill()
        process.wait()
        alone = try_lock(path)
        assert alone is not None
        alone.close()


def test_threads_exclude_each_other(tmp_path: Path) -> None:
    """Two holds of one process are as separate as those of two processes."""
    with try_lock(tmp_path / "lock") or pytest.fail("free"):
        assert try_lock(tmp_path / "lock") is None
        assert try_lock(tmp_path / "lock", shared=True) is None


def test_a_removed_lock_file_is_no_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who had opened a lock file before its holder removed it gets a hold on the file that is there now."""
    path = tmp_path / "lock"
    opened = []
    real_open = locks._open

    def open_and_lose_the_race(wanted: Path) -> object:
        file = real_open(wanted)
        if not opened:
            path.unlink()  # between our opening and our locking
        opened.append(file)
        return file

    monkeypatch.setattr(locks, "_open", open_and_lose_the_race)
    held = try_lock(path)
    assert held is opened[1]
    assert path.exists()
    monkeypatch.undo()
    assert try_lock(path) is None
    held.close()
