"""A profile of this process, taken from within."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from serving_app.core.stacks import ProcessProfile, busiest
from serving_app.serve.sampler import ENDED, SAMPLER, take_profile


def spin(stop: threading.Event) -> None:
    while not stop.is_set():
        much()
        little()


def much() -> int:
    return sum(range(20_000))


def little() -> int:
    return sum(range(1_000))


@contextmanager
def threads(*works: Callable[[threading.Event], Any]) -> Iterator[threading.Event]:
    """These at work, each in a thread, until the block ends."""
    stop = threading.Event()
    started = [threading.Thread(target=work, args=(stop,), name=f"work-{at}") for at, work in enumerate(works)]
    for thread in started:
        thread.start()
    try:
        yield stop
    finally:
        stop.set()
        for thread in started:
            thread.join()


def profile(seconds: float, ended: threading.Event | None = None) -> ProcessProfile:
    """Taken as it is meant, in a thread of its own."""
    taken: list[ProcessProfile] = []
    thread = threading.Thread(target=lambda: taken.append(take_profile("me", seconds, ended)))
    thread.start()
    thread.join()
    return taken[0]


class Ended(threading.Event):
    """Tells when a profile waits for this for the first time, which is when it has begun, and does that meanwhile."""

    def __init__(self, meanwhile: Callable[[], object]) -> None:
        super().__init__()
        self._meanwhile = meanwhile

    def wait(self, timeout: float | None = None) -> bool:
        self._meanwhile()
        self.set()
        return True


def use(cpu_s: float) -> None:
    """Use so much CPU time, in the thread that calls."""
    began = time.thread_time()
    while time.thread_time() - began < cpu_s:
        much()


def test_all_cpu_time_is_there() -> None:
    """A profile tells of all that the process used between its begin and its end, and of nothing else: also of what a
    thread used that has begun and ended meanwhile."""
    used = 0.0

    def meanwhile() -> None:
        nonlocal used
        before = time.process_time()
        use(0.05)
        thread = threading.Thread(target=use, args=(0.1,))
        thread.start()
        thread.join()
        while Path(f"/proc/self/task/{thread.native_id}").exists():  # Linux may take a moment more to end it
            time.sleep(0)
        used = time.process_time() - before

    before = time.process_time()
    seen = profile(1000.0, Ended(meanwhile))
    assert used - 1e-5 <= seen.cpu_s <= time.process_time() - before
    assert seen.stacks[SAMPLER] >= 50_000
    assert seen.stacks[ENDED] >= 99_000


def test_what_works_has_the_time() -> None:
    """Of two threads the one that works has the time, told of by function, and not the one that waits."""
    interval = sys.getswitchinterval()
    with threads(spin, threading.Event.wait):
        # On a busy machine there may be few samples; the more of them there are, the surer the right one comes first.
        looks = (profile(0.2 * 2**more) for more in range(9))
        seen = next(seen for seen in looks if busiest([seen], 1)[0].function == "tests.serve.test_sampler.much")
    (stack,) = [stack for stack in seen.stacks if stack.endswith("test_sampler.much")]
    assert stack.startswith("work;threading.Thread._bootstrap;")
    time_of = {stack: micros for stack, micros in seen.stacks.items() if stack.startswith("work;")}
    assert sum(time_of.values()) < 2 * sum(micros for stack, micros in time_of.items() if "test_sampler.spin" in stack)
    assert sys.getswitchinterval() == interval


def test_a_profile_that_nobody_wants_any_more_ends() -> None:
    """The sampler stops looking when it is told to, and tells what it has seen; its own time is among that."""
    ended = threading.Event()
    ended.set()
    seen = profile(1000.0, ended)
    assert seen.seconds < 1000.0
    assert SAMPLER in seen.stacks
