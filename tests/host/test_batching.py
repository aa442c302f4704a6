"""The arithmetic of batching, as tables."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from serving_app.core.batching import Batching
from serving_app.core.errors import FailedPrecondition, InvalidArgument
from serving_app.host.batching import (
    concatenate,
    count_filling,
    cut_rows,
    join,
    kind_of,
    longest_timeout,
    put_together,
    row_count,
    split,
)
from serving_app.protocol.calls import Call


def rows(count: int, *inner: int, dtype: Any = np.float32, **more: Any) -> Call:
    """A call whose only input has this many rows."""
    return Call("serving_default", {"x": np.zeros((count, *inner), dtype)}, **more)


def x(values: Any, dtype: Any = np.float32) -> Call:
    return Call("serving_default", {"x": np.array(values, dtype)})


@pytest.mark.parametrize(
    ("call", "right"),
    [(rows(3), 3), (rows(0), 0), (rows(2, 5), 2), (Call("s", {"a": np.zeros((4, 1)), "b": np.zeros(4)}), 4)],
)
def test_rows_are_the_first_dimension_that_all_inputs_share(call: Call, right: int) -> None:
    """A call has as many rows as each of its inputs."""
    assert row_count(call) == right


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "Batching Run() must have at least one input tensor"),
        ({"x": np.zeros(())}, "Batching Run() input tensors must have at least one dimension"),
        ({"a": np.zeros(4), "b": np.zeros(())}, "Batching Run() input tensors must have at least one dimension"),
        ({"a": np.zeros(2), "b": np.zeros(3)}, "Batching Run() input tensors must have equal 0th-dimension size"),
    ],
)
def test_a_call_without_rows_is_refused(inputs: dict[str, np.ndarray], message: str) -> None:
    """What has no rows cannot be batched, in TensorFlow Serving's words."""
    with pytest.raises(InvalidArgument) as caught:
        row_count(Call("s", inputs))
    assert caught.value.message == message


def test_calls_agree_when_only_their_rows_differ() -> None:
    """The number of rows, the order of the inputs and the time left do not keep calls apart."""
    one = Call("s", {"a": np.zeros((1, 2)), "b": np.zeros(1)}, ("y",), 1.0)
    other = Call("s", {"b": np.ones(7), "a": np.ones((7, 2))}, ("y",), None)
    assert kind_of(one, pad=False) == kind_of(other, pad=False)
    assert hash(kind_of(one, pad=False)) == hash(kind_of(other, pad=False))


@pytest.mark.parametrize("pad", [False, True])
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
def test_calls_that_differ_in_more_than_rows_are_kept_apart(other: Call, pad: bool) -> None:
    """Signature, outputs, names, numbers of dimensions and element types must agree."""
    assert kind_of(rows(2), pad) != kind_of(other, pad)


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        (rows(2, 3), rows(2, 5), True),
        (rows(2, 3, 4), rows(1, 5, 1), True),
        (rows(2, 3), rows(2, 3, 1), False),
        (rows(0, 3), rows(2, 5), True),
        (rows(2, 0), rows(2, 5), False),
        (rows(2, 0), rows(3, 0), True),
        (rows(1, 1, 1, 1, 1, 2), rows(1, 1, 1, 1, 1, 1), True),
        (rows(1, 1, 1, 1, 1, 1, 2), rows(1, 1, 1, 1, 1, 1, 1), False),
        (rows(1, 1, 1, 1, 1, 1, 2), rows(3, 1, 1, 1, 1, 1, 2), True),
    ],
)
def test_with_padding_inner_shapes_may_differ_where_they_can_be_filled_up(
    one: Call, other: Call, is_same: bool
) -> None:
    """Padding brings calls of different inner shapes together; those that it cannot change meet only their like."""
    assert (kind_of(one, pad=True) == kind_of(other, pad=True)) is is_same
    is_equal_shape = one.inputs["x"].shape[1:] == other.inputs["x"].shape[1:]
    assert (kind_of(one, pad=False) == kind_of(other, pad=False)) is is_equal_shape


def test_types_that_numpy_does_not_know_are_kept_apart() -> None:
    """Types of ml_dtypes and quantized ones look alike to NumPy's type strings, and still are told apart."""
    types = [ml_dtypes.int4, ml_dtypes.uint4, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2, np.int8]
    types += [[("qint8", np.int8)], [("quint8", np.uint8)]]
    keys = {kind_of(rows(2, dtype=np.dtype(each)), pad=False) for each in types}
    assert len(keys) == len(types)


@pytest.mark.parametrize(
    ("timeouts", "right"), [([1.0, 3.0, 2.0], 3.0), ([1.0, None], None), ([None], None), ([0.0], 0.0)]
)
def test_a_batch_has_the_time_of_its_most_patient_member(timeouts: list[float | None], right: float | None) -> None:
    """No limit is the longest time of all."""
    assert longest_timeout(rows(1, timeout=timeout) for timeout in timeouts) == right


def test_joined_rows_come_apart_as_they_were() -> None:
    """Splitting what was joined gives each member its own rows, in order, also to one without any."""
    members = [np.array([1, 2], np.float32), np.zeros(0, np.float32), np.array([3], np.float32)]
    calls = [Call("s", {"x": member}, ("y",), float(index)) for index, member in enumerate(members)]
    joined = join(calls)
    assert joined.inputs["x"].tolist() == [1, 2, 3]
    assert (joined.signature_name, joined.outputs, joined.timeout) == ("s", ("y",), 2.0)
    parts = split({"y": joined.inputs["x"] * 2, "z": joined.inputs["x"].reshape(3, 1)}, [2, 0, 1])
    assert [part["y"].tolist() for part in parts] == [[2, 4], [], [6]]
    assert [part["z"].tolist() for part in parts] == [[[1], [2]], [], [[3]]]


