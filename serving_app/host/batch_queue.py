"""Who waits for a run, and with whom: the queues of TensorFlow Serving's scheduler (shared_batch_scheduler.h).

Tasks of one kind wait in one queue, in order, and are gathered into batches while they wait. The last batch of a queue
is open: it takes tasks until it is full, or one comes that does not fit. A batch may run when it is closed, full, or
its first task has waited for `batch_timeout_micros`. Queues take turns, so none waits for another one to be empty.

Pure: no clock and no loop. A task is whatever the caller makes of it; here only its rows count.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

from serving_app.core.batching import Batching
from serving_app.core.errors import InvalidArgument, Unavailable

T = TypeVar("T")


class Piece(NamedTuple, Generic[T]):
    """Rows of one task that run together: all of them unless large tasks are split."""

    task: T
    start: int
    rows: int


@dataclass(slots=True)
class _Batch(Generic[T]):
    opened: float
    rows: int = 0
    pieces: list[Piece[T]] = field(default_factory=list)

    def append(self, piece: Piece[T]) -> None:
        self.pieces.append(piece)
        self.rows += piece.rows


class BatchQueue(Generic[T]):
    """Tasks of one kind. No batch in it is without a piece."""

    def __init__(self, limits: Batching) -> None:
        self._limits = limits
        self._batches: deque[_Batch[T]] = deque()

    def add(self, task: T, rows: int, now: float) -> None:
        """Let a task wait, all of it.

        Raises InvalidArgument if it is larger than any may be, Unavailable if there is no room for it now.
        """
        limits = self._limits
        if rows > limits.max_batch_size:
            raise InvalidArgument(
                f"Task size {rows} is larger than maximum input batch size {limits.max_batch_size}"
            )
        if limits.enable_large_batch_splitting:
            self._check_capacity(rows)
            for piece in self._pieces(task, rows):
                self._append(piece, now)
            return
        # There is always an open batch in TensorFlow Serving, which is why 0 means 1.
        if rows > self._room and len(self._batches) >= max(1, limits.max_enqueued_batches):
            raise Unavailable(
                "The batch scheduling queue to which this task was submitted is full; currently "
                f"{len(self._batches)} batches enqueued and max_enqueued_batches is {limits.max_enqueued_batches}"
            )
        self._append(Piece(task, 0, rows), now)

    @property
    def due(self) -> float | None:
        """From when on the first batch may run; None if nothing waits."""
        if not self._batches:
            return None
        first = self._batches[0]
        is_closed = len(self._batches) > 1 or first.rows >= self._limits.run_rows
        return first.opened if is_closed else first.opened + self._limits.batch_timeout_micros / 1e6

    def take(self) -> list[Piece[T]]:
        """The first batch, which leaves the queue."""
        return self._batches.popleft().pieces

    @property
    def _room(self) -> int:
        """Rows that still fit into the open batch; without one there are none."""
        return self._limits.run_rows - self._batches[-1].rows if self._batches else -1

    def _append(self, piece: Piece[T], now: float) -> None:
        if piece.rows > self._room:
            self._batches.append(_Batch(now))
        self._batches[-1].append(piece)

    def _check_capacity(self, rows: int) -> None:
        limits, enqueued = self._limits, len(self._batches)
        capacity = (limits.max_enqueued_batches - enqueued) * limits.run_rows + max(0, self._room)
        if rows > capacity:
            raise Unavailable(
                f"The batch scheduling queue to which this task was submitted is full; task size is {rows} but "
                f"scheduling capacity is only {capacity} (num_enqueued_batches={max(1, enqueued)}, "
                f"max_enqueued_batches={limits.max_enqueued_batches}, "
                f"open_batch_size={self._batches[-1].rows if enqueued else 0}, "
                f"max_execution_batch_size={limits.run_rows})"
            )

    def _pieces(self, task: T, rows: int) -> Iterator[Piece[T]]:
        """The first piece fills the open batch, the others are as large as runs may be."""
        start, room = 0, self._room
        if room <= 0:
            room = self._limits.run_rows
        while rows > room:
            yield Piece(task, start, room)
            start, rows, room = start + room, rows - room, self._limits.run_rows
        yield Piece(task, start, rows)


class BatchQueues(Generic[T]):
    """A queue for each kind of task, there as long as something waits in it."""

    def __init__(self, limits: Batching) -> None:
        self._limits = limits
        self._queues: dict[Hashable, BatchQueue[T]] = {}  # who is next stands first

    def add(self, kind: Hashable, task: T, rows: int, now: float) -> None:
        """Let a task wait among its like; raises as `BatchQueue.add`."""
        queue = self._queues.get(kind) or BatchQueue(self._limits)
        queue.add(task, rows, now)
        self._queues[kind] = queue

    def take(self, now: float) -> list[Piece[T]] | None:
        """The next batch that may run, which leaves its queue; None if there is none yet."""
        for kind, queue in self._queues.items():
            if queue.due is not None and queue.due <= now:
                del self._queues[kind]
                pieces = queue.take()
                if queue.due is not None:
                    self._queues[kind] = queue
                return pieces
        return None

    def next_due(self) -> float | None:
        """When `take` will have something again if nothing is added; None if nothing waits."""
        return min((queue.due for queue in self._queues.values() if queue.due is not None), default=None)

    def clear(self) -> list[Piece[T]]:
        """Everything that waits, which leaves."""
        pieces = []
        for queue in self._queues.values():
            while queue.due is not None:
                pieces += queue.take()
        self._queues.clear()
        return pieces
