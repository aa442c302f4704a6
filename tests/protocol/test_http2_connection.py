"""HTTP/2 without IO: frames, flow control, and what a client may not do."""

from __future__ import annotations

import random
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving_app.protocol.hpack import literal, reference
from serving_app.protocol.http2_frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HAS_PRIORITY,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    MAX_FRAME_SIZE,
    PADDED,
    PING,
    PREFACE,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    ErrorCode,
    frame,
    header_frames,
    ping,
    reset,
    settings_frame,
    window_update,
)
from serving_app.protocol.http2_streams import Limits
from tests.effort import lines_run
from tests.protocol.http2_peer import BLOCK, GREETING, REQUEST, Server, data, frames, headers

FIELDS = tuple((name.encode(), value.encode()) for name, value in REQUEST.items())
E = ErrorCode


def failure(server: Server) -> ErrorCode | None:
    """Why the connection was given up, if it was; GOAWAY says the same."""
    if server.connection.failure is None:
        assert not server.connection.is_closed
        return None
    [goaway] = server.answers.of(GOAWAY)
    assert goaway.payload[4:8] == server.connection.failure.code.to_bytes(4, "big")
    return server.connection.failure.code


def test_a_request_in_any_pieces() -> None:
    """Fields and data come to the owner whole, however the bytes are cut, padded, prioritised or continued."""
    padded = frame(DATA, PADDED, 1, b"\x03" + b"one" + b"pad")
    continued = frame(HEADERS, END_STREAM | PADDED | HAS_PRIORITY, 3, b"\x02" + b"\0\0\0\1\xff" + BLOCK[:9] + b"\0\0")
    rest = frame(CONTINUATION, 0, 3, BLOCK[9:20]) + frame(CONTINUATION, END_HEADERS, 3, BLOCK[20:])
    trailers = headers(1, literal(b"x", b"y"), ends=True)
    session = GREETING + headers(1) + padded + continued + rest + data(1, b"") + data(1, b"two") + trailers
    for step in (1, 2, 7, 10, 1000):
        server = Server(greeting=b"")
        server.send(session, step=step)
        assert failure(server) is None
        assert server.opened[1][1] == server.opened[3][1] == FIELDS
        assert (server.log(1).data, server.log(1).ended) == (b"onetwo", True)
        assert (server.log(3).data, server.log(3).ended) == (b"", True)


def test_a_block_means_what_the_table_makes_of_it() -> None:
    """The same bytes are another request once the table has changed; a request is never what it was before."""
    server = Server()
    server.send(headers(1, literal(b"a", b"1", keep=True)))
    for stream in (3, 5):
        server.send(headers(stream, reference(62)))
    server.send(headers(7, literal(b"a", b"2", keep=True)) + headers(9, reference(62)))
    server.send(headers(3, literal(b"a", b"3", keep=True), ends=True) + headers(11, reference(62)))
    assert [server.opened[stream][1][0][1] for stream in (1, 3, 5, 7, 9, 11)] == [b"1", b"1", b"1", b"2", b"2", b"3"]


PING_8 = b"12345678"

