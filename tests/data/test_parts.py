"""Parts are there as a whole or not at all, wherever they are written to."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from serving_app.core.errors import FailedPrecondition, InvalidArgument
from serving_app.data.input_files import find_files, read_rows
from serving_app.data.parts import Counts, Parts, PartWriter
from tests.store.servers import ObjectStore

ROWS = pa.table({"x": [1, 2, 3]})


@pytest.fixture(params=["path", "file URI", "other store", "S3"])
def parts(request: pytest.FixtureRequest, tmp_path: Path) -> Parts:
    """A directory on the node's disk, one that fsspec knows as another file system, and an object store."""
    if request.param == "S3":
        store: ObjectStore = request.getfixturevalue("s3_server")
        return Parts(f"{store.new_bucket()}/out", store.options, "digest")
    where = {"path": f"{tmp_path}/out", "file URI": f"file://{tmp_path}/out", "other store": f"dir::file://{tmp_path}/out"}
    return Parts(where[request.param], {}, "digest")


def write(parts: Parts, number: int, counts: Counts) -> None:
    with parts.writing(number) as file:
        writer = PartWriter(file, ROWS.schema)
        writer.add(ROWS)
        writer.close(parts.note(number, counts))


def test_parts_tell_what_they_are(parts: Parts) -> None:
    """What is written is found again with its counts; nothing is found where nothing was written."""
    assert parts.done() == {}
    write(parts, 0, Counts(3))
    write(parts, 12, Counts(5, 2))
    assert parts.done() == {0: Counts(3), 12: Counts(5, 2)}
    assert parts.names() == ["part-00000.parquet", "part-00012.parquet"]


def test_parts_of_an_object_store_are_an_input(s3_server: ObjectStore) -> None:
    """What was written to an object store is read from there, row range by row range."""
    parts = Parts(f"{s3_server.new_bucket()}/out", s3_server.options, "digest")
    write(parts, 0, Counts(3))
    [file] = find_files([parts.directory], parts.options)
    assert (file.path, file.rows) == (f"{parts.directory}/part-00000.parquet", 3)
    [table] = read_rows(file, 1, 3, ["x"], 10, parts.options)
    assert table.to_pydict() == {"x": [2, 3]}


def test_a_part_that_fails_is_not_there(parts: Parts) -> None:
    """An error in the middle leaves neither a part nor a beginning of one."""
    with pytest.raises(ZeroDivisionError):
        fail(parts)
    assert parts.names() == []


def fail(parts: Parts) -> None:
    with parts.writing(0) as file:
        writer = PartWriter(file, ROWS.schema)
        writer.add(ROWS)
        writer.give_up()
        raise ZeroDivisionError


def test_who_dies_leaves_no_part(tmp_path: Path) -> None:
    """A process that is killed leaves a beginning at most, which is no part and goes when the work is over."""
    parts = Parts(str(tmp_path), {}, "digest")
    with parts.writing(0) as file:
        file.write_bytes(ROWS.schema.serialize())
        left = file.with_name(f".part-00001.parquet.{'0' * 32}")
        left.write_bytes(b"torn")
        PartWriter(file, ROWS.schema).close(parts.note(0, Counts(0)))
    assert parts.done().keys() == {0}
    parts.clean()
    assert parts.names() == ["part-00000.parquet"]


def test_parts_of_other_work_are_told(tmp_path: Path) -> None:
    """A part without our note, with that of other work, or that is none at all, is named."""
    write(Parts(str(tmp_path), {}, "other"), 0, Counts(3))
    with pytest.raises(FailedPrecondition, match=r"part-00000.parquet belongs to other work"):
        Parts(str(tmp_path), {}, "digest").done()
    pq.write_table(ROWS, tmp_path / "part-00000.parquet")
    with pytest.raises(FailedPrecondition, match=r"part-00000.parquet belongs to other work"):
        Parts(str(tmp_path), {}, "digest").done()
    (tmp_path / "part-00000.parquet").write_bytes(b"torn")
    with pytest.raises(FailedPrecondition, match=r"part-00000.parquet is no part of this work"):
        Parts(str(tmp_path), {}, "digest").done()


@pytest.mark.parametrize("place", ["memory://out", "http://host/out"])
def test_places_that_workers_do_not_share_are_refused(place: str) -> None:
    """What one process has in its memory, or nobody can write, is no output."""
    with pytest.raises(InvalidArgument, match="cannot be written by several processes"):
        Parts(place, {}).check()


def test_many_rows_are_several_row_groups(tmp_path: Path) -> None:
    """A part of many rows is written piece by piece, so that memory does not grow with it."""
    table = pa.table({"x": pa.array(range(100_000))})
    writer = PartWriter(tmp_path / "part", table.schema)
    for _ in range(4):
        writer.add(table)
    writer.close({})
    assert pq.ParquetFile(tmp_path / "part").metadata.num_row_groups == 2
    assert writer.rows == 400_000
