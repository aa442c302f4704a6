"""The JSON answers of `:predict`, in the format of the request: rows for rows, whole tensors for whole tensors.

The names of the outputs are left out if there is only one. `exact` answers are byte by byte those of TensorFlow
Serving; `compact` ones have neither blanks nor more digits than needed, and are quicker to write. Both read back to the
same values.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from serving_app.core.errors import InvalidArgument
from serving_app.protocol import dtypes, json_layout, json_text

Array = np.ndarray[Any, Any]
Style = Literal["exact", "compact"]


_WRITABLE = frozenset(map(dtypes.to_numpy, json_text.WRITABLE))
"""The usual forms of what can be written; `_check_type` knows the others."""


def encode_outputs(outputs: Mapping[str, Array], *, is_row: bool, style: Style) -> bytes:
    """The answer to a request. `outputs` are all outputs of the signature."""
    if not outputs:
        raise InvalidArgument("Cannot convert empty tensor map to JSON")
    if is_row:
        _check_rows(outputs)
    for array in outputs.values():
        if array.dtype not in _WRITABLE:
            _check_type(array)
    if style == "exact":
        return (json_layout.rows_text if is_row else json_layout.columns_text)(outputs)
    return (json_text.rows_text if is_row else json_text.columns_text)(outputs)


def _check_rows(outputs: Mapping[str, Array]) -> None:
    """Every output must have as many rows as the first."""
    batch_size: int | None = None
    for name, array in outputs.items():
        shape = array.shape
        if not shape:
            raise InvalidArgument(f"Tensor name: {name} has no shape information ")
        if batch_size is None:
            batch_size = shape[0]
        if shape[0] != batch_size:
            raise InvalidArgument(
                f"Tensor name: {name} has inconsistent batch size: {shape[0]} expecting: {batch_size}"
            )


def _check_type(array: Array) -> None:
    dtype = dtypes.from_numpy(array.dtype)
    if dtype not in json_text.WRITABLE:
        raise InvalidArgument(f"Failed to write JSON value for tensor type: {dtype.label}")
