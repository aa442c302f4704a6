"""Lines that are no rows: where they stand, and where that leaves the others."""

from __future__ import annotations

import io
import random

import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pytest

from serving_app.data.broken_lines import BrokenLines

BLOCK = 4096
"""Far below the length of the files, which Arrow reads block by block."""


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_every_row_keeps_its_place(kind: str, seed: int) -> None:
    """Whatever lines are broken, each of the others is found at the place where it was written."""
    rng = random.Random(seed)
    broken_rows = [row for row in range(5000) if rng.random() < rng.choice([0.001, 0.5])]
    broken = BrokenLines()
    if kind == "csv":
        lines = [f"{row}" if row in set(broken_rows) else f"{row},a" for row in range(5000)]
        table = pa.csv.open_csv(
            io.BytesIO("\n".join(["n,x", *lines]).encode()),
            read_options=pa.csv.ReadOptions(use_threads=False, block_size=BLOCK),
            parse_options=pa.csv.ParseOptions(invalid_row_handler=broken.take_csv),
        ).read_all()
    else:
        lines = [f'{{"n": {row}' if row in set(broken_rows) else f'{{"n": {row}}}\n' for row in range(5000)]
        file = broken.without(io.BytesIO("\n".join(lines).encode()))
        table = pa.json.open_json(pa.PythonFile(file, "r"), pa.json.ReadOptions(block_size=BLOCK)).read_all()
    assert broken.rows == broken_rows
    assert [broken.place(index) for index in range(table.num_rows)] == table.column("n").to_pylist()


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{", "no JSON ("),
        (b'{"x": NaN}', "no JSON ("),
        (b"\xff\xfe", "no JSON ("),
        (b"null", "no object of JSON: 'null'"),
        (b"[" + b"1," * 1000 + b"1]", "no object of JSON: '[" + "1," * 49 + "1'"),
    ],
)
def test_a_line_is_told_with_what_is_wrong(line: bytes, reason: str) -> None:
    """The reason names the fault and the beginning of the line, however long that is."""
    broken = BrokenLines()
    assert broken.without(io.BytesIO(line)).read() == b""
    assert len(broken) == 1
    assert broken.reasons[0].startswith(reason)
    assert len(broken.reasons[0]) < 250


def test_a_mark_of_the_byte_order_is_no_fault() -> None:
    """Files that some editors write begin with one."""
    broken = BrokenLines()
    assert broken.without(io.BytesIO(b'\xef\xbb\xbf{"x": 1}\n')).read() == b'{"x": 1}\n'
    assert len(broken) == 0