WRONG: list[tuple[str, bytes, ErrorCode]] = [
    ("a number that goes down", headers(3) + headers(1) + headers(2), E.PROTOCOL_ERROR),
    ("a stream of the server's", headers(2), E.PROTOCOL_ERROR),
    ("stream 0", headers(0), E.PROTOCOL_ERROR),
    ("data without a stream", data(1, b"x"), E.PROTOCOL_ERROR),
    ("data of the connection", data(0, b"x"), E.PROTOCOL_ERROR),
    ("a window without a stream", window_update(5, 1), E.PROTOCOL_ERROR),
    ("a reset without a stream", reset(5, E.CANCEL), E.PROTOCOL_ERROR),
    ("a window that grows by 0", window_update(0, 0), E.PROTOCOL_ERROR),
    ("a window that overflows", window_update(0, 2**31 - 1), E.FLOW_CONTROL_ERROR),
    ("a short window", frame(WINDOW_UPDATE, 0, 0, b"123"), E.FRAME_SIZE_ERROR),
    ("a short reset", headers(1) + frame(RST_STREAM, 0, 1, b"123"), E.FRAME_SIZE_ERROR),
    ("a short ping", frame(PING, 0, 0, b"1234567"), E.FRAME_SIZE_ERROR),
    ("a ping of a stream", frame(PING, 0, 1, PING_8), E.PROTOCOL_ERROR),
    ("settings of a stream", frame(SETTINGS, 0, 1), E.PROTOCOL_ERROR),
    ("broken settings", frame(SETTINGS, 0, 0, b"12345"), E.FRAME_SIZE_ERROR),
    ("an acknowledgement that says something", frame(SETTINGS, ACK, 0, b"123456"), E.FRAME_SIZE_ERROR),
    ("a push that is neither", settings_frame({2: 2}), E.PROTOCOL_ERROR),
    ("a window beyond all", settings_frame({4: 2**31}), E.FLOW_CONTROL_ERROR),
    ("tiny frames", settings_frame({5: 16_383}), E.PROTOCOL_ERROR),
    ("huge frames", settings_frame({5: 2**24}), E.PROTOCOL_ERROR),
    ("a stream's window that overflows", headers(1) + window_update(1, 2**31 - 65_536) + settings_frame({4: 65_536}),
     E.FLOW_CONTROL_ERROR),
    ("a promise", frame(PUSH_PROMISE, END_HEADERS, 1, BLOCK), E.PROTOCOL_ERROR),
    ("a continuation of nothing", frame(CONTINUATION, END_HEADERS, 1, BLOCK), E.PROTOCOL_ERROR),
    ("a block that is broken off", frame(HEADERS, 0, 1, BLOCK) + data(1, b""), E.PROTOCOL_ERROR),
    ("a block that another stream goes on with", frame(HEADERS, 0, 1, BLOCK) + frame(CONTINUATION, 4, 3),
     E.PROTOCOL_ERROR),
    ("nothing but padding", frame(HEADERS, END_HEADERS | PADDED, 1, b"\x05abcd"), E.PROTOCOL_ERROR),
    ("no room for padding", frame(HEADERS, END_HEADERS | PADDED, 1), E.FRAME_SIZE_ERROR),
    ("data that is padding", headers(1) + frame(DATA, PADDED, 1, b"\x05abcd"), E.PROTOCOL_ERROR),
    ("a stream that waits for itself", frame(HEADERS, END_HEADERS | HAS_PRIORITY, 1, b"\0\0\0\1\0" + BLOCK),
     E.PROTOCOL_ERROR),
    ("a broken priority", headers(1) + frame(PRIORITY, 0, 1, b"1234"), E.FRAME_SIZE_ERROR),
    ("a priority of nothing", frame(PRIORITY, 0, 0, b"12345"), E.PROTOCOL_ERROR),
    ("a farewell of a stream", frame(GOAWAY, 0, 1, PING_8), E.PROTOCOL_ERROR),
    ("a frame that is too large", b"\xff\xff\xff\0\0\0\0\0\1", E.FRAME_SIZE_ERROR),
    ("a block that is none", headers(1, b"\xff"), E.COMPRESSION_ERROR),
    ("a block without an end", b"".join(
        [frame(HEADERS, 0, 1), *[frame(CONTINUATION, 0, 1)] * 64]), E.ENHANCE_YOUR_CALM),
    ("a block that grows and grows", frame(HEADERS, 0, 1, b"x" * 99_000) + frame(CONTINUATION, 0, 1, b"x" * 99_000),
     E.ENHANCE_YOUR_CALM),
    ("too much that is no data", b"\x0f\0\0\xee\0\0\0\0\0", E.ENHANCE_YOUR_CALM),
    ("more than the connection's window", headers(1) + data(1, b"x" * 70_000), E.FLOW_CONTROL_ERROR),
    ("pings without an end", ping(PING_8) * 101, E.ENHANCE_YOUR_CALM),
    ("settings without an end", settings_frame({}) * 101, E.ENHANCE_YOUR_CALM),
    ("empty data without an end", headers(1) + data(1, b"") * 101, E.ENHANCE_YOUR_CALM),
    ("priorities without an end", frame(PRIORITY, 0, 1, b"\0\0\0\0\0") * 101, E.ENHANCE_YOUR_CALM),
    ("unknown frames without an end", frame(77, 0, 0, b"") * 101, E.ENHANCE_YOUR_CALM),
    ("requests given up without an end", b"".join(headers(n) + reset(n, E.CANCEL) for n in range(1, 203, 2)),
     E.ENHANCE_YOUR_CALM),
]  # fmt: skip

STRICT = Limits(
    connection_window=65_535, idle_frames_per_second=100, resets_per_second=100, stream_window=80_000, streams=1000
)


