"""What Python callers hand over becomes what the signature wants, or an error that names the input."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from serving_app.client.tensors import to_tensor, to_tensors
from serving_app.core.errors import InvalidArgument
from serving_app.core.signatures import DType, Signature, TensorSpec
from serving_app.protocol.dtypes import label, to_numpy

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
        (["1"], DType.FLOAT, "do not fit"),
        (None, DType.FLOAT, "do not fit"),
        ({"a": 1}, DType.FLOAT, "do not fit"),
        ([[1], [1, 2]], DType.FLOAT, "inhomogeneous"),
        ([1], DType.STRING, "neither text nor bytes"),
        ([["a"], ["b", "c"]], DType.STRING, "neither text nor bytes"),
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


def test_each_input_has_its_own_type_and_unknown_ones_pass() -> None:
    """Inputs are converted by the signature; names that it lacks stay, whatever they hold, for the check of names."""
    signature = Signature(
        {"x": TensorSpec("x:0", DType.FLOAT, (-1,)), "text": TensorSpec("t:0", DType.STRING, None)}, {}
    )
    tensors = to_tensors({"x": [1], "text": "a", "other": [[1], [2, 3]]}, signature)
    assert tensors.keys() == {"x", "text", "other"}
    assert (tensors["x"].dtype, tensors["text"].dtype) == (np.float32, object)
