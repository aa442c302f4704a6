"""Requests joined into calls, and their replies taken apart again."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving_app.core.errors import Internal, InvalidArgument, ServingError
from serving_app.protocol.calls import Answer, Call, Reply
from serving_app.protocol.joined_calls import join_requests, members_of, send_apart


def x(*values: Any, dtype: Any = np.float32, **more: Any) -> Call:
    """A request with one vector."""
    return Call("serving_default", {"x": np.array(values, dtype)}, **more)


def joined_places(requests: list[Call], most_rows: int = 1000) -> list[list[int]]:
    """Which requests share a call."""
    joined = join_requests(requests, [None] * len(requests), most_rows)
    places = iter(joined.order)
    return [[next(places) for _ in range(call.requests)] for call in joined.calls]


def doubled(calls: list[Call]) -> Answer:
    """What a replica answers that doubles every row: whole where it can, and -1 is an error of its own."""
    replies: list[Reply] = []
    counts: list[int] = []
    for call in calls:
        if any((array == -1).any() for array in call.inputs.values()):
            replies += [_double(request) for request in members_of(call)]
            counts += [1] * call.requests
        else:
            replies.append(_double(call))
            counts.append(call.requests)
    return Answer(replies, 0.0, tuple(counts))


def _double(call: Call) -> Reply:
    if any((array == -1).any() for array in call.inputs.values()):
        return InvalidArgument("a bad member")
    return {f"{name}2": array * 2 for name, array in call.inputs.items()}


def test_requests_of_one_kind_share_a_call() -> None:
    """Rows stand one request after the other; how many each has, and the time that each has left, is told."""
    joined = join_requests([x(1), x(2, 3), x(4)], [None, 2.0, 1.0], 1000)
    (call,) = joined.calls
    assert call.inputs["x"].tolist() == [1, 2, 3, 4]
    assert call.members == (1, 2, 1)
    assert call.timeouts == (None, 2.0, 1.0)
    assert call.timeout is None
    assert join_requests([x(1), x(2)], [3.0, 2.0], 1000).calls[0].timeout == 3.0
    assert join_requests([x(1), x(2)], [None, None], 1000).calls[0].timeouts == ()


def test_a_request_without_company_travels_as_it_is() -> None:
    """What is alone is not copied and is no joined call; its time is what it has left."""
    request = x(1, timeout=9.0)
    (call,) = join_requests([request], [1.5], 1000).calls
    assert call.inputs is request.inputs
    assert (call.members, call.timeout) == ((), 1.5)


@pytest.mark.parametrize(
    "other",
    [
        x(2)._replace(signature_name="other"),
        x(2, outputs=("y",)),
        x(2, api="Classify"),
        x(2, dtype=np.int64),
        x(2, dtype=">f4"),
        Call("serving_default", {"z": np.zeros(1, np.float32)}),
        Call("serving_default", {"x": np.zeros((1, 1), np.float32)}),
        Call("serving_default", {"x": np.zeros(1, np.float32), "z": np.zeros(1)}),
    ],
)
def test_requests_that_differ_in_more_than_rows_travel_apart(other: Call) -> None:
    """Signature, outputs, what a run counts as, names, element types and inner shapes must agree."""
    assert joined_places([x(1), other, x(3)]) == [[0, 2], [1]]


@pytest.mark.parametrize(
    "odd",
    [
        Call("serving_default", {}),
        Call("serving_default", {"x": np.zeros((), np.float32)}),
        Call("serving_default", {"x": np.zeros(0, np.float32)}),
        Call("serving_default", {"a": np.zeros(2), "b": np.zeros(3)}),
        Call("serving_default", {"a": np.zeros(2), "b": np.zeros(())}),
        Call("serving_default", {"a": np.zeros(0), "b": np.zeros(0)}),
        Call("serving_default", {"x": np.zeros((1, 1 << 15), np.float32)}),
    ],
)
def test_what_cannot_or_need_not_be_joined_travels_alone(odd: Call) -> None:
    """Scalars, no inputs, no rows, inputs that disagree, and large tensors are left to whom they are for."""
    assert joined_places([odd, x(1), odd, x(2)]) == [[0], [1, 3], [2]]


def test_no_call_is_larger_than_a_run() -> None:
    """Calls are cut between requests; one that is too large by itself goes to whoever refuses it."""
    assert joined_places([x(1), x(1, 2), x(1), x(*range(9)), x(1)], 3) == [[0, 1], [2], [3], [4]]


def test_several_inputs_are_joined_each() -> None:
    """The order in which inputs are named does not matter."""
    one = Call("s", {"a": np.array([1, 2]), "b": np.array([[1], [2]])})
    other = Call("s", {"b": np.array([[3]]), "a": np.array([3])})
    joined = join_requests([one, other], [None, None], 1000)
    (call,) = joined.calls
    assert (call.inputs["a"].tolist(), call.inputs["b"].tolist()) == ([1, 2, 3], [[1], [2], [3]])
    first, second = joined.separate(doubled(joined.calls))
    assert isinstance(first, dict)
    assert isinstance(second, dict)
    assert (first["a2"].tolist(), second["b2"].tolist()) == ([2, 4], [[6]])


def test_outputs_are_cut_without_a_copy() -> None:
    """Each request gets a view of its rows."""
    joined = join_requests([x(1), x(2, 3)], [None, None], 1000)
    rows = np.array([10.0, 20.0, 30.0])
    first, second = joined.separate(Answer([{"y": rows}], 0.0, (2,)))
    assert isinstance(first, dict)
    assert isinstance(second, dict)
    assert (first["y"].tolist(), second["y"].tolist()) == ([10], [20, 30])
    assert second["y"].base is rows


def test_the_error_of_several_is_the_error_of_each() -> None:
    """One reply may be for many requests, whatever it is."""
    error = InvalidArgument("no")
    joined = join_requests([x(1), x(2), x(3)], [None] * 3, 1000)
    assert joined.separate(Answer([error, {"y": np.array([6])}], 0.0, (2, 1)))[:2] == [error, error]


@pytest.mark.parametrize("answer", [Answer([], 0.0), Answer([{}] * 4, 0.0), Answer([{"y": np.zeros(2)}], 0.0, (2,))])
def test_a_wrong_number_of_replies_is_found_out(answer: Answer) -> None:
    """Nobody gets another one's reply when there are more or fewer than requests."""
    requests = [x(1), x(2), x(3)]
    for joined in (join_requests(requests, [None] * 3, 1000), send_apart(requests, [None] * 3)):
        with pytest.raises(Internal, match="3 calls were answered by"):
            joined.separate(answer)


