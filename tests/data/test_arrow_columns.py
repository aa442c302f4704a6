"""Columns as tensors and back."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import ml_dtypes
import numpy as np
import pyarrow as pa
import pytest
from ray.data.extensions import ArrowTensorArray

from serving_app.core.errors import FailedPrecondition
from serving_app.core.signatures import DType, TensorSpec
from serving_app.data.arrow_columns import (
    UnevenError,
    _nest,
    column_type,
    from_array,
    parse_texts,
    to_array,
    to_column,
)

GRID = np.arange(12, dtype=np.float32).reshape(2, 2, 3)


@pytest.mark.parametrize(
    ("column", "array"),
    [
        pytest.param(pa.array([1, 2], pa.int16()), np.array([1, 2], np.int16), id="integers"),
        pytest.param(pa.array([True, False]), np.array([True, False]), id="booleans"),
        pytest.param(pa.array(["a", "é"]), np.array([b"a", "é".encode()], object), id="texts"),
        pytest.param(pa.array([b"a", b"\xff"]), np.array([b"a", b"\xff"], object), id="bytes"),
        pytest.param(pa.array(["a", "b"]).cast(pa.string_view()), np.array([b"a", b"b"], object), id="views of texts"),
        pytest.param(pa.array(["a", "a"]).dictionary_encode(), np.array([b"a", b"a"], object), id="dictionary"),
        pytest.param(pa.array([Decimal("1.5"), Decimal("2")]), np.array([1.5, 2.0]), id="decimals"),
        pytest.param(pa.array([[1, 2], [3, 4]]), np.array([[1, 2], [3, 4]]), id="lists"),
        pytest.param(pa.array(GRID.tolist(), pa.list_(pa.list_(pa.float32(), 3), 2)), GRID, id="lists of fixed size"),
        pytest.param(pa.array(GRID.tolist(), pa.large_list(pa.list_(pa.float32()))), GRID, id="lists of lists"),
        pytest.param(pa.array([["a"], ["b"]]), np.array([[b"a"], [b"b"]], object), id="lists of texts"),
        pytest.param(pa.FixedShapeTensorArray.from_numpy_ndarray(GRID), GRID, id="Arrow's tensors"),
        pytest.param(ArrowTensorArray.from_numpy(GRID), GRID, id="Ray's tensors"),
        pytest.param(pa.array([], pa.list_(pa.int64())), np.empty((0, 0), np.int64), id="no rows"),
    ],
)
def test_columns_are_read(column: pa.Array, array: np.ndarray[Any, Any]) -> None:
    """A column in any of the forms in which tables hold tensors is one array, as a whole, in chunks and in a slice."""
    for each in (column, pa.chunked_array([column])):
        read = to_array(each)
        assert read.dtype == array.dtype
        assert np.array_equal(read, array)
    if len(column):
        assert np.array_equal(to_array(pa.chunked_array([column.slice(1), column.slice(0, 1)])), array[[1, 0]])
        assert np.array_equal(to_array(column.slice(1)), array[1:])


@pytest.mark.parametrize(
    ("column", "message"),
    [
        pytest.param(pa.array([1, None]), "null", id="null"),
        pytest.param(pa.array([[1], [None]]), "null", id="null within"),
        pytest.param(pa.array([[1], [2, 3]]), "from 1 to 2 elements", id="ragged"),
        pytest.param(pa.array([1, 2], pa.timestamp("s")), "neither numbers nor text", id="times"),
    ],
)
def test_columns_that_are_no_tensor_are_refused(column: pa.Array, message: str) -> None:
    """Nulls, rows of different lengths and other kinds make no array."""
    with pytest.raises(UnevenError, match=message):
        to_array(column)


@pytest.mark.parametrize(
    ("array", "shape", "dtype", "name", "kind"),
    [
        (np.array([1, 2], np.int64), (-1,), DType.INT64, "y", pa.int64()),
        (GRID, (-1, 2, 3), DType.FLOAT, "y", pa.list_(pa.list_(pa.float32(), 3), 2)),
        (GRID, (-1, -1, 3), DType.FLOAT, "y", pa.list_(pa.list_(pa.float32(), 3))),
        (np.array([b"a", b"b"], object), (-1,), DType.STRING, "y", pa.string()),
        (np.array([b"a", b"\xff"], object), (-1,), DType.STRING, "y_bytes", pa.binary()),
        (np.array([1.5], ml_dtypes.bfloat16), (-1,), DType.BFLOAT16, "y", pa.float32()),
        (np.array([1.5], np.float16), (-1,), DType.HALF, "y", pa.float32()),
        (np.array([3], ml_dtypes.int4), (-1,), DType.INT4, "y", pa.int8()),
        (np.array([(3,)], [("quint8", np.uint8)]), (-1,), DType.QUINT8, "y", pa.uint8()),
        (np.zeros((2, 0), np.float32), (-1, -1), DType.FLOAT, "y", pa.list_(pa.float32())),
    ],
)
def test_outputs_become_columns_of_the_signatures_type(
    array: np.ndarray[Any, Any], shape: tuple[int, ...], dtype: DType, name: str, kind: pa.DataType
) -> None:
    """The type of a column follows from the signature, and its values are the array's."""
    spec = TensorSpec("y:0", dtype, shape)
    column = from_array(array, "y", name, spec)
    assert column.type == kind == column_type("y", name, spec)
    plain = array["quint8"] if array.dtype.names else array
    assert np.array_equal(to_array(column), plain)


