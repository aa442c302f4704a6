"""Processes that end with another one."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys

from serving_app.cli.warden import children

PROGRAM = """
import subprocess, sys
from serving_app.cli.warden import end_with_this_process
sleeper = subprocess.Popen(["sleep", "1000"])
end_with_this_process([sleeper.pid, 2**22 + 1])
print(sleeper.pid, flush=True)
sys.stdin.read()
"""


def test_they_end_even_if_it_is_killed() -> None:
    """A process that was entrusted to the warden is gone soon after the one that did so is killed, and not before."""
    started = subprocess.Popen([sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with started:
        assert started.stdout is not None
        sleeper = int(started.stdout.readline())
        watched = os.pidfd_open(sleeper)
        try:
            assert sleeper in children(started.pid)
            os.kill(started.pid, signal.SIGKILL)
            started.wait()
            assert select.select([watched], [], [], 60)[0]
        finally:
            os.close(watched)