@pytest.mark.parametrize(("sent", "code"), [row[1:] for row in WRONG], ids=[row[0] for row in WRONG])
def test_what_no_connection_survives(sent: bytes, code: ErrorCode) -> None:
    """Each way to break the protocol, or to flood, ends the connection with the code that the RFC gives; the streams
    that it had are dropped, and nothing more is read.
    """
    for step in (None, 5):
        server = Server(STRICT)
        server.send(sent, step=step)
        assert failure(server) is code
        server.connection.receive(headers(999), 0.0)
        assert server.take() == b""
        assert all(log.is_dropped for _, _, log in server.opened.values())


@pytest.mark.parametrize(
    "greeting",
    [
        *(b"GET / HTTP/1.1\r\n\r\n", PREFACE + ping(PING_8), PREFACE + frame(SETTINGS, ACK, 0)),
        *(PREFACE + headers(1), PREFACE + data(1, b"")),
    ],
)
def test_a_beginning_that_is_none(greeting: bytes) -> None:
    """A client begins with the preface and its settings, and nothing else."""
    server = Server(greeting=greeting)
    assert failure(server) is E.PROTOCOL_ERROR


BROKEN_STREAMS: list[tuple[str, bytes, ErrorCode]] = [
    ("data after its end", headers(1, ends=True) + data(1, b"x"), E.STREAM_CLOSED),
    ("fields after its end", headers(1, ends=True) + headers(1, ends=True), E.STREAM_CLOSED),
    ("fields in between", headers(1) + headers(1), E.PROTOCOL_ERROR),
    ("a window that grows by 0", headers(1) + window_update(1, 0), E.PROTOCOL_ERROR),
    ("a window that overflows", headers(1) + window_update(1, 2**31 - 1), E.FLOW_CONTROL_ERROR),
    ("more than its window", headers(1) + data(1, b"x" * 1001), E.FLOW_CONTROL_ERROR),
]


@pytest.mark.parametrize(("sent", "code"), [row[1:] for row in BROKEN_STREAMS], ids=[row[0] for row in BROKEN_STREAMS])
def test_what_ends_one_stream(sent: bytes, code: ErrorCode) -> None:
    """Some mistakes end their stream alone: its owner hears of it, what still comes for it is ignored, and others go
    on."""
    server = Server(Limits(stream_window=1000))
    server.send(headers(3) if sent.startswith(headers(3)) else b"")
    server.send(sent + data(1, b"late") + window_update(1, 5) + reset(1, E.CANCEL) + headers(3, ends=True))
    assert failure(server) is None
    assert [(each.stream, each.number) for each in server.answers.of(RST_STREAM)] == [(1, code)]
    assert server.log(1).is_dropped
    assert server.log(3).ended


def test_more_streams_than_allowed_are_refused() -> None:
    """What is above the limit is refused so that it may be tried again; streams that were given up count until whoever
    answers them is done.
    """
    server = Server(Limits(streams=2))
    server.send(headers(1) + headers(3) + headers(5) + data(5, b"x", ends=True))
    assert [(each.stream, each.number) for each in server.answers.of(RST_STREAM)] == [(5, E.REFUSED_STREAM)]
    server.connection.lingering = 1
    server.send(reset(1, E.CANCEL) + headers(7))
    assert 7 not in server.opened
    server.connection.lingering = 0
    server.send(headers(9))
    assert 9 in server.opened


def test_floods_are_counted_by_the_second() -> None:
    """What is too much in a second is not in two, and calls, windows and their ends are no flood."""
    server = Server(STRICT)
    for second in range(5):
        server.send(ping(PING_8) * 90, now=float(second))
    calls = b"".join(headers(n) + window_update(n, 5) + data(n, b"", ends=True) for n in range(1, 1001, 2))
    server.send(calls + window_update(0, 1) * 1000, now=9.0)
    assert failure(server) is None
    assert len(server.answers.of(PING)) == 450


