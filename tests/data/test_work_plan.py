"""Plans: how files are cut, what a plan looks like as a text, and when it is another one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from serving_app.core.errors import DataLoss, FailedPrecondition
from serving_app.data.input_files import InputFile
from serving_app.data.work_plan import WorkPlan, check_same, cut, decode_plan, encode_plan


def file(name: str, *groups: int) -> InputFile:
    """A file with these row groups."""
    return InputFile(f"/in/{name}", 100, ("mtime=1",), ("x", "k"), groups)


@pytest.mark.parametrize(
    ("groups", "pieces"),
    [
        pytest.param((10,), [(0, 10)], id="one"),
        pytest.param((), [(0, 0)], id="none"),
        pytest.param((0, 0), [(0, 0)], id="only empty ones"),
        pytest.param((4, 4, 4, 4), [(0, 12), (12, 16)], id="small groups together"),
        pytest.param((10, 10), [(0, 10), (10, 20)], id="each"),
        pytest.param((19,), [(0, 19)], id="not twice as large"),
        pytest.param((35,), [(0, 11), (11, 23), (23, 35)], id="a large one in parts"),
        pytest.param((4, 20, 4), [(0, 4), (4, 14), (14, 24), (24, 28)], id="a large one between"),
        pytest.param((0, 3, 0), [(0, 3)], id="empty ones"),
    ],
)
def test_files_are_cut_along_their_row_groups(groups: tuple[int, ...], pieces: list[tuple[int, int]]) -> None:
    """Pieces of about ten rows cover a file without a gap, and cut only row groups that are much larger."""
    assert cut([file("a", *groups)], 10) == tuple((0, start, stop) for start, stop in pieces)


def test_no_piece_has_rows_of_two_files() -> None:
    """Each file begins a piece, and one of unknown length is one."""
    text = InputFile("/in/b.csv", 100, (), ("x",), None)
    assert cut([file("a", 4), text, file("c", 4)], 10) == ((0, 0, 4), (1, 0, None), (2, 0, 4))


PLAN = WorkPlan(
    {"model": "m", "inputs": ["/in"]}, "m", 3, (file("a", 4, 6), InputFile("/in/b.csv", 9, (), ("x",), None)),
    ((0, 0, 10), (1, 0, None)),
)


def test_a_plan_is_read_as_it_was_written() -> None:
    """A plan survives its text, and is told from any other by its digest."""
    read = decode_plan(encode_plan(PLAN), "there")
    assert read == PLAN
    assert read.digest == PLAN.digest != replace(PLAN, version=4).digest
    assert [(each.number, each.file, each.rows) for each in read.pieces] == [
        (0, PLAN.files[0], 10), (1, PLAN.files[1], None)
    ]
    assert read.rows is None


@pytest.mark.parametrize("text", [b"", b"{}", b"[]", b'{"format": 2}', encode_plan(PLAN)[:-30]])
def test_a_text_that_is_no_plan_is_told(text: bytes) -> None:
    """A torn plan, or one of another version, is an error with its place."""
    with pytest.raises(DataLoss, match="there is no plan of this version"):
        decode_plan(text, "there")


@pytest.mark.parametrize(
    ("request_", "files", "message"),
    [
        ({"model": "n", "inputs": ["/in"]}, PLAN.files, r"/out was begun with model 'm', and now it is 'n'"),
        ({"model": "m", "inputs": ["/in"], "keep": ["k"]}, PLAN.files, r"begun with keep None, and now it is \['k'\]"),
        (PLAN.request, PLAN.files[:1], r"/in/b.csv is gone since /out was begun"),
        (PLAN.request, (*PLAN.files, file("c", 1)), r"/in/c has come since /out was begun"),
        (PLAN.request, (replace(PLAN.files[0], stamp=("mtime=2",)), PLAN.files[1]), r"/in/a has changed since /out"),
    ],
)
def test_other_work_is_not_gone_on_with(request_: Any, files: tuple[InputFile, ...], message: str) -> None:
    """What was asked for and the files have to be the same; what is not is named."""
    check_same(PLAN, PLAN.request, PLAN.files, "/out")
    with pytest.raises(FailedPrecondition, match=message):
        check_same(PLAN, request_, files, "/out")
