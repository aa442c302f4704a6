"""The parts of an output: one Parquet file per piece, which is there as a whole or not at all.

A part is written beside its place and then renamed, or uploaded at once to stores that show nothing of an upload before
its end. So a part that is there is done, and nobody has to keep a list of what is. It says of itself to which work it
belongs and how many rows went into it. Who writes a part twice writes the same, so nothing is lost or doubled when a
worker dies, or seems to.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from serving_app.config.locations import scheme_of
from serving_app.core.errors import FailedPrecondition, InvalidArgument, NotFound
from serving_app.store.filesystem import is_local, open_path, translated_errors

_KEY = b"serving_app.batch"
_PART = re.compile(r"part-\d{5,}\.parquet")
_UNFINISHED = re.compile(r"\.part-\d{5,}\.parquet\.[0-9a-f]{32}")
_SHOWN_WHEN_DONE = {"s3", "gs", "abfs"}
"""Stores that show an object when all of it is there."""

_FLUSH_ROWS, _FLUSH_BYTES = 1 << 17, 64 << 20
"""What is gathered for one row group."""
_AT_A_TIME = 16


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of the rows of a piece: those that were read are those that were scored and those set aside."""

    rows: int
    set_aside: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.rows + other.rows, self.set_aside + other.set_aside)


class PartWriter:
    """Gathers tables of one schema, and writes them to a file."""

    def __init__(self, file: Path, schema: pa.Schema) -> None:
        self._writer = pq.ParquetWriter(file, schema)
        self._schema = schema
        self._gathered: list[pa.Table] = []
        self._rows = self._bytes = 0
        self.rows = 0

    def add(self, table: pa.Table) -> None:
        """Add rows below those that are there."""
        try:
            self._gathered.append(table if table.schema == self._schema else table.cast(self._schema))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, ValueError) as error:
            raise FailedPrecondition(
                f"rows of one piece differ in the types of their columns, and make no table: {error}"
            ) from error
        self.rows += table.num_rows
        self._rows += table.num_rows
        self._bytes += table.nbytes
        if self._rows >= _FLUSH_ROWS or self._bytes >= _FLUSH_BYTES:
            self._flush()

    def close(self, note: Mapping[str, Any]) -> None:
        """Finish the file."""
        self._flush()
        self._writer.add_key_value_metadata({_KEY.decode(): json.dumps(note)})
        self._writer.close()

    def give_up(self) -> None:
        """Leave the file as it is."""
        self._writer.close()

    def _flush(self) -> None:
        if self._gathered:
            self._writer.write_table(pa.concat_tables(self._gathered))
        self._gathered, self._rows, self._bytes = [], 0, 0


@dataclass(frozen=True)
class Parts:
    """A directory of parts, on any file system that all workers see."""

    directory: str
    options: Mapping[str, Any]
    digest: str = ""
    """Of the work that they belong to."""

    def check(self) -> None:
        """InvalidArgument for a place that workers would not share."""
        if scheme_of(self.directory) in {"memory", "http", "https"}:
            raise InvalidArgument(f"{self.directory} cannot be written by several processes; use another place")

    @contextmanager
    def writing(self, number: int) -> Iterator[Path]:
        """A file to write a part to; when the block ends without an error, it is that part."""
        name = part_name(number)
        if is_local(self.directory):
            target = Path(open_path(self.directory)[1], name)
            with translated_errors(self.directory):
                target.parent.mkdir(parents=True, exist_ok=True)
            unfinished = target.with_name(f".{name}.{uuid.uuid4().hex}")
            try:
                yield unfinished
                with translated_errors(str(target)):
                    _sync(unfinished)
                    os.replace(unfinished, target)
            finally:
                unfinished.unlink(missing_ok=True)
            return
        with tempfile.TemporaryDirectory(prefix="serving-app-part-") as folder:
            unfinished = Path(folder, name)
            yield unfinished
            self._upload(unfinished, name)

    def _upload(self, file: Path, name: str) -> None:
        filesystem, directory = open_path(self.directory, self.options)
        target = f"{directory}/{name}"
        with translated_errors(f"{self.directory}/{name}", filesystem):
            if scheme_of(self.directory) in _SHOWN_WHEN_DONE:
                filesystem.put_file(str(file), target)
            else:
                filesystem.makedirs(directory, exist_ok=True)
                unfinished = f"{directory}/.{name}.{uuid.uuid4().hex}"
                filesystem.put_file(str(file), unfinished)
                filesystem.mv(unfinished, target)

    def note(self, number: int, counts: Counts) -> dict[str, Any]:
        """What a part says of itself."""
        return {"work": self.digest, "piece": number, **asdict(counts)}

    def done(self) -> dict[int, Counts]:
        """The parts that are there. Raises FailedPrecondition if one belongs to other work."""
        names = [name for name in self.names() if _PART.fullmatch(name)]
        with ThreadPoolExecutor(_AT_A_TIME, thread_name_prefix="look") as pool:
            return dict(pool.map(self._read_note, names))

    def _read_note(self, name: str) -> tuple[int, Counts]:
        path = f"{self.directory}/{name}"
        filesystem, directory = open_path(self.directory, self.options)
        with translated_errors(path, filesystem), filesystem.open(f"{directory}/{name}", "rb") as file:
            try:
                note = json.loads((pq.read_metadata(file).metadata or {}).get(_KEY, b"{}"))
            except pa.ArrowInvalid as error:
                raise FailedPrecondition(f"{path} is no part of this work ({error}); use another output") from error
        if note.get("work") != self.digest or part_name(note["piece"]) != name:
            raise FailedPrecondition(f"{path} belongs to other work; use another output, or remove it")
        return note["piece"], Counts(note["rows"], note["set_aside"])

    def names(self) -> list[str]:
        """The names of everything in the directory; none if it is not there."""
        filesystem, directory = open_path(self.directory, self.options)
        try:
            with translated_errors(self.directory, filesystem):
                filesystem.invalidate_cache()
                entries = filesystem.ls(directory, detail=False)
        except NotFound:
            return []
        names = [str(entry).removeprefix(f"{directory}/") for entry in entries]
        return sorted(name for name in names if name and "/" not in name)

    def clean(self) -> None:
        """Remove what workers that died have left behind. Nobody may be writing."""
        filesystem, directory = open_path(self.directory, self.options)
        for name in self.names():
            if _UNFINISHED.fullmatch(name):
                with translated_errors(f"{self.directory}/{name}", filesystem):
                    filesystem.rm_file(f"{directory}/{name}")


def part_name(number: int) -> str:
    """The name of the part that a piece becomes: in their order, names are in the order of the rows."""
    return f"part-{number:05}.parquet"


def _sync(file: Path) -> None:
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
