"""One connection of gRPC, byte by byte: what calls are answered, what ends them, and what a slow client may cost."""

from __future__ import annotations

import asyncio
import gc
import gzip
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving_app.core.errors import NotFound
from serving_app.protocol.grpc_wire import parse_timeout, percent_encode
from serving_app.protocol.hpack import literal
from serving_app.protocol.http2_frames import (
    ACK,
    GOAWAY,
    HEADER_TABLE_SIZE,
    INITIAL_WINDOW_SIZE,
    PING,
    PREFACE,
    RST_STREAM,
    WINDOW_UPDATE,
    ErrorCode,
    ping,
    reset,
    settings_frame,
    window_update,
)
from serving_app.protocol.http2_streams import Limits
from serving_app.serve.grpc_calls import Call, Context, Method
from serving_app.serve.grpc_connection import GrpcConnection
from serving_app.serve.grpc_settings import GrpcSettings, grpc_settings
from tests.protocol.http2_peer import BLOCK, GREETING, REQUEST, Answers, ask, data, headers, message
from tests.stepping import PATIENCE_S, run_by_turns, until

LARGEST = 1000


class Wire(asyncio.Transport):
    """The socket, with a client at its other end that reads as told."""

    def __init__(self) -> None:
        super().__init__()
        self.answers = Answers()
        self.is_reading = True
        self.closed: str | None = None
        self.unsent: Iterator[int] = iter(())
        self.connection: GrpcConnection

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return next(self.unsent, 0)

    def write(self, data: Any) -> None:
        self.answers.read(bytes(data))

    def writelines(self, list_of_data: Any) -> None:
        self.write(b"".join(list_of_data))

    def pause_reading(self) -> None:
        self.is_reading = False

    def resume_reading(self) -> None:
        self.is_reading = True

    def is_closing(self) -> bool:
        return self.closed is not None

    def close(self) -> None:
        self._end("closed")

    def abort(self) -> None:
        self._end("aborted")

    def _end(self, how: str) -> None:
        if self.closed is None:
            self.closed = how
            asyncio.get_running_loop().call_soon(self.connection.connection_lost, None)


class Scene:
    """A connection, its client's side, and methods of all kinds."""

    def __init__(self, settings: GrpcSettings, greeting: bytes = GREETING) -> None:
        self.let_go = asyncio.Event()
        self.cancelled = 0
        self.seen: list[bytes] = []
        self.gone: list[GrpcConnection] = []
        methods = {
            "/t/Echo": Method(answer=self._echo), "/t/Wait": Method(answer=self._wait),
            "/t/Fail": Method(answer=self._fail), "/t/Many": Method(answers=self._many),
            "/t/Talk": Method(answers=self._talk, takes_many=True),
        }
        self.connection = GrpcConnection(methods, settings, self.gone.append)
        self.wire = Wire()
        self.wire.connection = self.connection
        self.connection.connection_made(self.wire)
        self.send(greeting)

    def send(self, sent: bytes) -> None:
        self.connection.data_received(sent)

    @property
    def answers(self) -> Answers:
        return self.wire.answers

    def status(self, stream: int) -> tuple[str, str]:
        """The HTTP status, and gRPC's."""
        fields = self.answers.fields[stream]
        return fields[0][":status"], fields[-1].get("grpc-status", "")

    def goodbyes(self) -> list[int]:
        return [int.from_bytes(each.payload[:4], "big") for each in self.answers.of(GOAWAY)]

    async def _echo(self, request: bytes, _context: Context) -> bytes:
        return request

    async def _wait(self, request: bytes, context: Context) -> bytes:
        left = context.time_remaining()
        assert left is None or left > 0
        try:
            await self.let_go.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return request

    async def _fail(self, request: bytes, _context: Context) -> bytes:
        raise NotFound("no 100% ä") if request else KeyError("x")

    async def _many(self, request: bytes, _context: Context) -> AsyncIterator[bytes]:
        try:
            for number in range(int(request)):
                yield b"%d" % number * 1000
            if request == b"3":
                raise NotFound("after three")
        finally:
            self.cancelled += 1

    async def _talk(self, requests: AsyncIterator[bytes], _context: Context) -> AsyncIterator[bytes]:
        async for request in requests:
            self.seen.append(request)
            if request == b"wait":
                await self.let_go.wait()
            yield request


