"""Examples as Python users have them, as serialized tf.Examples.

Examples are rows: mappings of a feature's name to a value or a list of values, or tf.Examples themselves, as messages
or bytes; or a table, each row of which is one. As in JSON bodies, what a feature is follows from how its values are
written: integers and truth values are int64, floats float, text and bytes bytes. Integers among floats are floats. A
feature whose value is None is left out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from serving_app.core.errors import InvalidArgument
from serving_app.protocol import messages
from serving_app.protocol.columns import cells_of, columns_of, plain
from serving_app.protocol.example_requests import merge_context

_MOST = float(np.finfo(np.float32).max)


def to_examples(given: Any, context: Mapping[str, Any] | None = None) -> Sequence[bytes]:
    """The serialized tf.Examples of rows or of a table; all of them have the features of `context`, too.

    InvalidArgument, with the number of the row, if one cannot be a tf.Example.
    """
    rows = list(given) if isinstance(given, list | tuple) else _rows_of(given)
    examples = [_encode(f"example {number}", row) for number, row in enumerate(rows)]
    return merge_context(_encode("the context", context), examples) if context else examples


def _rows_of(given: Any) -> list[Any]:
    columns = columns_of(given)
    try:
        return cells_of(given) if columns is None else _rows_of_columns(columns)
    except TypeError as error:
        raise InvalidArgument(
            "examples are a list, [{…}] for a single one, or a table with a column for each feature: "
            f"{error}"
        ) from error


def _rows_of_columns(columns: Mapping[str, Any]) -> list[dict[str, Any]]:
    cells = {name: cells_of(column) for name, column in columns.items()}
    lengths = {name: len(column) for name, column in cells.items()}
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{name!r} {length}" for name, length in lengths.items())
        raise InvalidArgument(f"the columns have different numbers of rows: {listed}")
    return [dict(zip(cells, row, strict=True)) for row in zip(*cells.values(), strict=True)]


def _is_message(row: Any) -> bool:
    return hasattr(row, "SerializeToString")


def _encode(what: str, row: Any) -> bytes:
    if isinstance(row, bytes):
        return row
    if _is_message(row):
        serialized: bytes = row.SerializeToString()
        return serialized
    if not isinstance(row, Mapping):
        raise InvalidArgument(f"{what} is of type {type(row).__name__}; give a mapping of features, or a tf.Example")
    example = messages.Example()
    features = example.features.feature
    for name, value in row.items():
        try:
            if not isinstance(name, str):
                raise TypeError("names of features are text")
            if value is not None:
                _fill(features[name], _values_of(value))
        except (TypeError, ValueError) as error:  # ValueError of what is no UTF-8 or no int64
            raise InvalidArgument(f"{what}, feature {name!r}: {error}") from error
    encoded: bytes = example.SerializeToString()
    return encoded


def _values_of(value: Any) -> list[Any]:
    value = plain(value)
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    values = list(value) if isinstance(value, list | tuple) else [value]
    return [each.item() if isinstance(each, np.generic) else each for each in values]


def _fill(feature: Any, values: list[Any]) -> None:
    """Sets the values of a feature. Without values it has no kind."""
    types = set(map(type, values))
    if not types:
        return
    if types <= {str, bytes}:
        feature.bytes_list.value.extend([each.encode() if isinstance(each, str) else each for each in values])
    elif types <= {int, bool}:
        feature.int64_list.value.extend(map(int, values))
    elif types <= {float, int}:
        for each in values:
            if _MOST < abs(each) < math.inf:
                raise ValueError(f"{each} is larger than the floats of examples")
        feature.float_list.value.extend(values)
    else:
        kinds = ", ".join(sorted(each.__name__ for each in types))
        raise TypeError(
            f"values of type {kinds} are no feature: that is a value or a flat list, of integers, floats or text"
        )