def test_answers_wait_for_windows() -> None:
    """No more is sent than the stream, the connection and the size of frames allow; what waits goes as they open, the
    fields that end a stream after its data, and settings change windows that are open.
    """
    server = Server(greeting=PREFACE + settings_frame({INITIAL_WINDOW_SIZE: 10, MAX_FRAME_SIZE: 16_384}))
    connection, answers = server.connection, server.answers
    server.send(headers(1, ends=True) + headers(3, ends=True))
    first, second = server.stream(1), server.stream(3)
    body = random.Random(1).randbytes(200_000)
    connection.sender.send_headers(first, literal(b"a", b"b"))
    assert not connection.sender.fits(first, 11)
    assert connection.sender.fits(second, 10)
    assert not connection.sender.send_data(first, b"12345", body)
    connection.sender.send_headers(first, literal(b"end", b"1"), ends=True)
    connection.sender.send_answer(second, literal(b"a", b"b"), b"12345", b"67890", literal(b"end", b"3"))
    server.take()
    assert (answers.data[1], answers.data[3]) == (b"12345" + body[:5], b"1234567890")
    assert answers.ended == [3]
    server.send(settings_frame({INITIAL_WINDOW_SIZE: 0}) + window_update(1, 5))
    assert len(answers.data[1]) == 10  # the window was 10 less, and has grown by 5: 5 are missing
    server.send(window_update(1, 5) + window_update(1, 1))
    assert len(answers.data[1]) == 11
    server.send(settings_frame({INITIAL_WINDOW_SIZE: 300_000}))
    assert len(answers.data[1]) + len(answers.data[3]) == 65_535
    server.send(window_update(0, 1 << 20))
    assert answers.data[1] == b"12345" + body
    assert answers.ended == [3, 1]
    assert answers.fields[1] == [{"a": "b"}, {"end": "1"}]
    assert connection.streams == {}


def test_answers_take_turns() -> None:
    """While a large answer waits for the connection's window, a small one waits for a turn of it and not for its end.
    """
    server = Server(greeting=PREFACE + settings_frame({INITIAL_WINDOW_SIZE: 1 << 30}))
    sender, answers = server.connection.sender, server.answers
    for number in (1, 3, 5, 7):
        server.send(headers(number, ends=True))
    for number, size in ((1, 1 << 20), (3, 1 << 20), (5, 100), (7, 100)):
        sender.send_data(server.stream(number), b"x" * size)
        sender.send_headers(server.stream(number), literal(b"end", b"1"), ends=True)
    server.send(window_update(0, 40_000))
    assert answers.ended == [5, 7]
    for _ in range(10):  # whoever is cut short by the window is not the first again
        server.send(window_update(0, 16_384))
    assert abs(len(answers.data[1]) - 65_535 - len(answers.data[3])) <= 2 * 16_384
    server.send(reset(1, E.CANCEL) + window_update(0, 1 << 21))
    assert answers.ended == [5, 7, 3]
    assert not server.connection.streams


def test_windows_cost_nothing_for_streams_that_they_do_not_help() -> None:
    """Ten thousand answers that wait for windows of their own are not looked at when the connection's grows, and not
    once for each of many settings.
    """
    server = Server(greeting=PREFACE + settings_frame({INITIAL_WINDOW_SIZE: 0}))
    for number in range(1, 20_000, 2):
        server.send(headers(number, ends=True))
        server.connection.sender.send_data(server.stream(number), b"x")
    many = b"".join(struct.pack(">HI", INITIAL_WINDOW_SIZE, size) for size in (2, 1) * 5000)
    assert lines_run(lambda: server.send(window_update(0, 1) * 10_000)) < 1_000_000
    assert lines_run(lambda: server.send(frame(SETTINGS, 0, 0, many[:-6]))) < 1_000_000
    assert server.answers.data == dict.fromkeys(range(1, 20000, 2), b"x")
    server.send(b"".join(settings_frame({INITIAL_WINDOW_SIZE: size}) for size in range(500)))
    assert failure(server) is E.ENHANCE_YOUR_CALM


def test_streams_that_are_broken_are_counted_like_those_that_are_given_up() -> None:
    """A client cannot have any number of calls begun and ended by breaking them instead of resetting them."""
    server = Server(Limits(resets_per_second=100))
    for number in range(1, 400, 2):
        server.send(headers(number) + window_update(number, 0))
    assert failure(server) is E.ENHANCE_YOUR_CALM
    assert len(server.opened) == 101


def test_blocks_are_not_remembered_for_ever() -> None:
    """Fields that differ from call to call do not fill the memory, however large they are."""
    server = Server()
    blocks = [BLOCK + literal(b"x", b"%4d" % number + b"x" * 10_000) for number in range(100)]
    for number, block in enumerate(blocks):
        server.send(headers(2 * number + 1, block))
        known = list(server.connection._heads._known)
        assert block in known
        assert sum(map(len, known)) <= 1 << 16


