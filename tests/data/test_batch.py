"""Whole works: every row is scored once, whatever happens in between."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec import register_implementation
from fsspec.implementations.local import LocalFileSystem

from serving_app.core.errors import FailedPrecondition, InvalidArgument, NotFound, ServingError, Unavailable
from serving_app.data.batch import BatchRequest, Begun, Progress, Summary, begin, run
from serving_app.data.parts import Parts
from serving_app.data.work_plan import Piece
from tests.data.crew import LocalCrew
from tests.zoo import Zoo

ROWS = 100_000
"""In two files, which are cut into six pieces: 16384 rows are the fewest that are worth one."""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows with an id, and x = id."""
    folder = tmp_path_factory.mktemp("rows")
    for number in range(2):
        ids = pa.array(range(number * ROWS // 2, (number + 1) * ROWS // 2))
        table = pa.table({"id": ids, "x": ids.cast(pa.float32())})
        pq.write_table(table, folder / f"{number}.parquet", row_group_size=20_000)
    return folder


@pytest.fixture
def request_(zoo: Zoo, source: Path, tmp_path: Path) -> BatchRequest:
    """Score them by version 1 of half_plus_two."""
    return BatchRequest(
        (str(source),), str(tmp_path / "out"), base_path=zoo.base("half_plus_two"), version=1, keep=("id",)
    )


def finish(begun: Begun, dies: Callable[[Piece], bool] = lambda _: False) -> tuple[Summary, list[int]]:
    """Do what is left; returns which pieces that was, too."""
    crews: list[LocalCrew] = []

    def hire() -> LocalCrew:
        crews.append(LocalCrew(begun.work, dies))
        return crews[0]

    try:
        summary = run(begun, hire, lambda _: None)
    finally:
        assert all(crew.is_closed for crew in crews)
    return summary, crews[0].done if crews else []


def result(request: BatchRequest) -> list[tuple[int, float]]:
    """The rows of the output, part by part."""
    parts = sorted(Path(request.output).glob("part-*.parquet"))
    return [(row["id"], row["y"]) for part in parts for row in pq.read_table(part).to_pylist()]


class LockedFiles(LocalFileSystem):
    """Files behind a key, in directories that need not be made, as in stores."""

    protocol = "locked"

    def __init__(self, *args: Any, key: str = "", **kwargs: Any) -> None:
        if key != "right":
            raise PermissionError("the key is wrong")
        super().__init__(*args, auto_mkdir=True, **kwargs)


RIGHT = [(number, number / 2 + 2) for number in range(ROWS)]


def test_every_row_is_scored_once_and_in_order(request_: BatchRequest) -> None:
    """The parts have all rows in the order of the files, and the counts add up."""
    told: list[Progress] = []
    begun = begin(request_, workers=1)
    summary = run(begun, lambda: LocalCrew(begun.work), told.append)
    assert result(request_) == RIGHT
    assert (summary.rows_in, summary.rows_out, summary.rows_set_aside) == (ROWS, ROWS, 0)
    assert (summary.files, summary.parts, summary.rows_from_before) == (2, 6, 0)
    assert (told[-1].rows, told[-1].total) == (ROWS, ROWS)


def test_work_that_was_cut_short_goes_on(request_: BatchRequest) -> None:
    """After the driver was lost in the middle, the same request does only what is left."""

    def driver_dies(piece: Piece) -> bool:
        if piece.number == 3:
            raise KeyboardInterrupt
        return False

    with pytest.raises(KeyboardInterrupt):
        finish(begin(request_, 1), driver_dies)
    again = begin(request_, 5)  # with more workers; the pieces stay as they are
    assert [piece.number for piece in again.left] == [3, 4, 5]
    summary, done = finish(again)
    assert done == [3, 4, 5]
    assert result(request_) == RIGHT
    assert summary.rows_in == ROWS
    assert summary.rows_from_before > 0


def test_work_that_is_done_is_not_done_again(request_: BatchRequest) -> None:
    """The third time nobody is hired, and the summary is the same."""
    first, _ = finish(begin(request_, 1))
    again, done = finish(begin(request_, 1))
    assert done == []
    assert replace(again, seconds=first.seconds, rows_from_before=0) == first


def test_a_part_that_is_lost_is_made_again(request_: BatchRequest) -> None:
    """Who removes a part by mistake gets it back by the same command."""
    finish(begin(request_, 1))
    Path(request_.output, "part-00002.parquet").unlink()
    _, done = finish(begin(request_, 1))
    assert done == [2]
    assert result(request_) == RIGHT


def test_pieces_of_workers_that_die_are_done_by_others(request_: BatchRequest) -> None:
    """A worker that dies over a piece costs time and nothing else."""
    deaths: Counter[int] = Counter()

    def dies(piece: Piece) -> bool:
        deaths[piece.number] += 1
        return piece.number % 2 == 0 and deaths[piece.number] < 3

    summary, done = finish(begin(request_, 1), dies)
    assert sorted(done) == [0, 1, 2, 3, 4, 5]
    assert result(request_) == RIGHT
    assert summary.rows_in == ROWS


def test_a_piece_that_kills_every_worker_ends_the_work(request_: BatchRequest) -> None:
    """After four deaths over the same rows it is told which rows they are."""
    with pytest.raises(Unavailable, match=r"4 workers died over rows 0 and up of .*0.parquet \(killed\)"):
        finish(begin(request_, 1), lambda piece: piece.number == 0)


def write_rows(folder: Path, values: list[Any]) -> str:
    """A small input of one file."""
    folder.mkdir(exist_ok=True)
    pq.write_table(pa.table({"id": range(len(values)), "x": pa.array(values, pa.float32())}), folder / "in.parquet")
    return str(folder)


def test_a_bad_row_ends_the_work_and_is_named(request_: BatchRequest, tmp_path: Path) -> None:
    """By its file and its number there, from 0; no part is written of the piece that has it."""
    request = replace(request_, inputs=(write_rows(tmp_path / "in", [0.0] * 5000 + [None]),))
    with pytest.raises(InvalidArgument, match=r"row 5000 of .*/in/in.parquet: column 'x': it is null"):
        finish(begin(request, 1))
    assert result(request) == []


def test_bad_rows_are_set_aside(request_: BatchRequest, tmp_path: Path) -> None:
    """They go to a place of their own with reason, file and row, and the counts add up."""
    request = replace(
        request_, inputs=(write_rows(tmp_path / "in", [1.0, None, 5.0, None]),), errors=str(tmp_path / "bad")
    )
    summary, _ = finish(begin(request, 1))
    assert result(request) == [(0, 2.5), (2, 4.5)]
    assert (summary.rows_in, summary.rows_out, summary.rows_set_aside) == (4, 2, 2)
    [bad] = Path(tmp_path, "bad").glob("part-*.parquet")
    rows = pq.read_table(bad).to_pylist()
    assert [(row["id"], row["x"], row["error_row"]) for row in rows] == [(1, None, 1), (3, None, 3)]
    assert {row["error_file"] for row in rows} == {f"{tmp_path}/in/in.parquet"}
    assert all("column 'x': it is null" in row["error"] for row in rows)
    again, done = finish(begin(request, 1))
    assert (done, again.rows_set_aside) == ([], 2)


def test_a_piece_of_bad_rows_is_a_part_without_rows(request_: BatchRequest, tmp_path: Path) -> None:
    """Where every row of a piece is set aside, the part is there with its columns all the same."""
    request = replace(request_, inputs=(write_rows(tmp_path / "in", [None, None]),), errors=str(tmp_path / "bad"))
    summary, _ = finish(begin(request, 1))
    assert (summary.rows_out, summary.rows_set_aside) == (0, 2)
    assert pq.read_schema(Path(request.output, "part-00000.parquet")).names == ["id", "y"]


def test_a_file_without_rows_is_a_part_without_rows(request_: BatchRequest, tmp_path: Path) -> None:
    """Who reads the result of no rows finds its columns."""
    request = replace(request_, inputs=(write_rows(tmp_path / "in", []),))
    summary, _ = finish(begin(request, 1))
    assert (summary.rows_in, summary.parts) == (0, 1)
    assert pq.read_schema(Path(request.output, "part-00000.parquet")).names == ["id", "y"]


@pytest.mark.parametrize(("name", "text"), [("in.csv", "id,x\n0,1.0\n1,2.0\n"), ("in.csv", "id,x\n")])
def test_text_files_are_scored(request_: BatchRequest, tmp_path: Path, name: str, text: str) -> None:
    """How many rows a text file has is known when it is read; without any its part has none."""
    (tmp_path / name).write_text(text)
    request = replace(request_, inputs=(str(tmp_path / name),))
    summary, _ = finish(begin(request, 1))
    assert summary.rows_in == summary.rows_out == len(text.splitlines()) - 1
    assert result(request) == [(0, 2.5), (1, 3.0)][: summary.rows_in]


@pytest.mark.parametrize("late", [False, True])
def test_a_text_that_is_no_number_is_of_its_row_alone(request_: BatchRequest, tmp_path: Path, late: bool) -> None:
    """In CSV the other rows are numbers all the same, wherever the odd one stands; it is set aside as it was."""
    before = 200_000 if late else 0  # beyond the block by which the columns' types are guessed
    text = "id,x\n" + "".join(f"{number},1.0\n" for number in range(before)) + "7,two\n7, 2.0\n7,\n7,nan\n"
    (tmp_path / "in.csv").write_text(text)
    request = replace(request_, inputs=(str(tmp_path / "in.csv"),), keep=("x",), errors=str(tmp_path / "bad"))
    summary, _ = finish(begin(request, 1))
    assert (summary.rows_in, summary.rows_set_aside) == (before + 4, 2)
    rows = pq.read_table(Path(request.output, "part-00000.parquet")).slice(before)
    assert rows.schema.types == [pa.float64(), pa.float32()]
    assert str(rows.to_pylist()) == "[{'x': 2.0, 'y': 3.0}, {'x': nan, 'y': nan}]"
    bad = pq.read_table(tmp_path / "bad" / "part-00000.parquet").to_pylist()
    assert [(row["x"], row["error_row"]) for row in bad] == [("two", before), ("", before + 2)]
    assert "column 'x': 'two' is no double number" in bad[0]["error"]


BROKEN = {
    "in.csv": "id,x\n0,1.0\n1\n2,two\n\n3,4.0,5.0\n4,5.0\n",
    "in.jsonl": '{"id": 0, "x": 1.0}\n{"id": 1, \n{"id": 2, "x": null}\n\n[3, 4.0]\n{"id": 4, "x": 5.0}',
}
"""Rows 1 and 3 are none, and row 2 cannot be scored."""

REASONS = {
    "in.csv": ("1 columns and not 2: '1'", "column 'x': 'two'", "3 columns and not 2: '3,4.0,5.0'"),
    "in.jsonl": ("no JSON (", "column 'x': it is null", "no object of JSON: '[3, 4.0]'"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_lines_that_are_no_rows_are_set_aside(request_: BatchRequest, tmp_path: Path, name: str) -> None:
    """They are counted and told by their places as other bad rows are, which are told by the right ones all the same;
    without a place for them they end the work."""
    (tmp_path / name).write_text(BROKEN[name])
    request = replace(request_, inputs=(str(tmp_path / name),), errors=str(tmp_path / "bad"))
    summary, _ = finish(begin(request, 1))
    assert result(request) == [(0, 2.5), (4, 4.5)]
    assert (summary.rows_in, summary.rows_out, summary.rows_set_aside) == (5, 2, 3)
    bad = pq.read_table(tmp_path / "bad" / "part-00000.parquet").to_pylist()
    assert [(row["error_row"], row["id"]) for row in bad] == [(1, None), (2, 2), (3, None)]
    for row, reason in zip(bad, REASONS[name], strict=True):
        assert reason in row["error"]
    with pytest.raises(InvalidArgument, match=f"{name} cannot be read: "):
        finish(begin(replace(request, errors=None, output=str(tmp_path / "other")), 1))


@pytest.mark.parametrize(("name", "text"), [("in.csv", "id,x\n1\n2\n"), ("in.jsonl", "1\n2\n")])
def test_a_file_may_have_no_row_that_is_one(request_: BatchRequest, tmp_path: Path, name: str, text: str) -> None:
    """Of CSV the columns are known all the same, and every line is set aside; of JSON Lines nothing is known."""
    (tmp_path / name).write_text(text)
    request = replace(request_, inputs=(str(tmp_path / name),), errors=str(tmp_path / "bad"))
    if name == "in.csv":
        summary, _ = finish(begin(request, 1))
        assert (summary.rows_in, summary.rows_out, summary.rows_set_aside) == (2, 0, 2)
    else:
        with pytest.raises(InvalidArgument):
            begin(request, 1)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"keep": ("id", "z")}, InvalidArgument, r"0.parquet: keep names 'z', which is no column; there are 'id', 'x'"),
        ({"input_columns": {"x": "z"}}, InvalidArgument, r"0.parquet: columns are missing: input 'x' wants 'z'"),
        ({"inputs": ("/nowhere",)}, NotFound, r"there is no file at /nowhere"),
        ({"output": "memory://out"}, InvalidArgument, r"cannot be written by several processes"),
        ({"version": 7}, NotFound, r"no version 7 under"),
        ({"inputs": ("/in",), "output": "/in/out/"}, InvalidArgument, r"/in/out/ lies within the input /in"),
        ({"batch_rows": 0}, InvalidArgument, r"at least one row"),
    ],
)
def test_what_is_wrong_is_told_before_a_row_is_read(
    request_: BatchRequest, change: dict[str, Any], error: type[Exception], message: str
) -> None:
    """Nothing is written, not even a plan, if the work could not be done."""
    with pytest.raises(error, match=message):
        begin(replace(request_, **change), 1)
    assert Parts(request_.output, {}).names() == []


