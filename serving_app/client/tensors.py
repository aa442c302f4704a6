"""What a Python caller hands over as an input, as the tensor that the signature wants."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from serving_app.core.errors import InvalidArgument
from serving_app.core.signatures import DType, Signature
from serving_app.protocol.dtypes import label, to_numpy

Array = np.ndarray[Any, Any]


def to_tensors(values: Mapping[str, Any], signature: Signature) -> dict[str, Array]:
    """Arrays by input name. Names that the signature does not have are passed on; checking names is someone else's."""
    return {
        name: to_tensor(name, value, signature.inputs[name].dtype) if name in signature.inputs else np.asarray(value)
        for name, value in values.items()
    }


def to_tensor(name: str, value: Any, dtype: int) -> Array:
    """One input: an array of this element type. Values that do not fit into it are refused, not rounded away."""
    try:
        if dtype == DType.STRING:
            return _strings(value)
        array = np.asarray(value)
        wanted = to_numpy(dtype)
        if not _fits(array, wanted):
            raise TypeError(f"{array.dtype} values do not fit")
        return array.astype(wanted, copy=False)
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidArgument(f"input {name!r} must be of type {label(dtype)}: {error}") from error


def _fits(array: Array, wanted: np.dtype[Any]) -> bool:
    """Whether the values keep their meaning: integers must be in range, other kinds may lose precision, not kind."""
    if array.size == 0:
        return True
    if array.dtype.kind in "iu" and wanted.kind in "iu":
        limits = np.iinfo(wanted)
        return bool(int(array.min()) >= limits.min and int(array.max()) <= limits.max)
    # bfloat16 and its like are of no kind that NumPy knows; any real number may become one.
    return (wanted.kind == "V" and array.dtype.kind in "iuf") or np.can_cast(array.dtype, wanted, casting="same_kind")


def _strings(value: Any) -> Array:
    array = np.asarray(value, dtype=object)
    flat = [item.encode() if isinstance(item, str) else item for item in array.reshape(-1)]
    for item in flat:
        if not isinstance(item, bytes):
            raise TypeError(f"{item!r} is neither text nor bytes")
    strings = np.empty(len(flat), dtype=object)
    strings[:] = flat
    return strings.reshape(array.shape)
