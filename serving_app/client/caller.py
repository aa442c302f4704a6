"""Calls of one servable version, coalesced: concurrent requests travel to a replica in one hop.

A hop costs both ends a sixth of a millisecond on a lane, more than ten times that by a Serve handle, and a call that
shares it a tenth of the former; so for quick models many requests should share one. For slow models that would be
wrong: one replica would get the whole list while others idle. Replicas say how long they ran, and from that follows
what to do here:

- at most so many calls travel together that a replica is busy with them for about `_RUN_S`;
- up to `_FREE_HOPS` hops leave at once, so an idle system adds no wait; while the model is slow, as many for each
  replica;
- beyond that, calls gather while hops are under way, until one of them is back, but no longer than half of what a hop
  costs besides the run. That keeps a few hops in flight over a quick model, and as many as it takes to feed all
  replicas of a slow one; and when replicas fall behind, hops take longer, so more calls share one.

A hop that fails as a whole fails each of its calls; so does one that takes longer than any of them may. One that nobody
waits for any more is called off. That is looked for by one timer: a timer for each hop would cost a tenth of the hop.
Everything here runs on one event loop.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import NamedTuple

from serving_app.client.remote_errors import Lost
from serving_app.core.errors import DeadlineExceeded, ResourceExhausted, ServingError
from serving_app.core.stages import Traveller, leg
from serving_app.protocol.calls import Answer, Call, Outputs
from serving_app.protocol.joined_calls import join_requests, send_apart

_RUN_S = 0.010
"""About how long a replica may run what one hop brings."""

_MAX_CALLS_PER_HOP = 512
_MAX_BYTES_PER_HOP = 8 << 20
_FREE_HOPS, _MAX_HOPS = 2, 256

_MIN_GATHER_S, _MAX_GATHER_S = 0.0005, 0.020

_GRACE_S = 0.1

_MAX_WAITING = 20_000
"""Requests that may wait here; more would only grow the memory, and their clients have given up."""

_MAX_WAITING_BYTES = 512 << 20
"""And what they may carry."""

_MAX_FLYING_BYTES = 256 << 20
"""While hops under way carry more, only those leave that keep the replicas busy; the rest waits, which is bounded."""

_LOOK_S = 0.1
"""How often is looked for what nobody waits for any more."""

_WEIGHT = 0.2
"""Of the newest measurement in the running averages."""

Send = Callable[[list[Call]], Awaitable[Answer]]
"""Carries calls to some replica and brings one reply for each. Raises when no replica could answer."""


class _Waiting(NamedTuple):
    call: Call
    deadline: float | None
    reply: asyncio.Future[Outputs]
    traveller: Traveller | None
    nbytes: int

    def time_left(self, now: float) -> float | None:
        return None if self.deadline is None else max(0.001, self.deadline - now)


class _Flight(NamedTuple):
    """A hop under way: for whom, until when any of them waits, None if somebody waits for ever, and what it carries."""

    members: list[_Waiting]
    until: float | None
    nbytes: int


class Caller:
    """The queue before one servable version."""

    def __init__(self, send: Send, count_replicas: Callable[[], int] = lambda: 1) -> None:
        """`count_replicas` tells how many replicas are known to take hops."""
        self._send = send
        self._count_replicas = count_replicas
        self._waiting: deque[_Waiting] = deque()
        self._waiting_bytes = self._flying_bytes = 0
        self._hops: dict[asyncio.Task[None], _Flight] = {}
        self._looking: asyncio.TimerHandle | None = None
        self._turn: asyncio.Handle | None = None
        self._gathering: asyncio.TimerHandle | None = None
        # Running averages: of a call's run, and of what a hop costs besides.
        self._run_s = 0.001
        self._hop_s = 0.002
        self._most_rows = 0  # that replicas join into one run, as far as they have said

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits and nothing is under way."""
        return not self._waiting and not self._hops

    @property
    def waiting(self) -> int:
        """Calls that have not left yet."""
        return len(self._waiting)

    async def call(self, call: Call) -> Outputs:
        """The outputs of one call, or its error. The caller guards the deadline; a cancelled call is not sent."""
        return await self.submit(call)

    def submit(self, call: Call, traveller: Traveller | None = None) -> asyncio.Future[Outputs]:
        """The same, as an answer to come. It is to be cancelled by whoever does not want it any more. `traveller` gets
        to know of its leg before that."""
        if len(self._waiting) >= _MAX_WAITING:
            raise ResourceExhausted(f"{_MAX_WAITING} requests wait for this model already; try again later")
        nbytes = call.nbytes
        if self._waiting and self._waiting_bytes + nbytes > _MAX_WAITING_BYTES:
            raise ResourceExhausted(
                f"requests of {self._waiting_bytes >> 20} MiB wait for this model already; try again later"
            )
        loop = asyncio.get_running_loop()
        reply: asyncio.Future[Outputs] = loop.create_future()
        deadline = None if call.timeout is None else time.monotonic() + call.timeout
        self._waiting.append(_Waiting(call, deadline, reply, traveller, nbytes))
        self._waiting_bytes += nbytes
        if self._turn is None:
            # At the end of this turn of the loop, so that requests that arrived together leave together.
            self._turn = loop.call_soon(self._end_turn)
        return reply

    def _end_turn(self) -> None:
        self._turn = None
        self._dispatch()

    def _dispatch(self) -> None:
        """Send what may leave at once; see that the rest does not gather for too long."""
        free = _FREE_HOPS if self._run_s < _RUN_S / 2 else _FREE_HOPS * max(1, self._count_replicas())
        while self._waiting and len(self._hops) < min(free, _MAX_HOPS):
            self._start_hop()
        if self._waiting and self._gathering is None and self._may_fly():
            gather_s = min(max(_MIN_GATHER_S, self._hop_s / 2), _MAX_GATHER_S)
            self._gathering = asyncio.get_running_loop().call_later(gather_s, self._end_gathering)

    def _end_gathering(self) -> None:
        self._gathering = None
        if self._waiting and self._may_fly():
            self._start_hop()
        self._dispatch()

    def _may_fly(self) -> bool:
        """Whether another hop may leave that no replica is known to need."""
        return len(self._hops) < _MAX_HOPS and self._flying_bytes < _MAX_FLYING_BYTES

    def _start_hop(self) -> None:
        members = self._take()
        if not members:
            return
        now = time.monotonic()
        loop = asyncio.get_running_loop()
        hop = loop.create_task(self._hop(members, now))
        deadlines = [waiting.deadline for waiting in members]
        # Those who wait guard their deadlines themselves, and know better what to say.
        until = None if None in deadlines else max(filter(None, deadlines)) + _GRACE_S
        nbytes = sum([waiting.nbytes for waiting in members])
        self._flying_bytes += nbytes
        self._hops[hop] = _Flight(members, until, nbytes)
        hop.add_done_callback(self._end_hop)
        if self._looking is None:
            self._looking = loop.call_later(_LOOK_S, self._look)

    def _take(self) -> list[_Waiting]:
        """The next calls that travel together; those that nobody waits for any more are dropped."""
        most = min(max(1, int(_RUN_S / self._run_s)), _MAX_CALLS_PER_HOP)
        members: list[_Waiting] = []
        size = 0
        while self._waiting and len(members) < most and size < _MAX_BYTES_PER_HOP:
            waiting = self._waiting.popleft()
            self._waiting_bytes -= waiting.nbytes
            if not waiting.reply.done():
                members.append(waiting)
                size += waiting.nbytes
        return members

    async def _hop(self, members: list[_Waiting], started: float) -> None:
        left = time.perf_counter()
        most_rows = self._most_rows
        try:
            requests = [waiting.call for waiting in members]
            timeouts = [waiting.time_left(started) for waiting in members]
            joined = join_requests(requests, timeouts, most_rows) if most_rows else send_apart(requests, timeouts)
            answer = await self._send(joined.calls)
            replies = joined.separate(answer)
        except asyncio.CancelledError:
            # Here only hops are cancelled that nobody waits for. The transport does it, too, when a channel is closed.
            _fail(members, Lost("the replica went away under the request; try again"))
            raise
        except Exception as error:
            _fail(members, error)
            return
        self._most_rows = answer.most_rows
        self._measure(len(members), answer.seconds, time.monotonic() - started)
        travelled = leg(left, time.perf_counter(), len(members), answer.held, answer.ran)
        for waiting, reply in zip(members, replies, strict=True):
            if waiting.reply.done():
                continue
            if waiting.traveller is not None:
                waiting.traveller.leg = travelled
            if isinstance(reply, ServingError):
                waiting.reply.set_exception(reply)
            else:
                waiting.reply.set_result(reply)

    def _measure(self, calls: int, run_s: float, taken_s: float) -> None:
        self._run_s += _WEIGHT * (max(1e-6, run_s / calls) - self._run_s)
        self._hop_s += _WEIGHT * (max(0.0, taken_s - run_s) - self._hop_s)

    def _end_hop(self, hop: asyncio.Task[None]) -> None:
        self._flying_bytes -= self._hops.pop(hop).nbytes
        if self._turn is None and self._waiting:
            self._dispatch()

    def _look(self) -> None:
        """Make room where nobody waits any more: a replica may hang for long."""
        now = time.monotonic()
        for hop, (members, until, _) in self._hops.items():
            if until is not None and until < now:
                _fail(members, DeadlineExceeded("no replica gave an answer in time"))
            if all(waiting.reply.done() for waiting in members):
                hop.cancel()
        if any(waiting.reply.done() for waiting in self._waiting):
            self._waiting = deque(waiting for waiting in self._waiting if not waiting.reply.done())
            self._waiting_bytes = sum(waiting.nbytes for waiting in self._waiting)
        busy = bool(self._hops or self._waiting)
        self._looking = asyncio.get_running_loop().call_later(_LOOK_S, self._look) if busy else None


def _fail(members: Iterable[_Waiting], error: Exception) -> None:
    for waiting in members:
        if not waiting.reply.done():
            waiting.reply.set_exception(error)
