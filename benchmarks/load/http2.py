"""gRPC's unary calls over HTTP/2 (RFC 9113) as a load: one call over and over, its frames prepared in advance.

It behaves as gRPC's own clients do where a server can tell: one connection carries many calls, headers are sent as
references after the first call, windows of both sides are kept to, pings and settings are acknowledged, and where a
server says that it will take no more calls on a connection (GOAWAY) the next ones go over a new one. It does not
compress, retry or cancel. Each call is checked: the HTTP status, gRPC's status, the message.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import cast

from benchmarks.load.answers import Answers
from benchmarks.load.hpack import HeaderError, RequestHeaders, ResponseHeaders, table_size
from benchmarks.load.http2_frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    OPENING,
    PADDED,
    PING,
    PRIORITY,
    REFILL,
    REFUSED,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    frame,
)
from benchmarks.load.pace import Pace


class Call:
    """One method with one message."""

    def __init__(self, host: str, port: int, path: str, message: bytes) -> None:
        fields = (
            (b":path", path.encode()),
            (b":authority", f"{host}:{port}".encode()),
            (b"te", b"trailers"),
            (b"content-type", b"application/grpc"),
            (b"user-agent", b"benchmark/1"),
        )
        self.peer = (host, port)
        self.headers = RequestHeaders((3, 6), fields)  # of the static table: ":method: POST", ":scheme: http"
        self.body = b"\0" + len(message).to_bytes(4, "big") + message


class _Stream:
    """A call under way: when it was due, and what has come of its answer."""

    __slots__ = ("due", "message", "window")

    def __init__(self, due: float, window: int) -> None:
        self.due = due
        self.message = b""
        self.window = window


class Http2Line(asyncio.Protocol):
    """A connection for calls, and its successor where the server ends it."""

    def __init__(self, pace: Pace, call: Call, answers: Answers) -> None:
        self._pace = pace
        self._call = call
        self._answers = answers
        self._transport: asyncio.Transport | None = None
        self._is_closed = False
        self.opened = 0
        """How many connections this line has had."""
        self._ended = asyncio.Event()
        self._waiting: deque[float] = deque()
        """Calls that wait for the connection, or for the server to allow one more at a time."""
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._reset()

    @classmethod
    async def open(cls, pace: Pace, call: Call, answers: Answers) -> Http2Line:
        """A connection whose server has told its settings."""
        line = cls(pace, call, answers)
        await asyncio.get_running_loop().create_connection(lambda: line, *call.peer)
        await line.ready
        return line

    async def close(self) -> None:
        """End it for good."""
        self._is_closed = True
        if self._transport is not None:
            self._transport.abort()
            await self._ended.wait()

    def _reset(self) -> None:
        self._is_open = False  # the settings have come, and no GOAWAY
        self._out: list[bytes] = []
        self._is_reading = False
        self._rest = b""
        self._block: bytes | None = None  # of a header block that goes on in other frames
        self._ends = False
        self._read_headers = ResponseHeaders()
        self._streams: dict[int, _Stream] = {}
        self._unsent: deque[tuple[int, int]] = deque()  # streams whose message is sent in part, and how much of it
        self._next = 1
        self._sends_plain = False
        self._table_size = b""  # tells the server that its limit for our dynamic table is kept to
        self._window = 65535
        self._stream_window = 65535
        self._most_frame = 16384
        self._most_streams = 2**31
        self._used = 0

    # --- calls -------------------------------------------------------------------------------------------------------

    def start(self, due: float) -> None:
        """Send the call."""
        self._waiting.append(due)
        self._send_waiting()

    def _send_waiting(self) -> None:
        """Send the calls that wait, as far as the server allows."""
        while self._waiting and self._is_open and len(self._streams) < self._most_streams:
            self._send(self._waiting.popleft())
        if not self._is_reading:
            self._flush()

    def _send(self, due: float) -> None:
        stream, self._next = self._next, self._next + 2
        if self._sends_plain:
            block = self._call.headers.plain
        else:
            block = self._call.headers.first if stream == 1 else self._call.headers.later
        if stream == 1:
            block = self._table_size + block
        self._streams[stream] = _Stream(due, self._stream_window)
        number, body = stream.to_bytes(4, "big"), self._call.body
        self._out.append(len(block).to_bytes(3, "big") + b"\1\4" + number + block)
        if not self._unsent and len(body) <= min(self._window, self._stream_window, self._most_frame):
            self._window -= len(body)
            self._out.append(len(body).to_bytes(3, "big") + b"\0\1" + number + body)
        else:
            self._unsent.append((stream, 0))
            self._send_more()

    def _send_more(self) -> None:
        """Send of the messages that are not sent yet what the windows allow, in turn."""
        body = self._call.body
        for _ in range(len(self._unsent)):
            number, sent = self._unsent.popleft()
            stream = self._streams.get(number)
            if stream is None:
                continue
            while sent < len(body):
                size = min(len(body) - sent, self._most_frame, self._window, stream.window)
                if size <= 0:
                    break
                flags = END_STREAM if sent + size == len(body) else 0
                self._out.append(frame(DATA, flags, number, body[sent : sent + size]))
                self._window -= size
                stream.window -= size
                sent += size
            if sent < len(body):
                self._unsent.append((number, sent))

    def _flush(self) -> None:
        if self._out and self._transport is not None:
            self._transport.writelines(self._out)
            self._out = []

    def _finish(self, number: int, wrong: str | None) -> None:
        stream = self._streams.pop(number, None)
        if stream is None:
            return
        self._pace.done(self, stream.due, wrong)
        if self._waiting:
            self._send_waiting()
        if not self._streams and not self._is_open and self._transport is not None:
            self._transport.close()

    # --- what comes --------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.opened += 1
        self._transport.write(OPENING)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._is_closed:
            self._ended.set()
            return
        under_way = list(self._streams)
        self._is_open = False
        for number in under_way:
            self._finish(number, f"the connection was lost: {exc}")
        self._reset()
        self._opening = asyncio.get_running_loop().create_task(self._open_again())

    async def _open_again(self) -> None:
        try:
            await asyncio.get_running_loop().create_connection(lambda: self, *self._call.peer)
        except OSError as error:
            waiting, self._waiting = self._waiting, deque()
            for due in waiting:
                self._pace.done(self, due, f"no connection: {error}")

    def data_received(self, data: bytes) -> None:
        received = self._rest + data if self._rest else data
        at, end = 0, len(received)
        self._is_reading = True
        while end - at >= 9:
            stop = at + 9 + int.from_bytes(received[at : at + 3], "big")
            if stop > end:
                break
            kind, flags = received[at + 3], received[at + 4]
            number = int.from_bytes(received[at + 5 : at + 9], "big")
            self._on_frame(kind, flags, number, received[at + 9 : stop])
            at = stop
        self._rest = received[at:]
        if self._used > REFILL:
            self._out.append(frame(WINDOW_UPDATE, 0, 0, self._used.to_bytes(4, "big")))
            self._used = 0
        self._is_reading = False
        self._flush()

    def _on_frame(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        if kind == DATA:
            self._used += len(payload)
            stream = self._streams.get(number)
            if stream is not None:
                payload = payload[1 : len(payload) - payload[0]] if flags & PADDED else payload
                stream.message = stream.message + payload if stream.message else payload
                if flags & END_STREAM:
                    self._finish(number, "an answer without a status of gRPC's")
        elif kind == HEADERS:
            if flags & (PADDED | PRIORITY):
                first = 1 if flags & PADDED else 0
                last = len(payload) - payload[0] if flags & PADDED else len(payload)
                payload = payload[first + (5 if flags & PRIORITY else 0) : last]
            self._on_headers(number, payload, bool(flags & END_HEADERS), bool(flags & END_STREAM))
        elif kind == CONTINUATION:
            self._on_headers(number, (self._block or b"") + payload, bool(flags & END_HEADERS), self._ends)
        elif kind == WINDOW_UPDATE:
            self._widen(number, int.from_bytes(payload, "big"))
        elif kind == SETTINGS and not flags & ACK:
            self._on_settings(payload)
        elif kind == PING and not flags & ACK:
            self._out.append(frame(PING, ACK, 0, payload))
        elif kind == RST_STREAM:
            self._on_reset(number, int.from_bytes(payload, "big"))
        elif kind == GOAWAY:
            self._on_go_away(int.from_bytes(payload[:4], "big"))

    def _on_headers(self, number: int, block: bytes, is_whole: bool, ends: bool) -> None:
        if not is_whole:
            self._block, self._ends = block, ends
            return
        self._block = None
        try:
            fields = self._read_headers.read(block)
        except HeaderError as error:
            self._finish(number, str(error))
            return
        if ends:
            self._finish(number, self._find_wrong(number, fields))
        elif fields.get(b":status", b"200") != b"200":
            self._finish(number, f"the HTTP status {fields[b':status']!r}")

    def _find_wrong(self, number: int, trailers: dict[bytes, bytes]) -> str | None:
        status = trailers.get(b"grpc-status")
        if status != b"0":
            return f"gRPC's status {status!r}: {trailers.get(b'grpc-message', b'')[:300]!r}"
        stream = self._streams.get(number)
        message = stream.message if stream is not None else b""
        if message[:5] != b"\0" + max(len(message) - 5, 0).to_bytes(4, "big"):
            return f"an answer whose frame is wrong: {message[:20]!r}"
        return self._answers.find_wrong(message[5:])

    def _on_settings(self, payload: bytes) -> None:
        for at in range(0, len(payload), 6):
            name, value = int.from_bytes(payload[at : at + 2], "big"), int.from_bytes(payload[at + 2 : at + 6], "big")
            if name == 1:
                self._sends_plain = value < 1024
                self._table_size = table_size(value) if value < 4096 else b""
            elif name == 3:
                self._most_streams = value
            elif name == 4:
                for stream in self._streams.values():
                    stream.window += value - self._stream_window
                self._stream_window = value
            elif name == 5:
                self._most_frame = value
        self._out.append(frame(SETTINGS, ACK, 0))
        if self._next == 1:
            self._is_open = True
            if not self.ready.done():
                self.ready.set_result(None)
            self._send_waiting()
        self._send_more()

    def _widen(self, number: int, by: int) -> None:
        if number == 0:
            self._window += by
        elif (stream := self._streams.get(number)) is not None:
            stream.window += by
        if self._unsent:
            self._send_more()

    def _on_reset(self, number: int, code: int) -> None:
        """A call that was refused was not looked at, as where the server still counts calls that it has answered; it is
        sent again when another one ends."""
        if code == REFUSED and number in self._streams and len(self._streams) > 1:
            self._waiting.appendleft(self._streams.pop(number).due)
        else:
            self._finish(number, f"the stream was reset with {code}")

    def _on_go_away(self, last: int) -> None:
        """Calls after the last one that the server takes were not looked at, so they are sent again."""
        self._is_open = False
        for number in [number for number in self._streams if number > last]:
            self._waiting.append(self._streams.pop(number).due)
        if not self._streams and self._transport is not None:
            self._transport.close()
