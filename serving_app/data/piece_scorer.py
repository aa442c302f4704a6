"""Scores pieces: reads the rows of one, runs them batch by batch, and writes its part."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa

from serving_app.core.errors import InvalidArgument, ServingError
from serving_app.core.signatures import Signature
from serving_app.data.arrow_columns import column_type, number_type, parse_texts
from serving_app.data.broken_lines import BrokenLines
from serving_app.data.columns import ERROR_COLUMN, Layout
from serving_app.data.input_files import is_csv, read_rows, read_schema
from serving_app.data.parts import Counts, Parts, PartWriter
from serving_app.data.pinned import Pinned
from serving_app.data.predictor import Predictor, describe
from serving_app.data.scoring import BadRow, Scored
from serving_app.data.work_plan import Piece
from serving_app.protocol.predict_checks import find_signature

FILE_COLUMN, ROW_COLUMN = "error_file", "error_row"
"""Where a row that was set aside came from."""


@dataclass(frozen=True)
class Work:
    """What all pieces of a work have in common."""

    pinned: Pinned
    output: Parts
    errors: Parts | None
    batch_rows: int
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """Of the store of the input."""


class PieceScorer:
    """Scores one piece after the other, or several at a time from several threads."""

    def __init__(self, work: Work) -> None:
        """Loads or finds the version. Raises a ServingError that says what is wrong with it."""
        self._work = work
        self._predictor = Predictor(work.pinned)
        self.rows = 0
        """How many rows were scored until now, for those who watch."""

    @property
    def signatures(self) -> Mapping[str, Signature]:
        """What the version takes and gives."""
        return self._predictor.signatures

    def close(self) -> None:
        """Let go of the version."""
        self._predictor.close()

    def score(self, piece: Piece) -> Counts:
        """Write the part of a piece, and before it that of the rows that are set aside, if there are any.

        Raises InvalidArgument that names rows which cannot be scored where none may be set aside.
        """
        work = self._work
        layout = work.pinned.fit(piece.file.names, self.signatures)
        assert layout is not None  # there are signatures
        texts = self._texts(piece, layout)
        broken = None if work.errors is None else BrokenLines()
        rows = read_rows(piece.file, piece.start, piece.stop, layout.read, work.batch_rows, work.options, texts, broken)
        at = piece.start
        bad: list[pa.Table] = []
        with work.output.writing(piece.number) as file:
            writer: PartWriter | None = None
            try:
                for table in rows:
                    parsed, wrong = _parse(table, texts)
                    scored = self._score(parsed, layout, piece, at, wrong)
                    result = self._result(parsed, layout, scored)
                    if writer is None:
                        writer = PartWriter(file, result.schema)
                    writer.add(result)
                    if scored.bad:
                        bad.append(_set_aside(table.select(layout.read), scored, piece, at, broken))
                    at += table.num_rows
                    self.rows += table.num_rows
                writer = writer or PartWriter(file, self._schema(piece, layout))
                if broken:
                    schema = self._columns(piece, layout.read, dict.fromkeys(texts, pa.string()))
                    bad = [pa.concat_tables([*bad, _tell_broken(broken, schema, piece)]).sort_by(ROW_COLUMN)]
                    self.rows += len(broken)
                counts = Counts(at - piece.start + len(broken or ()), sum(table.num_rows for table in bad))
                self._write_errors(piece, bad, counts)
                writer.close(work.output.note(piece.number, counts))
            except BaseException:
                if writer is not None:
                    writer.give_up()
                raise
        return counts

    def _texts(self, piece: Piece, layout: Layout) -> dict[str, int]:
        """The columns that are read as texts, so that one that is no number is of its row alone; and their types."""
        if not is_csv(piece.file):
            return {}
        signature = find_signature(self.signatures, self._work.pinned.signature_name)
        types = [
            (column, signature.inputs[name].dtype) for name, columns in layout.inputs.items() for column in columns
        ]
        as_they_are = {column for column, dtype in types if number_type(dtype) is None}
        return {column: dtype for column, dtype in types if column not in as_they_are}

    def _score(self, table: pa.Table, layout: Layout, piece: Piece, at: int, wrong: Mapping[int, str]) -> Scored:
        with _told_of(piece, at):
            scored = self._predictor.score(table, layout)
        if wrong:
            scored = replace(scored, bad=tuple(BadRow(row, wrong.get(row, reason)) for row, reason in scored.bad))
        if scored.bad and self._work.errors is None:
            raise InvalidArgument(describe(scored.bad, f"of {piece.file.path}", at))
        return scored

    def _result(self, table: pa.Table, layout: Layout, scored: Scored) -> pa.Table:
        result = table.select(list(layout.keep))
        for name, column in scored.columns.items():
            result = result.append_column(name, column)
        if not scored.bad:
            return result
        is_good = np.ones(table.num_rows, dtype=bool)
        is_good[[row for row, _ in scored.bad]] = False
        return result.filter(pa.array(is_good))

    def _schema(self, piece: Piece, layout: Layout) -> pa.Schema:
        """The columns of a part without rows."""
        texts = {column: number_type(dtype) for column, dtype in self._texts(piece, layout).items()}
        schema = self._columns(piece, piece.file.names, texts)
        signature = find_signature(self.signatures, self._work.pinned.signature_name)
        outputs = [
            pa.field(column, column_type(alias, column, signature.outputs[alias]) or pa.null())
            for alias, column in layout.outputs.items()
        ]
        return pa.schema([*(schema.field(name) for name in layout.keep), *outputs])

    def _columns(self, piece: Piece, names: Sequence[str], types: Mapping[str, pa.DataType]) -> pa.Schema:
        """Some columns of a file, of the types that they have there unless `types` has another one."""
        schema = read_schema(piece.file, self._work.options, skips_broken=self._work.errors is not None)
        return pa.schema([pa.field(name, types.get(name, schema.field(name).type)) for name in names])

    def _write_errors(self, piece: Piece, bad: list[pa.Table], counts: Counts) -> None:
        if not bad or self._work.errors is None:
            return
        with self._work.errors.writing(piece.number) as file:
            writer = PartWriter(file, bad[0].schema)
            try:
                for table in bad:
                    writer.add(table)
                writer.close(self._work.errors.note(piece.number, counts))
            except BaseException:
                writer.give_up()
                raise


def _parse(table: pa.Table, texts: Mapping[str, int]) -> tuple[pa.Table, dict[int, str]]:
    """The rows with numbers for texts; and what is wrong with some of them, which have nulls there."""
    wrong: dict[int, str] = {}
    for column, dtype in texts.items():
        at = table.column_names.index(column)
        values, reasons = parse_texts(table.column(at), dtype)
        table = table.set_column(at, column, values)
        wrong = {row: f"column {column!r}: {reason}" for row, reason in reasons.items()} | wrong
    return table, wrong


def _set_aside(table: pa.Table, scored: Scored, piece: Piece, at: int, broken: BrokenLines | None) -> pa.Table:
    """The rows that were not scored, with the reasons and the places where they came from."""
    rows = [row for row, _ in scored.bad]
    places = [at + row if broken is None else broken.place(at + row) for row in rows]
    return _with_faults(table.take(pa.array(rows)), [reason for _, reason in scored.bad], piece, places)


def _tell_broken(broken: BrokenLines, schema: pa.Schema, piece: Piece) -> pa.Table:
    """The lines that are no rows, with nulls for what would have been read of them."""
    nothing = pa.table([pa.nulls(len(broken), each.type) for each in schema], schema=schema)
    return _with_faults(nothing, broken.reasons, piece, broken.rows)


def _with_faults(table: pa.Table, reasons: list[str], piece: Piece, places: list[int]) -> pa.Table:
    columns = {
        ERROR_COLUMN: pa.array(reasons, pa.string()),
        FILE_COLUMN: pa.array([piece.file.path] * len(reasons), pa.string()),
        ROW_COLUMN: pa.array(places, pa.int64()),
    }
    for name, column in columns.items():
        table = table.append_column(name, column)
    return table


@contextmanager
def _told_of(piece: Piece, at: int) -> Iterator[None]:
    """Errors that tell at which rows they happened."""
    try:
        yield
    except ServingError as error:
        error.message = f"{error.message} (at row {at} of {piece.file.path})"
        raise