def with_fields(path: str = "/t/Echo", **fields: str) -> bytes:
    """A header block: dashes are written as underscores."""
    changed = {**REQUEST, ":path": path, **{name.replace("_", "-"): value for name, value in fields.items()}}
    return b"".join(literal(name.encode(), value.encode()) for name, value in changed.items())


def on_loop(
    play: Callable[[Scene], Awaitable[None]], settings: GrpcSettings | None = None, greeting: bytes = GREETING
) -> None:
    async def run() -> None:
        scene = Scene(settings or grpc_settings(LARGEST), greeting)
        try:
            await asyncio.wait_for(play(scene), PATIENCE_S)
        finally:
            scene.wire.abort()
            await until(lambda: scene.gone == [scene.connection])
            await until(lambda: scene.connection.http2.lingering == 0)

    run_by_turns(run())


GZIP, BOMB = gzip.compress(b"hello"), gzip.compress(bytes(100_000))

CALLS: list[tuple[str, bytes, tuple[str, str], bytes | None]] = [
    # what is asked, and the statuses and the data of the answer
    ("an echo", ask(1), ("200", "0"), message(b"hello")),
    ("an empty one", ask(1, b""), ("200", "0"), message(b"")),
    ("with a charset", ask(1, block=with_fields(content_type="application/grpc+proto; x=y")), ("200", "0"),
     message(b"hello")),
    ("in pieces", headers(1) + data(1, message(b"hello")[:3]) + data(1, b"") + data(1, message(b"hello")[3:7])
     + data(1, message(b"hello")[7:], ends=True), ("200", "0"), message(b"hello")),
    ("ended by nothing", headers(1) + data(1, message(b"hello")) + data(1, b"", ends=True), ("200", "0"),
     message(b"hello")),
    ("two messages, of which one counts", headers(1) + data(1, message(b"a") + message(b"b"), ends=True),
     ("200", "0"), message(b"a")),
    ("no message", headers(1, ends=True), ("200", "3"), None),
    ("half a message", headers(1) + data(1, message(b"hello")[:8], ends=True), ("200", "3"), None),
    ("a prefix of another protocol", ask(1, b"")[:-5] + b"\x02\0\0\0\0", ("200", "13"), None),
    ("too large", headers(1) + data(1, message(b"x" * 1001)), ("200", "8"), None),
    ("as large as allowed", ask(1, b"x" * 1000), ("200", "0"), message(b"x" * 1000)),
    ("gzip", headers(1, with_fields(grpc_encoding="gzip")) + data(1, message(GZIP, 1), ends=True), ("200", "0"),
     message(b"hello")),
    ("deflate", headers(1, with_fields(grpc_encoding="deflate"))
     + data(1, message(zlib.compress(b"hello"), 1), ends=True), ("200", "0"), message(b"hello")),
    ("gzip that is not used", headers(1, with_fields(grpc_encoding="gzip")) + data(1, message(b"hello"), ends=True),
     ("200", "0"), message(b"hello")),
    ("a bomb", headers(1, with_fields(grpc_encoding="gzip")) + data(1, message(BOMB, 1), ends=True), ("200", "8"),
     None),
    ("gzip that is none", headers(1, with_fields(grpc_encoding="gzip")) + data(1, message(b"hello", 1), ends=True),
     ("200", "13"), None),
    ("half a gzip", headers(1, with_fields(grpc_encoding="gzip")) + data(1, message(GZIP[:-9], 1), ends=True),
     ("200", "13"), None),
    ("compressed, and not said how", headers(1) + data(1, message(GZIP, 1), ends=True), ("200", "13"), None),
    ("compressed in an unknown way", headers(1, with_fields(grpc_encoding="br")) + data(1, message(b"x", 1), ends=True),
     ("200", "12"), None),
    ("an error", ask(1, block=with_fields("/t/Fail")), ("200", "5"), None),
    ("a fault", ask(1, b"", with_fields("/t/Fail")), ("200", "13"), None),
    ("an unknown method", ask(1, block=with_fields("/t/Nope")), ("200", "12"), None),
    ("another type", ask(1, block=with_fields(content_type="application/json")), ("415", ""), None),
    ("a type that begins alike", ask(1, block=with_fields(content_type="application/grpcx")), ("415", ""), None),
    ("another verb", ask(1, block=with_fields(**{":method": "PUT"})), ("405", ""), None),
    ("too many fields", ask(1, block=BLOCK + literal(b"a", b"b" * 5000) * 4), ("200", "8"), None),
    ("many answers", ask(1, b"2", with_fields("/t/Many")), ("200", "0"), message(b"0" * 1000) + message(b"1" * 1000)),
    ("no answers", ask(1, b"0", with_fields("/t/Many")), ("200", "0"), None),
    ("an error after some", ask(1, b"3", with_fields("/t/Many")), ("200", "5"),
     message(b"0" * 1000) + message(b"1" * 1000) + message(b"2" * 1000)),
    ("a conversation", headers(1, with_fields("/t/Talk")) + data(1, message(b"a") + message(b"b")[:2])
     + data(1, message(b"b")[2:], ends=True), ("200", "0"), message(b"a") + message(b"b")),
    ("a conversation without a word", headers(1, with_fields("/t/Talk"), ends=True), ("200", "0"), None),
    ("a conversation that breaks off", headers(1, with_fields("/t/Talk")) + data(1, message(b"b")[:2], ends=True),
     ("200", "3"), None),
]  # fmt: skip


