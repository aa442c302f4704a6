"""What a Python caller hands over as inputs, as the tensors that the signature wants."""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache
from numbers import Number
from typing import Any

import ml_dtypes
import numpy as np

from serving_app.core.errors import InvalidArgument
from serving_app.core.signatures import DEFAULT_SIGNATURE, DType, Signature
from serving_app.protocol.columns import columns_of, plain
from serving_app.protocol.dtypes import label, to_numpy
from serving_app.protocol.signature_proto import default_inputs

Array = np.ndarray[Any, Any]


def to_inputs(given: Any, signature: Signature, signature_name: str = DEFAULT_SIGNATURE) -> dict[str, Array]:
    """The inputs of a signature, out of what a caller gave: a table by `columns`, or the value of an only input.

    InvalidArgument if the columns are not the signature's inputs, those aside that have a default value, or if values
    are not of the signature's types.
    """
    columns = columns_of(given)
    wanted = signature.inputs
    if columns is None and len(wanted) == 1:
        columns = dict.fromkeys(wanted, given)
    elif columns is None:
        raise InvalidArgument(
            f"a value without a name is for signatures with one input, and {signature_name!r} takes "
            f"{_listed(signature)}; give a mapping by these names"
        )
    if columns.keys() != wanted.keys():
        _check_names(columns, signature, signature_name)
    return {name: to_tensor(name, value, wanted[name].dtype) for name, value in columns.items()}


def _check_names(names: Collection[str], signature: Signature, signature_name: str) -> None:
    missing = signature.inputs.keys() - set(names) - default_inputs(signature)
    unknown = [name for name in names if name not in signature.inputs]
    if missing or unknown:
        wrong = [
            f"{what} {', '.join(map(repr, which))}"
            for what, which in (("missing", sorted(missing)), ("unknown", unknown))
            if which
        ]
        raise InvalidArgument(
            f"the inputs do not match the signature {signature_name!r}: {'; '.join(wrong)}; it takes "
            f"{_listed(signature)}"
        )


def _listed(signature: Signature) -> str:
    return ", ".join(f"{name!r} ({label(spec.dtype)})" for name, spec in signature.inputs.items()) or "no inputs"


def to_tensor(name: str, value: Any, dtype: int) -> Array:
    """One input: an array of this element type. Values that do not fit into it are refused, not rounded away."""
    try:
        value = plain(value)
        if dtype == DType.STRING:
            return _strings(value)
        wanted = to_numpy(dtype)
        array = _numbers(value, wanted)
        if not _fits(array, wanted):
            raise TypeError(_misfit(array))
        with np.errstate(over="raise"):
            return array.astype(wanted, copy=False)
    except (TypeError, ValueError, ArithmeticError) as error:
        what = _find_odd_row(value) or error
        raise InvalidArgument(f"input {name!r} must be of type {label(dtype)}: {what}") from error


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


def _misfit(array: Array) -> str:
    """Which values it was that do not fit, as far as that can be said in short."""
    if array.dtype == object and array.ndim:
        for at, value in enumerate(array.flat):
            if not isinstance(value, Number):
                what = "no value" if value is None else f"values of type {type(value).__name__}, which do not fit"
                return f"row {at // (array.size // len(array))} has {what}"
    if _integer_limits(array.dtype) is not None:
        return f"{array.dtype} values from {array.min()} to {array.max()} do not fit"
    return f"{array.dtype} values do not fit"


@lru_cache(maxsize=128)
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


def _find_odd_row(value: Any) -> str:
    """Which row has another shape than the first one; empty if none has."""
    if not isinstance(value, list | tuple) or not value:
        return ""
    first: tuple[int, ...] | None = None
    for number, row in enumerate(value):
        try:
            shape = np.shape(row)
        except ValueError:
            return f"row {number} has rows of different lengths itself"
        first = shape if first is None else first
        if shape != first:
            return f"row {number} has the shape {shape}, row 0 has {first}"
    return ""
