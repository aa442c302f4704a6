"""Columns of Arrow tables as tensors, and tensors as columns.

In a table a row of a tensor is a number, a text, or a list of lists; Arrow's and Ray's tensor columns are read too.
What is written are plain lists, of fixed size where the signature says so: everything that reads Parquet knows them.
The type of an output's column follows from the signature alone, so that all parts of a result have the same.
"""

from __future__ import annotations

import math
from typing import Any

import ml_dtypes
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from serving_app.core.errors import FailedPrecondition
from serving_app.core.signatures import DType, TensorSpec

Array = np.ndarray[Any, Any]


_MOST_ELEMENTS = 2**31 - 1
"""Of all lists of a column together: Arrow counts them in 32 bits."""


class UnevenError(ValueError):
    """The rows of a column do not make up one tensor: one is null, or they differ in shape or kind."""


def to_array(column: pa.Array | pa.ChunkedArray) -> Array:
    """All rows of a column as one array; texts as objects of bytes. Raises UnevenError where they are no such thing."""
    if isinstance(column, pa.ChunkedArray):
        column = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    if isinstance(column, pa.ChunkedArray):  # of extension types, whose chunks are put together as what they store
        column = pa.concat_arrays(column.chunks)
    return _to_array(column)


def _to_array(column: pa.Array) -> Array:
    if column.null_count:
        raise UnevenError("it is null, or holds a null")
    kind = column.type
    if isinstance(kind, pa.BaseExtensionType):
        return _from_tensors(column)
    if pa.types.is_dictionary(kind):
        return _to_array(column.dictionary_decode())
    if pa.types.is_fixed_size_list(kind):
        values = _to_array(column.flatten())
        return values.reshape(len(column), kind.list_size, *values.shape[1:])
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return _from_lists(column)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return _texts(column.cast(pa.large_binary()))
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        return _texts(column)
    if pa.types.is_decimal(kind):
        return _to_array(column.cast(pa.float64()))
    if pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return np.asarray(column.to_numpy(zero_copy_only=False))
    raise UnevenError(f"a column of {kind} holds neither numbers nor text; convert it first")


def _from_lists(column: pa.Array) -> Array:
    lengths = column.value_lengths().to_numpy(zero_copy_only=False)
    if len(lengths) and lengths.min() != lengths.max():
        raise UnevenError(f"rows have from {lengths.min()} to {lengths.max()} elements")
    values = _to_array(column.flatten())
    return values.reshape(len(column), lengths[0] if len(lengths) else 0, *values.shape[1:])


def _from_tensors(column: pa.Array) -> Array:
    """Columns of tensors, Arrow's own or Ray's: lists of all elements, and the shape in the type or beside each."""
    storage = column.storage
    shape = getattr(column.type, "shape", None)
    if isinstance(shape, list | tuple):
        return _to_array(storage.flatten()).reshape(len(column), *shape)
    if pa.types.is_struct(storage.type) and {"data", "shape"} <= {field.name for field in storage.type}:
        shapes = _to_array(storage.field("shape"))
        if len(shapes) and (shapes != shapes[0]).any():
            raise UnevenError("rows differ in shape")
        return _to_array(storage.field("data")).reshape(len(column), *(shapes[0] if len(shapes) else (0,)))
    return _to_array(storage)


def _texts(column: pa.Array) -> Array:
    texts = column.to_numpy(zero_copy_only=False)
    return np.asarray(texts, dtype=object)


_NO_VALUE = pa.array(["", "NA", "N/A", "n/a", "#N/A", "#N/A N/A", "#NA", "null", "NULL"])
"""What stands in files of text where there is no value."""


def parse_texts(column: pa.ChunkedArray, dtype: int) -> tuple[pa.ChunkedArray, dict[int, str]]:
    """A column of texts as numbers for an input of this type; null where there is no value, and where a text is no such
    number, which is told by its row."""
    kind = number_type(dtype)
    texts = pc.utf8_trim_whitespace(column)
    texts = pc.if_else(pc.is_in(texts, value_set=_NO_VALUE), None, texts)
    try:
        return texts.cast(kind), {}
    except pa.ArrowInvalid:  # at least one of them is wrong
        values: list[Any] = []
        wrong: dict[int, str] = {}
        for row, text in enumerate(texts):
            try:
                values.append(text.cast(kind).as_py())
            except pa.ArrowInvalid:
                values.append(None)
                wrong[row] = f"{text.as_py()!r} is no {kind} number" if kind != pa.bool_() else f"{text} is no bool"
        return pa.chunked_array([pa.array(values, kind)]), wrong


def number_type(dtype: int) -> pa.DataType | None:
    """What the texts of a column are read as that is an input of this type; None for those that stay texts."""
    if dtype in (DType.FLOAT, DType.DOUBLE) or _AS_OTHERS.get(DType(dtype)) == pa.float32():
        return pa.float64()
    if dtype in (DType.BOOL, DType.UINT64):
        return _AS_THEY_ARE[DType(dtype)]
    return pa.int64() if dtype in _AS_THEY_ARE or dtype in _AS_OTHERS else None


