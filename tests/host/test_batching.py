"""The arithmetic of batching, as tables."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from serving_app.core.errors import FailedPrecondition
from serving_app.host.batching import batch_key, cut, form_batches, join, longest_timeout, row_count, split
from serving_app.protocol.calls import Call


def rows(count: int, *inner: int, dtype: Any = np.float32, **more: Any) -> Call:
    """A call whose only input has this many rows."""
    return Call("serving_default", {"x": np.zeros((count, *inner), dtype)}, **more)


SCALAR = Call("serving_default", {"x": np.float32(1).reshape(())})
UNEVEN = Call("serving_default", {"a": np.zeros(2), "b": np.zeros(3)})
NOTHING = Call("serving_default", {})


@pytest.mark.parametrize(
    ("call", "right"),
    [
        (rows(3), 3),
        (rows(0), 0),
        (rows(2, 5), 2),
        (Call("s", {"a": np.zeros((4, 1)), "b": np.zeros(4)}), 4),
        (UNEVEN, None),
        (SCALAR, None),
        (Call("s", {"a": np.zeros(4), "b": np.zeros(())}), None),
        (NOTHING, None),
    ],
)
def test_rows_are_the_first_dimension_that_all_inputs_share(call: Call, right: int | None) -> None:
    """A call has rows if every input has the same first dimension; any other call must run alone."""
    assert row_count(call) == right


def test_calls_agree_when_only_their_rows_differ() -> None:
    """The number of rows, the order of the inputs and the time left do not keep calls apart."""
    one = Call("s", {"a": np.zeros((1, 2)), "b": np.zeros(1)}, ("y",), 1.0)
    other = Call("s", {"b": np.ones(7), "a": np.ones((7, 2))}, ("y",), None)
    assert batch_key(one) == batch_key(other)
    assert hash(batch_key(one)) == hash(batch_key(other))


@pytest.mark.parametrize(
    "other",
    [
        rows(2)._replace(signature_name="other"),
        rows(2)._replace(outputs=("y",)),
        Call("serving_default", {"z": np.zeros(2, np.float32)}),
        rows(2, 1),
        rows(2, dtype=np.float64),
        rows(2, dtype=">f4"),
        Call("serving_default", {"x": np.zeros(2, np.float32), "z": np.zeros(2)}),
    ],
)
def test_calls_that_differ_in_more_than_rows_are_kept_apart(other: Call) -> None:
    """Signature, outputs, names, inner shapes and element types must agree."""
    assert batch_key(rows(2)) != batch_key(other)


def test_types_that_numpy_does_not_know_are_kept_apart() -> None:
    """Types of ml_dtypes and quantized ones look alike to NumPy's type strings, and still are told apart."""
    types = [ml_dtypes.int4, ml_dtypes.uint4, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2, np.int8]
    types += [[("qint8", np.int8)], [("quint8", np.uint8)]]
    keys = {batch_key(rows(2, dtype=np.dtype(each))) for each in types}
    assert len(keys) == len(types)


@pytest.mark.parametrize(
    ("calls", "max_rows", "right"),
    [
        ([], 4, []),
        ([rows(1)], 4, [[0]]),
        ([rows(1), rows(2), rows(1)], 4, [[0, 1, 2]]),
        ([rows(3), rows(2), rows(2)], 4, [[0], [1, 2]]),
        ([rows(4), rows(1)], 4, [[0], [1]]),
        ([rows(9), rows(1)], 4, [[0], [1]]),
        ([rows(0), rows(0)], 4, [[0, 1]]),
        ([rows(1), SCALAR, rows(1)], 4, [[0, 2], [1]]),
        ([SCALAR, SCALAR], 4, [[0], [1]]),
        ([rows(1), UNEVEN, NOTHING, rows(1)], 4, [[0, 3], [1], [2]]),
        ([rows(1), rows(1, 2), rows(1), rows(1, 2)], 4, [[0, 2], [1, 3]]),
        ([rows(3), rows(3, 2), rows(3), rows(1, 2), rows(1)], 4, [[0], [1, 3], [2, 4]]),
        ([rows(1), rows(1)], 1, [[0], [1]]),
    ],
)
def test_batches_hold_calls_that_fit_in_order_of_arrival(
    calls: list[Call], max_rows: int, right: list[list[int]]
) -> None:
    """Each call is in exactly one batch, and a batch of several calls never exceeds the limit."""
    batches = form_batches(calls, max_rows)
    assert batches == right
    assert sorted(index for batch in batches for index in batch) == list(range(len(calls)))


@pytest.mark.parametrize(
    ("calls", "max_rows", "right"),
    [
        ([], 4, []),
        ([rows(1), rows(3), rows(1)], 4, [(2, 4), (1, 1)]),
        ([rows(9)], 4, [(1, 4)]),
        ([rows(1), rows(9), rows(1)], 4, [(1, 1), (1, 4), (1, 1)]),
        ([SCALAR, NOTHING, UNEVEN, rows(0)], 4, [(4, 4)]),
        ([rows(2)] * 4, 4, [(2, 4), (2, 4)]),
    ],
)
def test_pieces_are_never_larger_than_a_batch_may_be(
    calls: list[Call], max_rows: int, right: list[tuple[int, int]]
) -> None:
    """Calls stay in order, every piece counts at least one row and at most the limit, whatever its calls look like."""
    pieces = cut(calls, max_rows)
    assert [(len(piece.calls), piece.rows) for piece in pieces] == right
    assert [call for piece in pieces for call in piece.calls] == list(calls)


@pytest.mark.parametrize(
    ("timeouts", "right"), [([1.0, 3.0, 2.0], 3.0), ([1.0, None], None), ([None], None), ([0.0], 0.0)]
)
def test_a_batch_has_the_time_of_its_most_patient_member(timeouts: list[float | None], right: float | None) -> None:
    """No limit is the longest time of all."""
    assert longest_timeout(rows(1, timeout=timeout) for timeout in timeouts) == right


def test_joined_rows_come_apart_as_they_were() -> None:
    """Splitting what was joined gives each member its own rows, in order, also to one without any."""
    members = [np.array([1, 2], np.float32), np.zeros(0, np.float32), np.array([3], np.float32)]
    joined = join([Call("s", {"x": member}, ("y",), float(index)) for index, member in enumerate(members)])
    assert joined.inputs["x"].tolist() == [1, 2, 3]
    assert (joined.signature_name, joined.outputs, joined.timeout) == ("s", ("y",), 2.0)
    parts = split({"y": joined.inputs["x"] * 2, "z": joined.inputs["x"].reshape(3, 1)}, [2, 0, 1])
    assert [part["y"].tolist() for part in parts] == [[2, 4], [], [6]]
    assert [part["z"].tolist() for part in parts] == [[[1], [2]], [], [[3]]]


@pytest.mark.parametrize(
    ("output", "message"),
    [(np.zeros(()), "has 0 dimensions"), (np.zeros(2), "does not equal the sum"), (np.zeros((1, 3)), "sum of the 0th")],
)
def test_outputs_without_a_row_per_row_are_refused(output: np.ndarray, message: str) -> None:
    """An output whose rows cannot be told apart belongs to nobody, as in TensorFlow Serving."""
    with pytest.raises(FailedPrecondition, match=message):
        split({"good": np.zeros(3), "y": output}, [1, 2])
