"""Calls of one held version: run one by one, or in batches where the version is batched.

The same wherever a version is held, in a replica of its own or in a gateway. Runs happen on threads, but for those that
are known to be quick: see `pace`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from serving_app.core.errors import DeadlineExceeded
from serving_app.core.metrics import Registry
from serving_app.core.servable import ServableId
from serving_app.host.batcher import Batcher
from serving_app.host.host import Host
from serving_app.host.meter import RunMeter
from serving_app.host.pace import Pace, Paces
from serving_app.protocol.calls import Answer, Call, Reply
from serving_app.protocol.joined_calls import members_of
from serving_app.runtime.cpus import usable_cpus

_SPREAD_ABOVE_S = 200e-6
"""Calls that take longer than this are spread over threads; below it a thread hop costs more than it gains."""

_NO_WAIT_S = 1e-3
"""A wait that is not worth counting."""

_CALL_BYTES = 16
"""What a call counts as besides what it carries."""

_TOO_LATE = DeadlineExceeded("Run() timeout exceeded while waiting for others to run")


class Runner:
    """Runs the calls of one version that a Host holds. Used on one event loop."""

    def __init__(self, host: Host, servable: ServableId, registry: Registry) -> None:
        self._host = host
        self._servable = servable
        self._threads = max(2, usable_cpus())
        self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="run")
        self._seconds_per_call = 1.0  # until measured
        self._may_loop = host.may_loop(servable)
        self._paces = Paces(self._may_loop)
        self._meter = RunMeter(registry, servable)
        self._batcher: Batcher | None = None
        self._is_closed = False
        self.in_hand = 0
        """Requests that came and are not answered yet; counted by whoever brings them."""
        self.follow_limits()

    @property
    def is_batched(self) -> bool:
        """Whether calls are joined."""
        return self._batcher is not None

    def run(self, calls: Sequence[Call]) -> Awaitable[Answer]:
        """The replies to these calls, joined ones or not; to cancel it is to give up what does not run yet."""
        if len(calls) == 1 and not calls[0].members and (reply := self.run_at_once(calls[0])) is not None:
            done: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
            done.set_result(reply)
            return done
        return self.run_apart(calls) if self._batcher is None else self._batcher.submit([calls])[0]

    def run_at_once(self, call: Call) -> Answer | None:
        """What a batched version answers to a request that came alone, if it need not wait; see Batcher.run_at_once."""
        return None if self._batcher is None else self._batcher.run_at_once(call)

    def submit(self, hops: Sequence[Sequence[Call]]) -> list[asyncio.Future[Answer]]:
        """As `run`, for hops that arrived together; an answer to come for each."""
        return [asyncio.ensure_future(self.run(calls)) for calls in hops]

    async def run_apart(self, calls: Sequence[Call]) -> Answer:
        """Each request by itself: on the loop when all of them together are quick, in one thread when each of them is,
        and in several threads when they are not."""
        arrived = time.monotonic()
        if any(call.members for call in calls):
            calls = [request for call in calls for request in members_of(call)]
        pace, size = self._paces[_kind(calls)], _size(calls)
        if pace.is_quick(size):
            replies, ran = pace.run_here(size, partial(self._run_in_turn, calls, arrived))
            return Answer(replies, self._seconds_per_call * len(calls), ran=ran)
        lanes = min(self._threads, len(calls)) if calls and self._seconds_per_call > _SPREAD_ABOVE_S else 1
        if lanes == 1:
            replies, ran = await self._run_on_thread(pace, calls, arrived)
            return Answer(replies, self._seconds_per_call * len(calls), ran=ran)
        # Gathered, so that a hop that is cancelled gives up all of its lanes.
        parts = await asyncio.gather(*(self._run_on_thread(pace, calls[lane::lanes], arrived) for lane in range(lanes)))
        gathered: list[Any] = [None] * len(calls)
        for lane, (part, _) in enumerate(parts):
            gathered[lane::lanes] = part
        ran = sum(seconds for _, seconds in parts)
        return Answer(gathered, self._seconds_per_call * len(calls) / lanes, ran=ran)

    def follow_limits(self) -> None:
        """Batch what comes from now on as the Host says now: by other limits, or anew, or no more.

        What waits is run as it was gathered.
        """
        limits = self._host.batching(self._servable)
        if self._is_closed or limits == (self._batcher and self._batcher.limits):
            return
        if limits is None:
            if self._batcher is not None:
                self._batcher.finish()
            self._batcher = None
        elif self._batcher is not None:
            self._batcher.adjust(limits)
        else:
            run = partial(self._host.run_batch, self._servable)
            self._batcher = Batcher(limits, run, self._meter, may_be_endless=self._may_loop)

    def close(self) -> None:
        """Refuse what waits for a batch; what runs is answered."""
        self._is_closed = True
        if self._batcher is not None:
            self._batcher.close()
        self._pool.shutdown(wait=False)

    def _run_on_thread(
        self, pace: Pace, calls: Sequence[Call], arrived: float
    ) -> asyncio.Future[tuple[list[Reply], float]]:
        run = partial(self._run_in_turn, calls, arrived)
        return asyncio.get_running_loop().run_in_executor(self._pool, pace.run_on_thread, _size(calls), run)

    def _run_in_turn(self, calls: Sequence[Call], arrived: float) -> tuple[list[Reply], float]:
        """The replies, and how long their runs took."""
        started = time.perf_counter()
        replies = [self._run_in_time(call, arrived) for call in calls]
        seconds = time.perf_counter() - started
        run = len(replies) - replies.count(_TOO_LATE)
        if run:
            # Threads may overwrite one another's measure; any of them will do.
            self._seconds_per_call += 0.2 * (seconds / run - self._seconds_per_call)
        return replies, seconds

    def _run_in_time(self, call: Call, arrived: float) -> Reply:
        """One call with what it has left of its time; nobody waits any more for one that has nothing left."""
        if call.timeout is not None and (waited := time.monotonic() - arrived) > _NO_WAIT_S:
            if waited >= call.timeout:
                return _TOO_LATE
            call = call._replace(timeout=call.timeout - waited)
        return self._host.run(self._servable, call)


def _kind(calls: Sequence[Call]) -> Hashable:
    """Of runs of these signatures: one may be quick and the next one not."""
    return frozenset([(call.signature_name, call.outputs) for call in calls])


def _size(calls: Sequence[Call]) -> int:
    """How much there is to do for these, in the unit of a Pace."""
    return sum([call.nbytes for call in calls]) + _CALL_BYTES * len(calls)
