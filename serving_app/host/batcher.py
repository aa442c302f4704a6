"""Runs calls in batches, on threads: `batch_queue` says which calls and when, the caller gives what runs them.

Everything but the runs happens on one event loop, which never waits for one. Every request of every hop, members of
joined calls being requests of their own, gets exactly one reply, whatever happens to its neighbours, its batch or its
hop:

- one that cannot be batched, or finds its queue full, is refused by itself;
- one whose time is over, or whose hop was cancelled, while it waits is never run;
- a run that raises, or brings a wrong number of replies, is the error of each of its members;
- one that ran in pieces is answered when all are there, or when the first one fails.

What is done for each request by itself is done only where it is needed: a joined call that fits into one batch waits,
runs and is answered as if it were one request with all the rows.

Runs that are known to be quick happen on the event loop itself (see `pace`), as handing one to a thread and being woken
by it costs more than such a run.
"""

from __future__ import annotations

import asyncio
import logging
import time
from bisect import bisect_left
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import accumulate
from typing import NamedTuple

from serving_app.core.batching import Batching
from serving_app.core.errors import (
    DeadlineExceeded,
    Internal,
    InvalidArgument,
    ServingError,
    Unavailable,
    as_serving_error,
)
from serving_app.core.metrics import Registry
from serving_app.core.servable import ServableId
from serving_app.host.batch_queue import BatchQueues, Piece, Release
from serving_app.host.batching import count_filling, cut_rows, kind_of, latest, put_together, row_count
from serving_app.host.meter import RunMeter
from serving_app.host.pace import Pace
from serving_app.protocol.calls import Answer, Call, Outputs, Reply
from serving_app.runtime.cpus import usable_cpus

logger = logging.getLogger(__name__)

Run = Callable[[list[Call], Batching], Answer]
"""Runs calls of one kind as one, under these limits, and blocks."""

_MOST_ON_LOOP_S = 0.002
"""So long the event loop runs batches before it looks at something else."""


class _Hop:
    """Calls that came together and are answered together."""

    def __init__(self, calls: Sequence[Call]) -> None:
        self.answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self.seconds = self.ran = 0.0
        self._is_joined = any(call.members for call in calls)
        self._shares: list[list[tuple[int, int, Reply]]] = [[] for _ in calls]
        self._open = sum([call.requests for call in calls])

    def settle(self, place: int, first: int, requests: int, reply: Reply) -> None:
        """The reply to so many requests of one call, from the `first` on: exactly once for each."""
        self._shares[place].append((first, requests, reply))
        self._open -= requests

    def end_if_complete(self, most_rows: int) -> None:
        """Answer if nothing is missing any more."""
        if self._open or self.answer.done():
            return
        replies: list[Reply] = []
        counts: list[int] = []
        for shares in self._shares:
            if len(shares) > 1:
                shares.sort(key=_first)
            for _, requests, reply in shares:
                replies.append(reply)
                counts.append(requests)
        told = tuple(counts) if self._is_joined else ()
        self.answer.set_result(Answer(replies, self.seconds, told, most_rows, ran=self.ran))


def _first(share: tuple[int, int, Reply]) -> int:
    return share[0]


@dataclass(slots=True)
class _Cut:
    """A request whose rows run in several batches."""

    parts: dict[int, Outputs] = field(default_factory=dict)  # by their first row
    rows_run: int = 0
    is_settled: bool = False


@dataclass(slots=True, eq=False)
class _Task:
    """One call that waits or runs, joined or not."""

    call: Call
    sizes: tuple[int, ...]  # the rows of each request
    ends: tuple[int, ...]  # of each request the row behind its last one
    deadlines: tuple[float | None, ...]  # nothing if none has one
    first_deadline: float | None
    hop: _Hop
    place: int  # in the hop
    came: float
    cut: dict[int, _Cut] = field(default_factory=dict)

    def settle(self, first: int, requests: int, reply: Reply) -> None:
        self.hop.settle(self.place, first, requests, reply)


class _Share(NamedTuple):
    """Requests of one task that run together, or some of the rows of one request."""

    task: _Task
    first: int
    requests: int
    start: int
    rows: int

    @property
    def is_part(self) -> bool:
        return self.requests == 1 and self.rows != self.task.sizes[self.first]


