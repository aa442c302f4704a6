"""Calls of one servable version, coalesced: concurrent requests travel to a replica in one hop.

A hop costs about a millisecond whatever it carries, so for quick models many requests share one. For slow models
that would be wrong: one replica would get the whole list while others idle. How many calls travel together and how many
hops are under way therefore follow from the measured time per call: together they fill about `_HOP_S`.

A hop that fails because its replica died is tried once more, elsewhere. Everything here runs on one event loop.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from serving_app.core.errors import ResourceExhausted, ServingError
from serving_app.protocol.calls import Call, Outputs, Reply

_HOP_S = 0.010
"""The time that one hop should take at most; calls are put together until they fill it."""

_MAX_CALLS_PER_HOP = 512
_MAX_BYTES_PER_HOP = 8 << 20
_MIN_HOPS, _MAX_HOPS = 2, 256
"""Two hops under way keep a replica busy while the next list gathers."""

_MAX_PENDING = 20_000
"""Requests that may wait here; more would only grow the memory, and their clients have given up."""

Send = Callable[[list[Call]], Awaitable[Sequence[Reply]]]
"""Carries calls to some replica and brings one reply for each. Raises when no replica could answer."""


class _Waiting(NamedTuple):
    call: Call
    deadline: float | None
    reply: asyncio.Future[Outputs]


class Caller:
    """The queue before one servable version."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._waiting: deque[_Waiting] = deque()
        self._hops: set[asyncio.Task[None]] = set()
        self._scheduled = False
        self._seconds_per_call = _HOP_S

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits and nothing is under way."""
        return not self._waiting and not self._hops

    async def call(self, call: Call) -> Outputs:
        """The outputs of one call, or its error. The caller guards the deadline; a cancelled call is not sent."""
        if len(self._waiting) >= _MAX_PENDING:
            raise ResourceExhausted(f"{_MAX_PENDING} requests wait for this model already; try again later")
        loop = asyncio.get_running_loop()
        reply: asyncio.Future[Outputs] = loop.create_future()
        deadline = None if call.timeout is None else time.monotonic() + call.timeout
        self._waiting.append(_Waiting(call, deadline, reply))
        if not self._scheduled:
            # At the end of this turn of the loop, so that requests that arrived together leave together.
            self._scheduled = True
            loop.call_soon(self._dispatch)
        return await reply

    def _dispatch(self) -> None:
        self._scheduled = False
        most_hops = min(max(_MIN_HOPS, int(self._seconds_per_call / 0.001)), _MAX_HOPS)
        while self._waiting and len(self._hops) < most_hops:
            members = self._take()
            if members:
                hop = asyncio.get_running_loop().create_task(self._hop(members))
                self._hops.add(hop)
                hop.add_done_callback(self._hop_done)

    def _take(self) -> list[_Waiting]:
        """The next calls that travel together; those that nobody waits for any more are dropped."""
        most = min(max(1, int(_HOP_S / self._seconds_per_call)), _MAX_CALLS_PER_HOP)
        members: list[_Waiting] = []
        size = 0
        while self._waiting and len(members) < most and size < _MAX_BYTES_PER_HOP:
            waiting = self._waiting.popleft()
            if not waiting.reply.done():
                members.append(waiting)
                size += waiting.call.nbytes
        return members

    async def _hop(self, members: list[_Waiting]) -> None:
        now = time.monotonic()
        calls = [
            waiting.call
            if waiting.deadline is None
            else waiting.call._replace(timeout=max(0.001, waiting.deadline - now))
            for waiting in members
        ]
        try:
            replies = await self._send(calls)
        except Exception as error:
            for waiting in members:
                if not waiting.reply.done():
                    waiting.reply.set_exception(error)
            return
        taken = (time.monotonic() - now) / len(members)
        self._seconds_per_call = max(1e-6, 0.8 * self._seconds_per_call + 0.2 * taken)
        for waiting, reply in zip(members, replies, strict=True):
            if waiting.reply.done():
                continue
            if isinstance(reply, ServingError):
                waiting.reply.set_exception(reply)
            else:
                waiting.reply.set_result(reply)

    def _hop_done(self, hop: asyncio.Task[None]) -> None:
        self._hops.discard(hop)
        if self._waiting and not self._scheduled:
            self._dispatch()