@pytest.mark.parametrize(("sent", "status", "answer"), [row[1:] for row in CALLS], ids=[row[0] for row in CALLS])
def test_calls(sent: bytes, status: tuple[str, str], answer: bytes | None) -> None:
    """Each kind of call has the status and the data that gRPC gives it; the connection goes on; and the same comes of
    the same bytes one by one."""

    async def play(scene: Scene) -> None:
        scene.send(sent)
        await until(lambda: 1 in scene.answers.ended)
        assert scene.status(1) == status
        assert scene.answers.data.get(1) == answer
        scene.send(ask(3))
        await until(lambda: 3 in scene.answers.ended)
        assert scene.answers.data[3] == message(b"hello")
        assert scene.connection.is_idle
        assert not scene.answers.of(GOAWAY)

    async def play_slowly(scene: Scene) -> None:
        for at in range(0, len(sent), 1 + len(sent) // 500):
            scene.send(sent[at : at + 1 + len(sent) // 500])
        await until(lambda: 1 in scene.answers.ended)
        assert (scene.status(1), scene.answers.data.get(1)) == (status, answer)

    on_loop(play)
    on_loop(play_slowly)


BAD_HEADS: list[dict[str, str]] = [
    *({":path": ""} | {"x": "a\nb"}, {"X": "upper"}, {"connection": "close"}, {"te": "gzip"}, {":status": "200"}),
    {"x": "a\0b"},
]


@pytest.mark.parametrize("fields", BAD_HEADS)
def test_fields_that_no_request_has(fields: dict[str, str]) -> None:
    """A request that HTTP/2 does not allow is reset, and the connection goes on."""

    async def play(scene: Scene) -> None:
        scene.send(headers(1, with_fields(**fields)) + headers(3, literal(b":path", b"/"), ends=True) + ask(5))
        resets = [(each.stream, each.number) for each in scene.answers.of(RST_STREAM)]
        assert resets == [(1, ErrorCode.PROTOCOL_ERROR), (3, ErrorCode.PROTOCOL_ERROR)]
        assert scene.status(5) == ("200", "0")

    on_loop(play)


def test_answers_of_one_read_go_out_in_one_write() -> None:
    """Calls that need not wait are answered before their bytes have been left, in one piece, and of few bytes."""

    async def play(scene: Scene) -> None:
        writes: list[bytes] = []
        scene.send(ask(1) + window_update(0, 5))
        scene.wire.write = writes.append  # type: ignore[method-assign]
        scene.send(b"".join(ask(stream) for stream in range(3, 63, 2)))
        assert len(writes) == 1
        assert len(writes[0]) == 30 * (3 * 9 + 3 + 1 + 10)
        scene.answers.read(writes[0])
        assert len(scene.answers.ended) == 31

    on_loop(play)


def test_a_thousand_calls_at_once() -> None:
    """Calls that wait side by side are each answered with their own, and leave nothing behind."""

    async def play(scene: Scene) -> None:
        block = with_fields("/t/Wait", grpc_timeout="1M")
        scene.send(b"".join(ask(stream, b"%d" % stream, block) for stream in range(1, 2001, 2)))
        assert not scene.answers.ended
        assert len(scene.connection.http2.streams) == 1000
        scene.let_go.set()
        await until(lambda: len(scene.answers.ended) == 1000)
        assert all(scene.answers.data[stream] == message(b"%d" % stream) for stream in range(1, 2001, 2))
        assert scene.connection.is_idle

    on_loop(play)


def test_calls_leave_nothing_behind() -> None:
    """When a call is answered, or given up, its memory is free at once: no cycle of references keeps it."""

    def calls() -> int:
        return sum(isinstance(each, Call) for each in gc.get_objects())

    async def play(scene: Scene) -> None:
        before = calls()
        wait = with_fields("/t/Wait")
        scene.send(b"".join(ask(stream) for stream in range(1, 20, 2)) + ask(21, block=wait) + ask(23, block=wait))
        assert calls() == before + 2
        scene.send(reset(21, ErrorCode.CANCEL))
        scene.let_go.set()
        await until(lambda: 23 in scene.answers.ended)
        assert calls() == before

    gc.disable()
    try:
        on_loop(play)
    finally:
        gc.enable()


def test_what_a_client_gives_up_is_cancelled() -> None:
    """A call that is reset is cancelled where it waits, also in the read that brought it; so are all when the
    connection goes."""

    async def play(scene: Scene) -> None:
        block = with_fields("/t/Wait")
        scene.send(ask(1, block=block) + ask(3, block=block) + reset(3, ErrorCode.CANCEL) + ask(5, block=block))
        scene.send(headers(7, with_fields("/t/Talk")) + data(7, message(b"wait")))
        await until(lambda: scene.cancelled == 1)
        scene.send(reset(1, ErrorCode.CANCEL) + reset(7, ErrorCode.CANCEL))
        await until(lambda: scene.cancelled == 2)
        assert scene.connection.http2.streams.keys() == {5}
        scene.wire.abort()
        await until(lambda: scene.cancelled == 3)
        assert not scene.answers.fields

    on_loop(play)


def test_deadlines_are_kept_here_too() -> None:
    """A call whose time is over is cancelled and told so, the earliest first, also one whose request never comes; the
    others go on."""

    async def play(scene: Scene) -> None:
        slow, quick = with_fields("/t/Wait", grpc_timeout="1H"), with_fields("/t/Wait", grpc_timeout="40m")
        scene.send(ask(1, block=slow) + ask(3, block=quick))
        scene.send(headers(5, with_fields(grpc_timeout="60000u")) + data(5, b"\0"))
        await until(lambda: {3, 5} <= set(scene.answers.ended))
        assert scene.status(3) == scene.status(5) == ("200", "4")
        assert scene.answers.fields[3][0]["grpc-message"] == "Deadline Exceeded"
        await until(lambda: scene.cancelled == 1)
        scene.let_go.set()
        await until(lambda: 1 in scene.answers.ended)
        assert scene.status(1) == ("200", "0")

    on_loop(play)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        *((b"1H", 3600.0), (b"2M", 120.0), (b"10S", 10.0), (b"10100m", 10.1), (b"5u", 5e-6), (b"20000000n", 0.02)),
        *((None, None), (b"", None), (b"1", None), (b"S", None), (b"123456789S", None), (b"-1S", None), (b"1s", None)),
    ],
)
def test_timeouts(text: bytes | None, seconds: float | None) -> None:
    """Each unit is read; what is no timeout is none, as of grpc."""
    assert parse_timeout(text) == (None if seconds is None else pytest.approx(seconds))


def test_messages_of_errors_are_percent_encoded() -> None:
    """What cannot be in a header is written by its bytes."""
    assert percent_encode("a b~ 100% ä\n") == b"a b~ 100%25 %C3%A4%0A"


def test_an_answer_that_waits_is_overtaken() -> None:
    """While one answer waits for its window, others go out; the table of fields is the same on both sides all along."""

    async def play(scene: Scene) -> None:
        scene.send(ask(1) + ask(3))
        assert not scene.answers.ended
        assert scene.answers.data[1] == message(b"hello")[:6]
        scene.send(window_update(3, 100))
        assert scene.answers.ended == [3]
        scene.send(window_update(1, 100) + settings_frame({INITIAL_WINDOW_SIZE: 65_535}) + ask(5) + ask(7))
        assert scene.answers.ended == [3, 1, 5, 7]
        for stream in (1, 3, 5, 7):
            assert scene.answers.data[stream] == message(b"hello")
            assert scene.answers.fields[stream][1] == {"grpc-status": "0"}
            assert scene.answers.fields[stream][0]["content-type"] == "application/grpc"

    on_loop(play, greeting=PREFACE + settings_frame({INITIAL_WINDOW_SIZE: 6}))


@pytest.mark.parametrize("late", [False, True])
def test_a_client_without_a_table(late: bool) -> None:
    """A client that keeps no table, from the beginning or from later on, is sent every field in full."""
    shrink = settings_frame({HEADER_TABLE_SIZE: 0})

    async def play(scene: Scene) -> None:
        scene.send(ask(1) + (shrink if late else b""))
        scene.send(ask(3) + ask(5, block=with_fields("/t/Fail")) + ask(7))
        assert scene.status(3) == scene.status(7) == ("200", "0")
        assert scene.status(5) == ("200", "5")
        assert not scene.answers._decoder._entries

    on_loop(play, greeting=PREFACE + (settings_frame({}) if late else shrink))


def test_a_table_shrinks_with_its_acknowledgement() -> None:
    """The answers to calls that came right after the settings, in the same read, keep to them already."""

    async def play(scene: Scene) -> None:
        scene.send(ask(1))
        assert scene.answers._decoder._entries
        scene.send(settings_frame({HEADER_TABLE_SIZE: 0}) + ask(3) + ask(5))
        assert not scene.answers._decoder._entries
        assert scene.status(3) == scene.status(5) == ("200", "0")

    on_loop(play)


def test_deadlines_hold_before_and_after_the_work() -> None:
    """A call of which nothing but its fields came ends at its deadline, and so does one whose answer is not taken."""

    async def play(scene: Scene) -> None:
        soon = with_fields(grpc_timeout="40m")
        scene.send(headers(1, soon) + ask(3, block=soon))
        assert scene.connection.http2.streams.keys() == {1, 3}
        await until(lambda: len(scene.answers.of(RST_STREAM)) == 2)
        assert scene.status(1) == ("200", "4")
        assert not scene.connection.http2.streams
        ends = [(each.stream, each.number) for each in scene.answers.of(RST_STREAM)]
        assert ends == [(1, ErrorCode.NO_ERROR), (3, ErrorCode.CANCEL)]

    on_loop(play, greeting=PREFACE + settings_frame({INITIAL_WINDOW_SIZE: 0}))


def test_a_client_that_does_not_read_is_not_read_either() -> None:
    """While the socket is full nothing more is taken from the client, and streams make no more answers."""

    async def play(scene: Scene) -> None:
        scene.connection.pause_writing()
        assert not scene.wire.is_reading
        scene.send(ask(1, b"2", with_fields("/t/Many")))
        for _ in range(5):
            await asyncio.sleep(0)
        assert scene.answers.data[1] == message(b"0" * 1000)
        scene.connection.resume_writing()
        assert scene.wire.is_reading
        await until(lambda: 1 in scene.answers.ended)

    on_loop(play)


def test_answers_that_nobody_takes_are_not_made() -> None:
    """A stream of answers waits where the client's window is full, and ends when the client goes."""

    async def play(scene: Scene) -> None:
        scene.send(ask(1, b"1000", with_fields("/t/Many")))
        for _ in range(5):
            await asyncio.sleep(0)
        assert len(scene.answers.data[1]) == 1500
        scene.send(window_update(1, 600))
        await until(lambda: len(scene.answers.data[1]) == 2100)
        scene.send(reset(1, ErrorCode.CANCEL))
        await until(lambda: scene.cancelled == 1)

    on_loop(play, greeting=PREFACE + settings_frame({INITIAL_WINDOW_SIZE: 1500}))


def test_a_window_wakes_its_own_stream_only() -> None:
    """Streams of answers that wait are left alone by whatever else comes, however many there are."""

    async def play(scene: Scene) -> None:
        streams = scene.connection.http2.streams
        scene.send(ask(1, b"1000", with_fields("/t/Many")) + ask(3, b"1000", with_fields("/t/Many")))
        await until(lambda: all(stream.went for stream in streams.values()))
        waits = [streams[number].went for number in (1, 3)]
        scene.send(ping(b"anything") + ask(5))
        scene.send(window_update(1, 600))
        await until(lambda: len(scene.answers.data[1]) == 2100)
        await until(lambda: streams[1].went is not None)
        assert streams[1].went is not waits[0]
        assert streams[3].went is waits[1]

    on_loop(play, greeting=PREFACE + settings_frame({INITIAL_WINDOW_SIZE: 1500}))


def test_questions_that_nobody_reads_are_not_taken() -> None:
    """In a conversation the client may send more only as what it has sent is read."""
    settings = GrpcSettings(limits=Limits(stream_window=1000))

    def opened(scene: Scene) -> int:
        return sum(each.number for each in scene.answers.of(WINDOW_UPDATE) if each.stream == 1)

    async def play(scene: Scene) -> None:
        scene.send(headers(1, with_fields("/t/Talk")) + data(1, message(b"wait")))
        await until(lambda: scene.seen == [b"wait"])
        before = opened(scene)
        scene.send(data(1, message(b"x" * 300)) + data(1, message(b"y" * 300)))
        assert opened(scene) == before
        scene.let_go.set()
        await until(lambda: len(scene.seen) == 3)
        await until(lambda: opened(scene) >= before + 600)
        scene.send(data(1, message(b"z" * 5000)[:900]))
        assert opened(scene) >= 1500

    on_loop(play, settings)


def test_large_requests_open_their_window() -> None:
    """A message that is larger than the window comes in all the same."""
    settings = GrpcSettings(max_receive_bytes=1 << 20, limits=Limits(stream_window=1000))

    async def play(scene: Scene) -> None:
        body = message(bytes(100_000))
        scene.send(headers(1))
        sent, window = 0, 1000
        while sent < len(body):
            scene.send(data(1, body[sent : sent + window], ends=sent + window >= len(body)))
            sent += window
            window = 1000 + sum(each.number for each in scene.answers.of(WINDOW_UPDATE) if each.stream == 1) - sent
            assert window > 0 or sent >= len(body)
        scene.send(window_update(0, 1 << 20) + window_update(1, 1 << 20))
        await until(lambda: 1 in scene.answers.ended)
        assert scene.answers.data[1] == body

    on_loop(play, settings)


def test_an_answer_that_is_too_large_is_an_error() -> None:
    """What is larger than may be sent is refused by its size."""

    async def play(scene: Scene) -> None:
        scene.send(ask(1))
        assert scene.status(1) == ("200", "8")

    on_loop(play, grpc_settings(LARGEST, {"grpc.max_send_message_length": 4}))


# --- the end of a connection -----------------------------------------------------------------------------------------


def test_a_connection_retires() -> None:
    """New calls are answered until the client has heard of it; then those that are here; then it ends."""

    async def play(scene: Scene) -> None:
        scene.send(ask(1, block=with_fields("/t/Wait")))
        scene.connection.retire()
        scene.connection.retire()
        await until(lambda: scene.goodbyes() == [2**31 - 1])
        [farewell] = scene.answers.of(PING)
        scene.send(ask(3) + ping(farewell.payload, ACK) + ask(5))
        assert scene.goodbyes() == [2**31 - 1, 5]
        assert scene.answers.ended == [3, 5]
        scene.send(ask(7))
        scene.let_go.set()
        await until(lambda: scene.answers.ended == [3, 5, 1])
        assert scene.wire.closed is None  # the client closes
        await until(lambda: scene.wire.closed == "closed")  # as it does not
        assert 7 not in scene.answers.fields

    on_loop(play)


@pytest.mark.parametrize("name", ["grpc.max_connection_age_ms", "grpc.max_connection_idle_ms"])
def test_connections_age_if_that_is_asked_for(name: str) -> None:
    """A connection that is old, or that nobody has used for long, is ended in the same gentle way."""

    async def play(scene: Scene) -> None:
        scene.send(ask(1))
        await until(lambda: scene.goodbyes() == [2**31 - 1])

    on_loop(play, grpc_settings(LARGEST, {name: 20}))


def test_calls_that_outlast_the_grace_are_cut() -> None:
    """After its age, and the grace for what is under way, a connection is cut."""

    async def play(scene: Scene) -> None:
        scene.send(ask(1, block=with_fields("/t/Wait")))
        await until(lambda: scene.wire.closed == "aborted")
        await until(lambda: scene.cancelled == 1)

    on_loop(play, grpc_settings(LARGEST, {"grpc.max_connection_age_ms": 10, "grpc.max_connection_age_grace_ms": 10}))


def test_a_client_that_is_not_there_any_more_is_found_out() -> None:
    """Whoever does not answer a ping is cut; whoever does is not."""

    async def play(scene: Scene) -> None:
        await until(lambda: len(scene.answers.of(PING)) == 1)
        scene.send(ping(scene.answers.of(PING)[0].payload, ACK))
        await until(lambda: len(scene.answers.of(PING)) == 2)
        assert scene.wire.closed is None
        await until(lambda: scene.wire.closed == "aborted")

    on_loop(play, grpc_settings(LARGEST, {"grpc.keepalive_time_ms": 20, "grpc.keepalive_timeout_ms": 100}))


def test_a_client_that_takes_its_answers_slowly_is_there() -> None:
    """As long as some of what is sent goes out, a ping that is not answered means nothing."""

    async def play(scene: Scene) -> None:
        scene.wire.unsent = iter(range(9, 0, -1))  # less at each look
        await until(lambda: scene.wire.closed == "aborted")
        assert len(scene.answers.of(PING)) > 5

    on_loop(play, grpc_settings(LARGEST, {"grpc.keepalive_time_ms": 20, "grpc.keepalive_timeout_ms": 20}))


def test_what_breaks_the_protocol_ends_the_connection() -> None:
    """A client that speaks something else is told so and left; its calls are cancelled."""

    async def play(scene: Scene) -> None:
        scene.send(ask(1, block=with_fields("/t/Wait")) + window_update(0, 0))
        assert scene.wire.closed == "closed"
        await until(lambda: scene.cancelled == 1)
        with suppress(IndexError):
            scene.send(ask(3))
        assert 3 not in scene.answers.fields

    on_loop(play)


def test_a_client_that_says_nothing_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever connects and does not begin is cut after a while; whoever has begun may rest."""
    monkeypatch.setattr("serving_app.serve.grpc_lifetime.GREETING_S", 0.01)

    async def play(scene: Scene) -> None:
        await until(lambda: scene.wire.closed == "aborted")

    async def rest(scene: Scene) -> None:
        await asyncio.sleep(0.05)
        assert scene.wire.closed is None

    on_loop(play, greeting=PREFACE)
    on_loop(rest)


_BLOCKS = st.sampled_from(
    [BLOCK, *(with_fields(path, grpc_timeout="5m") for path in ("/t/Wait", "/t/Many", "/t/Talk", "/t/Fail"))]
)
_STREAMS = st.sampled_from((1, 3, 5, 7, 9))
_DATA = st.sampled_from((message(b"2"), message(b"")[:3], message(b"wait"), message(GZIP, 1), b"\2\0\0\0\0", b""))
_FRAMES = st.one_of(
    st.builds(ask, _STREAMS, st.sampled_from((b"3", b"", b"x" * 1001)), _BLOCKS),
    st.builds(headers, _STREAMS, _BLOCKS),
    st.builds(lambda stream, payload, ends: data(stream, payload, ends=ends), _STREAMS, _DATA, st.booleans()),
    st.builds(reset, _STREAMS, st.just(ErrorCode.CANCEL)),
    st.builds(window_update, _STREAMS, st.integers(0, 5000)),
    st.just(settings_frame({INITIAL_WINDOW_SIZE: 3})),
    st.binary(max_size=12),
)


@settings(deadline=None, max_examples=100)
@given(st.lists(_FRAMES, max_size=15))
def test_whatever_a_client_sends_is_brought_to_an_end(frames: list[bytes]) -> None:
    """Any frames in any order raise nothing, and leave no call behind when the connection ends."""

    async def play(scene: Scene) -> None:
        for each in frames:
            scene.send(each)
            await asyncio.sleep(0)
        assert len(scene.connection.http2.streams) <= len(frames)

    on_loop(play)


# --- settings --------------------------------------------------------------------------------------------------------


def test_channel_arguments_that_have_an_effect(caplog: pytest.LogCaptureFixture) -> None:
    """Each is found in the settings, within its bounds; endless times are none; the others are named in the log."""
    arguments: dict[str, int | str] = {
        "grpc.max_concurrent_streams": 7, "grpc.max_metadata_size": 99, "grpc.http2.max_frame_size": 1,
        "grpc.http2.lookahead_bytes": 1 << 20, "grpc.max_connection_age_ms": 1500, "grpc.keepalive_time_ms": 2**31 - 1,
        "grpc.keepalive_permit_without_calls": 0, "grpc.max_receive_message_length": -1,
    }  # fmt: skip
    settings = grpc_settings(5, arguments)
    assert settings == GrpcSettings(
        max_receive_bytes=-1,
        limits=Limits(streams=7, header_bytes=99, frame_bytes=16_384, stream_window=1 << 20),
        max_age_s=1.5,
        keepalive_s=None,
        keepalive_when_idle=False,
    )
    assert caplog.text == ""
    assert grpc_settings(5, {"grpc.so_reuseport": 0, "grpc.max_metadata_size": "x"}) == GrpcSettings(5)
    assert "grpc.so_reuseport, grpc.max_metadata_size are without effect" in caplog.text
