"""What travels on lanes: every call, reply and error arrives as it was sent, however it is cut, or is refused."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving_app.core import errors
from serving_app.core.errors import Code, InvalidArgument, RuntimeFailure, ServingError
from serving_app.core.servable import ServableId
from serving_app.core.signatures import DType
from serving_app.protocol import lane_hops
from serving_app.protocol.calls import Answer, Call
from serving_app.protocol.dtypes import to_numpy
from serving_app.protocol.lane_frames import (
    ALIGNMENT,
    Frame,
    Inbox,
    Kind,
    Malformed,
    header,
    hello,
    read_hello,
    read_welcome,
)
from serving_app.protocol.lane_hops import (
    read_answer,
    read_fault,
    read_hop,
    read_servable,
    write_answer,
    write_fault,
    write_hop,
)
from serving_app.protocol.lane_tensors import LARGE_BYTES

FORMS = [to_numpy(dtype) for dtype in DType if dtype not in (DType.INVALID, DType.RESOURCE, DType.VARIANT)]
"""Every element type that can be sent."""


def receive(pieces: Iterable[Any], chunks: Sequence[int] = (1 << 30,)) -> list[Frame]:
    """What an inbox makes of these bytes when they come in chunks of these sizes, again and again."""
    data = memoryview(b"".join(pieces))
    inbox = Inbox()
    frames = []
    sizes = itertools.cycle(chunks)
    while data:
        room = inbox.get_buffer()
        size = min(len(room), len(data), next(sizes))
        room[:size] = data[:size]
        data = data[size:]
        frames += inbox.take(size)
    return frames


def body(pieces: Iterable[Any]) -> Any:
    (frame,) = receive(pieces)
    return frame.body


def same(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> bool:
    """Whether two arrays are equal to the bit."""
    if one.dtype.kind == "O":
        return one.shape == other.shape and one.ravel().tolist() == other.ravel().tolist()
    return (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())


def check_calls(calls: Sequence[Call], read: Sequence[Call]) -> None:
    assert len(read) == len(calls)
    for call, came in zip(calls, read, strict=True):
        assert came._replace(inputs={}) == call._replace(inputs={})
        assert list(came.inputs) == list(call.inputs)
        assert all(same(call.inputs[name], came.inputs[name]) for name in call.inputs)


def filled(form: np.dtype[Any], shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """An array with bytes of chance."""
    chance = random.Random(f"{form}{shape}")
    count = int(np.prod(shape))
    if form.kind == "O":
        strings = np.empty(count, np.object_)
        strings[:] = [chance.randbytes(chance.choice((0, 1, 5, 40))) for _ in range(count)]
        return strings.reshape(shape)
    values = np.frombuffer(bytearray(chance.randbytes(count * form.itemsize)), np.uint8)
    return (values & 1 if form.kind == "b" else values).view(form).reshape(shape)


SHAPES = [(), (0,), (3,), (1, 1), (2, 0, 4), (5, 7), (64, 65), (1, 130, 130)]

shapes = st.lists(st.integers(0, 5), max_size=4).map(tuple) | st.sampled_from(SHAPES)
tensors = st.dictionaries(
    st.text(max_size=8), st.builds(filled, st.sampled_from(FORMS), shapes), max_size=4
)
times = st.none() | st.floats(0.001, 1e6)
calls = st.builds(
    Call,
    signature_name=st.text(max_size=8),
    inputs=tensors,
    outputs=st.none() | st.lists(st.text(max_size=5), max_size=3).map(tuple),
    timeout=times,
    api=st.sampled_from(("Predict", "Classify", "")),
    members=st.just(()),
    timeouts=st.just(()),
).flatmap(
    lambda call: st.just(call) | st.builds(
        lambda rows, left: call._replace(members=tuple(rows), timeouts=tuple(left)),
        st.lists(st.integers(1, 9), min_size=1, max_size=3), st.lists(times, max_size=3),
    )
)
cuts = st.lists(st.integers(1, 40) | st.integers(100, 200_000), min_size=2, max_size=5).filter(
    lambda sizes: max(sizes) > 99  # or it takes too long
)
failures = st.builds(RuntimeFailure, st.sampled_from([code for code in Code if code]), st.text(max_size=9)) | st.builds(
    InvalidArgument, st.text(max_size=9)
)
seconds = st.floats(0, 1e3)
answers = st.tuples(
    st.lists(tensors | failures, max_size=6),
    seconds,
    st.lists(st.integers(1, 9), max_size=3).map(tuple),
    st.integers(0, 1 << 20),
    *[seconds] * len(Answer._fields[4:]),
).map(lambda fields: Answer(*fields))


@given(st.lists(calls, max_size=5), cuts)
def test_a_hop_arrives_as_it_was_sent(sent: list[Call], chunks: list[int]) -> None:
    """Every field of every call survives, whatever the calls are and in whatever chunks the bytes come."""
    (frame,) = receive(write_hop(7, sent), chunks)
    assert frame[:2] == (Kind.HOP, 7)
    check_calls(sent, read_hop(frame.body))


versions = st.builds(ServableId, st.text(max_size=70), st.integers(0, (1 << 63) - 1))


@given(st.lists(calls, max_size=5), cuts, versions)
def test_a_hop_may_say_for_which_version_it_is(sent: list[Call], chunks: list[int], servable: ServableId) -> None:
    """The version comes out, and the calls are those of a hop that names none, aligned as there."""
    (frame,) = receive(write_hop(7, sent, servable), chunks)
    assert frame[:2] == (Kind.HOP_FOR, 7)
    came, rest = read_servable(frame.body)
    assert came == servable
    assert bytes(rest) == bytes(body(write_hop(7, sent)))
    assert (len(frame.body) - len(rest)) % ALIGNMENT == 0
    check_calls(sent, read_hop(rest))


@given(answers, cuts)
def test_an_answer_arrives_as_it_was_sent(sent: Answer, chunks: list[int]) -> None:
    """The same of replies: outputs, errors with their type, code and message, and what an answer tells besides."""
    (frame,) = receive(write_answer(8, sent), chunks)
    assert frame[:2] == (Kind.ANSWER, 8)
    came = read_answer(frame.body)
    assert came._replace(replies=[]) == sent._replace(replies=[])
    for reply, other in zip(sent.replies, came.replies, strict=True):
        if isinstance(reply, ServingError):
            assert (type(other), repr(other)) == (type(reply), repr(reply))
        else:
            assert isinstance(other, dict)
            assert all(same(reply[name], other[name]) for name in reply)
            assert list(other) == list(reply)


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_every_element_type_travels(form: np.dtype[Any]) -> None:
    """Each type in each shape, small and large, next to each other in one call."""
    call = Call("s", {str(shape): filled(form, shape) for shape in SHAPES})
    check_calls([call, call], read_hop(body(write_hop(1, [call, call]))))


def test_every_error_keeps_its_type() -> None:
    """Whoever catches errors by type can do so on this side as well."""
    kinds = [
        each for each in vars(errors).values()
        if isinstance(each, type) and issubclass(each, ServingError) and each is not RuntimeFailure
    ]
    assert len(kinds) > 10
    for kind in kinds:
        came = read_fault(body(write_fault(1, kind("no"))))
        assert (type(came), came.message) == (kind, "no")
    assert repr(read_fault(body(write_fault(1, KeyError("x"))))) == "Internal(INTERNAL: KeyError: 'x')"


@pytest.mark.parametrize(
    ("given_array", "came"),
    [
        (np.array([1, 2], ">i4"), np.array([1, 2], "<i4")),
        (np.array([b"a", b"bc"]), np.array([b"a", b"bc"], object)),
        (np.array(["ä"]), np.array(["ä".encode()], object)),
        (np.array(["ä", b"x"], object), np.array(["ä".encode(), b"x"], object)),
        (np.arange(12.0).reshape(3, 4).T, np.arange(12.0).reshape(3, 4).T.copy()),
        (np.arange(90_000.0)[::3], np.arange(0.0, 90_000.0, 3)),
    ],
)
def test_other_forms_of_arrays_arrive_in_the_usual_one(
    given_array: np.ndarray[Any, Any], came: np.ndarray[Any, Any]
) -> None:
    """Other byte orders, strings of other kinds and arrays that do not lie in a row are what the model would see."""
    (call,) = read_hop(body(write_hop(1, [Call("s", {"x": given_array})])))
    assert same(call.inputs["x"], came)


@pytest.mark.parametrize("value", [
    np.array([object()]), np.array(["2020"], "M8[D]"), np.array(["\ud800"], object),
])
def test_what_no_lane_carries_is_refused_by_the_sender(value: np.ndarray[Any, Any]) -> None:
    """A call of such values is not sent, and such outputs are an error of that reply alone."""
    with pytest.raises(InvalidArgument):
        write_hop(1, [Call("s", {"x": value})])
    beside = {"small": np.ones(3), "large": np.ones(LARGE_BYTES)}
    sent = Answer([{"y": np.ones(1)}, {**beside, "y": value}, {"y": np.full(2, 7.0)}], 0.0)
    replies = read_answer(body(write_answer(1, sent))).replies
    assert [isinstance(reply, InvalidArgument) for reply in replies] == [False, True, False]
    assert isinstance(replies[2], dict)
    assert replies[2]["y"].tolist() == [7, 7]


def test_what_is_remembered_of_wide_calls_is_bounded() -> None:
    """Clients choose how many rows they send; of a model with many inputs fewer such forms are remembered."""
    for rows in range(100):
        wide = Call("wide", {str(number): np.zeros((rows, 1)) for number in range(300)})
        assert read_hop(body(write_hop(1, [wide])))[0].inputs["7"].shape == (rows, 1)
    assert 0 < len(lane_hops._written) < 60
    assert 0 < len(lane_hops._read_calls) < 60


def test_large_arrays_are_not_copied() -> None:
    """A large input is handed to the socket where it lies, and read where it has arrived, where TensorFlow can, too."""
    image = np.ones((224, 224, 3), np.float32)
    pieces = write_hop(1, [Call("s", {"n": np.array(1), "x": image})])
    large = [piece for piece in pieces if len(piece) >= LARGE_BYTES]
    assert [np.frombuffer(piece, np.uint8).ctypes.data for piece in large] == [image.ctypes.data]
    (frame,) = receive(pieces, [100_000])
    assert isinstance(frame.body, memoryview)
    came = read_hop(frame.body)[0].inputs["x"]
    assert np.shares_memory(came, np.frombuffer(frame.body, np.uint8))
    assert came.ctypes.data % 64 == 0


@given(st.lists(st.integers(0, 3000), min_size=1, max_size=20), cuts)
def test_frames_are_cut_right(sizes: list[int], chunks: list[int]) -> None:
    """However frames follow each other and whatever comes at a time, each comes out once, in order."""
    sent = [(Kind.FAULT, hop, bytes([hop % 256]) * size * (1 + 50 * (hop % 2))) for hop, size in enumerate(sizes)]
    frames = receive([header(kind, hop, len(data)) + data for kind, hop, data in sent], chunks)
    assert [(kind, hop, bytes(data)) for kind, hop, data in frames] == sent


@pytest.mark.parametrize(
    ("came", "reason"),
    [
        (header(Kind.HOP)[:-4] + b"\x63\0\0\0", "99 is no kind"),
        (header(Kind.HOP, 1, 1 << 40), "is too large"),
    ],
)
def test_frames_that_are_none_are_refused(came: bytes, reason: str) -> None:
    """A kind that nobody knows, and a length that cannot be."""
    with pytest.raises(Malformed, match=reason):
        receive([came])


def test_a_stranger_is_told_apart() -> None:
    """Another protocol, another format and a hello that is cut short are not taken for ours."""
    sent = hello(b"secret")[16:]
    assert read_hello(bytearray(sent)) == b"secret"
    for wrong in (b"GET / HTTP/1.1\r\nHost: x\r\n", sent[:10], sent[:16] + b"\x09" + sent[17:], b""):
        with pytest.raises(Malformed):
            read_hello(bytearray(wrong))
    for wrong in (b"", b"\0\0\0\0", b"\1\0\0\0\0"):
        with pytest.raises(Malformed):
            read_welcome(bytearray(wrong))


HOP = [
    Call("s", {"x": np.ones(3), "t": np.array([b"a", b"bcd"], object)}, ("y",), 1.0),
    Call("s", {"x": np.zeros((100, 100))}, None, None, "", (1, 2), (None, 2.0)),
]
ANSWER = Answer([{"y": np.ones(3)}, InvalidArgument("no"), {"z": np.zeros((100, 100))}], 0.1, (1, 2), 5)


@given(st.data())
def test_damage_is_noticed_or_does_none(data: st.DataObject) -> None:
    """Whatever bytes come as a hop, an answer or a fault: they are read or refused, and nothing else is raised."""
    write, read = data.draw(st.sampled_from([
        (lambda: write_hop(1, HOP), read_hop),
        (lambda: write_hop(1, HOP, ServableId("m", 1)), read_servable),
        (lambda: write_answer(1, ANSWER), read_answer),
        (lambda: write_fault(1, InvalidArgument("no")), read_fault),
    ]))
    damaged = bytearray(body(write()))  # type: ignore[no-untyped-call]
    for _ in range(data.draw(st.integers(0, 4))):
        at = data.draw(st.integers(0, min(len(damaged), 400) - 1))
        damaged[at] = data.draw(st.integers(0, 255))
    damaged = damaged[: data.draw(st.integers(0, len(damaged)) | st.just(len(damaged)))]
    try:
        read(damaged)  # type: ignore[operator]
    except Malformed:
        return
