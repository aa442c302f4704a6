"""The command line of `serving-app batch`, and what it prints."""

from __future__ import annotations

from dataclasses import replace

import pytest

from serving_app.cli import make_parser
from serving_app.cli.batch import progress_line, sentence, to_request
from serving_app.core.errors import InvalidArgument
from serving_app.core.servable import ServableId
from serving_app.data.batch import BatchRequest, Progress, Summary

LEAST = ["--model", "m", "--input", "a", "--output", "out"]


def request(*given: str) -> BatchRequest:
    """What a command line asks for."""
    return to_request(make_parser().parse_args(["batch", *given]))


def test_a_short_command_line() -> None:
    """Model, input and output are enough; all else has its defaults, which are those of the request itself."""
    assert request(*LEAST) == BatchRequest(("a",), "out", "m")


def test_a_long_command_line() -> None:
    """Every flag has its place in the request."""
    given = request(
        *LEAST, "--input", "b", "c", "--label", "stable", "--name", "app", "--errors", "bad", "--signature", "s",
        "--inputs", "x=f0,f1", "w=k", "--outputs", "y", "z=score", "--keep", "k", "--how", "live",
        "--batch-size", "7", "--rows-per-call", "3", "--max-in-flight", "2", "--timeout", "1.5",
        "--input-storage-options", '{"anon": true}', "--output-storage-options", '{"key": "k"}',
    )  # fmt: skip
    assert given == BatchRequest(
        ("a", "b", "c"), "out", "m", label="stable", app="app", how="live", signature_name="s",
        input_columns={"x": ["f0", "f1"], "w": ["k"]}, output_columns={"y": "y", "z": "score"}, keep=("k",),
        errors="bad", batch_rows=7, rows_per_call=3, max_in_flight=2, timeout=1.5,
        input_options={"anon": True}, output_options={"key": "k"},
    )  # fmt: skip
    assert request(*LEAST, "--keep").keep == ()
    assert request(
        "--base-path", "/m", "--version", "3", *LEAST[2:], "--storage-options", '{"key": "k"}'
    ) == BatchRequest(("a",), "out", base_path="/m", version=3, storage_options={"key": "k"})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--inputs", "x"], "--inputs 'x' is not of the form NAME=COLUMN"),
        (["--outputs", "y="], "--outputs 'y=' is not of the form NAME=COLUMN"),
        (["--inputs", "x=a", "x=b"], "--inputs names 'x' twice; several columns of one input are written x=COLUMN,COL"),
        (["--outputs", "y", "y=b"], "--outputs names 'y' twice"),
        (["--workers", "0"], "--workers is at least 1"),
        (["--cpus", "0"], "--cpus is above 0"),
        (["--storage-options", "{}}"], "--storage-options: '{}}' is no JSON: "),
        (["--input-storage-options", "key"], "--input-storage-options: 'key' is no JSON: "),
        (["--output-storage-options", "[]"], r"--output-storage-options: '\[\]' is no object"),
        (["--storage-options", '{"key": "k"}'], "--storage-options are for a --base-path"),
    ],
)
def test_flags_that_make_no_sense_are_named(given: list[str], message: str) -> None:
    """An error quotes the flag."""
    with pytest.raises(InvalidArgument, match=message):
        request(*LEAST, *given)


SUMMARY = Summary(ServableId("m", 3), 2, 6, 100, 98, 2, 40, 12.0)


def test_the_summary_has_all_counts() -> None:
    """The last line says what went in, what came out and what was set aside, and what this run did of it."""
    asked = BatchRequest(("a",), "out")
    assert sentence(SUMMARY, asked) == (
        "100 rows in, 98 out in 6 parts, 2 set aside; by version 3 of m; 60 rows in 12.0 s, 5 rows/s: out"
    )
    assert sentence(replace(SUMMARY, parts=1, rows_from_before=100), asked) == (
        "100 rows in, 98 out in 1 part, 2 set aside; by version 3 of m; all of it was done before: out"
    )


@pytest.mark.parametrize(
    ("progress", "line"),
    [
        (Progress(50, 200, 2.0), " 25%  50 of 200 rows, 25 rows/s"),
        (Progress(50, None, 2.0), "50 rows, 25 rows/s"),
        (Progress(0, 0, 0.0), "100%  0 of 0 rows, 0 rows/s"),
    ],
)
def test_progress_is_a_line(progress: Progress, line: str) -> None:
    """How far the work is, where the number of rows is known and where it is not."""
    assert progress_line(progress) == line
