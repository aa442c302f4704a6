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
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from serving_app.core.batching import Batching
from serving_app.core.errors import (
    DeadlineExceeded,
    Internal,
    ServingError,
    Unavailable,
    as_serving_error,
)
from serving_app.core.metrics import Registry
from serving_app.core.servable import ServableId
from serving_app.host.batch_queue import BatchQueues, Piece, Release
from serving_app.host.batch_tasks import Cut, Hop, Share, Task, call_of, make_task, shares_of
from serving_app.host.batching import count_filling, kind_of, row_count
from serving_app.host.meter import RunMeter
from serving_app.host.pace import Paces
from serving_app.protocol.calls import Answer, Call
from serving_app.runtime.cpus import usable_cpus

logger = logging.getLogger(__name__)

Run = Callable[[list[Call], Batching], Answer]
"""Runs calls of one kind as one, under these limits, and blocks."""

_MOST_ON_LOOP_S = 0.002
"""So long the event loop runs batches before it looks at something else."""


class Batcher:
    """The queues and threads of one version. Used on one event loop, which itself runs none that may be endless."""

    def __init__(
        self, limits: Batching, run: Run, meter: RunMeter | None = None, *, may_be_endless: bool = False
    ) -> None:
        self._meter = meter or RunMeter(Registry(), ServableId("", 0))
        self._limits = limits
        self._queues: BatchQueues[Task] = BatchQueues(limits)
        self._run = run
        self._threads = self._free = _threads(limits)
        self._pool = _pool(limits)
        self._paces = Paces(may_be_endless)
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

    def run_at_once(self, call: Call) -> Answer | None:
        """The answer to one request, run here and now as a batch of its own; None if it is to wait like others.

        That is where nobody waits, no company is waited for, and runs of its kind are quick: a thread would begin it
        now, and nothing be won by handing it there.
        """
        limits = self._limits
        is_ready = self._free > 0 and self._turn is None and self._queues.is_empty and not limits.batch_timeout_micros
        if not is_ready or self._is_finishing or self._is_closed:
            return None
        try:
            rows = row_count(call)
            kind = kind_of(call, limits.pad_variable_length_inputs)
        except ServingError:
            return None
        pace, size = self._paces[kind], _size(rows, [call])
        if rows > limits.run_rows or not pace.is_quick(size):
            return None
        meter = self._meter
        meter.came(call, (rows,))
        meter.waited(0.0, 1)
        meter.joined(rows, count_filling(rows, limits.allowed_batch_sizes))
        meter.released(Release.THREAD_FREE.value)
        answer = pace.run_here(size, partial(self._run_safely, [call], limits))
        meter.ran(call, answer.replies[0], answer.seconds, 1)
        return answer._replace(most_rows=limits.run_rows, ran=answer.seconds)

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
            for share in shares_of(piece):
                self._settle(share, _gone())
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None
        self._set_timer(None)
        self._pool.shutdown(wait=False)

    # Waiting.

    def _enqueue(self, calls: Sequence[Call], now: float) -> asyncio.Future[Answer]:
        hop = Hop(calls)
        for place, call in enumerate(calls):
            try:
                if self._is_closed:
                    raise _gone()
                self._let_wait(make_task(call, hop, place, now), now)
            except ServingError as refusal:
                hop.settle(place, 0, call.requests, refusal)
        self._end_hop(hop)
        return hop.answer

    def _let_wait(self, task: Task, now: float) -> None:
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

    def _add(self, kind: Hashable, task: Task, rows: int, now: float, start: int) -> None:
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

    def _find_wanted(self, piece: Piece[Task], now: float) -> Iterator[Share]:
        """What of this is still waited for; who has no time left is told."""
        task = piece.task
        if task.hop.answer.cancelled():
            return
        is_late = task.first_deadline is not None and task.first_deadline <= now
        if not task.cut and not is_late:
            yield from shares_of(piece)
            return
        for share in shares_of(piece, apart=True):
            deadline = task.deadlines[share.first] if task.deadlines else None
            if deadline is not None and deadline <= now:
                self._settle(share, DeadlineExceeded("Run() timeout exceeded while waiting in batching queue"))
            elif share.first not in task.cut or not task.cut[share.first].is_settled:
                yield share

    def _start(self, kind: Hashable, shares: list[Share], limits: Batching, why: Release, now: float) -> bool:
        """Run these; whether that is over already."""
        rows = 0
        calls = []
        for share in shares:
            rows += share.rows
            calls.append(call_of(share, now))
            if share.is_part:
                share.task.cut.setdefault(share.first, Cut())  # the other parts follow its fate
            self._meter.waited(now - share.task.came, share.requests)
        self._meter.joined(rows, count_filling(rows, limits.allowed_batch_sizes))
        self._meter.released(why.value)
        pace, size = self._paces[kind], _size(rows, calls)
        self._free -= 1
        if pace.is_quick(size):
            self._settle_all(shares, pace.run_here(size, partial(self._run_safely, calls, limits)))
            return True
        run = asyncio.get_running_loop().run_in_executor(
            self._pool, pace.run_on_thread, size, partial(self._run_safely, calls, limits)
        )
        run.add_done_callback(partial(self._end, shares))
        return False

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

    def _end(self, shares: list[Share], run: asyncio.Future[Answer]) -> None:
        self._settle_all(shares, run.result())
        self._dispatch()

    def _settle_all(self, shares: list[Share], answer: Answer) -> None:
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
                    count = task.settle_part(share, reply)
                else:
                    task.settle(first, count, reply)
                if count:
                    self._meter.ran(task.call, reply, now - task.came, count)
                first += max(1, count)
            self._end_hop(task.hop)

    def _settle(self, share: Share, error: ServingError) -> None:
        """Tell these requests that they are not run."""
        if share.is_part:
            share.task.settle_part(share, error)
        else:
            share.task.settle(share.first, share.requests, error)
        self._end_hop(share.task.hop)

    def _end_hop(self, hop: Hop) -> None:
        hop.end_if_complete(0 if self._is_finishing else self._limits.run_rows)


def _threads(limits: Batching) -> int:
    return limits.num_batch_threads or usable_cpus()


def _size(rows: int, calls: Sequence[Call]) -> int:
    """How much a run has to do, in the unit of a Pace: where strings or padding are, rows alone would not tell."""
    return rows + sum([call.nbytes for call in calls])


def _pool(limits: Batching) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_threads(limits), thread_name_prefix=limits.thread_pool_name)


def _gone() -> ServingError:
    return Unavailable("this version is being unloaded; try again")
