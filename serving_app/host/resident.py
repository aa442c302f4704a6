"""One version in the process of those who ask it: a call is a function call.

Who asks does so on an event loop, for each request by itself. What is quick (see `pace`) runs there and then, without a
thread, a task or a future; the rest runs on threads. Where the version is batched, requests of one turn of the loop are
joined, and wait together in the same queues as anywhere else.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

from serving_app.core.errors import DeadlineExceeded, ResourceExhausted, ServingError, Unavailable, as_serving_error
from serving_app.core.metrics import Registry
from serving_app.core.servable import ServableId
from serving_app.core.stages import Traveller, leg
from serving_app.host.host import Host
from serving_app.host.pace import Pace, Paces
from serving_app.host.runner import Runner
from serving_app.protocol.calls import Answer, Call, Outputs, Reply
from serving_app.protocol.joined_calls import JoinedCalls, join_requests, send_apart
from serving_app.runtime.cpus import usable_cpus

MAX_WAITING = 20_000
"""Requests that may wait for a thread; more would only grow the memory, and their clients have given up."""


class _Waiting(NamedTuple):
    call: Call
    reply: asyncio.Future[Outputs]
    traveller: Traveller | None


class Resident:
    """Answers the calls of a version that a Host holds. Made and used on one event loop."""

    def __init__(self, host: Host, servable: ServableId, registry: Registry) -> None:
        self.servable = servable
        self._loop = asyncio.get_running_loop()
        self._host = host
        self._runner = Runner(host, servable, registry)
        self._paces = Paces(host.may_loop(servable))
        self._pool = ThreadPoolExecutor(max(2, usable_cpus()), thread_name_prefix="run")
        self._on_threads = 0
        self._joining: list[_Waiting] = []
        self._most_rows = 0  # that a run may join, as far as it has said
        self._in_turn = 0  # requests to be batched that came in this turn of the loop
        self._is_lonely = True  # not more than one came in the last turn in which any did
        self._is_closed = False

    @property
    def in_hand(self) -> int:
        """Requests that came and are not answered yet."""
        return self._on_threads + self._runner.in_hand

    def begin(self, call: Call, traveller: Traveller | None = None) -> Outputs | asyncio.Future[Outputs]:
        """The outputs of one call, or what will be that; to cancel it is to give the call up while it does not run.
        `traveller` gets to know of its leg, if it has to wait.

        Raises the call's error where that is known at once. The caller guards the deadline.
        """
        if self._runner.is_batched:
            outputs = self._run_alone(call)
            return self._join(call, traveller) if outputs is None else outputs
        pace = self._paces[call.signature_name, call.outputs]
        size = call.nbytes
        if pace.is_quick(size):
            reply = pace.run_here(size, partial(self._host.run, self.servable, call))
            if isinstance(reply, ServingError):
                raise reply
            return reply
        return self._begin_on_thread(pace, size, call, traveller)

    async def answer(self, calls: Sequence[Call]) -> Answer:
        """The replies to a list of calls from somewhere else, joined ones or not."""
        requests = sum(call.requests for call in calls)
        self._runner.in_hand += requests
        try:
            return await self._runner.run(calls)
        finally:
            self._runner.in_hand -= requests

    def follow_limits(self) -> None:
        """Batch what comes from now on as the Host says now."""
        self._runner.follow_limits()

    def close(self) -> None:
        """Refuse what waits and what may come; what runs is answered."""
        self._is_closed = True
        self._runner.close()
        self._pool.shutdown(wait=False)

    # Each by itself.

    def _begin_on_thread(
        self, pace: Pace, size: int, call: Call, traveller: Traveller | None
    ) -> asyncio.Future[Outputs]:
        if self._is_closed:
            raise _gone()
        if self._on_threads >= MAX_WAITING:
            raise ResourceExhausted(f"{MAX_WAITING} requests wait for this model already; try again later")
        loop = self._loop
        deadline = None if call.timeout is None else time.monotonic() + call.timeout
        run = loop.run_in_executor(self._pool, pace.run_on_thread, size, partial(self._run_in_time, call, deadline))
        reply: asyncio.Future[Outputs] = loop.create_future()
        self._on_threads += 1
        run.add_done_callback(partial(self._end_on_thread, reply, traveller, time.perf_counter()))
        reply.add_done_callback(lambda _: run.cancel())  # nobody waits any more, so it need not begin
        return reply

    def _run_in_time(self, call: Call, deadline: float | None) -> tuple[Reply, float]:
        """The reply, and how long its run took."""
        if deadline is not None:
            left = deadline - time.monotonic()
            if left <= 0:
                return DeadlineExceeded("Run() timeout exceeded while waiting for others to run"), 0.0
            call = call._replace(timeout=left)
        started = time.perf_counter()
        return self._host.run(self.servable, call), time.perf_counter() - started

    def _end_on_thread(
        self, reply: asyncio.Future[Outputs], traveller: Traveller | None, came: float,
        run: asyncio.Future[tuple[Reply, float]],
    ) -> None:
        self._on_threads -= 1
        if run.cancelled():
            reply.cancel()
        elif (error := run.exception()) is not None:
            _settle(reply, as_serving_error(error))
        else:
            result, ran = run.result()
            if traveller is not None:
                now = time.perf_counter()
                traveller.leg = leg(came, now, 1, now - came, ran)
            _settle(reply, result)

    # Together.

    def _run_alone(self, call: Call) -> Outputs | None:
        """The outputs of a request that nobody else is likely to join, run at once if that is possible."""
        if self._in_turn == 0:
            self._loop.call_soon(self._end_turn)
        self._in_turn += 1
        if self._in_turn > 1 or not self._is_lonely:
            return None
        answer = self._runner.run_at_once(call)
        if answer is None:
            return None
        [reply] = answer.replies
        if isinstance(reply, ServingError):
            raise reply
        return reply

    def _join(self, call: Call, traveller: Traveller | None) -> asyncio.Future[Outputs]:
        if self._is_closed:
            raise _gone()
        reply: asyncio.Future[Outputs] = self._loop.create_future()
        self._joining.append(_Waiting(call, reply, traveller))
        return reply

    def _end_turn(self) -> None:
        """What came in this turn of the loop goes into the queues as one."""
        self._is_lonely, self._in_turn = self._in_turn <= 1, 0
        waiting = [each for each in self._joining if not each.reply.done()]
        self._joining = []
        if not waiting:
            return
        calls = [each.call for each in waiting]
        timeouts = [call.timeout for call in calls]  # a turn is no wait
        joined = join_requests(calls, timeouts, self._most_rows) if self._most_rows else send_apart(calls, timeouts)
        self._runner.in_hand += len(waiting)
        answer = asyncio.ensure_future(self._runner.run(joined.calls))
        answer.add_done_callback(partial(self._end_run, waiting, joined, time.perf_counter()))

    def _end_run(
        self, waiting: list[_Waiting], joined: JoinedCalls, left: float, run: asyncio.Future[Answer]
    ) -> None:
        self._runner.in_hand -= len(waiting)
        try:
            answer = run.result()
            self._most_rows = answer.most_rows
            replies = joined.separate(answer)
            now = time.perf_counter()
            travelled = leg(left, now, len(waiting), now - left, answer.ran)
            for each in waiting:
                if each.traveller is not None:
                    each.traveller.leg = travelled
        except asyncio.CancelledError:
            replies = [_gone()] * len(waiting)
        except Exception as error:
            replies = [as_serving_error(error)] * len(waiting)
        for each, reply in zip(waiting, replies, strict=True):
            _settle(each.reply, reply)


def _settle(future: asyncio.Future[Outputs], reply: Reply) -> None:
    if future.done():
        return
    if isinstance(reply, ServingError):
        future.set_exception(reply)
    else:
        future.set_result(reply)


def _gone() -> ServingError:
    return Unavailable("this version is being unloaded; try again")
