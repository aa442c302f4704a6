"""What a Python caller hands over as an input, as the tensor that the signature wants."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np

from serving_app.core.errors import InvalidArgument
from serving_app.core.signatures import DType, Signature
from serving_app.protocol.dtypes import label, to_numpy

Array = np.ndarray[Any, Any]


def to_tensors(values: Mapping[str, Any], signature: Signature) -> dict[str, Array]:
    """Arrays by input name. Names that the signature does not have are passed on, with nothing behind them.

    Checking names is someone else's, and what unknown ones stand for matters to nobody.
    """
    return {
        name: to_tensor(name, value, signature.inputs[name].dtype) if name in signature.inputs else np.empty(0)
        for name, value in values.items()
    }


def to_tensor(name: str, value: Any, dtype: int) -> Array:
    """One input: an array of this element type. Values that do not fit into it are refused, not rounded away."""
    try:
        if dtype == DType.STRING:
            return _strings(value)
        wanted = to_numpy(dtype)
        array = _numbers(value, wanted)
        if not _fits(array, wanted):
            raise TypeError(f"{array.dtype} values do not fit")
        with np.errstate(over="raise"):
            return array.astype(wanted, copy=False)
    except (TypeError, ValueError, ArithmeticError) as error:
        raise InvalidArgument(f"input {name!r} must be of type {label(dtype)}: {error}") from error


def _numbers(value: Any, wanted: np.dtype[Any]) -> Array:
    array = np.asarray(value)
    if wanted == np.uint64 and array.dtype.kind == "f":
        # NumPy takes a list with integers below and above 2**63 for floats, which are not exact up there.
        exact = np.asarray(value, dtype=object)
        if all(isinstance(number, int) for number in exact.flat):
            return exact.astype(np.uint64)
    return array


def _fits(array: Array, wanted: np.dtype[Any]) -> bool:
    """Whether the values keep their meaning: integers must be in range, other kinds may lose precision, not kind."""
    if array.size == 0:
        return True
    if array.dtype == wanted or array.dtype.kind == "b":
        return True
    limits = _integer_limits(wanted)
    if limits is not None:
        is_integer = _integer_limits(array.dtype) is not None
        return is_integer and limits[0] <= int(array.min()) and int(array.max()) <= limits[1]
    if wanted.kind == "V":
        # bfloat16 and its like are of no kind that NumPy knows; any real number may become one.
        return array.dtype.kind in "iufV"
    return np.can_cast(array.dtype, wanted, casting="same_kind")


def _integer_limits(form: np.dtype[Any]) -> tuple[int, int] | None:
    """The smallest and the largest value of a type of integers, those of less than a byte and quantized ones too."""
    if form.names is not None:
        form = form[0]
    try:
        limits = ml_dtypes.iinfo(form)  # type: ignore[no-untyped-call]
    except ValueError:
        return None
    return int(limits.min), int(limits.max)


def _strings(value: Any) -> Array:
    array = np.asarray(value, dtype=object)
    flat = [item.encode() if isinstance(item, str) else item for item in array.reshape(-1)]
    for item in flat:
        if not isinstance(item, bytes):
            raise TypeError(f"{item!r} is neither text nor bytes")
    strings = np.empty(len(flat), dtype=object)
    strings[:] = flat
    return strings.reshape(array.shape)
