"""Which runs happen on the event loop: those that are known to be quick."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event

import pytest

from serving_app.host import pace as pace_module
from serving_app.host.pace import QUICK_S, Pace, Paces


class Clocks:
    """The time, the processor's time and the waits of this thread, all of which only the test's runs make pass."""

    def __init__(self) -> None:
        self.now = self.used = 0.0
        self.waits = 0

    def perf_counter(self) -> float:
        return self.now

    def thread_time(self) -> float:
        return self.used


clocks = Clocks()


@pytest.fixture
def _clocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace_module, "time", clocks)
    monkeypatch.setattr(pace_module, "_waits", lambda: clocks.waits)


by_clocks = pytest.mark.usefixtures("_clocks")


def nothing() -> str:
    clocks.now += QUICK_S / 10
    clocks.used += QUICK_S / 10
    return "done"


def compute() -> str:
    """Use the processor for longer than a quick run does."""
    clocks.now += 4 * QUICK_S
    clocks.used += 4 * QUICK_S
    return "done"


def wait() -> str:
    """Wait for something, without using the processor."""
    clocks.now += 4 * QUICK_S
    clocks.waits += 1
    return "done"


def lose() -> str:
    """Take long because others have the processor."""
    clocks.now += 4 * QUICK_S
    clocks.used += QUICK_S / 10
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


@by_clocks
def test_quick_is_what_was_seen_to_be() -> None:
    """The first runs happen on threads, and a kind that takes its time stays there, computing or waiting."""
    assert 1 <= runs_until_quick(Pace()) <= 10
    assert runs_until_quick(Pace(), compute) == 99
    assert runs_until_quick(Pace(), wait) == 99


@by_clocks
def test_what_is_much_larger_is_seen_first() -> None:
    """Runs may grow to twice the size that was quick; what is larger goes to a thread, and is known after that."""
    pace = trusted(size=4)
    assert pace.is_quick(8)
    assert not pace.is_quick(9)
    pace.run_on_thread(32, nothing)
    assert pace.is_quick(64)


@by_clocks
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


@by_clocks
def test_a_slow_run_now_and_then_is_forgiven() -> None:
    """Quick runs pay for slow ones: a kind that is nearly always quick stays on the loop."""
    pace = trusted()
    for _ in range(10):
        pace.run_here(1, compute)
        for _ in range(200):
            pace.run_here(1, nothing)
    assert pace.is_quick(1)


@by_clocks
def test_others_that_have_the_processor_cost_no_trust() -> None:
    """A run that takes long without having waited for anything says nothing against its kind, on the loop or on a
    thread."""
    pace = trusted()
    for _ in range(100):
        pace.run_here(1, lose)
        pace.run_on_thread(1, lose)
    assert pace.is_quick(1)


def test_a_wait_is_noticed() -> None:
    """The system counts when a thread gives the processor away to wait for something."""
    before = pace_module._waits()
    while pace_module._waits() == before:
        Event().wait(QUICK_S)


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
