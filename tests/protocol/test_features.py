"""Examples as Python users have them become tf.Examples as TensorFlow reads them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from serving_app.core.errors import InvalidArgument
from serving_app.protocol import messages
from serving_app.protocol.features import to_examples


def read(example: bytes) -> dict[str, list[Any]]:
    """The features of a tf.Example."""
    features = messages.Example.FromString(example).features.feature
    return {name: list(getattr(each, each.WhichOneof("kind") or "", each).value) for name, each in features.items()}


def said(given: Any, context: Any = None) -> list[dict[str, list[Any]]]:
    return [read(example) for example in to_examples(given, context)]


@pytest.mark.parametrize(
    ("value", "kind", "values"),
    [
        (1, "int64_list", [1]),
        (True, "int64_list", [1]),
        (-(2**63), "int64_list", [-(2**63)]),
        (1.5, "float_list", [1.5]),
        ([1, 2.5], "float_list", [1.0, 2.5]),
        ([], None, []),
        ("zwölf", "bytes_list", ["zwölf".encode()]),
        (["a", b"\xff"], "bytes_list", [b"a", b"\xff"]),
        (np.float32(1.5), "float_list", [1.5]),
        (np.array(3), "int64_list", [3]),
        (np.array([1, 2], np.uint8), "int64_list", [1, 2]),
        (np.array(["a", "b"]), "bytes_list", [b"a", b"b"]),
        ([np.int64(1), np.bool_(True)], "int64_list", [1, 1]),
        (pd.Series([1.5, 2.5]), "float_list", [1.5, 2.5]),
        (pa.array(["a"]), "bytes_list", [b"a"]),
    ],
)
def test_a_feature_is_what_its_values_are(value: Any, kind: str | None, values: list[Any]) -> None:
    """Integers are int64, floats float, text and bytes bytes; integers among floats are floats."""
    (example,) = to_examples([{"x": value}])
    feature = messages.Example.FromString(example).features.feature["x"]
    assert feature.WhichOneof("kind") == kind
    assert kind is None or list(getattr(feature, kind).value) == values


ROWS = [{"x": [1], "t": [b"a"]}, {"x": [2], "t": [b"b"]}]


@pytest.mark.parametrize(
    "given",
    [
        [{"x": 1, "t": "a"}, {"x": [2], "t": ["b"]}],
        {"x": [1, 2], "t": ["a", "b"]},
        {"x": np.array([1, 2]), "t": np.array(["a", "b"])},
        pd.DataFrame({"x": [1, 2], "t": ["a", "b"]}),
        pa.table({"x": [1, 2], "t": ["a", "b"]}),
        to_examples([{"x": 1, "t": "a"}, {"x": 2, "t": "b"}]),
        np.array(to_examples([{"x": 1, "t": "a"}, {"x": 2, "t": "b"}]), object),
        pd.Series(to_examples([{"x": 1, "t": "a"}, {"x": 2, "t": "b"}])),
        [messages.Example.FromString(example) for example in to_examples({"x": [1, 2], "t": ["a", "b"]})],
    ],
    ids=["rows", "columns", "arrays", "pandas", "arrow", "bytes", "array of bytes", "Series of bytes", "messages"],
)
def test_rows_and_tables_say_the_same(given: Any) -> None:
    """Examples may be rows, columns, tables, or tf.Examples already."""
    assert said(given) == ROWS


def test_features_without_a_value_are_left_out() -> None:
    """Rows need not have the same features, and a cell that is empty is none."""
    assert said([{"x": 1}, {"y": 2}, {"x": None}, {}]) == [{"x": [1]}, {"y": [2]}, {}, {}]
    assert said(pd.DataFrame({"x": pd.array([1, None], dtype="Int64"), "t": ["a", None]})) == [
        {"x": [1], "t": [b"a"]}, {}
    ]
    assert said(pa.table({"x": [None, [1, 2]]})) == [{}, {"x": [1, 2]}]


def test_wide_columns_are_lists() -> None:
    """A row of a table in two dimensions is a feature of several values."""
    assert said({"x": np.array([[1, 2], [3, 4]])}) == [{"x": [1, 2]}, {"x": [3, 4]}]


def test_what_is_no_number_is_a_value() -> None:
    """NaN and infinities are floats as others are, in tables, too."""
    ((first,), (second,)) = [row["x"] for row in said(pd.DataFrame({"x": [float("nan"), float("-inf")]}))]
    assert (np.isnan(first), second) == (True, float("-inf"))


def test_all_examples_have_the_context() -> None:
    """What is told once is in each of them; the features of an example itself win."""
    assert said([{"x": 1}, {"x": 2, "c": 9}], {"c": 5}) == [{"x": [1], "c": [5]}, {"x": [2], "c": [9]}]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("text", "examples are a list, [{…}] for a single one, or a table with a column for each feature"),
        (b"bytes", "examples are a list"),
        (5, "examples are a list"),
        (messages.Example(), "examples are a list"),
        ({"x": 1}, "examples are a list"),
        ({"x": [1], "t": ["a", "b"]}, "the columns have different numbers of rows: 'x' 1, 't' 2"),
        ([{}, 5], "example 1 is of type int; give a mapping of features, or a tf.Example"),
        ([{}, {"x": [[1]]}], "example 1, feature 'x': values of type list are no feature"),
        ([{"x": {"y": 1}}], "example 0, feature 'x': values of type dict are no feature"),
        ([{"x": [1, "a"]}], "example 0, feature 'x': values of type int, str are no feature"),
        ([{"x": 2**63}], "example 0, feature 'x': Value out of range"),
        ([{"x": 1e300}], "example 0, feature 'x': 1e+300 is larger than the floats of examples"),
        ([{"x": [0.5, -(2**2000)]}], "is larger than the floats of examples"),
        ([{"x": np.array([2**63], np.uint64)}], "example 0, feature 'x': Value out of range"),
        ([{"x": "\ud800"}], "example 0, feature 'x': 'utf-8' codec can't encode"),
        ([{"\ud800": 1}], "example 0, feature '\\ud800': "),
        ([{1: 1}], "example 0, feature 1: names of features are text"),
        ([{"x": pa.array([1, None])}], "example 0, feature 'x': row 1 has no value"),
    ],
)
def test_what_is_no_example_is_refused(given: Any, says: str) -> None:
    """The error names the example, the feature and what is wrong with it."""
    with pytest.raises(InvalidArgument) as caught:
        to_examples(given)
    assert says in caught.value.message


def test_a_wrong_context_is_named() -> None:
    """What is wrong with the context is not laid at the door of an example."""
    with pytest.raises(InvalidArgument, match="the context, feature 'c'"):
        to_examples([{"x": 1}], {"c": [[1]]})
