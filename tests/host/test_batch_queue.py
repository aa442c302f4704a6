"""Who waits with whom and for how long, as tables and by chance."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving_app.core.batching import Batching
from serving_app.core.errors import InvalidArgument, Unavailable
from serving_app.host.batch_queue import BatchQueue, BatchQueues, Released

LONG = 10**9
"""So many microseconds no test waits."""


def queue_of(sizes: Iterable[int], **limits: Any) -> BatchQueue[int]:
    """A queue in which tasks of these sizes wait since second 0, named by their position."""
    queue: BatchQueue[int] = BatchQueue(Batching(**limits))
    for task, rows in enumerate(sizes):
        queue.add(task, rows, 0.0)
    return queue


def batches_of(queue: BatchQueue[int]) -> list[list[tuple[int, int, int]]]:
    """All that waits, batch by batch."""
    batches = []
    while queue.due is not None:
        batches.append([tuple(piece) for piece in queue.take()[0].pieces])
    return batches


def tasks_of(released: Released[Any] | None) -> list[Any]:
    """The tasks of a batch that left."""
    return [] if released is None else [piece.task for piece in released.batch.pieces]


SPLIT = {"enable_large_batch_splitting": True}


@pytest.mark.parametrize(
    ("sizes", "limits", "right"),
    [
        ([], {}, []),
        ([1, 2, 1], {"max_batch_size": 4}, [[0, 1, 2]]),
        ([1, 2, 1, 1], {"max_batch_size": 4}, [[0, 1, 2], [3]]),
        ([3, 2, 1], {"max_batch_size": 4}, [[0], [1, 2]]),
        ([0, 0, 4, 0], {"max_batch_size": 4}, [[0, 1, 2, 3]]),
        ([1, 1], {"max_batch_size": 1}, [[0], [1]]),
    ],
)
def test_tasks_share_batches_in_order_of_arrival(sizes: list[int], limits: Any, right: list[list[int]]) -> None:
    """A task goes into the open batch if it fits; otherwise that is closed, even if a smaller one comes later."""
    assert batches_of(queue_of(sizes, **limits)) == [[(task, 0, sizes[task]) for task in batch] for batch in right]


@pytest.mark.parametrize(
    ("sizes", "limits", "right"),
    [
        ([3, 3], {"max_batch_size": 4}, [[(0, 0, 3), (1, 0, 1)], [(1, 1, 2)]]),
        ([9], {"max_batch_size": 9, "max_execution_batch_size": 4}, [[(0, 0, 4)], [(0, 4, 4)], [(0, 8, 1)]]),
        (
            [3, 6, 1],
            {"max_batch_size": 9, "max_execution_batch_size": 4},
            [[(0, 0, 3), (1, 0, 1)], [(1, 1, 4)], [(1, 5, 1), (2, 0, 1)]],
        ),
        ([4, 4], {"max_batch_size": 4}, [[(0, 0, 4)], [(1, 0, 4)]]),
        ([0, 4, 0], {"max_batch_size": 4}, [[(0, 0, 0), (1, 0, 4), (2, 0, 0)]]),
    ],
)
def test_large_tasks_are_cut_so_that_batches_are_full(sizes: list[int], limits: Any, right: Any) -> None:
    """With splitting the first piece fills the open batch, the next ones are as large as runs may be."""
    assert batches_of(queue_of(sizes, **limits, **SPLIT)) == right


@pytest.mark.parametrize("splitting", [False, True])
def test_a_task_larger_than_any_may_be_is_refused(splitting: bool) -> None:
    """Also where tasks are split there is a limit to them; refusing one changes nothing for the others."""
    queue = queue_of([1], max_batch_size=4, enable_large_batch_splitting=splitting)
    with pytest.raises(InvalidArgument) as caught:
        queue.add(1, 5, 0.0)
    assert caught.value.message == "Task size 5 is larger than maximum input batch size 4"
    assert batches_of(queue) == [[(0, 0, 1)]]


FULL = "The batch scheduling queue to which this task was submitted is full; "


@pytest.mark.parametrize(
    ("sizes", "rows", "limits", "message"),
    [
        ([4, 4, 3], 2, {}, "currently 3 batches enqueued and max_enqueued_batches is 3"),
        ([4, 4, 3], 1, {}, None),
        ([4, 4, 4], 1, {}, "currently 3 batches enqueued and max_enqueued_batches is 3"),
        ([4], 1, {"max_enqueued_batches": 0}, "currently 1 batches enqueued and max_enqueued_batches is 0"),
        ([3], 1, {"max_enqueued_batches": 0}, None),
        ([], 4, {"max_enqueued_batches": 0}, None),
        ([4, 4, 3], 1, SPLIT, None),
        (
            [4, 4, 3],
            2,
            SPLIT,
            "task size is 2 but scheduling capacity is only 1 (num_enqueued_batches=3, max_enqueued_batches=3, "
            "open_batch_size=3, max_execution_batch_size=4)",
        ),
        (
            [],
            4,
            {**SPLIT, "max_execution_batch_size": 1},
            "task size is 4 but scheduling capacity is only 3 (num_enqueued_batches=1, max_enqueued_batches=3, "
            "open_batch_size=0, max_execution_batch_size=1)",
        ),
        ([], 3, {**SPLIT, "max_execution_batch_size": 1}, None),
    ],
)
def test_a_full_queue_refuses(sizes: list[int], rows: int, limits: Any, message: str | None) -> None:
    """A task for which there is no room is refused at once, whole, in TensorFlow Serving's words."""
    queue = queue_of(sizes, **{"max_batch_size": 4, "max_enqueued_batches": 3, **limits})
    if message is None:
        queue.add(99, rows, 0.0)
        assert any(piece[0] == 99 for batch in batches_of(queue) for piece in batch)
        return
    before = len(sizes)
    with pytest.raises(Unavailable) as caught:
        queue.add(99, rows, 0.0)
    assert caught.value.message == FULL + message
    assert len(batches_of(queue)) == before


