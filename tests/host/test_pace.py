"""Which runs happen on the event loop: those that are known to be quick."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Event

import pytest

from serving_app.host.pace import QUICK_S, Pace, Paces


def nothing() -> str:
    return "done"


def compute() -> str:
    """Use the processor for longer than a quick run does."""
    end = time.thread_time() + 4 * QUICK_S
    while time.thread_time() < end:
        pass
    return "done"


def wait() -> str:
    """Wait for something, without using the processor."""
    Event().wait(4 * QUICK_S)
    return "done"


def trusted(size: int = 1) -> Pace:
    """The pace of a kind that was quick so far."""
    pace = Pace()
    while not pace.is_quick(size):
        pace.run_on_thread(size, nothing)
    return pace


def runs_until_quick(pace: Pace, run: Callable[[], str] = nothing) -> int:
    """How many runs on threads it takes until the loop may run the next one; 99 if it takes more than that."""
    for count in range(99):
        if pace.is_quick(1):
            return count
        pace.run_on_thread(1, run)
    return 99


def test_quick_is_what_was_seen_to_be() -> None:
    """The first runs happen on threads, and a kind that takes its time stays there, computing or waiting."""
    assert 1 <= runs_until_quick(Pace()) <= 10
    assert runs_until_quick(Pace(), compute) == 99
    assert runs_until_quick(Pace(), wait) == 99


def test_what_is_much_larger_is_seen_first() -> None:
    """Runs may grow to twice the size that was quick; what is larger goes to a thread, and is known after that."""
    pace = trusted(size=4)
    assert pace.is_quick(8)
    assert not pace.is_quick(9)
    pace.run_on_thread(32, nothing)
    assert pace.is_quick(64)


@pytest.mark.parametrize("slow", [compute, wait])
def test_a_kind_that_is_slow_on_the_loop_goes_back_to_threads(slow: Callable[[], str]) -> None:
    """Whether runs compute or wait, few slow ones are suffered, and each time it takes longer until the kind is trusted
    again."""
    pace = trusted()
    needed = []
    for _ in range(2):
        stalls = 0
        while pace.is_quick(1):
            assert pace.run_here(1, slow) == "done"
            stalls += 1
        assert stalls < 20
        needed.append(runs_until_quick(pace))
    assert 1 < needed[0] < needed[1]


def test_a_slow_run_now_and_then_is_forgiven() -> None:
    """Quick runs pay for slow ones: a kind that is nearly always quick stays on the loop."""
    pace = trusted()
    for _ in range(10):
        pace.run_here(1, compute)
        for _ in range(200):
            pace.run_here(1, nothing)
    assert pace.is_quick(1)


def test_kinds_are_remembered_up_to_a_bound() -> None:
    """Each kind keeps a pace of its own; of more kinds than are remembered the oldest begins anew."""
    paces = Paces()
    first = paces["first"]
    assert paces["first"] is first
    assert paces["other"] is not first
    for number in range(2000):
        paces[number]
    assert len(paces) == 1000
    assert paces["first"] is not first
