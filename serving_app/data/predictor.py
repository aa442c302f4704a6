"""Scoring the batches of a Ray Dataset.

    from serving_app.data import predict_dataset

    scored = predict_dataset(ray.data.read_parquet(source), model="fraud", label="stable", concurrency=4)
    scored.write_parquet(target)

`predict_dataset` pins the version, looks whether the columns fit, and says `map_batches` what suits the model. Whoever
wants to say that himself hands `Predictor` over, with what `pin` returns.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from serving_app.core.errors import FailedPrecondition, InvalidArgument
from serving_app.core.signatures import Signature
from serving_app.data.arrow_columns import UnevenError, to_array, to_column
from serving_app.data.columns import ERROR_COLUMN, Layout
from serving_app.data.pinned import Pinned, pin
from serving_app.data.scoring import BadRow, Scored, score
from serving_app.data.servables import LiveRuns, LocalServable
from serving_app.protocol.predict_checks import find_signature

if TYPE_CHECKING:
    import ray.data

logger = logging.getLogger(__name__)

NAMED_ROWS = 5
"""How many bad rows an error names."""


class Predictor:
    """Scores batches of rows, for `map_batches`: Arrow tables, pandas DataFrames or mappings of NumPy arrays.

    It holds the version, or a connection to it, for as long as it lives: an actor of its own per worker is right.
    """

    def __init__(self, pinned: Pinned) -> None:
        """Loads or finds the version. Raises a ServingError that says what is wrong with it."""
        if not isinstance(pinned, Pinned):
            raise InvalidArgument(
                "a Predictor takes what serving_app.data.pin(...) returns, so that all workers score by the same "
                "version: map_batches(Predictor, fn_constructor_args=[pin(model=..., label=...)])"
            )
        self._pinned = pinned
        self._connection: Any = None
        self._servable: LocalServable | None = None
        if pinned.found.assignment is not None:
            self._servable = LocalServable(pinned.found.assignment)
            self.signatures: Mapping[str, Signature] = self._servable.signatures
        else:
            from serving_app.client.connection import connect

            self._connection = connect(pinned.app)
            self.signatures = pinned.found.signatures or {}
        self._signature = find_signature(self.signatures, pinned.signature_name)
        logger.info("scoring by %s", pinned.servable)

    def close(self) -> None:
        """Unload the version, or leave the serving app."""
        if self._servable is not None:
            self._servable.close()
        if self._connection is not None:
            self._connection.close()

    def __call__(self, batch: Any) -> Any:
        """The batch with the columns of the outputs, in the form in which it came.

        Rows that cannot be scored are an InvalidArgument that names the first of them. If they are set aside, they have
        nulls for outputs and the reason in the column `error`, and the batch has to be an Arrow table.
        """
        names = _names(batch)
        layout = self._pinned.fit(names, self.signatures)
        assert layout is not None  # there are signatures
        is_table = isinstance(batch, pa.Table)
        table = batch if is_table else _to_table(batch, layout)
        scored = self.score(table, layout)
        if self._pinned.on_error == "set_aside":
            if not is_table:
                raise InvalidArgument("rows can be set aside in Arrow tables only: map_batches(batch_format='pyarrow')")
            columns = {**scored.columns, ERROR_COLUMN: _reasons(scored, table.num_rows)}
            return _append(table.select(layout.keep), columns)
        if scored.bad:
            raise InvalidArgument(describe(scored.bad, "of a batch"))
        if is_table:
            return _append(table.select(layout.keep), scored.columns)
        return _extend(batch, layout, scored)

    def score(self, table: pa.Table, layout: Layout) -> Scored:
        """The outputs of a table that has this layout."""
        most_bad = NAMED_ROWS if self._pinned.on_error == "fail" else None
        wanted = tuple(layout.outputs)
        pinned = self._pinned
        if self._servable is not None:
            runs = self._servable.runs(pinned.signature_name, wanted)
        else:
            runs = LiveRuns(
                self._connection.model(pinned.servable.name, version=pinned.servable.version),
                pinned.signature_name, wanted,
                rows_per_run=pinned.rows_per_call, parallel=pinned.max_in_flight, timeout=pinned.timeout,
            )
        return score(table, layout, self._signature, runs, most_bad)


def describe(bad: Sequence[BadRow], where: str, offset: int = 0) -> str:
    """What is wrong with some rows, in words; `where` says what they are counted in."""
    named = "; ".join(f"row {offset + row} {where}: {reason}" for row, reason in bad[:NAMED_ROWS])
    more = f"; and {len(bad) - NAMED_ROWS} more" if len(bad) > NAMED_ROWS else ""
    return f"rows cannot be scored: {named}{more}. Correct them, or have such rows set aside"


def predict_dataset(
    dataset: ray.data.Dataset,
    model: str | None = None,
    *,
    batch_size: int = 4096,
    concurrency: int | tuple[int, int] = 1,
    num_cpus: float = 1,
    num_gpus: float | None = None,
    **choice: Any,
) -> ray.data.Dataset:
    """The dataset with the outputs of a model as columns. As always in Ray Data, the work is done when it is asked for.

    `choice` is what `pin` takes. Each of `concurrency` workers has `num_cpus`, and the GPUs that a replica of the model
    has, unless `num_gpus` says otherwise. Raises what `pin` raises, and InvalidArgument for columns that do not fit.
    """
    pinned = pin(model, **choice)
    if (schema := dataset.schema()) is not None:
        pinned.fit(schema.names)
    if num_gpus is None:
        num_gpus = pinned.found.num_gpus if pinned.how == "local" else 0
    logger.info("rows are scored by %s", pinned.servable)
    return dataset.map_batches(
        Predictor,
        fn_constructor_args=(pinned.with_cpus(max(1, int(num_cpus))),),
        batch_size=batch_size,
        batch_format="pyarrow",
        compute=_workers(concurrency),
        num_cpus=num_cpus,
        num_gpus=num_gpus or None,
    )


def _workers(concurrency: int | tuple[int, int]) -> ray.data.ActorPoolStrategy:
    from ray.data import ActorPoolStrategy

    if isinstance(concurrency, tuple):
        return ActorPoolStrategy(min_size=concurrency[0], max_size=concurrency[1])
    return ActorPoolStrategy(size=concurrency)


def _names(batch: Any) -> list[str]:
    if isinstance(batch, pa.Table):
        return list(batch.column_names)
    return list(batch.keys() if isinstance(batch, Mapping) else batch.columns)


def _to_table(batch: Any, layout: Layout) -> pa.Table:
    """The columns of the inputs."""
    columns = dict.fromkeys(column for columns in layout.inputs.values() for column in columns)
    try:
        return pa.table({column: to_column(batch[column]) for column in columns})
    except (pa.ArrowException, OverflowError) as error:
        raise InvalidArgument(
            f"the batch cannot be read: {error}. Rows are told one by one in Arrow tables: "
            "map_batches(batch_format='pyarrow')"
        ) from error


def _append(table: pa.Table, columns: Mapping[str, pa.Array]) -> pa.Table:
    for name, column in columns.items():
        table = table.append_column(name, column)
    return table


def _reasons(scored: Scored, count: int) -> pa.Array:
    reasons: list[str | None] = [None] * count
    for row, reason in scored.bad:
        reasons[row] = reason
    return pa.array(reasons, pa.string())


def _extend(batch: Any, layout: Layout, scored: Scored) -> Any:
    """A DataFrame or a mapping of arrays with the outputs."""
    if isinstance(batch, Mapping):
        kept = {name: batch[name] for name in layout.keep}
        return {**kept, **{name: _plain(column) for name, column in scored.columns.items()}}
    # Without an index of their own, which pandas would match with that of the batch.
    outputs = {name: column.to_pandas().array for name, column in scored.columns.items()}
    return batch[list(layout.keep)].assign(**outputs)


def _plain(column: pa.Array) -> np.ndarray[Any, Any]:
    if pa.types.is_string(column.type):
        return np.asarray(column.to_numpy(zero_copy_only=False))
    try:
        return to_array(column)
    except UnevenError as error:
        raise FailedPrecondition(
            f"the outputs make no array ({error}); ask for Arrow tables: map_batches(batch_format='pyarrow')"
        ) from error