@pytest.mark.parametrize(
    ("sizes", "timeout", "right"),
    [([], 500, None), ([1], 500, 500e-6), ([1, 2], 500, 500e-6), ([4], 500, 0.0), ([3, 2], 500, 0.0), ([1], 0, 0.0)],
)
def test_a_batch_may_run_when_full_or_closed_or_when_its_time_has_come(
    sizes: list[int], timeout: int, right: float | None
) -> None:
    """Only an open batch that is not full waits, for so long after its first task came."""
    assert queue_of(sizes, max_batch_size=4, batch_timeout_micros=timeout).due == right


def test_time_runs_from_the_first_task_of_each_batch() -> None:
    """Later tasks do not prolong the wait of a batch, and the next batch has its own."""
    queue: BatchQueue[str] = BatchQueue(Batching(max_batch_size=2, batch_timeout_micros=10**6))
    queue.add("a", 1, 5.0)
    assert queue.due == 6.0
    queue.add("b", 2, 5.5)
    assert queue.due == 5.0
    queue.take()
    queue.add("c", 0, 5.9)
    assert queue.due == 5.5


def test_queues_take_turns() -> None:
    """A queue with much to do does not keep others waiting: after each batch it stands last."""
    queues: BatchQueues[str] = BatchQueues(Batching(max_batch_size=1))
    for kind, task in [("a", "a1"), ("a", "a2"), ("a", "a3"), ("b", "b1"), ("b", "b2"), ("c", "c1")]:
        queues.add(kind, task, 1, 0.0)
    taken = []
    while (batch := queues.take(0.0)) is not None:
        taken.append(batch.batch.pieces[0].task)
        if taken == ["a1", "b1"]:
            queues.add("d", "d1", 1, 0.0)
    assert taken == ["a1", "b1", "c1", "a2", "b2", "d1", "a3"]
    assert queues.next_due() is None


