"""What Python users keep tables in, as columns: dicts, lists of rows, pandas' and Arrow's tables.

    columns_of(table)     # {"x": …, "y": …}, whatever kind of table it is
    plain(column)         # a pandas Series or an Arrow array as NumPy has it; anything else as it is

Neither pandas nor pyarrow is imported here: who hands over an object of theirs has them, and nobody else needs them.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from serving_app.core.errors import InvalidArgument

_PLAIN = (np.ndarray, np.generic, str, bytes, int, float, list, tuple)


def columns_of(table: Any) -> dict[str, Any] | None:
    """The columns of a table by name, None if this is no table.

    A table is a mapping, a DataFrame, an Arrow Table or RecordBatch, or a sequence of mappings, which are rows.
    InvalidArgument if two columns have one name, or rows differ in theirs.
    """
    if isinstance(table, Mapping):
        return dict(table)
    if isinstance(table, list | tuple):
        return _columns_of_rows(table) if table and isinstance(table[0], Mapping) else None
    library = _library(table)
    if library is not None and hasattr(table, "columns"):
        names = list(table.columns if library == "pandas" else table.schema.names)
        _check_names(names)
        if library == "pandas":
            return {name: table[name] for name in names}
        return dict(zip(names, table.columns, strict=True))
    return None


def gather(given: Any, named: Mapping[str, Any]) -> Any:
    """What a caller gave by position and by name, as one table, or as the value that was given alone."""
    if not named:
        return {} if given is None else given
    columns = {} if given is None else columns_of(given)
    if columns is None:
        raise InvalidArgument("a value without a name was given beside others with one; name it, too")
    return {**columns, **named}


def plain(column: Any) -> Any:
    """A column of pandas or Arrow as an array, or as a list of cells where those are lists; anything else as it is.

    ValueError if there is no value in some row: no tensor has that. A float that is no number is a value.
    """
    if isinstance(column, _PLAIN):
        return column
    library = _library(column)
    if library == "pandas":
        return _from_pandas(column)
    return _from_arrow(column) if library == "pyarrow" else column


def cells_of(column: Any) -> list[Any]:
    """The cells of a column, one for each row, None where there is no value. TypeError if it has no rows."""
    library = None if isinstance(column, _PLAIN) else _library(column)
    if library == "pandas":
        if isinstance(column.dtype, np.dtype) and column.dtype != object:
            return list(column.tolist())
        values = column.to_numpy(dtype=object)
        return [None if missing else value for value, missing in zip(values, column.isna(), strict=True)]
    if library == "pyarrow":
        return list(column.to_pylist())
    if isinstance(column, np.ndarray) and column.ndim:
        return column.tolist() if column.ndim == 1 else list(column)
    if isinstance(column, Sequence) and not isinstance(column, str | bytes):
        return list(column)
    raise TypeError(f"a column is a list, an array or a Series, and not {type(column).__name__}")


def _library(value: Any) -> str | None:
    """Of pandas and pyarrow the one that an object is of."""
    for base in type(value).__mro__:
        package = str(base.__module__).partition(".")[0]  # None in classes that protobuf makes
        if package in ("pandas", "pyarrow"):
            return package
    return None


def _check_names(names: Sequence[Any]) -> None:
    for name in names:
        if not isinstance(name, str):
            raise InvalidArgument(f"a column is named {name!r}; the names of columns must be text")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InvalidArgument(f"there are {names.count(twice)} columns named {twice!r}; leave one")


def _columns_of_rows(rows: Sequence[Any]) -> dict[str, list[Any]]:
    names = rows[0].keys() if rows else ()
    for number, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise InvalidArgument(f"row {number} is of type {type(row).__name__}, and the rows before it are mappings")
        if row.keys() != names:
            odd = sorted(map(repr, row.keys() ^ names))
            raise InvalidArgument(
                f"row {number} differs from row 0 in {', '.join(odd)}; each row must have the same columns"
            )
    return {name: [row[name] for row in rows] for name in names}


def _from_pandas(column: Any) -> Any:
    if not hasattr(column, "dtype"):
        return column  # a single value
    if not isinstance(column.dtype, np.dtype) or column.dtype == object:
        missing = np.asarray(column.isna())
        if missing.any():
            raise ValueError(f"row {int(missing.argmax())} has no value")
    array = column.to_numpy()
    return array if array.dtype != object else list(array)  # their cells tell what they are


def _from_arrow(column: Any, cells_per_row: int = 1) -> Any:
    """`cells_per_row` is how many of the column's cells make a row of what it is a part of."""
    arrow: Any = sys.modules["pyarrow"]
    if isinstance(column, arrow.Scalar):
        return column.as_py()
    if isinstance(column, arrow.ChunkedArray):
        column = column.combine_chunks()
    if column.null_count:
        missing = column.is_null().to_numpy(zero_copy_only=False)
        raise ValueError(f"row {missing.argmax() // cells_per_row} has no value")
    kind, types = column.type, arrow.types
    if hasattr(column, "to_numpy_ndarray"):
        return column.to_numpy_ndarray()
    if types.is_dictionary(kind):
        return _from_arrow(column.dictionary_decode(), cells_per_row)
    if types.is_fixed_size_list(kind):
        return _from_lists(column, kind.list_size, cells_per_row)
    if types.is_list(kind) or types.is_large_list(kind):
        lengths = column.value_lengths().to_numpy(zero_copy_only=False)
        size = int(lengths[0]) if len(lengths) else 0
        odd = np.flatnonzero(lengths != size)
        if odd.size:
            raise ValueError(f"row {odd[0] // cells_per_row} has {lengths[odd[0]]} values, row 0 has {size}")
        return _from_lists(column, size, cells_per_row)
    return column.to_numpy(zero_copy_only=False)


def _from_lists(column: Any, size: int, cells_per_row: int) -> Any:
    inner = _from_arrow(column.flatten(), max(1, size * cells_per_row))
    return inner.reshape(len(column), size, *inner.shape[1:])