def test_a_single_call_is_not_copied() -> None:
    """What needs no company and no filling goes to the model as it came."""
    call = rows(3, 2)
    assert join([call]).inputs["x"] is call.inputs["x"]


@pytest.mark.parametrize(
    ("count", "allowed", "right"),
    [(3, (), 0), (3, (2, 4, 8), 1), (4, (2, 4, 8), 0), (5, (2, 4, 8), 3), (9, (2, 4, 8), 0), (0, (2,), 0)],
)
def test_batches_are_filled_up_to_the_next_allowed_size(count: int, allowed: tuple[int, ...], right: int) -> None:
    """A batch larger than every allowed size is left as it is, as in TensorFlow Serving."""
    assert count_filling(count, allowed) == right


@pytest.mark.parametrize("dtype", [np.float32, np.uint8, ml_dtypes.bfloat16, np.dtype([("qint8", np.int8)]), ">i4"])
def test_large_batches_lie_where_a_runtime_can_read_them(dtype: Any) -> None:
    """Rows of many bytes are copied once, to an address that is a multiple of 64, whatever their type."""
    members = [np.arange(1 << 17).astype(np.int8).reshape(2, -1).astype(dtype) for _ in range(3)]
    joined = concatenate(members)
    assert joined.ctypes.data % 64 == 0
    assert joined.dtype == np.dtype(dtype)
    assert joined.flags.c_contiguous
    assert (joined == np.concatenate(members)).all()


@pytest.mark.parametrize(
    ("members", "right"),
    [
        ([[1, 2], [3]], [1, 2, 3, 3]),
        ([[1], [2, 3]], [1, 2, 3, 2]),
        ([[1, 2, 3], []], [1, 2, 3, 1]),
        ([[b"a"], [b"b"]], [b"a", b"b", b"b", b"b"]),
        ([[], []], []),
    ],
)
def test_filling_repeats_the_first_row_of_the_last_call(members: list[list[Any]], right: list[Any]) -> None:
    """As in TensorFlow Serving; where the last call has no rows, of the last one that has. None are made of nothing."""
    dtype = object if any(isinstance(value, bytes) for value in right) else np.float32
    limits = Batching(max_batch_size=4, allowed_batch_sizes=(4,))
    filling = count_filling(sum(map(len, members)), limits.allowed_batch_sizes)
    assert join([x(member, dtype) for member in members], filling).inputs["x"].tolist() == right


def test_rows_that_fill_up_are_dropped_from_outputs() -> None:
    """Of a run that was filled up each member gets its own rows, and nobody those of the filling."""
    parts = split({"y": np.arange(8)}, [2, 3], filling=3)
    assert [part["y"].tolist() for part in parts] == [[0, 1], [2, 3, 4]]


@pytest.mark.parametrize(
    ("dtype", "one", "other", "right"),
    [
        (np.float32, [[1, 2, 3]], [[7], [8]], [[1, 2, 3], [7, 7, 7], [8, 7, 7]]),
        (object, [[b"a"]], [[b"b", b"c"]], [[b"a", b"a"], [b"b", b"c"]]),
        (np.int64, [[[1], [2]]], [[[3, 4]]], [[[1, 1], [2, 1]], [[3, 4], [3, 3]]]),
        (ml_dtypes.int4, [[1]], [[2, 3]], [[1, 1], [2, 3]]),
        (np.dtype([("qint8", np.int8)]), [[(1,)]], [[(2,), (3,)]], [[(1,), (1,)], [(2,), (3,)]]),
        (np.bool_, np.zeros((0, 1)), [[True, False]], [[True, False]]),
    ],
)
def test_shorter_rows_are_filled_up_with_their_first_element(dtype: Any, one: Any, other: Any, right: Any) -> None:
    """Every dimension grows at its end to the largest in the batch, by the call's own first element."""
    joined = join([x(one, dtype), x(other, dtype)])
    assert joined.inputs["x"].dtype == np.dtype(dtype)
    assert joined.inputs["x"].tolist() == right


@pytest.mark.parametrize(
    ("output", "message"),
    [(np.zeros(()), "has 0 dimensions"), (np.zeros(2), "does not equal the sum"), (np.zeros((1, 3)), "sum of the 0th")],
)
def test_outputs_without_a_row_per_row_are_refused(output: np.ndarray, message: str) -> None:
    """An output whose rows cannot be told apart belongs to nobody, as in TensorFlow Serving."""
    with pytest.raises(FailedPrecondition, match=message):
        split({"good": np.zeros(3), "y": output}, [1, 2])


def test_a_call_that_was_cut_is_put_together() -> None:
    """The pieces of a call hold its rows once each, in order, and their outputs become one answer again."""
    call = Call("s", {"a": np.arange(5), "b": np.arange(10).reshape(5, 2)}, ("y",), 1.0)
    pieces = [cut_rows(call, start, count) for start, count in ((0, 2), (2, 2), (4, 1))]
    assert [piece["a"].tolist() for piece in pieces] == [[0, 1], [2, 3], [4]]
    assert all(piece["b"].base is not None for piece in pieces)
    outputs = put_together([{"y": piece["a"], "z": piece["b"]} for piece in pieces])
    assert outputs["y"].tolist() == call.inputs["a"].tolist()
    assert outputs["z"].tolist() == call.inputs["b"].tolist()


def test_outputs_that_do_not_fit_together_are_an_error() -> None:
    """Where the pieces of one call got outputs of different widths, there is no answer to it."""
    with pytest.raises(FailedPrecondition, match=r"do not fit together.*set enable_large_batch_splitting to false"):
        put_together([{"y": np.zeros((2, 3))}, {"y": np.zeros((2, 4))}])
