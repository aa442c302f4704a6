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
from enum import Enum
from typing import Generic, NamedTuple, TypeVar

from serving_app.core.batching import Batching
from serving_app.core.errors import InvalidArgument, Unavailable

T = TypeVar("T")


class Release(Enum):
    """Why a batch was released; the values are what metrics say."""

    FULL = "full"
    """It had as many rows as a run may have."""
    NO_FIT = "no_fit"
    """A task came that did not fit into it."""
    TIMEOUT = "timeout"
    """Its first task had waited for `batch_timeout_micros`."""
    THREAD_FREE = "thread_free"
    """There is no timeout, and a thread was free."""
    CLOSED = "closed"
    """The limits changed, or the version is batched no more."""


class Piece(NamedTuple, Generic[T]):
    """Rows of one task that run together: all of them unless there were too many."""

    task: T
    start: int
    rows: int


@dataclass(slots=True)
class Batch(Generic[T]):
    """Pieces that run together, under the limits that were in force when the first one came."""

    opened: float
    limits: Batching
    rows: int = 0
    pieces: list[Piece[T]] = field(default_factory=list)
    is_closed: bool = False

    def append(self, piece: Piece[T]) -> None:
        """Add rows; those that follow rows of the same task make one piece with them."""
        last = self.pieces[-1] if self.pieces else None
        if last is not None and last.task is piece.task and last.start + last.rows == piece.start:
            self.pieces[-1] = Piece(piece.task, last.start, last.rows + piece.rows)
        else:
            self.pieces.append(piece)
        self.rows += piece.rows

    def find_release(self, is_last: bool) -> Release:
        """Why it may run, if it may."""
        if self.rows >= self.limits.run_rows:
            return Release.FULL
        if self.is_closed:
            return Release.CLOSED
        if not is_last:
            return Release.NO_FIT
        return Release.TIMEOUT if self.limits.batch_timeout_micros else Release.THREAD_FREE


class Released(NamedTuple, Generic[T]):
    """A batch that left its queue."""

    kind: Hashable
    batch: Batch[T]
    why: Release


class BatchQueue(Generic[T]):
    """Tasks of one kind. No batch in it is without a piece."""

    def __init__(self, limits: Batching) -> None:
        self._limits = limits
        self._batches: deque[Batch[T]] = deque()

    def has_room(self, rows: int) -> bool:
        """Whether so many rows would all go into one batch, whichever tasks they are of."""
        return rows <= (self._room if self._batches else self._limits.run_rows)

    def add(self, task: T, rows: int, now: float, start: int = 0) -> None:
        """Let so many rows of a task wait, all of them, from row `start` on.

        Raises InvalidArgument if they are more than any task may have, Unavailable if there is no room for them now.
        """
        limits = self._limits
        if rows > limits.max_batch_size:
            raise InvalidArgument(
                f"Task size {rows} is larger than maximum input batch size {limits.max_batch_size}"
            )
        if limits.enable_large_batch_splitting:
            self._check_capacity(rows)
            for piece in self._pieces(task, rows, start):
                self._append(piece, now)
            return
        # There is always an open batch in TensorFlow Serving, which is why 0 means 1.
        if rows > self._room and len(self._batches) >= max(1, limits.max_enqueued_batches):
            raise Unavailable(
                "The batch scheduling queue to which this task was submitted is full; currently "
                f"{len(self._batches)} batches enqueued and max_enqueued_batches is {limits.max_enqueued_batches}"
            )
        self._append(Piece(task, start, rows), now)

    def adjust(self, limits: Batching) -> None:
        """Let what comes from now on wait under other limits. What waits runs soon, as it was gathered."""
        self._limits = limits
        for batch in self._batches:
            batch.is_closed = True

    @property
    def due(self) -> float | None:
        """From when on the first batch may run; None if nothing waits."""
        if not self._batches:
            return None
        first = self._batches[0]
        is_waiting = len(self._batches) == 1 and not first.is_closed and first.rows < first.limits.run_rows
        return first.opened + first.limits.batch_timeout_micros / 1e6 if is_waiting else first.opened

    def take(self) -> tuple[Batch[T], Release]:
        """The first batch, which leaves the queue, and why it may run."""
        batch = self._batches.popleft()
        return batch, batch.find_release(is_last=not self._batches)

    @property
    def _room(self) -> int:
        """Rows that still fit into the open batch; without one there are none."""
        if not self._batches or self._batches[-1].is_closed:
            return -1
        return self._limits.run_rows - self._batches[-1].rows

    def _append(self, piece: Piece[T], now: float) -> None:
        if piece.rows > self._room:
            self._batches.append(Batch(now, self._limits))
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

    def _pieces(self, task: T, rows: int, start: int) -> Iterator[Piece[T]]:
        """The first piece fills the open batch, the others are as large as runs may be."""
        room = self._room
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

    def add(self, kind: Hashable, task: T, rows: int, now: float, start: int = 0) -> None:
        """Let rows of a task wait among its like; raises as `BatchQueue.add`."""
        queue = self._queues.get(kind) or BatchQueue(self._limits)
        queue.add(task, rows, now, start)
        self._queues[kind] = queue

    def has_room(self, kind: Hashable, rows: int) -> bool:
        """Whether so many rows of this kind would all go into one batch."""
        queue = self._queues.get(kind)
        return rows <= self._limits.run_rows if queue is None else queue.has_room(rows)

    def adjust(self, limits: Batching) -> None:
        """Let what comes from now on wait under other limits; what waits may run at once."""
        self._limits = limits
        for queue in self._queues.values():
            queue.adjust(limits)

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits."""
        return not self._queues

    def take(self, now: float) -> Released[T] | None:
        """The next batch that may run, which leaves its queue; None if there is none yet."""
        for kind, queue in self._queues.items():
            if queue.due is not None and queue.due <= now:
                del self._queues[kind]
                batch, why = queue.take()
                if queue.due is not None:
                    self._queues[kind] = queue
                return Released(kind, batch, why)
        return None

    def next_due(self) -> float | None:
        """When `take` will have something again if nothing is added; None if nothing waits."""
        return min((queue.due for queue in self._queues.values() if queue.due is not None), default=None)

    def clear(self) -> list[Piece[T]]:
        """Everything that waits, which leaves."""
        pieces = []
        for queue in self._queues.values():
            while queue.due is not None:
                pieces += queue.take()[0].pieces
        self._queues.clear()
        return pieces
