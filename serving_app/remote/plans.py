"""What a call consists of, free of any IO: a plan is a generator of steps.

A step is an *exchange*, one request that is sent and answered, or a *pause*. Whoever runs a plan takes its steps one
after the other, and hands the outcome of each back in: the answer, or what went wrong. So deadlines, attempts and the
knowledge of signatures are written once, for threads and for asyncio, and tests run them in a plain loop.

An exchange ends in the body of a right answer, or raises
- `Setback` if the same request may be sent again,
- `TimeoutError` if there was no answer within the time that the step gave, and
- any other `ServingError` that is for the caller.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

from serving_app.core.errors import DeadlineExceeded
from serving_app.protocol.call_options import FOREVER_S, seconds_of
from serving_app.remote.retries import Retries, Setback

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Query(Generic[T]):
    """One request, and how its answer is read. `target` is the path of a URL, or of a gRPC method."""

    target: str
    body: bytes | None
    read: Callable[[bytes], T]
    is_repeatable: bool = True


class Exchange(NamedTuple):
    """Send the query and receive its answer, within so many seconds; None means that there is no limit."""

    query: Query[Any]
    timeout: float | None


class Pause(NamedTuple):
    """Wait for so many seconds."""

    seconds: float


Plan = Generator[Exchange | Pause, bytes | None, T]


@dataclass(frozen=True, slots=True)
class Terms:
    """What holds for one call, all of its attempts and everything else that it needs."""

    server: str
    timeout: float | None
    retries: Retries
    ends: float | None
    clock: Callable[[], float]
    chance: random.Random

    def left(self) -> float | None:
        """The seconds that are left, None meaning all. DeadlineExceeded if the time is over."""
        if self.ends is None:
            return None
        left = self.ends - self.clock()
        if left <= 0:
            raise self.over()
        return left

    def over(self) -> DeadlineExceeded:
        """What the caller hears when the time is over."""
        return DeadlineExceeded(f"{self.server} gave no answer within {self.timeout:g} s")


_CHANCE = random.Random()


def terms(
    server: str,
    timeout: float | None,
    retries: Retries,
    clock: Callable[[], float] = time.monotonic,
    chance: random.Random = _CHANCE,
) -> Terms:
    """The terms of a call that begins now."""
    seconds = seconds_of(timeout)
    return Terms(server, seconds, retries, None if seconds is None else clock() + seconds, clock, chance)


def ask(query: Query[T], terms: Terms) -> Plan[T]:
    """The plan for one query: attempts, with pauses, until one is answered."""
    attempts = 0
    while True:
        attempts += 1
        try:
            body = yield Exchange(query, terms.left())
        except TimeoutError as error:
            raise terms.over() from error
        except Setback as setback:
            pause = terms.retries.pause_after(attempts, terms.chance, setback.pause)
            if pause is None or not query.is_repeatable or _is_too_long(pause, terms):
                raise setback.error from setback.__cause__
        else:
            assert body is not None
            return query.read(body)
        yield Pause(pause)


def _is_too_long(pause: float, terms: Terms) -> bool:
    """Whether nothing would be left after the pause. Then what is wrong is told now, and not that time is over."""
    return pause >= (FOREVER_S if terms.ends is None else terms.ends - terms.clock())