def to_column(values: Any) -> pa.Array:
    """A column of what `ray.data` hands over in batches of NumPy arrays and pandas columns. NaN of NumPy is no null."""
    if not isinstance(getattr(values, "dtype", np.dtype(object)), np.dtype):  # pandas' own, which know what is missing
        return pa.array(values, from_pandas=True)
    array = np.asarray(values)
    if array.ndim > 1 and array.dtype.kind in "biuf":
        return _nest(pa.array(np.ascontiguousarray(array).reshape(-1)), array.shape, array.shape[1:])
    if array.dtype.kind == "O":
        items = [item.tolist() if isinstance(item, np.ndarray) else item for item in array]
        return pa.array(items, from_pandas=True)
    return pa.array(array.tolist() if array.ndim > 1 else array)


_AS_OTHERS = {
    DType.HALF: pa.float32(), DType.BFLOAT16: pa.float32(),
    DType.FLOAT8_E5M2: pa.float32(), DType.FLOAT8_E4M3FN: pa.float32(), DType.FLOAT8_E4M3FNUZ: pa.float32(),
    DType.FLOAT8_E4M3B11FNUZ: pa.float32(), DType.FLOAT8_E5M2FNUZ: pa.float32(), DType.FLOAT4_E2M1FN: pa.float32(),
    DType.INT4: pa.int8(), DType.INT2: pa.int8(), DType.UINT4: pa.uint8(), DType.UINT2: pa.uint8(),
    DType.QINT8: pa.int8(), DType.QUINT8: pa.uint8(), DType.QINT16: pa.int16(), DType.QUINT16: pa.uint16(),
    DType.QINT32: pa.int32(),
}
"""Element types that Parquet does not have, and what holds their values."""

_AS_THEY_ARE = {
    DType.FLOAT: pa.float32(), DType.DOUBLE: pa.float64(), DType.BOOL: pa.bool_(),
    DType.INT8: pa.int8(), DType.INT16: pa.int16(), DType.INT32: pa.int32(), DType.INT64: pa.int64(),
    DType.UINT8: pa.uint8(), DType.UINT16: pa.uint16(), DType.UINT32: pa.uint32(), DType.UINT64: pa.uint64(),
}


def element_type(alias: str, column: str, spec: TensorSpec) -> pa.DataType:
    """What the elements of an output are in a table. FailedPrecondition for those that no table has.

    Texts are texts, and bytes where the column's name ends in `_bytes`, as in TensorFlow Serving's JSON.
    """
    if spec.dtype == DType.STRING:
        return pa.binary() if column.endswith("_bytes") else pa.string()
    kind = _AS_THEY_ARE.get(DType(spec.dtype)) or _AS_OTHERS.get(DType(spec.dtype))
    if kind is None:
        raise FailedPrecondition(
            f"output {alias!r} is of type {DType(spec.dtype).label}, which no table has; leave it out by naming the "
            "outputs that are wanted"
        )
    return kind


def column_type(alias: str, column: str, spec: TensorSpec) -> pa.DataType | None:
    """The type of an output's column; None where the signature leaves even the rank open."""
    kind = element_type(alias, column, spec)
    if spec.shape is None:
        return None
    for size in reversed(spec.shape[1:]):
        kind = pa.list_(kind) if size < 0 else pa.list_(kind, size)
    return kind


def from_array(array: Array, alias: str, column: str, spec: TensorSpec) -> pa.Array:
    """An output as a column of its type. Raises ValueError for bytes that are no text."""
    kind = element_type(alias, column, spec)
    flat = np.ascontiguousarray(array).reshape(-1)
    if flat.dtype.names:  # quantized
        flat = flat[flat.dtype.names[0]]
    elif flat.dtype.kind == "V" or flat.dtype == np.float16:
        flat = flat.astype(np.float32 if pa.types.is_floating(kind) else kind.to_pandas_dtype())
    elif flat.dtype in (ml_dtypes.int4, ml_dtypes.uint4, ml_dtypes.int2, ml_dtypes.uint2):
        flat = flat.astype(kind.to_pandas_dtype())
    sizes = spec.shape[1:] if spec.shape is not None else (-1,) * (array.ndim - 1)
    if flat.dtype.kind == "O":
        return _nest(pa.array(flat, type=pa.binary()).cast(kind), array.shape, sizes)
    return _nest(pa.array(flat, type=kind), array.shape, sizes)


def _nest(values: pa.Array, shape: tuple[int, ...], sizes: tuple[int, ...]) -> pa.Array:
    """Flat values as the lists of an array of this shape; lists whose size is below 0 are of any size."""
    for at in reversed(range(len(sizes))):
        length = shape[at + 1]
        if sizes[at] >= 0:
            values = pa.FixedSizeListArray.from_arrays(values, length)
        else:
            count = math.prod(shape[: at + 1])
            if count * length > _MOST_ELEMENTS:
                raise ValueError(f"{count} lists of {length} elements are too many for a column; run fewer rows")
            offsets = pa.array(np.arange(count + 1, dtype=np.int32) * np.int32(length))
            values = pa.ListArray.from_arrays(offsets, values)
    return values


def gather(columns: list[pa.Array], indices: Array, is_null: Array) -> pa.Array:
    """Rows of columns that stand one below the other, by their numbers; null where `is_null`."""
    return pc.take(pa.concat_arrays(columns), pa.array(indices, mask=is_null))
