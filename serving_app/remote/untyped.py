"""Tensors where nobody asks for signatures: by what values look like."""

from __future__ import annotations

from typing import Any

import numpy as np

from serving_app.core.errors import InvalidArgument
from serving_app.core.signatures import DType
from serving_app.protocol.columns import columns_of, plain
from serving_app.protocol.input_tensors import to_tensor

Array = np.ndarray[Any, Any]

_SMALL = np.iinfo(np.int32)


def guess_inputs(given: Any) -> dict[str, Array]:
    """The inputs by name. InvalidArgument if they have none, or no type that TensorFlow knows."""
    columns = columns_of(given)
    if columns is None:
        raise InvalidArgument("where signatures are not asked for, give inputs by name, as a mapping or by keyword")
    return {name: _guess(name, value) for name, value in columns.items()}


def _guess(name: str, value: Any) -> Array:
    """Arrays stay as they are. Python's floats become float, its integers int32 if they can, as TensorFlow does it."""
    try:
        value = plain(value)
        array = np.asarray(value)
    except UnicodeDecodeError:  # texts beside bytes
        return to_tensor(name, value, DType.STRING)
    except ValueError as error:
        raise InvalidArgument(f"input {name!r}: {error}") from error
    if array.dtype.kind in "OSU":
        return to_tensor(name, array.tolist() if array.dtype.kind == "S" else value, DType.STRING)
    if isinstance(value, np.ndarray | np.generic):
        return array
    if array.dtype.kind == "f":
        return array.astype(np.float32)
    if array.dtype.kind == "i" and (not array.size or (_SMALL.min <= array.min() and array.max() <= _SMALL.max)):
        return array.astype(np.int32)
    return array
