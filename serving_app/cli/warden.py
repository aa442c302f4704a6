"""Ends processes together with this one, however that ends: even `kill -9` closes its pipes.

The kernel does this for children of ours that ask for it. It does not for their children, which Ray's helpers are.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

_PROGRAM = """
import os, signal, sys

def age(pid):
    try:
        return open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[19]
    except OSError:
        return None

before = {int(pid): age(pid) for pid in sys.argv[1:]}
print(flush=True)
sys.stdin.read()
for pid, born in before.items():
    if born is not None and age(pid) == born:  # and no other process by now
        os.kill(pid, signal.SIGKILL)
"""


def end_with_this_process(pids: Iterable[int]) -> None:
    """From now on these processes are killed when this one has ended."""
    warden = subprocess.Popen(
        # Without site-packages: it is there for a long time, and does very little.
        [sys.executable, "-I", "-S", "-c", _PROGRAM, *map(str, pids)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C is for us, not for it
    )
    assert warden.stdout is not None
    warden.stdout.readline()
    _wardens.append(warden)


_wardens: list[subprocess.Popen[bytes]] = []
"""Kept: one that is forgotten would have its pipe closed."""


def children(pid: int) -> list[int]:
    """The processes that this one has started and that are its children still."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(entry.read_text().rpartition(")")[2].split()[1])
        except OSError:  # it has just ended
            continue
        if parent == pid:
            found.append(int(entry.parent.name))
    return found
