"""Element types as numpy has them.

Every type that a TensorProto can carry by value has exactly one numpy form, and back. Strings are object arrays of
bytes, as TensorFlow's own Python does it; bfloat16, float8 and the types of less than a byte are ml_dtypes' scalars
(which take one byte per element in memory, as in TensorFlow); quantized integers are one-field records, so that qint8
and int8 stay two types. Resources, variants and references live in one process only and have no form.
"""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

from serving_app.core.errors import InvalidArgument
from serving_app.core.signatures import DType

_NUMPY: dict[int, np.dtype[Any]] = {
    DType.FLOAT: np.dtype(np.float32),
    DType.DOUBLE: np.dtype(np.float64),
    DType.INT32: np.dtype(np.int32),
    DType.UINT8: np.dtype(np.uint8),
    DType.INT16: np.dtype(np.int16),
    DType.INT8: np.dtype(np.int8),
    DType.STRING: np.dtype(np.object_),
    DType.COMPLEX64: np.dtype(np.complex64),
    DType.INT64: np.dtype(np.int64),
    DType.BOOL: np.dtype(np.bool_),
    DType.QINT8: np.dtype([("qint8", np.int8)]),
    DType.QUINT8: np.dtype([("quint8", np.uint8)]),
    DType.QINT32: np.dtype([("qint32", np.int32)]),
    DType.BFLOAT16: np.dtype(ml_dtypes.bfloat16),
    DType.QINT16: np.dtype([("qint16", np.int16)]),
    DType.QUINT16: np.dtype([("quint16", np.uint16)]),
    DType.UINT16: np.dtype(np.uint16),
    DType.COMPLEX128: np.dtype(np.complex128),
    DType.HALF: np.dtype(np.float16),
    DType.UINT32: np.dtype(np.uint32),
    DType.UINT64: np.dtype(np.uint64),
    DType.FLOAT8_E5M2: np.dtype(ml_dtypes.float8_e5m2),
    DType.FLOAT8_E4M3FN: np.dtype(ml_dtypes.float8_e4m3fn),
    DType.FLOAT8_E4M3FNUZ: np.dtype(ml_dtypes.float8_e4m3fnuz),
    DType.FLOAT8_E4M3B11FNUZ: np.dtype(ml_dtypes.float8_e4m3b11fnuz),
    DType.FLOAT8_E5M2FNUZ: np.dtype(ml_dtypes.float8_e5m2fnuz),
    DType.INT4: np.dtype(ml_dtypes.int4),
    DType.UINT4: np.dtype(ml_dtypes.uint4),
    DType.INT2: np.dtype(ml_dtypes.int2),
    DType.UINT2: np.dtype(ml_dtypes.uint2),
    DType.FLOAT4_E2M1FN: np.dtype(ml_dtypes.float4_e2m1fn),
}
_DTYPES = {form: DType(number) for number, form in _NUMPY.items()}


def to_numpy(dtype: int) -> np.dtype[Any]:
    """The numpy form of an element type; InvalidArgument if it has none."""
    form = _NUMPY.get(dtype)
    if form is None:
        raise InvalidArgument(f"A tensor of type {proto_name(dtype)} cannot be sent: send values of another type.")
    return form


def from_numpy(form: np.dtype[Any]) -> DType:
    """The element type of an array; InvalidArgument if TensorFlow has none.

    Byte order does not matter, and fixed-width `S` and `U` arrays are strings; who reads the elements converts them.
    """
    dtype = _DTYPES.get(form)
    if dtype is not None:
        return dtype
    if form.kind in "SU":
        return DType.STRING
    dtype = _DTYPES.get(form.newbyteorder("="))
    if dtype is None:
        raise InvalidArgument(f"TensorFlow has no element type for an array of {form}; convert it with astype().")
    return dtype


def label(dtype: int) -> str:
    """The name in messages to users, `float` or `int32`, also for numbers that this version does not know."""
    return DType(dtype).label if dtype in _MEMBERS else f"unknown type {dtype}"


def proto_name(dtype: int) -> str:
    """The name in protos, `DT_FLOAT`; unknown numbers appear as such."""
    return DType(dtype).proto_name if dtype in _MEMBERS else f"DataType {dtype}"


_MEMBERS = frozenset(int(member) for member in DType)
