"""The arithmetic of batching: which calls may run as one, how their rows are joined and taken apart again.

Pure functions over arrays; waiting and queues are someone else's (the replica's `@serve.batch`). Calls may share a
run when they ask the same signature for the same outputs with tensors that agree in everything but the number of
rows. A call that cannot be joined (a scalar input, unequal row counts) runs alone, and so does every call of a joined
run that failed: a bad member must not fail its neighbours.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from serving_app.core.errors import FailedPrecondition
from serving_app.protocol.calls import Call, Outputs

Shape = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Batching:
    """Limits of joining: rows in one run, and how long the first call of a batch may wait for company."""

    max_batch_size: int = 1000
    batch_timeout_micros: int = 0


def row_count(call: Call) -> int | None:
    """The common first dimension of all inputs, or None where there is none and the call must run alone."""
    rows: int | None = None
    for array in call.inputs.values():
        if array.ndim == 0 or (rows is not None and array.shape[0] != rows):
            return None
        rows = array.shape[0]
    return rows


def batch_key(call: Call) -> Shape:
    """Equal keys may be joined: same signature and outputs, and per input the same dtype and inner shape."""
    # The type itself, not its `str`: that is the same for several of the types that NumPy does not know.
    inputs = tuple((name, call.inputs[name].dtype, call.inputs[name].shape[1:]) for name in sorted(call.inputs))
    return call.signature_name, call.outputs, inputs


def form_batches(calls: Sequence[Call], max_rows: int) -> list[list[int]]:
    """Indices of the calls that run together, in order of arrival; no batch has more than `max_rows` rows.

    A call that alone has more than `max_rows` rows gets a batch of its own.
    """
    batches: list[list[int]] = []
    open_batches: dict[Shape, tuple[list[int], int]] = {}
    for index, call in enumerate(calls):
        rows = row_count(call)
        if rows is None:
            batches.append([index])
            continue
        key = batch_key(call)
        members, filled = open_batches.get(key, ([], 0))
        if not members or filled + rows > max_rows:
            members, filled = [], 0
            batches.append(members)
        members.append(index)
        open_batches[key] = (members, filled + rows)
    return batches


class Piece(NamedTuple):
    """Neighbouring calls of one hop that enter the queue together, and the rows they count for there."""

    calls: tuple[Call, ...]
    rows: int


def cut(calls: Sequence[Call], max_rows: int) -> list[Piece]:
    """Calls in order, in pieces of at most `max_rows` rows, so that no piece is larger than a batch may be.

    A call without rows counts as one; a call that alone is larger counts as `max_rows`.
    """
    pieces: list[Piece] = []
    members: list[Call] = []
    filled = 0
    for call in calls:
        rows = min(row_count(call) or 1, max_rows)
        if members and filled + rows > max_rows:
            pieces.append(Piece(tuple(members), filled))
            members, filled = [], 0
        members.append(call)
        filled += rows
    if members:
        pieces.append(Piece(tuple(members), filled))
    return pieces


def join(calls: Sequence[Call]) -> Call:
    """One call with the rows of all, in order. Its time is the longest that any member has left, as in TFS."""
    first = calls[0]
    inputs = {name: np.concatenate([call.inputs[name] for call in calls]) for name in first.inputs}
    return first._replace(inputs=inputs, timeout=longest_timeout(calls))


def longest_timeout(calls: Iterable[Call]) -> float | None:
    """The longest of the members' timeouts; None (no limit) is the longest of all."""
    timeouts = [call.timeout for call in calls]
    known = [timeout for timeout in timeouts if timeout is not None]
    return max(known) if len(known) == len(timeouts) else None


def split(outputs: Outputs, row_counts: Sequence[int]) -> list[Outputs]:
    """Each member's rows of a joined run's outputs.

    Raises FailedPrecondition if an output has not one row per input row.
    """
    total = sum(row_counts)
    for array in outputs.values():
        if array.ndim == 0:
            raise FailedPrecondition("Batched output tensor has 0 dimensions")
        if array.shape[0] != total:
            raise FailedPrecondition(
                "Batched output tensor's 0th dimension does not equal the sum of the 0th dimension sizes of "
                "the input tensors"
            )
    ends = np.cumsum(row_counts).tolist()
    return [
        {name: array[end - rows : end] for name, array in outputs.items()}
        for rows, end in zip(row_counts, ends, strict=True)
    ]