class Batcher:
    """The queues and threads of one version. Used on one event loop, which itself runs none that may be endless."""

    def __init__(
        self, limits: Batching, run: Run, meter: RunMeter | None = None, *, may_be_endless: bool = False
    ) -> None:
        self._meter = meter or RunMeter(Registry(), ServableId("", 0))
        self._limits = limits
        self._queues: BatchQueues[_Task] = BatchQueues(limits)
        self._run = run
        self._may_be_endless = may_be_endless
        self._threads = self._free = _threads(limits)
        self._pool = _pool(limits)
        self._paces: dict[Hashable, Pace] = {}
        self._turn: asyncio.Handle | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._is_finishing = self._is_closed = False

    @property
    def limits(self) -> Batching:
        """The limits in force."""
        return self._limits

    def submit(self, hops: Sequence[Sequence[Call]]) -> list[asyncio.Future[Answer]]:
        """Lets the calls of these hops wait; an answer to come for each hop.

        Runs begin at the end of this turn of the loop, so that what comes in one turn may run together, or before that
        where there is no more room. To cancel an answer is to give up those of its calls that do not run yet.
        """
        now = asyncio.get_running_loop().time()
        answers = [self._enqueue(calls, now) for calls in hops]
        if self._turn is None:
            self._turn = asyncio.get_running_loop().call_soon(self._dispatch)
        return answers

    def adjust(self, limits: Batching) -> None:
        """Have what comes from now on batched by other limits. What waits runs as soon as threads are free, as it was
        gathered; what runs goes on."""
        before, self._limits = self._limits, limits
        self._queues.adjust(limits)
        if (_threads(limits), limits.thread_pool_name) != (self._threads, before.thread_pool_name):
            self._free += _threads(limits) - self._threads
            self._threads = _threads(limits)
            # What was given to the old ones is run there.
            self._pool.shutdown(wait=False)
            self._pool = _pool(limits)
        self._dispatch()

    def finish(self) -> None:
        """Run what waits as soon as threads are free, and close then. Nothing may come any more."""
        self._is_finishing = True
        self._queues.adjust(self._limits)
        self._dispatch()

    def close(self) -> None:
        """Refuse what waits and what may come; what runs is answered."""
        self._is_closed = True
        for piece in self._queues.clear():
            for share in _shares_of(piece):
                self._settle(share, _gone())
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None
        self._set_timer(None)
        self._pool.shutdown(wait=False)

    # Waiting.

    def _enqueue(self, calls: Sequence[Call], now: float) -> asyncio.Future[Answer]:
        hop = _Hop(calls)
        for place, call in enumerate(calls):
            try:
                if self._is_closed:
                    raise _gone()
                self._let_wait(_make_task(call, hop, place, now), now)
            except ServingError as refusal:
                hop.settle(place, 0, call.requests, refusal)
        self._end_hop(hop)
        return hop.answer

    def _let_wait(self, task: _Task, now: float) -> None:
        kind = kind_of(task.call, self._limits.pad_variable_length_inputs)
        if self._queues.has_room(kind, task.ends[-1]):
            self._queues.add(kind, task, task.ends[-1], now)
            self._meter.came(task.call, task.sizes)
            return
        for index, (rows, end) in enumerate(zip(task.sizes, task.ends, strict=True)):
            try:
                self._add(kind, task, rows, now, end - rows)
                self._meter.came(task.call, (rows,))
            except ServingError as refusal:
                task.settle(index, 1, refusal)

    def _add(self, kind: Hashable, task: _Task, rows: int, now: float, start: int) -> None:
        try:
            self._queues.add(kind, task, rows, now, start)
        except Unavailable:
            # What came just before may fill the queue while threads are still free.
            self._dispatch()
            self._queues.add(kind, task, rows, now, start)

    # Running.

    def _dispatch(self) -> None:
        """Start what may run as far as there are threads, and see that this happens again in time."""
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None
        loop = asyncio.get_running_loop()
        now = began = loop.time()
        while self._free > 0 and (released := self._queues.take(now)) is not None:
            shares = [share for piece in released.batch.pieces for share in self._find_wanted(piece, now)]
            if shares and self._start(released.kind, shares, released.batch.limits, released.why, now):
                now = loop.time()
                if now - began > _MOST_ON_LOOP_S:
                    self._turn = loop.call_soon(self._dispatch)
                    break
        # Without a free thread the end of a run is what comes next.
        self._set_timer(self._queues.next_due() if self._free > 0 and self._turn is None else None)
        if self._is_finishing and self._free == self._threads and self._queues.is_empty:
            self.close()

    def _set_timer(self, due: float | None) -> None:
        if self._timer is not None:
            if due is not None and self._timer.when() == due:
                return
            self._timer.cancel()
        self._timer = None if due is None else asyncio.get_running_loop().call_at(due, self._end_wait)

    def _end_wait(self) -> None:
        self._timer = None
        self._dispatch()

    def _find_wanted(self, piece: Piece[_Task], now: float) -> Iterator[_Share]:
        """What of this is still waited for; who has no time left is told."""
        task = piece.task
        if task.hop.answer.cancelled():
            return
        is_late = task.first_deadline is not None and task.first_deadline <= now
        if not task.cut and not is_late:
            yield from _shares_of(piece)
            return
        for share in _shares_of(piece, apart=True):
            deadline = task.deadlines[share.first] if task.deadlines else None
            if deadline is not None and deadline <= now:
                self._settle(share, DeadlineExceeded("Run() timeout exceeded while waiting in batching queue"))
            elif share.first not in task.cut or not task.cut[share.first].is_settled:
                yield share

    def _start(self, kind: Hashable, shares: list[_Share], limits: Batching, why: Release, now: float) -> bool:
        """Run these; whether that is over already."""
        rows = 0
        calls = []
        for share in shares:
            rows += share.rows
            calls.append(_call_of(share, now))
            if share.is_part:
                share.task.cut.setdefault(share.first, _Cut())  # the other parts follow its fate
            self._meter.waited(now - share.task.came, share.requests)
        self._meter.joined(rows, count_filling(rows, limits.allowed_batch_sizes))
        self._meter.released(why.value)
        pace = self._find_pace(kind)
        self._free -= 1
        if pace.is_quick(rows):
            self._settle_all(shares, pace.run_here(rows, partial(self._run_safely, calls, limits)))
            return True
        run = asyncio.get_running_loop().run_in_executor(
            self._pool, pace.run_on_thread, rows, partial(self._run_safely, calls, limits)
        )
        run.add_done_callback(partial(self._end, shares))
        return False

    def _find_pace(self, kind: Hashable) -> Pace:
        pace = self._paces.get(kind)
        if pace is None:
            if len(self._paces) >= _MOST_PACES:
                del self._paces[next(iter(self._paces))]
            pace = self._paces[kind] = Pace(self._may_be_endless)
        return pace

    def _run_safely(self, calls: list[Call], limits: Batching) -> Answer:
        started = time.perf_counter()
        requests = sum([call.requests for call in calls])
        try:
            answer = self._run(calls, limits)
            answered = sum(answer.counts) if answer.counts else len(answer.replies)
            if answered != requests:
                raise Internal(f"{requests} calls were answered by {answered} replies")
            replies, counts = answer.replies, answer.counts
        except Exception as error:  # a mistake of what runs them is the outcome of these calls, and of no others
            logger.exception("a batch of %d calls failed", requests)
            replies, counts = [as_serving_error(error)] * requests, ()
        return Answer(replies, time.perf_counter() - started, counts)

    def _end(self, shares: list[_Share], run: asyncio.Future[Answer]) -> None:
        self._settle_all(shares, run.result())
        self._dispatch()

    def _settle_all(self, shares: list[_Share], answer: Answer) -> None:
        self._free += 1
        now = asyncio.get_running_loop().time()
        requests = sum([share.requests for share in shares])
        replies = zip(answer.replies, answer.counts or (1,) * len(answer.replies), strict=True)
        for share in shares:
            task = share.task
            # What a run took is told before its replies.
            task.hop.seconds += answer.seconds * share.requests / requests
            task.hop.ran += answer.seconds * share.requests
            first, last = share.first, share.first + share.requests
            while first < last:
                reply, count = next(replies)
                if share.is_part:
                    count = self._settle_part(share, reply)
                else:
                    task.settle(first, count, reply)
                if count:
                    self._meter.ran(task.call, reply, now - task.came, count)
                first += max(1, count)
            self._end_hop(task.hop)

    def _settle(self, share: _Share, error: ServingError) -> None:
        """Tell these requests that they are not run."""
        if share.is_part:
            self._settle_part(share, error)
        else:
            share.task.settle(share.first, share.requests, error)
        self._end_hop(share.task.hop)

    def _settle_part(self, share: _Share, reply: Reply) -> int:
        """Take the reply to some rows of a request; 1 if the request is answered by that, else 0."""
        task, first = share.task, share.first
        cut = task.cut.setdefault(first, _Cut())
        if cut.is_settled:
            return 0
        if not isinstance(reply, ServingError):
            cut.parts[share.start] = reply
            cut.rows_run += share.rows
            if cut.rows_run < task.sizes[first]:
                return 0
            try:
                reply = put_together([cut.parts[start] for start in sorted(cut.parts)])
            except ServingError as error:
                reply = error
        cut.is_settled = True
        task.settle(first, 1, reply)
        return 1

    def _end_hop(self, hop: _Hop) -> None:
        hop.end_if_complete(0 if self._is_finishing else self._limits.run_rows)


