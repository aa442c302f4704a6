"""Batches in every form that `map_batches` has, by a model that is really loaded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from serving_app.core.errors import InvalidArgument
from serving_app.data.arrow_columns import to_array
from serving_app.data.pinned import pin
from serving_app.data.predictor import Predictor
from tests.zoo import Zoo


@pytest.fixture
def predict(zoo: Zoo) -> Iterator[Predictor]:
    """Version 1 of half_plus_two, whose answers go into `half`."""
    predictor = Predictor(pin(base_path=zoo.base("half_plus_two"), version=1, outputs={"y": "half"}, keep=["k"]))
    yield predictor
    predictor.close()


def test_a_batch_comes_back_in_its_form(predict: Predictor) -> None:
    """Tables, DataFrames and arrays by name get the outputs beside the columns that are kept."""
    columns: dict[str, Any] = {"x": [1.0, 2.0, 5.0], "k": ["a", "b", "c"]}
    table = predict(pa.table(columns))
    assert table.schema == pa.schema({"k": pa.string(), "half": pa.float32()})
    assert table.to_pydict() == {"k": ["a", "b", "c"], "half": [2.5, 3.0, 4.5]}
    frame = predict(pd.DataFrame(columns))
    assert {name: list(column) for name, column in frame.items()} == table.to_pydict()
    arrays = predict({name: np.array(column) for name, column in columns.items()})
    assert {name: array.tolist() for name, array in arrays.items()} == table.to_pydict()
    assert arrays["half"].dtype == np.float32


def test_outputs_stay_beside_their_rows(predict: Predictor) -> None:
    """A DataFrame may have any index, as one has whose rows were filtered or sorted."""
    frame = predict(pd.DataFrame({"x": [1.0, 2.0], "k": ["a", "b"]}, index=[7, 0]))
    assert (list(frame["half"]), list(frame.index)) == ([2.5, 3.0], [7, 0])


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (pd.DataFrame({"x": pd.array([1, None], dtype="Int64"), "k": "a"}), "row 1 of a batch: column 'x': it is null"),
        ({"x": np.array([2**70, 1], dtype=object), "k": np.array([1, 2])}, "the batch cannot be read: .*too large"),
        ({"x": np.array([1, "a"], dtype=object), "k": np.array([1, 2])}, "the batch cannot be read: .*'a' with type"),
        ({"x": np.array([1j]), "k": np.array([1])}, "the batch cannot be read"),
        (pd.DataFrame({0: [1.0], "k": ["a"]}), r"input 'x' wants 'x'. There are 0, 'k'"),
    ],
)
def test_batches_that_hold_no_numbers_are_refused(predict: Predictor, batch: Any, message: str) -> None:
    """What pandas calls missing is missing, and what is no number of any kind is told as such."""
    with pytest.raises(InvalidArgument, match=message):
        predict(batch)


def test_bad_rows_fail_a_batch_and_are_named(predict: Predictor) -> None:
    """The first of the bad rows are told with their reasons, and what to do."""
    batch = pa.table({"x": [1.0, *[None] * 7], "k": ["a"] * 8})
    with pytest.raises(InvalidArgument, match=r"row 1 of a batch: column 'x': it is null.*; and 2 more. Correct them"):
        predict(batch)


def test_columns_that_do_not_match_are_told(predict: Predictor) -> None:
    """The missing column is named, and those that are there."""
    with pytest.raises(InvalidArgument, match=r"input 'x' wants 'x'. There are 'z'"):
        predict({"z": np.array([1.0])})


def test_bad_rows_that_are_set_aside_stay_with_their_reason(zoo: Zoo) -> None:
    """As many rows come out as went in: those without an answer have nulls and say why."""
    predict = Predictor(pin(base_path=zoo.base("half_plus_two"), version=1, on_error="set_aside"))
    try:
        scored = predict(pa.table({"x": [1.0, None, 5.0]})).to_pydict()
        with pytest.raises(InvalidArgument, match="batch_format='pyarrow'"):
            predict({"x": np.array([1.0])})
    finally:
        predict.close()
    assert scored["x"] == [1.0, None, 5.0]
    assert scored["y"] == [2.5, None, 4.5]
    assert [reason is None for reason in scored["error"]] == [True, False, True]
    assert "column 'x': it is null" in scored["error"][1]


def test_a_predictor_takes_only_what_is_pinned() -> None:
    """A label looked up by each worker could mean two versions in one dataset, so a worker is told the version."""
    with pytest.raises(InvalidArgument, match=r"fn_constructor_args=\[pin\(model=..., label=...\)\]"):
        Predictor("half_plus_two")  # type: ignore[arg-type]


def test_texts_and_several_outputs(zoo: Zoo) -> None:
    """A signature on serialized examples is fed by a column of bytes, row by row, and a broken one is found."""
    example = zoo.examples("parser")[0]
    [(name, rows)] = example.inputs.items()
    predict = Predictor(
        pin(base_path=zoo.base("parser"), version=example.version, signature_name=example.signature,
            inputs={name: "example"}, on_error="set_aside")
    )
    try:
        scored = predict(pa.table({"example": [b"\xff broken", *rows.tolist()]}))
    finally:
        predict.close()
    assert [reason is None for reason in scored.column("error").to_pylist()] == [False] + [True] * len(rows)
    for output, right in example.outputs.items():
        assert np.array_equal(to_array(scored.column(output).slice(1)), right)
