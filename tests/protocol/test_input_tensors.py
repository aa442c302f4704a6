"""What Python callers hand over becomes what the signature wants, or an error that names the input."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from serving_app.core.errors import InvalidArgument
from serving_app.core.signatures import DType, Signature, TensorSpec
from serving_app.protocol import messages
from serving_app.protocol.dtypes import label, to_numpy
from serving_app.protocol.input_tensors import to_inputs, to_tensor
from serving_app.protocol.signature_proto import decode_signature, make_signature

NUMBERS = [
    dtype for dtype in DType if dtype not in (DType.INVALID, DType.RESOURCE, DType.VARIANT, DType.STRING, DType.BOOL)
]
QINT8 = np.dtype([("qint8", np.int8)])


@pytest.mark.parametrize("dtype", NUMBERS, ids=lambda dtype: dtype.label)
def test_small_numbers_fit_into_every_type(dtype: DType) -> None:
    """The list [0, 1] is understood as any type of numbers, and so is an array of that type itself."""
    array = to_tensor("x", [0, 1], dtype)
    assert array.dtype == to_numpy(dtype)
    assert array.shape == (2,)
    again = to_tensor("x", array, dtype)
    assert again.tobytes() == np.array([0, 1]).astype(to_numpy(dtype)).tobytes()


@pytest.mark.parametrize("dtype", [*NUMBERS, DType.BOOL, DType.STRING], ids=lambda dtype: dtype.label)
def test_nothing_is_of_every_type(dtype: DType) -> None:
    """An empty list, which NumPy takes for floats, is an empty tensor of any type; its shape is kept."""
    array = to_tensor("x", [[], []], dtype)
    assert (array.dtype, array.shape) == (to_numpy(dtype), (2, 0))


@pytest.mark.parametrize(
    ("value", "dtype", "right"),
    [
        (1, DType.FLOAT, np.float32(1)),
        (1.5, DType.FLOAT, np.float32(1.5)),
        ([1, 2.5], DType.DOUBLE, np.array([1, 2.5])),
        ([[1, 2], [3, 4]], DType.INT32, np.array([[1, 2], [3, 4]], np.int32)),
        (np.arange(3, dtype=np.int64), DType.INT8, np.arange(3, dtype=np.int8)),
        (np.array([1, 2], ">i4"), DType.INT64, np.array([1, 2], np.int64)),
        ([-(2**63), 2**63 - 1], DType.INT64, np.array([-(2**63), 2**63 - 1], np.int64)),
        ([0, 2**64 - 1], DType.UINT64, np.array([0, 2**64 - 1], np.uint64)),
        ([True, False], DType.BOOL, np.array([True, False])),
        ([True, False], DType.INT32, np.array([1, 0], np.int32)),
        ([True, False], DType.FLOAT, np.array([1, 0], np.float32)),
        ([1 + 2j], DType.COMPLEX64, np.array([1 + 2j], np.complex64)),
        ([1.5], DType.COMPLEX128, np.array([1.5 + 0j])),
        ([1.5, 3], DType.BFLOAT16, np.array([1.5, 3], ml_dtypes.bfloat16)),
        (np.array([1.5], ml_dtypes.bfloat16), DType.FLOAT, np.array([1.5], np.float32)),
        (np.array([7], ml_dtypes.int4), DType.INT32, np.array([7], np.int32)),
        ([-8, 7], DType.INT4, np.array([-8, 7], ml_dtypes.int4)),
        ([np.inf, -np.inf], DType.HALF, np.array([np.inf, -np.inf], np.float16)),
        (np.float64(0.1), DType.FLOAT, np.float32(0.1)),
        ([np.float32(1), np.float32(2)], DType.DOUBLE, np.array([1.0, 2.0])),
        ((1, 2), DType.FLOAT, np.array([1, 2], np.float32)),
        (range(3), DType.INT64, np.arange(3)),
    ],
)
def test_values_become_the_type_that_is_wanted(value: Any, dtype: DType, right: np.ndarray) -> None:
    """Numbers keep their meaning; precision may be lost between floats, as the signature has chosen."""
    array = to_tensor("x", value, dtype)
    assert array.dtype == right.dtype
    assert array.tolist() == right.tolist()


@pytest.mark.parametrize(
    ("value", "right"),
    [
        ("text", [b"text"]),
        (b"\xff\0", [b"\xff\0"]),
        (["a", b"b", "zwölf"], [b"a", b"b", "zwölf".encode()]),
        (np.array(["a", "bc"]), [b"a", b"bc"]),
        (np.array([b"a", b"bc"]), [b"a", b"bc"]),
        ([["a", "b"], ["c", ""]], [b"a", b"b", b"c", b""]),
    ],
)
def test_text_and_bytes_are_strings(value: Any, right: list[bytes]) -> None:
    """Text goes as UTF-8, bytes go as they are, in arrays of bytes of the same shape."""
    array = to_tensor("x", value, DType.STRING)
    assert array.dtype == object
    assert array.shape == np.shape(value)
    assert array.reshape(-1).tolist() == right


@pytest.mark.parametrize(
    ("value", "dtype", "reason"),
    [
        ([1.5], DType.INT32, "float64 values do not fit"),
        ([1.0], DType.BOOL, "do not fit"),
        ([2], DType.BOOL, "do not fit"),
        ([128], DType.INT8, "do not fit"),
        ([-1], DType.UINT32, "do not fit"),
        ([2**63], DType.INT64, "do not fit"),
        ([2**64], DType.UINT64, "do not fit"),
        ([-1, 2**63], DType.UINT64, "input"),
        ([0.5, 2**63], DType.UINT64, "do not fit"),
        ([8], DType.INT4, "do not fit"),
        ([-1], DType.UINT4, "do not fit"),
        ([2.7], DType.INT4, "do not fit"),
        ([300], DType.QINT8, "do not fit"),
        ([1j], DType.FLOAT, "complex128 values do not fit"),
        ([1j], DType.BFLOAT16, "complex128 values do not fit"),
        ([1e300], DType.FLOAT, "overflow"),
        ([1e5], DType.HALF, "overflow"),
        ([1e300], DType.BFLOAT16, "overflow"),
        ([128, 7], DType.INT8, "int64 values from 7 to 128 do not fit"),
        ([[1.0], [None]], DType.FLOAT, "row 1 has no value"),
        ([1.0, 2**70, object()], DType.FLOAT, "row 2 has values of type object, which do not fit"),
        (["1"], DType.FLOAT, "do not fit"),
        (None, DType.FLOAT, "do not fit"),
        ({"a": 1}, DType.FLOAT, "do not fit"),
        ([[1], [1, 2]], DType.FLOAT, "row 1 has the shape (2,), row 0 has (1,)"),
        ([1], DType.STRING, "neither text nor bytes"),
        ([["a"], ["b", "c"]], DType.STRING, "row 1 has the shape (2,), row 0 has (1,)"),
        (None, DType.STRING, "neither text nor bytes"),
        ([1], DType.RESOURCE, "DT_RESOURCE cannot be sent"),
    ],
)
def test_values_that_do_not_fit_are_refused(value: Any, dtype: DType, reason: str) -> None:
    """Nothing is rounded, wrapped or cut to fit; the error says which input and, where it can be met, which type."""
    with pytest.raises(InvalidArgument) as caught:
        to_tensor("pixels", value, dtype)
    assert reason in caught.value.message
    if dtype != DType.RESOURCE:
        assert f"input 'pixels' must be of type {label(dtype)}" in caught.value.message


def test_arrays_that_fit_already_are_not_copied() -> None:
    """An array of the wanted type is handed on as it is."""
    array = np.zeros(1000, np.float32)
    assert to_tensor("x", array, DType.FLOAT) is array


SIGNATURE = Signature(
    {"x": TensorSpec("x:0", DType.FLOAT, (-1,)), "text": TensorSpec("t:0", DType.STRING, None)}, {}
)


@pytest.mark.parametrize(
    "given",
    [
        {"x": [1, 2], "text": ["a", "b"]},
        [{"x": 1, "text": "a"}, {"text": b"b", "x": np.float64(2)}],
        pd.DataFrame({"x": [1, 2], "text": ["a", "b"]}),
        pa.table({"text": ["a", "b"], "x": [1, 2]}),
    ],
    ids=["columns", "rows", "pandas", "arrow"],
)
def test_each_input_has_its_own_type(given: Any) -> None:
    """Whatever kind of table they come in, inputs are converted by the signature."""
    tensors = to_inputs(given, SIGNATURE)
    assert {name: array.tolist() for name, array in tensors.items()} == {"x": [1.0, 2.0], "text": [b"a", b"b"]}
    assert (tensors["x"].dtype, tensors["text"].dtype) == (np.float32, object)


@pytest.mark.parametrize("given", [[1.0, 2.0], np.array([1.0, 2.0]), pd.Series([1, 2]), pa.array([1, 2]), (1, 2)])
def test_an_only_input_needs_no_name(given: Any) -> None:
    """Where a signature has one input, a value alone is its value."""
    (only,) = to_inputs(given, make_signature({"x": TensorSpec("x:0", DType.FLOAT, None)}, {})).values()
    assert only.tolist() == [1.0, 2.0]


TAKES = "; it takes 'x' (float), 'text' (string)"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"x": [1]}, "the inputs do not match the signature 'other': missing 'text'" + TAKES),
        ({"x": [1], "text": "a", "z": 1}, "unknown 'z'" + TAKES),
        (pd.DataFrame({"x": [1], "Text": "a"}), "missing 'text'; unknown 'Text'" + TAKES),
        ({}, "missing 'text', 'x'" + TAKES),
        ([1.0], "a value without a name is for signatures with one input, and 'other' takes 'x' (float), 'text'"),
        ([{"x": [1], "text": "a"}, {"x": [1, 2], "text": "a"}], "input 'x' must be of type float: row 1 has the shape"),
        ({"x": [[1], [2]], "text": [["a"], ["b", "c"]]}, "input 'text' must be of type string: row 1 has the shape"),
        ({"x": [[[1]], [[1], [1, 2]]], "text": "a"}, "row 1 has rows of different lengths itself"),
    ],
)
def test_inputs_that_are_not_the_signatures_are_refused(given: Any, says: str) -> None:
    """The error names what is missing, what is unknown and what there is, or the row that differs from the others."""
    with pytest.raises(InvalidArgument) as caught:
        to_inputs(given, SIGNATURE, "other")
    assert says in caught.value.message


def test_an_input_with_a_default_value_may_be_left_out() -> None:
    """What the model has a value for is not missing."""
    message = messages.SignatureDef()
    for name in ("x", "y"):
        message.inputs[name].dtype = DType.FLOAT
    message.defaults["y"].dtype = DType.FLOAT
    assert to_inputs({"x": [1]}, decode_signature(message)).keys() == {"x"}
    with pytest.raises(InvalidArgument, match="missing 'x'"):
        to_inputs({"y": [1]}, decode_signature(message))


def test_a_signature_without_inputs_takes_none() -> None:
    """No inputs are a right call of it, and any input a wrong one."""
    nothing = Signature({}, {})
    assert to_inputs({}, nothing) == {}
    with pytest.raises(InvalidArgument, match="unknown 'x'; it takes no inputs"):
        to_inputs({"x": 1}, nothing)
