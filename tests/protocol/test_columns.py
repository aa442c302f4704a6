"""Tables of every kind have the same columns, and cells without a value are found."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from serving_app.core.errors import InvalidArgument
from serving_app.protocol.columns import cells_of, columns_of, plain

TABLES = [
    {"x": [1, 2], "t": ["a", "b"]},
    [{"x": 1, "t": "a"}, {"t": "b", "x": 2}],
    ({"x": 1, "t": "a"}, {"t": "b", "x": 2}),
    pd.DataFrame({"x": [1, 2], "t": ["a", "b"]}),
    pd.DataFrame({"x": pd.array([1, 2], dtype="Int64"), "t": pd.Categorical(["a", "b"])}, index=["one", "two"]),
    pa.table({"x": [1, 2], "t": ["a", "b"]}),
    pa.table({"x": pa.chunked_array([[1], [2]]), "t": pa.array(["a", "b"]).dictionary_encode()}),
    pa.RecordBatch.from_pydict({"x": [1, 2], "t": ["a", "b"]}),
]


@pytest.mark.parametrize("table", TABLES, ids=lambda table: type(table).__name__)
def test_tables_have_columns(table: Any) -> None:
    """A table of any kind has the same columns and the same cells."""
    columns = columns_of(table)
    assert columns is not None
    assert list(columns) == ["x", "t"]
    assert [np.asarray(plain(column)).tolist() for column in columns.values()] == [[1, 2], ["a", "b"]]
    assert [cells_of(column) for column in columns.values()] == [[1, 2], ["a", "b"]]


@pytest.mark.parametrize("value", [1.0, "text", [1, 2], [], (), np.ones((2, 2)), pd.Series([1]), pa.array([1]), None])
def test_what_is_no_table_has_no_columns(value: Any) -> None:
    """Values alone, and columns of pandas and Arrow, are no tables."""
    assert columns_of(value) is None


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ([{"x": 1}, {"x": 1, "y": 2}], "row 1 differs from row 0 in 'y'; each row must have the same columns"),
        ([{"x": 1}, {"x": 1}, 5], "row 2 is of type int, and the rows before it are mappings"),
        (pd.DataFrame([[1, 2]]), "a column is named 0; the names of columns must be text"),
        (pd.DataFrame([[1, 2]], columns=["x", "x"]), "there are 2 columns named 'x'; leave one"),
        (pa.Table.from_arrays([pa.array([1]), pa.array([2])], ["x", "x"]), "there are 2 columns named 'x'; leave one"),
    ],
)
def test_tables_that_are_none(table: Any, says: str) -> None:
    """The error names the row that differs from the others, or the name of a column that cannot be."""
    with pytest.raises(InvalidArgument) as caught:
        columns_of(table)
    assert caught.value.message == says


COLUMNS = [
    (pd.Series([1.5, float("nan")]), [1.5, float("nan")]),
    (pd.Series([1, 2], dtype="int64[pyarrow]"), [1, 2]),
    (pd.Series([True, False], dtype="boolean"), [True, False]),
    (pd.Series(["a", "b"], dtype="string"), ["a", "b"]),
    (pd.Series([b"a\0", b""]), [b"a\0", b""]),
    (pd.Series([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
    (pd.Series([np.ones(2), np.ones(2)]), [[1, 1], [1, 1]]),
    (pd.Index([1, 2]), [1, 2]),
    (pa.array([True, False]), [True, False]),
    (pa.array([b"a\0", b""]), [b"a\0", b""]),
    (pa.array([1, 2, 3]).slice(1), [2, 3]),
    (pa.array([[1, 2], [3, 4], [5, 6]]).slice(1), [[3, 4], [5, 6]]),
    (pa.array([[1, 2], [3, 4]], pa.list_(pa.int8(), 2)), [[1, 2], [3, 4]]),
    (pa.array([[[1, 2], [3, 4]]], pa.large_list(pa.list_(pa.int8(), 2))), [[[1, 2], [3, 4]]]),
    (pa.array([["a", "b"]]), [["a", "b"]]),
    (pa.array([], pa.list_(pa.float32())), np.empty((0, 0)).tolist()),
    (pa.FixedShapeTensorArray.from_numpy_ndarray(np.ones((1, 2, 2), np.float32)), [[[1, 1], [1, 1]]]),
    (pa.scalar(2.5), 2.5),
    (pd.Timestamp(0), pd.Timestamp(0)),
]


@pytest.mark.parametrize(("column", "right"), COLUMNS)
def test_columns_as_numpy_has_them(column: Any, right: Any) -> None:
    """Numbers, text, bytes, lists and tensors of a column keep what they are; a float that is no number is a value."""
    np.testing.assert_equal(np.asarray(plain(column), object).tolist(), right)


@pytest.mark.parametrize(
    "column",
    [
        pd.Series([1, None], dtype="Int64"),
        pd.Series(["a", None]),
        pd.Series(["a", None], dtype="string"),
        pd.Series([[1], None]),
        pa.array([1, None]),
        pa.array([1.5, None]),
        pa.array([[1, 2], [3, None]]),
        pa.array([[[1], [2]], [[3], [None]]]),
        pa.chunked_array([["a"], [None]]),
    ],
)
def test_a_cell_without_a_value_is_no_tensor(column: Any) -> None:
    """The error names the row; nothing is put in the place of what is missing."""
    with pytest.raises(ValueError, match=r"^row 1 has no value$"):
        plain(column)


@pytest.mark.parametrize("column", [pa.array([[1], [2, 3]]), pa.array([[[1], [1]], [[1], [1, 2]]])])
def test_lists_of_different_lengths_are_no_tensor(column: Any) -> None:
    """The error names the row."""
    with pytest.raises(ValueError, match=r"^row 1 has 2 values, row 0 has 1$"):
        plain(column)


@pytest.mark.parametrize(
    ("column", "cells"),
    [
        (pd.Series([1, None], dtype="Int64"), [1, None]),
        (pd.Series(["a", None]), ["a", None]),
        (pa.array([[1], None]), [[1], None]),
        (np.array([1, 2]), [1, 2]),
        ((1, None), [1, None]),
    ],
)
def test_cells_may_lack_a_value(column: Any, cells: list[Any]) -> None:
    """Cells without a value are None."""
    assert cells_of(column) == cells


@pytest.mark.parametrize("column", ["text", b"bytes", 1, np.float32(1), np.array(1), None, {"x": 1}])
def test_what_has_no_rows_has_no_cells(column: Any) -> None:
    """A value alone is not a column of it."""
    with pytest.raises(TypeError, match="a column is a list, an array or a Series, and not"):
        cells_of(column)


def test_pandas_and_arrow_are_not_needed() -> None:
    """In a fresh interpreter tables are read without either of them being imported."""
    program = (
        "import sys; from serving_app.protocol.features import to_examples\n"
        "from serving_app.protocol.columns import columns_of, plain\n"
        "plain(columns_of([{'x': 1}])['x']); to_examples([{'x': 1}])\n"
        "print(sorted({'pandas', 'pyarrow', 'ray'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