def test_an_output_of_unknown_rank_is_as_deep_as_it_comes() -> None:
    """Where the signature says nothing, lists of any size hold what there is."""
    spec = TensorSpec("y:0", DType.FLOAT, None)
    assert column_type("y", "y", spec) is None
    assert from_array(GRID, "y", "y", spec).type == pa.list_(pa.list_(pa.float32()))


def test_types_that_no_table_has_are_refused() -> None:
    """Complex numbers have no place in Parquet, which is told before anything is run."""
    with pytest.raises(FailedPrecondition, match="complex64, which no table has"):
        column_type("y", "y", TensorSpec("y:0", DType.COMPLEX64, (-1,)))


def test_lists_that_are_too_many_for_a_column_are_refused() -> None:
    """Arrow counts the elements of lists in 32 bits, beyond which a column would be another one."""
    huge = np.broadcast_to(np.float32(0), (2**16, 2**15, 1))
    with pytest.raises(ValueError, match="65536 lists of 32768 elements are too many for a column; run fewer rows"):
        _nest(pa.array([], pa.float32()), huge.shape[:2], (-1,))


@pytest.mark.parametrize(
    ("texts", "dtype", "values"),
    [
        (["1", " 2.5 ", "-1e3", "inf"], DType.FLOAT, [1.0, 2.5, -1000.0, float("inf")]),
        (["1", "-2"], DType.INT8, [1, -2]),
        ([str(2**64 - 1)], DType.UINT64, [2**64 - 1]),
        (["true", "false"], DType.BOOL, [True, False]),
        (["1", "", "NA", "null"], DType.BFLOAT16, [1.0, None, None, None]),
    ],
)
def test_texts_are_numbers(texts: list[str], dtype: DType, values: list[Any]) -> None:
    """Texts are read as the input wants them, and where there is none there is a null."""
    column, wrong = parse_texts(pa.chunked_array([texts]), dtype)
    assert (column.to_pylist(), wrong) == (values, {})


@pytest.mark.parametrize(
    ("dtype", "wrong", "reason"),
    [(DType.INT32, "2.5", "'2.5' is no int64 number"), (DType.UINT64, "-1", "'-1' is no uint64 number"),
     (DType.DOUBLE, "é", "'é' is no double number"), (DType.BOOL, "maybe", "maybe is no bool")],
)
def test_texts_that_are_no_numbers_are_told_by_their_rows(dtype: DType, wrong: str, reason: str) -> None:
    """One of them takes nothing from the others."""
    column, reasons = parse_texts(pa.chunked_array([["1", wrong, "1"]]), dtype)
    assert (column.null_count, reasons) == (1, {1: reason})


def test_bytes_that_are_no_text_are_refused() -> None:
    """Texts have to be UTF-8."""
    with pytest.raises(ValueError, match="UTF"):
        from_array(np.array([b"\xff"], object), "y", "y", TensorSpec("y:0", DType.STRING, (-1,)))


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (np.array([1, 2], np.int32), pa.int32()),
        (GRID, pa.list_(pa.list_(pa.float32(), 3), 2)),
        (np.array(["a", None], object), pa.string()),
        (np.array([b"a", b"b"], object), pa.binary()),
        (np.array(["a", "b"]), pa.string()),
        ([[1.0], [2.0, 3.0]], pa.list_(pa.float64())),
    ],
)
def test_batches_of_arrays_become_columns(values: Any, kind: pa.DataType) -> None:
    """What Ray hands over as arrays or as a column of pandas is a column of the same values."""
    assert to_column(values if isinstance(values, np.ndarray) else _ragged(values)).type == kind


def _ragged(rows: list[list[float]]) -> np.ndarray[Any, Any]:
    array = np.empty(len(rows), object)
    array[:] = [np.array(row) for row in rows]
    return array
