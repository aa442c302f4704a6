"""Element types and their numpy forms."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from serving_app.core.errors import InvalidArgument
from serving_app.core.signatures import DType
from serving_app.protocol import dtypes

HANDLES = {DType.INVALID, DType.RESOURCE, DType.VARIANT}


@pytest.mark.parametrize("dtype", [dtype for dtype in DType if dtype not in HANDLES], ids=lambda dtype: dtype.name)
def test_every_value_type_has_one_form(dtype: DType) -> None:
    """A type goes to its numpy form and back to itself."""
    assert dtypes.from_numpy(dtypes.to_numpy(dtype)) is dtype


@pytest.mark.parametrize("dtype", [*sorted(HANDLES), 101, -1, 4711])
def test_what_is_no_value_is_refused(dtype: int) -> None:
    """Handles, references and unknown numbers have no numpy form, and the error names the type."""
    with pytest.raises(InvalidArgument, match=dtypes.proto_name(dtype)):
        dtypes.to_numpy(dtype)


@pytest.mark.parametrize(
    ("form", "dtype"),
    [
        ("S5", DType.STRING),
        ("U2", DType.STRING),
        (">f4", DType.FLOAT),
        (">i8", DType.INT64),
        (ml_dtypes.bfloat16, DType.BFLOAT16),
    ],
)
def test_other_layouts_of_the_same_type(form: object, dtype: DType) -> None:
    """Fixed-width strings are strings, and byte order is no part of the type."""
    assert dtypes.from_numpy(np.dtype(form)) is dtype


@pytest.mark.parametrize("form", ["M8[s]", "V4", "g", [("x", "f4"), ("y", "f4")]])
def test_arrays_without_an_element_type_are_refused(form: object) -> None:
    """Dates, records and long doubles are refused by name."""
    with pytest.raises(InvalidArgument, match="no element type"):
        dtypes.from_numpy(np.dtype(form))


@pytest.mark.parametrize(
    ("dtype", "label", "proto_name"),
    [(DType.FLOAT, "float", "DT_FLOAT"), (DType.HALF, "half", "DT_HALF"), (101, "unknown type 101", "DataType 101")],
)
def test_names(dtype: int, label: str, proto_name: str) -> None:
    """A type has TensorFlow's names; an unknown number still has one."""
    assert (dtypes.label(dtype), dtypes.proto_name(dtype)) == (label, proto_name)


def test_numbers_are_tensorflows() -> None:
    """DType has TensorFlow's names and numbers, all but references."""
    from tensorflow.core.framework import types_pb2

    theirs = {name: number for name, number in types_pb2.DataType.items() if number < 100}
    assert {dtype.proto_name: dtype.value for dtype in DType} == theirs
