"""The files that rows are read from: which there are, how many rows they have, and the rows of a part of one.

Parquet is read by ranges of rows. CSV and JSON Lines tell their rows only to who reads them from the start, so a file
of theirs is read as a whole; what its columns are is what its first block looks like. Columns of CSV can be read as the
texts that stand there, for those who know better what they are.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq
from fsspec import AbstractFileSystem

from serving_app.config.locations import is_absolute
from serving_app.core.errors import FailedPrecondition, InvalidArgument, NotFound
from serving_app.data.broken_lines import BrokenLines
from serving_app.store.files import stamp_of
from serving_app.store.filesystem import is_local, open_path, translated_errors

FORMATS = {".parquet": "parquet", ".pq": "parquet", ".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl"}
"""What a file is, by the end of its name."""

_AT_A_TIME = 16
"""Files that are looked into at the same time: of a remote store, most of that is waiting."""


@dataclass(frozen=True, slots=True)
class InputFile:
    """A file as it was when the work began. `groups` has the rows of each of its row groups, None if nobody knows."""

    path: str
    size: int
    stamp: tuple[str, ...]
    names: tuple[str, ...]
    groups: tuple[int, ...] | None

    @property
    def rows(self) -> int | None:
        """How many rows it has, as far as that is known."""
        return None if self.groups is None else sum(self.groups)


def absolute(location: str) -> str:
    """A path or URI that means the same on all nodes."""
    return location if is_absolute(location) else os.path.abspath(location)


def find_files(
    locations: Iterable[str], options: Mapping[str, Any] | None = None, *, skips_broken: bool = False
) -> list[InputFile]:
    """The files at these paths or URIs, in a fixed order: a file, all files below a directory, or those of a pattern.

    Broken lines of text files are errors unless they are skipped, as far as somebody has to look into a file at all.
    Raises NotFound where there are none, and InvalidArgument for a file of a kind that is not read.
    """
    found: dict[str, tuple[AbstractFileSystem, str]] = {}
    for location in locations:
        filesystem, path = open_path(absolute(location), options)
        with translated_errors(location, filesystem):
            filesystem.invalidate_cache()
            names = _names(filesystem, path, location)
        for name in names:
            found[name if is_local(location) else str(filesystem.unstrip_protocol(name))] = (filesystem, name)
    with ThreadPoolExecutor(_AT_A_TIME, thread_name_prefix="look") as pool:
        return list(pool.map(lambda item: _look(item[0], *item[1], skips_broken=skips_broken), sorted(found.items())))


def _names(filesystem: AbstractFileSystem, path: str, location: str) -> list[str]:
    if filesystem.isdir(path):
        below = [name for name in filesystem.find(path) if not _is_hidden(name[len(path) :])]
        names = [name for name in below if os.path.splitext(name)[1] in FORMATS]
        nothing = f"{location} holds no file that ends in {', '.join(FORMATS)}"
    elif filesystem.isfile(path):
        names, nothing = [path], ""
    else:
        names = [name for name in filesystem.glob(path) if filesystem.isfile(name)] if set(path) & set("*?[") else []
        nothing = f"there is no file at {location}"
    if not names:
        raise NotFound(nothing)
    if foreign := [name for name in names if os.path.splitext(name)[1] not in FORMATS]:
        raise InvalidArgument(f"{foreign[0]} is of no kind that is read; files end in {', '.join(FORMATS)}")
    return names


def _is_hidden(below: str) -> bool:
    """Whether a name is one of those that Spark, Ray and others write beside their data."""
    return any(part.startswith(("_", ".")) for part in below.split("/"))


def _look(path: str, filesystem: AbstractFileSystem, name: str, *, skips_broken: bool) -> InputFile:
    with translated_errors(path, filesystem), ExitStack() as stack, _translated(path):
        info = filesystem.info(name)
        if _format(path) == "parquet":
            file = stack.enter_context(_open_parquet(path, filesystem, name))
            schema, metadata = file.schema_arrow, file.metadata
            groups = tuple(metadata.row_group(at).num_rows for at in range(metadata.num_row_groups))
        else:
            broken = BrokenLines() if skips_broken else None
            schema, groups = stack.enter_context(_open_stream(path, filesystem, name, broken)).schema, None
    return InputFile(path, int(info["size"] or 0), stamp_of(info), tuple(schema.names), groups)


def read_schema(
    file: InputFile, options: Mapping[str, Any] | None = None, *, skips_broken: bool = False
) -> pa.Schema:
    """The columns of a file with their types."""
    filesystem, name = open_path(file.path, options)
    with translated_errors(file.path, filesystem), _translated(file.path):
        if _format(file.path) == "parquet":
            with _open_parquet(file.path, filesystem, name) as parquet:
                return parquet.schema_arrow
        with _open_stream(file.path, filesystem, name, BrokenLines() if skips_broken else None) as stream:
            return stream.schema


def read_rows(
    file: InputFile, start: int, stop: int | None, columns: Sequence[str], batch_rows: int,
    options: Mapping[str, Any] | None = None, texts: Collection[str] = (), broken: BrokenLines | None = None,
) -> Iterator[pa.Table]:
    """The rows from `start` to before `stop`, or to the end, in tables of `batch_rows` or fewer.

    `texts` are columns of CSV that are not to be made into numbers. Broken lines go to `broken` if somebody takes them,
    before the rows that come after them; else they are errors.
    """
    filesystem, name = open_path(file.path, options)
    with translated_errors(file.path, filesystem), _translated(file.path):
        if _format(file.path) == "parquet":
            yield from _read_parquet(file, filesystem, name, start, stop, columns, batch_rows)
        else:
            with _open_stream(file.path, filesystem, name, broken, texts) as stream:
                for batch in stream:
                    table = pa.Table.from_batches([batch]).select(list(columns))
                    for at in range(0, table.num_rows, batch_rows):
                        yield table.slice(at, batch_rows)


def _read_parquet(
    file: InputFile, filesystem: AbstractFileSystem, name: str, start: int, stop: int | None, columns: Sequence[str],
    batch_rows: int,
) -> Iterator[pa.Table]:
    with _open_parquet(file.path, filesystem, name) as parquet:
        if parquet.metadata.num_rows != file.rows:
            raise FailedPrecondition(f"{file.path} has changed since the work began; begin it anew at another output")
        stop = parquet.metadata.num_rows if stop is None else stop
        groups, skip = find_groups(file.groups or (), start, stop)
        at = start - skip
        for batch in parquet.iter_batches(batch_rows, row_groups=groups, columns=list(columns)):
            begin, end = max(start - at, 0), min(stop - at, batch.num_rows)
            at += batch.num_rows
            if begin < end:
                yield pa.Table.from_batches([batch.slice(begin, end - begin)])
            if at >= stop:  # the rest of a large row group is of other pieces
                return


def find_groups(groups: Sequence[int], start: int, stop: int) -> tuple[list[int], int]:
    """The row groups that hold these rows, and how many rows of them come before the first."""
    needed: list[int] = []
    skip = at = 0
    for number, rows in enumerate(groups):
        if at < stop and at + rows > start:
            if not needed:
                skip = start - at
            needed.append(number)
        at += rows
    return needed, skip


def _format(path: str) -> str:
    return FORMATS[os.path.splitext(path)[1]]


def _open_parquet(path: str, filesystem: AbstractFileSystem, name: str) -> pq.ParquetFile:
    if is_local(path):
        return pq.ParquetFile(name)
    return pq.ParquetFile(filesystem.open(name, "rb"), pre_buffer=True)


def is_csv(file: InputFile) -> bool:
    """Whether nothing but texts stand in a file, whatever its columns are read as."""
    return _format(file.path) == "csv"


def _open_stream(
    path: str, filesystem: AbstractFileSystem, name: str, broken: BrokenLines | None, texts: Collection[str] = ()
) -> Any:
    if _format(path) == "csv":
        opened = pa.csv.open_csv(
            _open_source(path, filesystem, name),
            read_options=pa.csv.ReadOptions(use_threads=False),  # so that errors tell the row
            parse_options=pa.csv.ParseOptions(invalid_row_handler=None if broken is None else broken.take_csv),
            convert_options=pa.csv.ConvertOptions(column_types=dict.fromkeys(texts, pa.string())),
        )
    elif broken is None:
        opened = pa.json.open_json(_open_source(path, filesystem, name))
    else:
        opened = pa.json.open_json(pa.PythonFile(broken.without(filesystem.open(name, "rb")), "r"))
    return opened if hasattr(opened, "__enter__") else closing(opened)


def _open_source(path: str, filesystem: AbstractFileSystem, name: str) -> Any:
    return pa.OSFile(name) if is_local(path) else pa.PythonFile(filesystem.open(name, "rb"))


@contextmanager
def _translated(path: str) -> Iterator[None]:
    """Arrow's errors about a file as ours."""
    try:
        yield
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise InvalidArgument(f"{path} cannot be read: {error}") from error
