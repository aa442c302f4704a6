"""Locks that the processes of a node hold on files, and that the kernel takes back from a process that dies.

A lock belongs to an open file (flock(2)), so threads of one process exclude each other as well. Lock files may be
removed by who holds them alone. Somebody else may have opened the file before it went, and gets a lock that means
nothing: so a lock counts only if its file is still the one under that name.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import BinaryIO


def lock(path: Path) -> BinaryIO:
    """Wait until nobody else holds the file, and hold it alone. For files that are never removed."""
    file = _open(path)
    fcntl.flock(file, fcntl.LOCK_EX)
    return file


def try_lock(path: Path, *, shared: bool = False) -> BinaryIO | None:
    """Hold the file alone, or with others who share it; None if somebody's hold forbids it now.

    The hold ends when the file is closed.
    """
    while True:
        file = _open(path)
        try:
            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return None
        if _is_still_there(file, path):
            return file
        file.close()


def share(file: BinaryIO) -> None:
    """Let others share what was held alone. In between somebody else may have held it alone for a moment."""
    fcntl.flock(file, fcntl.LOCK_SH)


def _open(path: Path) -> BinaryIO:
    return open(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600), "r+b", buffering=0)


def _is_still_there(file: BinaryIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