REQUESTS = st.builds(
    lambda signature, name, dtype, inner, rows, bad: Call(
        signature, {name: (np.full((rows, *inner), -1) if bad else np.arange(rows * 2).repeat(2)[:rows]).astype(dtype)}
        if not inner or bad
        else {name: np.ones((rows, *inner), dtype)},
    ),
    st.sampled_from("ab"), st.sampled_from("xy"), st.sampled_from([np.float32, np.int64]),
    st.sampled_from([(), (2,)]), st.integers(0, 4), st.booleans(),
)  # fmt: skip


@given(st.lists(REQUESTS, max_size=12), st.integers(1, 6))
def test_each_request_gets_its_own_reply(requests: list[Call], most_rows: int) -> None:
    """Whatever is joined with what, the replies are those that each request would get alone, in order; and what is
    joined comes apart as it was."""
    joined = join_requests(requests, [None] * len(requests), most_rows)
    replies = joined.separate(doubled(joined.calls))
    for request, reply in zip(requests, replies, strict=True):
        right = _double(request)
        if isinstance(right, ServingError):
            assert isinstance(reply, InvalidArgument)
        else:
            assert isinstance(reply, dict)
            assert {name: array.tolist() for name, array in reply.items()} == {
                name: array.tolist() for name, array in right.items()
            }
    apart = [request for call in joined.calls for request in members_of(call)]
    for place, request in zip(joined.order, apart, strict=True):
        assert request.inputs.keys() == requests[place].inputs.keys()
        assert all((request.inputs[name] == array).all() for name, array in requests[place].inputs.items())
