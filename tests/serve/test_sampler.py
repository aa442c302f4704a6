"""A profile of this process, taken from within."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from serving_app.core.stacks import ProcessProfile, busiest
from serving_app.serve.sampler import SAMPLER, take_profile


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


def test_what_works_has_the_time() -> None:
    """Of two threads the one that waits has next to nothing, and the other's time is told of by function; all of it is
    there, but for what the process used before and after."""
    interval = sys.getswitchinterval()
    with threads(spin, threading.Event.wait):
        before = time.process_time()
        seen = profile(0.7)
        used = time.process_time() - before
    assert 0.5 * used < seen.cpu_s <= used
    assert sum(micros for stack, micros in seen.stacks.items() if "test_sampler.spin" in stack) > 0.5e6 * used
    assert busiest([seen], 1)[0].function == "tests.serve.test_sampler.much"
    (stack,) = [stack for stack in seen.stacks if stack.endswith("test_sampler.much")]
    assert stack.startswith("work;threading.Thread._bootstrap;")
    assert sys.getswitchinterval() == interval


def test_a_profile_that_nobody_wants_any_more_ends() -> None:
    """The sampler stops looking when it is told to, and tells what it has seen; its own time is among that."""
    ended = threading.Event()
    ended.set()
    seen = profile(1000.0, ended)
    assert seen.seconds < 1000.0
    assert SAMPLER in seen.stacks