_MOST_PACES = 1000
"""Clients choose outputs and shapes, and so how many kinds there are."""


def _threads(limits: Batching) -> int:
    return limits.num_batch_threads or usable_cpus()


def _pool(limits: Batching) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_threads(limits), thread_name_prefix=limits.thread_pool_name)


def _gone() -> ServingError:
    return Unavailable("this version is being unloaded; try again")


def _make_task(call: Call, hop: _Hop, place: int, now: float) -> _Task:
    rows = row_count(call)
    if not call.members:
        deadline = None if call.timeout is None else now + call.timeout
        return _Task(call, (rows,), (rows,), () if deadline is None else (deadline,), deadline, hop, place, now)
    ends = tuple(accumulate(call.members))
    if ends[-1] != rows or 0 in call.members:
        raise InvalidArgument(f"A joined call has {rows} rows, and its members have {list(call.members)}")
    deadlines = tuple([None if timeout is None else now + timeout for timeout in call.timeouts])
    first = min((deadline for deadline in deadlines if deadline is not None), default=None)
    return _Task(call, call.members, ends, deadlines, first, hop, place, now)


def _shares_of(piece: Piece[_Task], apart: bool = False) -> Iterator[_Share]:
    """The requests of a piece: together as far as all of their rows are in it, and each by itself if `apart`."""
    task, start, rows = piece
    if not apart and rows == task.ends[-1]:
        yield _Share(task, 0, len(task.sizes), 0, rows)
        return
    if len(task.sizes) == 1:
        yield _Share(task, 0, 1, start, rows)
        return
    stop = start + rows
    index = bisect_left(task.ends, start + 1)
    whole: list[int] = []
    while start < stop:
        end = min(stop, task.ends[index])
        if not apart and end - start == task.sizes[index]:
            whole.append(index)
        else:
            if whole:
                yield _together(task, whole)
                whole = []
            yield _Share(task, index, 1, start, end - start)
        start, index = end, index + 1
    if whole:
        yield _together(task, whole)


def _together(task: _Task, indices: list[int]) -> _Share:
    first, last = indices[0], indices[-1]
    start = task.ends[first] - task.sizes[first]
    return _Share(task, first, len(indices), start, task.ends[last] - start)


def _call_of(share: _Share, now: float) -> Call:
    """What runs of a task, with the time that it has left."""
    task, first, requests, start, rows = share
    call = task.call
    if not task.deadlines and rows == task.ends[-1]:
        return call
    inputs = call.inputs if rows == task.ends[-1] else cut_rows(call, start, rows)
    deadlines = task.deadlines[first : first + requests]
    timeouts = tuple([None if deadline is None else deadline - now for deadline in deadlines])
    timeout = latest(timeouts) if timeouts else None
    if requests == 1:
        return call._replace(inputs=inputs, timeout=timeout, members=(), timeouts=())
    return call._replace(
        inputs=inputs, timeout=timeout, members=task.sizes[first : first + requests], timeouts=timeouts
    )
