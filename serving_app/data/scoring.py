"""The outputs of all rows of a table, and of each row that has none, why.

Rows are run together. Where one of them is wrong, the others have their outputs all the same: a column that cannot be
read as one tensor is read row by row, rows of different shapes that the signature allows are run apart, and a run that
fails because of what is in it is halved until the rows are found whose fault it is. That costs time only where
something is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import pyarrow as pa

from serving_app.core.errors import Code, FailedPrecondition, InvalidArgument, ServingError
from serving_app.core.signatures import Signature, TensorSpec
from serving_app.data.arrow_columns import UnevenError, column_type, from_array, gather, to_array
from serving_app.data.columns import Layout
from serving_app.protocol.input_tensors import to_tensor

Array = np.ndarray[Any, Any]
Tensors = Mapping[str, Array]

_THE_ROWS_FAULT = frozenset({Code.INVALID_ARGUMENT, Code.OUT_OF_RANGE, Code.INTERNAL, Code.UNKNOWN, Code.ABORTED})
"""What a run may fail with because of what is in its rows. Other errors are of the servable, and end the work."""


class Runs(Protocol):
    """Runs rows of one signature."""

    rows_per_run: int | None
    """How many rows may be run at once; None means any number."""
    parallel: int
    """How many runs there may be at a time."""

    def run(self, inputs: Tensors) -> Tensors:
        """The wanted outputs of these rows. From several threads at a time."""
        ...


class BadRow(NamedTuple):
    """A row without outputs: its number in the table, from 0, and why."""

    row: int
    reason: str


@dataclass(frozen=True, slots=True)
class Scored:
    """What became of a table: the outputs' columns, as long as the table, with nulls for the bad rows."""

    columns: Mapping[str, pa.Array]
    bad: tuple[BadRow, ...]


class _Group(NamedTuple):
    """Rows whose inputs have one shape, by their numbers."""

    rows: Array
    inputs: Tensors


class _Ran(NamedTuple):
    """Rows that were run together, and what came out."""

    rows: Array
    outputs: Tensors


def score(table: pa.Table, layout: Layout, signature: Signature, runs: Runs, most_bad: int | None = None) -> Scored:
    """Run all rows of a table. With `most_bad` the search for bad rows ends when that many are found.

    Raises a ServingError where the servable failed and not the rows.
    """
    groups, bad = _read(table, layout, signature)
    ran: list[_Ran] = []
    search = _Search(runs.run, ran, bad, most_bad)
    chunks = [chunk for group in groups for chunk in _cut(group, runs.rows_per_run)]
    if runs.parallel > 1 and len(chunks) > 1:
        with ThreadPoolExecutor(min(runs.parallel, len(chunks)), thread_name_prefix="score") as pool:
            for _ in pool.map(search.run, chunks):  # the first error ends it, when those that run have ended
                pass
    else:
        for chunk in chunks:
            search.run(chunk)
    ran.sort(key=lambda each: int(each.rows[0]))
    columns = _write(table.num_rows, ran, layout, signature, bad)
    return Scored(columns, tuple(sorted(bad)))


# Reading


def _read(table: pa.Table, layout: Layout, signature: Signature) -> tuple[list[_Group], list[BadRow]]:
    everything = np.arange(table.num_rows)
    if not table.num_rows:
        return [], []
    try:
        return [_Group(everything, _tensors(table, layout, signature))], []
    except (UnevenError, InvalidArgument):
        return _read_apart(table, layout, signature)


def _read_apart(table: pa.Table, layout: Layout, signature: Signature) -> tuple[list[_Group], list[BadRow]]:
    """Each row by itself; those of one shape are put together again."""
    bad: list[BadRow] = []
    alike: dict[tuple[tuple[int, ...], ...], list[tuple[int, Tensors]]] = {}
    for row in range(table.num_rows):
        try:
            tensors = _tensors(table.slice(row, 1), layout, signature)
        except (UnevenError, InvalidArgument) as error:
            bad.append(BadRow(row, str(error)))
            continue
        alike.setdefault(tuple(tensor.shape for tensor in tensors.values()), []).append((row, tensors))
    groups = [
        _Group(
            np.array([row for row, _ in members]),
            {name: np.concatenate([tensors[name] for _, tensors in members]) for name in layout.inputs},
        )
        for members in alike.values()
    ]
    return groups, bad


def _tensors(table: pa.Table, layout: Layout, signature: Signature) -> dict[str, Array]:
    return {
        name: _tensor(table, name, columns, signature.inputs[name]) for name, columns in layout.inputs.items()
    }


