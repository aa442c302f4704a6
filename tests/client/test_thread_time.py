"""How much of the time a thread has something to do."""

from __future__ import annotations

import time

import pytest

from serving_app.client import thread_time
from serving_app.client.thread_time import read_thread_time


@pytest.mark.parametrize("path", [thread_time._SCHEDSTAT, "/nonexistent", "/dev/null"])
def test_work_counts(monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    """A thread that works wants a processor all the while, also where the system does not tell of waits."""
    monkeypatch.setattr(thread_time, "_SCHEDSTAT", path)
    before, until = read_thread_time(), time.thread_time() + 0.05
    while time.thread_time() < until:
        pass
    after = read_thread_time()
    assert after.worked - before.worked >= 0.01
    assert after.waited >= before.waited
