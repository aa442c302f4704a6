"""The files of an input, and the rows of a part of one."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from serving_app.core.errors import FailedPrecondition, InvalidArgument, NotFound
from serving_app.data.input_files import find_files, find_groups, read_rows, read_schema


def write(path: Path, rows: int, group: int = 10, start: int = 0) -> Path:
    """A file of rows that are numbered in the column `id`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ids = list(range(start, start + rows))
    pq.write_table(pa.table({"id": ids, "x": [float(each) for each in ids]}), path, row_group_size=group)
    return path


def test_files_directories_and_patterns(tmp_path: Path) -> None:
    """Files are found once each, in the order of their names; what begins with a dot or underscore is no data."""
    for name in ("b.parquet", "deep/a.parquet", "_plan.parquet", ".part.parquet", "_tmp/c.parquet"):
        write(tmp_path / name, 3)
    (tmp_path / "README.txt").touch()
    found = [str(tmp_path / name) for name in ("b.parquet", "deep/a.parquet")]
    for given in ([str(tmp_path)], [f"{tmp_path}/*.parquet", found[1]], [*reversed(found), found[0]]):
        assert [file.path for file in find_files(given) if "/_" not in file.path and "/." not in file.path] == found
    [first, _] = find_files([str(tmp_path)])
    assert (first.names, first.groups, first.rows) == (("id", "x"), (3,), 3)


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("nothing.parquet", NotFound, "there is no file at"),
        ("none*.parquet", NotFound, "there is no file at"),
        ("empty", NotFound, r"holds no file that ends in .parquet"),
        ("notes.txt", InvalidArgument, r"notes.txt is of no kind that is read; files end in .parquet"),
        ("torn.parquet", InvalidArgument, r"torn.parquet cannot be read: "),
    ],
)
def test_inputs_that_cannot_be_read_are_named(
    tmp_path: Path, name: str, error: type[Exception], message: str
) -> None:
    """What is not there or of another kind is told by its path."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "torn.parquet").write_bytes(b"PAR1 torn")
    with pytest.raises(error, match=message):
        find_files([str(tmp_path / name)])


@pytest.mark.parametrize(
    ("start", "stop", "groups", "skip"),
    [(0, 30, [0, 1, 2], 0), (10, 20, [1], 0), (15, 16, [1], 5), (9, 21, [0, 1, 2], 9), (29, 30, [2], 9)],
)
def test_only_the_row_groups_of_a_range_are_read(start: int, stop: int, groups: list[int], skip: int) -> None:
    """A range of rows lies in some row groups, and begins somewhere in the first of them."""
    assert find_groups((10, 10, 10), start, stop) == (groups, skip)


@pytest.mark.parametrize(("start", "stop"), [(0, 25), (0, 10), (3, 4), (7, 23), (20, 25), (10, None)])
def test_ranges_of_rows(tmp_path: Path, start: int, stop: int | None) -> None:
    """Exactly the rows of a range are read, in their order, in tables that are not too large."""
    [file] = find_files([str(write(tmp_path / "rows.parquet", 25))])
    tables = list(read_rows(file, start, stop, ["id"], 4))
    assert [row for table in tables for row in table.column("id").to_pylist()] == list(range(start, stop or 25))
    assert max(table.num_rows for table in tables) <= 4
    assert {tuple(table.column_names) for table in tables} == {("id",)}


def test_a_file_that_has_changed_is_not_read(tmp_path: Path) -> None:
    """A file with another number of rows is another file."""
    [file] = find_files([str(write(tmp_path / "rows.parquet", 25))])
    write(tmp_path / "rows.parquet", 24)
    with pytest.raises(FailedPrecondition, match=r"rows.parquet has changed since the work began"):
        list(read_rows(file, 0, 10, ["id"], 100))


@pytest.mark.parametrize(
    ("name", "text"), [("rows.csv", "id,x\n0,0.5\n1,1.5\n2,2.5\n"),
                       ("rows.jsonl", '{"id": 0, "x": 0.5}\n{"id": 1, "x": 1.5}\n{"id": 2, "x": 2.5}\n')],
)
def test_text_files_are_read_as_a_whole(tmp_path: Path, name: str, text: str) -> None:
    """CSV and JSON Lines have columns of the types that their first rows show, and nobody knows how many rows."""
    (tmp_path / name).write_text(text)
    [file] = find_files([str(tmp_path)])
    assert (file.names, file.rows) == (("id", "x"), None)
    assert read_schema(file).types == [pa.int64(), pa.float64()]
    tables = list(read_rows(file, 0, None, ["x"], 2))
    assert [table.to_pydict() for table in tables] == [{"x": [0.5, 1.5]}, {"x": [2.5]}]


def test_a_text_file_that_is_broken_is_named(tmp_path: Path) -> None:
    """What Arrow says of a file that it cannot read comes with the file's name."""
    (tmp_path / "rows.csv").write_text("id,x\n0,0.5\n1\n")
    with pytest.raises(InvalidArgument, match=r"rows.csv cannot be read: .*Row #3: Expected 2 columns, got 1"):
        find_files([str(tmp_path)])