def test_a_queue_that_waits_does_not_hold_up_others() -> None:
    """A full batch runs while the open one of another kind waits for its time."""
    queues: BatchQueues[str] = BatchQueues(Batching(max_batch_size=2, batch_timeout_micros=10**6))
    queues.add("a", "a1", 1, 0.0)
    queues.add("b", "b1", 2, 0.5)
    assert queues.next_due() == 0.5
    assert tasks_of(queues.take(0.5)) == ["b1"]
    assert queues.take(0.5) is None
    assert queues.next_due() == 1.0
    assert tasks_of(queues.take(1.0)) == ["a1"]


def test_a_task_that_is_refused_leaves_nothing_behind() -> None:
    """Kinds whose only task was refused take no room, and clearing gives back all that waits, once."""
    queues: BatchQueues[str] = BatchQueues(Batching(max_batch_size=2, batch_timeout_micros=LONG))
    with pytest.raises(InvalidArgument):
        queues.add("a", "a1", 3, 0.0)
    assert queues.next_due() is None
    queues.add("a", "a2", 2, 0.0)
    queues.add("a", "a3", 1, 0.0)
    queues.add("b", "b1", 1, 0.0)
    assert [piece.task for piece in queues.clear()] == ["a2", "a3", "b1"]
    assert queues.clear() == []
    assert queues.take(0.0) is None


LIMITS = st.builds(
    lambda most, run, enqueued, splitting, timeout: Batching(
        max_batch_size=most,
        max_execution_batch_size=min(most, run),
        max_enqueued_batches=enqueued,
        enable_large_batch_splitting=splitting,
        batch_timeout_micros=timeout,
    ),
    st.integers(1, 9),
    st.integers(1, 9),
    st.integers(1, 4),
    st.booleans(),
    st.sampled_from([0, 3_000_000]),
)


@given(LIMITS, st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 10), st.booleans()), max_size=40))
def test_every_row_that_is_accepted_runs_once_in_order(limits: Batching, steps: list[tuple[str, int, bool]]) -> None:
    """Whatever comes and whenever batches are taken: none is too large or holds two kinds, no queue is too long, and
    each accepted task's rows leave exactly once, in order, behind those that came before.
    """
    queues: BatchQueues[tuple[str, int]] = BatchQueues(limits)
    accepted: dict[tuple[str, int], int] = {}
    refused: set[tuple[str, int]] = set()
    left: list[tuple[tuple[str, int], int, int]] = []

    def take(now: float) -> bool:
        released = queues.take(now)
        if released is None:
            return False
        batch = released.batch.pieces
        assert batch
        assert sum(piece.rows for piece in batch) <= limits.run_rows
        assert len({piece.task[0] for piece in batch}) == 1
        left.extend(tuple(piece) for piece in batch)
        return True

    for number, (kind, rows, is_taken) in enumerate(steps):
        task = (kind, number)
        try:
            queues.add(kind, task, rows, float(number))
            accepted[task] = rows
        except InvalidArgument:
            refused.add(task)
        except Unavailable:
            pass
        if is_taken:
            take(float(number))
    assert refused == {(kind, number) for number, (kind, rows, _) in enumerate(steps) if rows > limits.max_batch_size}
    waiting = {task: rows for task, rows in accepted.items() if task not in {piece[0] for piece in left}}
    for kind in "ab":
        rows = sum(rows for task, rows in waiting.items() if task[0] == kind)
        assert rows <= limits.max_enqueued_batches * limits.run_rows
    while (due := queues.next_due()) is not None:
        assert take(due)
    for kind in "ab":
        pieces = [piece for piece in left if piece[0][0] == kind]
        expected = [(task, row) for task, rows in accepted.items() if task[0] == kind for row in range(rows)]
        assert [(task, row) for task, start, rows in pieces for row in range(start, start + rows)] == expected
        assert {task for task, _, _ in pieces} == {task for task in accepted if task[0] == kind}
