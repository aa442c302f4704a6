"""Runs calls in batches, on threads: `batch_queue` says which calls and when, the caller gives what runs them.

Everything but the runs happens on one event loop, which never waits for one. Every call of every hop gets exactly one
reply, whatever happens to its neighbours, its batch or its hop:

- one that cannot be batched, or finds its queue full, is refused by itself;
- one whose time is over, or whose hop was cancelled, while it waits is never run;
- a run that raises, or brings a wrong number of replies, is the error of each of its members;
- a call that ran in pieces is answered when all are there, or when the first one fails.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

from serving_app.core.batching import Batching
from serving_app.core.errors import DeadlineExceeded, Internal, ServingError, Unavailable, as_serving_error
from serving_app.core.metrics import Registry
from serving_app.core.servable import ServableId
from serving_app.host.batch_queue import BatchQueues, Piece
from serving_app.host.batching import count_filling, cut_rows, kind_of, put_together, row_count
from serving_app.host.meter import RunMeter
from serving_app.protocol.calls import Answer, Call, Outputs, Reply

logger = logging.getLogger(__name__)

Run = Callable[[list[Call]], list[Reply]]
"""Runs calls of one kind as one, and blocks; one reply per call, in order."""


class _Hop:
    """Calls that came together and are answered together."""

    def __init__(self, size: int) -> None:
        self.answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._replies: list[Reply] = [_NO_REPLY] * size
        self._open = size
        self._seconds = 0.0
        self._end_if_complete()

    def settle(self, index: int, reply: Reply) -> None:
        """The reply to one call: exactly once for each."""
        self._replies[index] = reply
        self._open -= 1
        self._end_if_complete()

    def add_time(self, seconds: float) -> None:
        """What a run took for one of the calls; told before its reply."""
        self._seconds += seconds

    def _end_if_complete(self) -> None:
        if self._open == 0 and not self.answer.done():
            self.answer.set_result(Answer(self._replies, self._seconds))


_NO_REPLY = Internal("this call was not run")


@dataclass(slots=True, eq=False)
class _Task:
    """One call that waits or runs."""

    call: Call
    rows: int
    deadline: float | None
    hop: _Hop
    index: int
    came: float
    is_settled: bool = False
    parts: dict[int, Outputs] = field(default_factory=dict)  # of a call that was cut, by their first row
    rows_run: int = 0

    def settle(self, reply: Reply) -> None:
        if not self.is_settled:
            self.is_settled = True
            self.hop.settle(self.index, reply)

    def add_part(self, start: int, rows: int, reply: Reply) -> None:
        """The reply to some of the rows, or to all."""
        if isinstance(reply, ServingError) or rows == self.rows:
            self.settle(reply)
            return
        self.parts[start] = reply
        self.rows_run += rows
        if self.rows_run == self.rows:
            try:
                self.settle(put_together([self.parts[start] for start in sorted(self.parts)]))
            except ServingError as error:
                self.settle(error)


class Batcher:
    """The queues and threads of one version. Used on one event loop."""

    def __init__(self, limits: Batching, run: Run, meter: RunMeter | None = None) -> None:
        self._meter = meter or RunMeter(Registry(), ServableId("", 0))
        self._allowed = limits.allowed_batch_sizes
        self._pad = limits.pad_variable_length_inputs
        self._queues: BatchQueues[_Task] = BatchQueues(limits)
        self._run = run
        self._free = limits.num_batch_threads or os.cpu_count() or 1
        self._pool = ThreadPoolExecutor(self._free, thread_name_prefix=limits.thread_pool_name)
        self._timer: asyncio.TimerHandle | None = None
        self._is_closed = False

    def submit(self, hops: Sequence[Sequence[Call]]) -> list[asyncio.Future[Answer]]:
        """Lets the calls of these hops wait, all before any of them runs as far as there is room; an answer to come
        for each hop.

        To cancel an answer is to give up those of its calls that do not run yet.
        """
        now = asyncio.get_running_loop().time()
        answers = [self._enqueue(calls, now) for calls in hops]
        self._dispatch()
        return answers

    def close(self) -> None:
        """Refuse what waits and what may come; what runs is answered."""
        self._is_closed = True
        for piece in self._queues.clear():
            piece.task.settle(_gone())
        self._set_timer(None)
        self._pool.shutdown(wait=False)

    def _enqueue(self, calls: Sequence[Call], now: float) -> asyncio.Future[Answer]:
        hop = _Hop(len(calls))
        for index, call in enumerate(calls):
            try:
                if self._is_closed:
                    raise _gone()
                deadline = None if call.timeout is None else now + call.timeout
                self._let_wait(_Task(call, row_count(call), deadline, hop, index, now), now)
            except ServingError as refusal:
                hop.settle(index, refusal)
        return hop.answer

    def _let_wait(self, task: _Task, now: float) -> None:
        kind = kind_of(task.call, self._pad)
        try:
            self._queues.add(kind, task, task.rows, now)
        except Unavailable:
            # What came just before may fill the queue while threads are still free.
            self._dispatch()
            self._queues.add(kind, task, task.rows, now)
        self._meter.came(task.call, task.rows)

    def _dispatch(self) -> None:
        """Start what may run as far as there are threads, and see that this happens again in time."""
        now = asyncio.get_running_loop().time()
        while self._free and (pieces := self._queues.take(now)) is not None:
            wanted = [piece for piece in pieces if _is_wanted(piece.task, now)]
            if wanted:
                self._start(wanted, now)
        # Without a free thread the end of a run is what comes next.
        self._set_timer(self._queues.next_due() if self._free else None)

    def _set_timer(self, due: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if due is None else asyncio.get_running_loop().call_at(due, self._dispatch)

    def _start(self, pieces: list[Piece[_Task]], now: float) -> None:
        self._free -= 1
        calls = [_call_of(piece, now) for piece in pieces]
        for piece in pieces:
            self._meter.waited(now - piece.task.came)
        rows = sum(piece.rows for piece in pieces)
        self._meter.joined(rows, count_filling(rows, self._allowed))
        run = asyncio.get_running_loop().run_in_executor(self._pool, self._run_timed, calls)
        run.add_done_callback(partial(self._end, pieces))

    def _run_timed(self, calls: list[Call]) -> tuple[list[Reply], float]:
        started = time.perf_counter()
        try:
            replies = self._run(calls)
            if len(replies) != len(calls):
                raise Internal(f"{len(calls)} calls were answered by {len(replies)} replies")
        except Exception as error:  # a mistake of what runs them is the outcome of these calls, and of no others
            logger.exception("a batch of %d calls failed", len(calls))
            replies = [as_serving_error(error)] * len(calls)
        return replies, time.perf_counter() - started

    def _end(self, pieces: list[Piece[_Task]], run: asyncio.Future[tuple[list[Reply], float]]) -> None:
        self._free += 1
        replies, seconds = run.result()
        now = asyncio.get_running_loop().time()
        for (task, start, rows), reply in zip(pieces, replies, strict=True):
            task.hop.add_time(seconds / len(pieces))
            was_settled = task.is_settled
            task.add_part(start, rows, reply)
            if task.is_settled and not was_settled:
                self._meter.ran(task.call, reply, now - task.came)
        self._dispatch()


def _gone() -> ServingError:
    return Unavailable("this version is being unloaded; try again")


def _is_wanted(task: _Task, now: float) -> bool:
    """Whether anybody still waits for this; who has no time left is told."""
    if task.deadline is not None and task.deadline <= now:
        task.settle(DeadlineExceeded("Run() timeout exceeded while waiting in batching queue"))
    return not task.is_settled and not task.hop.answer.cancelled()


def _call_of(piece: Piece[_Task], now: float) -> Call:
    """What runs of a task, with the time that it has left."""
    task, start, rows = piece
    call = task.call if rows == task.rows else cut_rows(task.call, start, rows)
    return call if task.deadline is None else call._replace(timeout=task.deadline - now)