def test_an_output_that_holds_something_else_is_left_alone(request_: BatchRequest) -> None:
    """A directory with files and no plan of ours is somebody else's."""
    Path(request_.output).mkdir()
    Path(request_.output, "part-00000.parquet").touch()
    with pytest.raises(FailedPrecondition, match=r"holds 'part-00000.parquet' already, and no plan of a batch"):
        begin(request_, 1)
    for errors in (request_.output, f"{request_.output}/bad", str(Path(request_.output).parent)):
        with pytest.raises(InvalidArgument, match="lie within each other, so who reads the one would read rows"):
            begin(replace(request_, errors=errors), 1)


def test_other_work_does_not_go_on_at_the_same_output(request_: BatchRequest) -> None:
    """What is asked for has to be the same, in every word that decides the result."""
    begin(request_, 1)
    with pytest.raises(FailedPrecondition, match=r"was begun with keep \['id'\], and now it is None"):
        begin(replace(request_, keep=None), 1)
    with pytest.raises(FailedPrecondition, match="was begun with version 1, and now it is 2"):
        begin(replace(request_, version=2), 1)
    begin(replace(request_, batch_rows=10, max_in_flight=1), 7)  # which decide how fast it is


def test_a_version_that_appears_meanwhile_changes_nothing(request_: BatchRequest, zoo: Zoo, tmp_path: Path) -> None:
    """The latest version is looked up once; work that goes on goes on with it."""
    base = tmp_path / "model"
    base.mkdir()
    (base / "1").symlink_to(zoo.path("half_plus_two", 1))
    request = replace(request_, base_path=str(base), version=None)
    assert begin(request, 1).pinned.servable.version == 1
    (base / "2").symlink_to(zoo.path("half_plus_two", 2))
    assert begin(request, 1).pinned.servable.version == 1


def test_stores_are_reached_by_the_options_that_were_given(request_: BatchRequest, source: Path) -> None:
    """Input, output, errors and plan are read and written with them, and they are written down nowhere."""
    register_implementation("locked", LockedFiles, clobber=True)
    options = {"key": "right"}
    locked = replace(
        request_, inputs=(f"locked://{source}",), output=f"locked://{request_.output}",
        errors=f"locked://{request_.output}-errors", input_options=options, output_options=options,
    )  # fmt: skip
    for missing in ({"input_options": {}}, {"output_options": {}}):
        with pytest.raises(ServingError, match="the key is wrong"):
            begin(replace(locked, **missing), workers=1)
    finish(begin(locked, workers=1))
    assert result(request_) == RIGHT
    assert "right" not in (Path(request_.output) / "_serving_app_batch.json").read_text(encoding="utf-8")
    assert "right" not in repr(locked)
