"""Servers as processes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks.suite.environments import Failed, python_of, tail
from benchmarks.suite.processes import Server

SPAWN = """
import os, subprocess, sys
if len(sys.argv) == 1:
    subprocess.Popen([sys.executable, __file__, "child"], start_new_session=True)
print("here", flush=True)
import signal
signal.pause()
"""


def test_what_a_server_starts_belongs_to_it(tmp_path: Path) -> None:
    """A process that a server started in a session of its own is found, stopped and ended with it."""
    script, log = tmp_path / "server.py", tmp_path / "log"
    script.write_text(SPAWN)
    server = Server([sys.executable, str(script)], log, tmp_path, {})
    try:
        while log.read_text().count("here") < 2:
            assert server.is_alive()
        pids = server.pids()
        assert len(pids) == 2
        server.stop()
        while {Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] for pid in pids} != {"T"}:
            assert server.is_alive()  # a signal takes its time
    finally:
        server.end()
    assert not server.pids()
    assert tail(log).count("here") == 2


def test_a_peer_that_cannot_be_installed(tmp_path: Path) -> None:
    """A peer that cannot be installed is reported with the end of the installer's log, and nothing is left of it that
    would be taken for an environment."""
    (tmp_path / "envs").write_text("a file where a folder should be")
    for _ in range(2):
        with pytest.raises(Failed, match=r"cannot be installed; .*install-kserve\.log ends with\n(.*\n)*.*envs"):
            python_of("kserve", tmp_path)