def test_frames_keep_to_the_size_that_the_client_takes() -> None:
    """Neither data nor fields come in larger frames than the client's settings say."""
    server = Server()
    server.send(headers(1, ends=True) + window_update(1, 1 << 20) + window_update(0, 1 << 20))
    server.connection.sender.send_headers(server.stream(1), literal(b"a", b"b" * 40_000))
    server.connection.sender.send_data(server.stream(1), b"x" * 40_000)
    sent = server.take()
    assert [(each.kind, len(each.payload)) for each in frames(sent)] == [
        *((HEADERS, 16_384), (CONTINUATION, 16_384), (CONTINUATION, 7_239)),
        *((DATA, 16_384), (DATA, 16_384), (DATA, 7_232)),
    ]
    assert header_frames(1, b"", 0, 10) == frame(HEADERS, END_HEADERS, 1)


def test_windows_of_requests_are_opened_again() -> None:
    """The connection's window opens as data comes, padding included; a stream's as its owner takes the data."""
    server = Server(Limits(stream_window=1 << 20, connection_window=1 << 20))
    server.send(headers(1) + frame(DATA, PADDED, 1, b"\xff" + b"x" * 1000 + bytes(255)))
    server.send(data(1, b"x" * (1 << 18)))
    [opened] = [each for each in server.answers.of(WINDOW_UPDATE)[1:] if each.stream == 0]
    assert opened.number == 1256 + (1 << 18)
    assert not [each for each in server.answers.of(WINDOW_UPDATE) if each.stream == 1]
    server.connection.give_credit(server.stream(1), 1000 + (1 << 18))
    server.take()
    [opened] = [each for each in server.answers.of(WINDOW_UPDATE) if each.stream == 1]
    assert opened.number == 1256 + (1 << 18)


def test_a_farewell() -> None:
    """After the warning new streams are still taken; after the goodbye they are not, and what comes for them, their
    fields included, disturbs nobody.
    """
    server = Server()
    connection = server.connection
    server.send(headers(1))
    connection.warn()
    connection.ping(b"farewell")
    server.send(headers(3) + ping(b"farewell", ACK))
    assert connection.pongs == [b"farewell"]
    assert server.opened.keys() == {1, 3}
    connection.say_goodbye()
    connection.say_goodbye()
    server.send(headers(5, literal(b"a", b"1", keep=True)) + data(5, b"x", ends=True) + data(1, b"y", ends=True))
    assert server.opened.keys() == {1, 3}
    assert server.log(1).ended
    assert [int.from_bytes(each.payload[:4], "big") for each in server.answers.of(GOAWAY)] == [2**31 - 1, 3]
    assert failure(server) is None


def test_an_answer_before_the_end_of_its_request() -> None:
    """The client is told that it need not send the rest; what is on its way is ignored, and the connection goes on."""
    server = Server()
    server.send(headers(1) + data(1, b"x"))
    server.connection.sender.send_headers(server.stream(1), literal(b"a", b"b"), ends=True)
    server.send(data(1, b"x", ends=True) + headers(3))
    assert [(each.stream, each.number) for each in server.answers.of(RST_STREAM)] == [(1, E.NO_ERROR)]
    assert server.log(1).data == b"x"
    assert failure(server) is None


@st.composite
def sessions(draw: st.DrawFn) -> bytes:
    """What a client might send: frames that mean something, and some that do not."""
    streams = st.integers(0, 9)
    kinds = st.sampled_from((DATA, DATA, HEADERS, HEADERS, *range(12)))
    flags = st.sampled_from((0, 0, 1, 4, 5, 5, 8, 0x2D)) | st.integers(0, 255)
    payload = st.sampled_from((BLOCK, BLOCK, b"\0\0\0\1", b"\0\0\0\0\5hello", PING_8, b"")) | st.binary(max_size=40)
    parts = draw(st.lists(st.builds(frame, kinds, flags, streams, payload) | st.binary(max_size=20), max_size=12))
    return b"".join(parts)


@settings(deadline=None)
@given(session=sessions(), cuts=st.lists(st.integers(1, 60), min_size=1, max_size=8))
def test_how_bytes_are_cut_changes_nothing(session: bytes, cuts: list[int]) -> None:
    """Any bytes are answered alike whatever pieces they come in, never raise, and leave owners that know their end."""
    whole, cut = Server(STRICT), Server(STRICT)
    whole.connection.receive(session, 0.0)
    at, turn = 0, 0
    while at < len(session):
        step = cuts[turn % len(cuts)]
        cut.connection.receive(session[at : at + step], 0.0)
        at, turn = at + step, turn + 1
    assert whole.take() == cut.take()
    assert whole.opened.keys() == cut.opened.keys()
    for stream in whole.opened:
        one, other = whole.log(stream), cut.log(stream)
        assert (one.ended, one.is_dropped) == (other.ended, other.is_dropped)
        if one.ended:
            assert one.data == other.data