def _tensor(table: pa.Table, name: str, columns: tuple[str, ...], spec: TensorSpec) -> Array:
    parts = [_part(table, name, column, spec) for column in columns]
    if len(parts) == 1:
        array = parts[0]
    else:
        if len({part.shape[1:-1] for part in parts}) > 1:
            shapes = ", ".join(str(list(part.shape[1:])) for part in parts)
            raise UnevenError(f"the columns of input {name!r} cannot stand beside each other: {shapes}")
        array = np.concatenate([part if part.ndim > 1 else part[:, None] for part in parts], axis=-1)
    return _fit(name, columns, array, spec)


def _part(table: pa.Table, name: str, column: str, spec: TensorSpec) -> Array:
    try:
        return to_tensor(name, to_array(table.column(column)), spec.dtype)
    except (UnevenError, ServingError, pa.ArrowInvalid) as error:
        raise UnevenError(f"column {column!r}: {error}") from error


def _fit(name: str, columns: tuple[str, ...], array: Array, spec: TensorSpec) -> Array:
    """The same rows in the shape that the signature wants; numbers that stand in one list may be a row of any shape."""
    if spec.shape is None:
        return array
    wanted, given = spec.shape[1:], array.shape[1:]
    if len(wanted) == len(given) and all(size in (-1, here) for size, here in zip(wanted, given, strict=True)):
        return array
    if len(given) < 2 and -1 not in wanted and np.prod(wanted) == np.prod(given):
        return array.reshape(len(array), *wanted)
    shape = "[" + ", ".join("?" if size == -1 else str(size) for size in wanted) + "]"
    which = f"column {columns[0]!r}" if len(columns) == 1 else f"columns {columns[0]!r} to {columns[-1]!r}"
    raise UnevenError(f"{which}: rows have the shape {list(given)}, and input {name!r} takes {shape}")


# Running


def _cut(group: _Group, size: int | None) -> list[_Group]:
    count = len(group.rows)
    if size is None or count <= size:
        return [group]
    return [_slice(group, at, min(at + size, count)) for at in range(0, count, size)]


def _slice(group: _Group, begin: int, end: int) -> _Group:
    return _Group(group.rows[begin:end], {name: array[begin:end] for name, array in group.inputs.items()})


class _Search:
    """Runs groups of rows, and finds those that make a run fail."""

    def __init__(
        self, run: Callable[[Tensors], Tensors], ran: list[_Ran], bad: list[BadRow], most_bad: int | None
    ) -> None:
        self._run, self._ran, self._bad, self._most_bad = run, ran, bad, most_bad

    def run(self, group: _Group) -> None:
        """Run rows together; where that fails because of them, each half of them."""
        if self._most_bad is not None and len(self._bad) >= self._most_bad:
            return
        try:
            outputs = self._run(group.inputs)
        except ServingError as error:
            if error.code not in _THE_ROWS_FAULT:
                raise
            count = len(group.rows)
            if count == 1:
                self._bad.append(BadRow(int(group.rows[0]), error.message))
                return
            self.run(_slice(group, 0, count // 2))
            self.run(_slice(group, count // 2, count))
            return
        self._ran.append(_Ran(group.rows, outputs))


# Writing


def _write(
    count: int, ran: list[_Ran], layout: Layout, signature: Signature, bad: list[BadRow]
) -> dict[str, pa.Array]:
    columns = {}
    for alias, column in layout.outputs.items():
        spec = signature.outputs[alias]
        parts = [_column(each, alias, column, spec) for each in ran]
        if len(parts) == 1 and len(parts[0]) == count:
            columns[column] = parts[0]
            continue
        if not parts:
            columns[column] = pa.nulls(count, column_type(alias, column, spec))
            continue
        indices = np.zeros(count, dtype=np.int64)
        indices[np.concatenate([each.rows for each in ran])] = np.arange(sum(len(each.rows) for each in ran))
        is_null = np.ones(count, dtype=bool)
        is_null[np.concatenate([each.rows for each in ran])] = False
        try:
            columns[column] = gather(parts, indices, is_null)
        except pa.ArrowInvalid as error:
            raise FailedPrecondition(
                f"the rows of output {alias!r}, whose rank the signature leaves open, make no column: {error}"
            ) from error
    return columns


def _column(ran: _Ran, alias: str, column: str, spec: TensorSpec) -> pa.Array:
    array = ran.outputs[alias]
    if not array.ndim or len(array) != len(ran.rows):
        raise FailedPrecondition(
            f"output {alias!r} came with the shape {list(array.shape)} for {len(ran.rows)} rows, and not with a row "
            "for each; leave it out by naming the outputs that are wanted"
        )
    try:
        return from_array(array, alias, column, spec)
    except (ValueError, pa.ArrowInvalid) as error:
        raise FailedPrecondition(
            f"output {alias!r} does not fit into a column: {error}. If it holds bytes that are no text, give its "
            "column a name that ends in _bytes"
        ) from error
