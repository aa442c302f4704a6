"""Calls that wait for batches: what came together, what of it runs together, and the replies as they come.

A hop is what came at once and is answered at once, a task one call of it, joined or not, and a share those requests of
a task that run together, or some of the rows of one request. Used on one event loop.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import NamedTuple

from serving_app.core.errors import InvalidArgument, ServingError
from serving_app.host.batch_queue import Piece
from serving_app.host.batching import cut_rows, latest, put_together, row_count
from serving_app.protocol.calls import Answer, Call, Outputs, Reply


class Hop:
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
class Cut:
    """A request whose rows run in several batches."""

    parts: dict[int, Outputs] = field(default_factory=dict)  # by their first row
    rows_run: int = 0
    is_settled: bool = False


@dataclass(slots=True, eq=False)
class Task:
    """One call that waits or runs, joined or not."""

    call: Call
    sizes: tuple[int, ...]  # the rows of each request
    ends: tuple[int, ...]  # of each request the row behind its last one
    deadlines: tuple[float | None, ...]  # nothing if none has one
    first_deadline: float | None
    hop: Hop
    place: int  # in the hop
    came: float
    cut: dict[int, Cut] = field(default_factory=dict)

    def settle(self, first: int, requests: int, reply: Reply) -> None:
        """The reply to so many requests, from the `first` on."""
        self.hop.settle(self.place, first, requests, reply)

    def settle_part(self, share: Share, reply: Reply) -> int:
        """Take the reply to some rows of a request; 1 if the request is answered by that, else 0."""
        cut = self.cut.setdefault(share.first, Cut())
        if cut.is_settled:
            return 0
        if not isinstance(reply, ServingError):
            cut.parts[share.start] = reply
            cut.rows_run += share.rows
            if cut.rows_run < self.sizes[share.first]:
                return 0
            try:
                reply = put_together([cut.parts[start] for start in sorted(cut.parts)])
            except ServingError as error:
                reply = error
        cut.is_settled = True
        self.settle(share.first, 1, reply)
        return 1


class Share(NamedTuple):
    """Requests of one task that run together, or some of the rows of one request."""

    task: Task
    first: int
    requests: int
    start: int
    rows: int

    @property
    def is_part(self) -> bool:
        """Whether these are not all rows of the request."""
        return self.requests == 1 and self.rows != self.task.sizes[self.first]


def make_task(call: Call, hop: Hop, place: int, now: float) -> Task:
    """The call at this place of a hop, which came now. Raises InvalidArgument if it cannot be batched."""
    rows = row_count(call)
    if not call.members:
        deadline = None if call.timeout is None else now + call.timeout
        return Task(call, (rows,), (rows,), () if deadline is None else (deadline,), deadline, hop, place, now)
    ends = tuple(accumulate(call.members))
    if ends[-1] != rows or 0 in call.members:
        raise InvalidArgument(f"A joined call has {rows} rows, and its members have {list(call.members)}")
    deadlines = tuple([None if timeout is None else now + timeout for timeout in call.timeouts])
    first = min((deadline for deadline in deadlines if deadline is not None), default=None)
    return Task(call, call.members, ends, deadlines, first, hop, place, now)


def shares_of(piece: Piece[Task], apart: bool = False) -> Iterator[Share]:
    """The requests of a piece: together as far as all of their rows are in it, and each by itself if `apart`."""
    task, start, rows = piece
    if not apart and rows == task.ends[-1]:
        yield Share(task, 0, len(task.sizes), 0, rows)
        return
    if len(task.sizes) == 1:
        yield Share(task, 0, 1, start, rows)
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
            yield Share(task, index, 1, start, end - start)
        start, index = end, index + 1
    if whole:
        yield _together(task, whole)


def _together(task: Task, indices: list[int]) -> Share:
    first, last = indices[0], indices[-1]
    start = task.ends[first] - task.sizes[first]
    return Share(task, first, len(indices), start, task.ends[last] - start)


def call_of(share: Share, now: float) -> Call:
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
