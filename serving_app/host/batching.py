"""The arithmetic of batching: which calls may run as one, how their rows are joined and taken apart again.

Pure functions over arrays; waiting is for `batch_queue`, threads and time are for `batcher`. The rules are TensorFlow
Serving's (batching_session.cc), and so are the complaints, but for one thing: calls that could not be joined never
meet, so none is refused for the company it keeps. There, calls of different inner shapes spoil a batch for everybody.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Sequence
from typing import Any

import numpy as np

from serving_app.core.errors import FailedPrecondition, InvalidArgument
from serving_app.protocol.calls import Call, Outputs
from serving_app.protocol.joined_calls import cut_outputs

Array = np.ndarray[Any, Any]

_ALIGNMENT = 64
"""What TensorFlow wants of addresses, and NumPy does not give."""

_LARGE = 64 * 1024
"""Bytes from which a second copy is worth avoiding."""

_MAX_PADDED_RANK = 6
"""Of higher ranks TensorFlow Serving pads none."""


def row_count(call: Call) -> int:
    """The first dimension that all inputs share; InvalidArgument if there is no such thing."""
    if len(call.inputs) == 1:  # by far the most
        ((_, array),) = call.inputs.items()
        if array.shape:
            return array.shape[0]
    shapes = [array.shape for array in call.inputs.values()]
    if not shapes:
        raise InvalidArgument("Batching Run() must have at least one input tensor")
    if not all(shapes):
        raise InvalidArgument("Batching Run() input tensors must have at least one dimension")
    rows = shapes[0][0]
    if any(shape[0] != rows for shape in shapes):
        raise InvalidArgument("Batching Run() input tensors must have equal 0th-dimension size")
    return rows


def kind_of(call: Call, pad: bool) -> Hashable:
    """Calls of equal kinds may be joined: same signature and outputs, and per input the same dtype and inner shape.

    With `pad` the same number of dimensions is enough, where padding is possible.
    """
    # The dtype itself, not its `str`: that is the same for several of the types that NumPy does not know.
    if len(call.inputs) == 1:  # by far the most
        ((name, array),) = call.inputs.items()
        return call.signature_name, call.outputs, ((name, array.dtype, _inner(array, pad)),)
    inputs = tuple((name, array.dtype, _inner(array, pad)) for name, array in sorted(call.inputs.items()))
    return call.signature_name, call.outputs, inputs


def _inner(array: Array, pad: bool) -> tuple[int, ...] | int:
    inner: tuple[int, ...] = array.shape[1:]
    if not pad:
        return inner
    # A row without elements has none to be filled up with.
    is_padded = array.ndim <= _MAX_PADDED_RANK and 0 not in inner
    return array.ndim if is_padded else inner


def cut_rows(call: Call, start: int, rows: int) -> dict[str, Array]:
    """Some of the rows of a call's inputs; they are not copied."""
    return {name: array[start : start + rows] for name, array in call.inputs.items()}


def count_filling(rows: int, allowed: Sequence[int]) -> int:
    """How many rows are missing to the next allowed size; 0 where none is as large, and where there is no row to copy.
    """
    return next((size - rows for size in allowed if size >= rows), 0) if rows else 0


def join(calls: Sequence[Call], filling: int = 0) -> Call:
    """One call with the rows of all, in order, and then with so many copies of a row.

    All are of one kind. The call's time is the longest that any member has left. A single call that needs nothing
    filled up is not copied. What comes out is one run, and members are nothing to it.
    """
    if len(calls) == 1 and not filling:
        return calls[0]
    # The first row of the last call, as in TensorFlow Serving; of the last one that has a row.
    last = max((index for index, call in enumerate(calls) if row_count(call)), default=0)
    inputs: dict[str, Array] = {}
    for name in calls[0].inputs:
        parts = _widen([call.inputs[name] for call in calls])
        if filling:
            parts.append(np.repeat(parts[last][:1], filling, axis=0))
        inputs[name] = concatenate(parts)
    return calls[0]._replace(inputs=inputs, timeout=longest_timeout(calls), members=(), timeouts=())


def concatenate(parts: Sequence[Array]) -> Array:
    """The rows of all; where they are many bytes, at an address at which runtimes read them without another copy."""
    first = parts[0]
    rows = sum([len(part) for part in parts])
    shape = (rows, *first.shape[1:])
    size = first.dtype.itemsize * math.prod(shape)
    if size < _LARGE or first.dtype.hasobject:
        return np.concatenate(parts)
    memory = np.empty(size + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    return np.concatenate(parts, out=memory[start : start + size].view(first.dtype).reshape(shape))


def _widen(arrays: list[Array]) -> list[Array]:
    """All arrays with the inner shape that holds each of them, filled up at the end with their own first element."""
    shapes = {array.shape[1:] for array in arrays}
    if len(shapes) == 1:
        return arrays
    widest = tuple(max(sizes) for sizes in zip(*shapes, strict=True))
    return [array if array.shape[1:] == widest else _fill_up(array, widest) for array in arrays]


def _fill_up(array: Array, inner: tuple[int, ...]) -> Array:
    filled = np.empty((len(array), *inner), array.dtype)
    if len(array):
        filled[...] = array.reshape(-1)[0]
        filled[tuple(slice(size) for size in array.shape)] = array
    return filled


def longest_timeout(calls: Iterable[Call]) -> float | None:
    """The longest of the calls' timeouts; None (no limit) is the longest of all."""
    return latest(call.timeout for call in calls)


def latest(times: Iterable[float | None]) -> float | None:
    """The latest of some times; None (never) is the latest of all."""
    known: list[float] = []
    for time in times:
        if time is None:
            return None
        known.append(time)
    return max(known)


def split(outputs: Outputs, row_counts: Sequence[int], filling: int = 0) -> list[Outputs]:
    """Each member's rows of a joined run's outputs, without those of the rows that filled it up.

    Raises FailedPrecondition if an output has not one row per input row.
    """
    total = sum(row_counts) + filling
    for array in outputs.values():
        if array.ndim == 0:
            raise FailedPrecondition("Batched output tensor has 0 dimensions")
        if array.shape[0] != total:
            raise FailedPrecondition(
                "Batched output tensor's 0th dimension does not equal the sum of the 0th dimension sizes of "
                "the input tensors"
            )
    if len(row_counts) == 1 and not filling:
        return [outputs]
    return cut_outputs(outputs, row_counts)


def put_together(parts: Sequence[Outputs]) -> Outputs:
    """The outputs of a call that ran in pieces, in the order of its rows.

    Raises FailedPrecondition where the pieces' outputs differ in more than rows.
    """
    try:
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    except ValueError as error:
        raise FailedPrecondition(
            f"The outputs of a request that was split over several batches do not fit together ({error}). Send fewer "
            "rows at a time, or set enable_large_batch_splitting to false"
        ) from error
