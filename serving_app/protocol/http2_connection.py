"""The server's side of an HTTP/2 connection (RFC 9113), without IO: bytes in, bytes out.

    connection = Connection(limits, read_head, accept)
    connection.receive(data, now)      # calls `accept` for each new stream, and then the stream's owner
    connection.send_headers(...), connection.send_data(...)
    transport.write(b"".join(connection.take()))

It is made for many small requests on one connection, as gRPC has them. A header block that has been seen before, while
HPACK's table is what it was, is looked up and not read; data is handed on as a part of what came, and copied by its
owner, once. What the other side may cost is bounded by Limits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from serving_app.protocol.hpack import Decoder, Field, HpackError
from serving_app.protocol.http2_frames import (
    ACK,
    CONTINUATION,
    DATA,
    DEFAULT_FRAME,
    DEFAULT_WINDOW,
    ENABLE_PUSH,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HAS_PRIORITY,
    HEADER,
    HEADER_TABLE_SIZE,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    LARGEST_FRAME,
    LARGEST_WINDOW,
    LAST_STREAM,
    MAX_CONCURRENT_STREAMS,
    MAX_FRAME_SIZE,
    MAX_HEADER_LIST_SIZE,
    PADDED,
    PING,
    PREFACE,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    SETTINGS_ACK,
    WINDOW_UPDATE,
    ConnectionFailure,
    ErrorCode,
    StreamFailure,
    goaway,
    header_frames,
    ping,
    read_settings,
    reset,
    settings_frame,
    window_update,
)

Head = TypeVar("Head")
"""What the fields of a request mean."""


class Owner(Protocol):
    """Who answers a stream."""

    def received(self, data: bytes, start: int, end: int, ended: bool) -> None:
        """These bytes of the request have come; `ended`: they are its last."""

    def dropped(self) -> None:
        """The stream is over before it was answered: the other side has given it up, or broken it."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one connection may ask for."""

    streams: int = 10_000
    """Requests at one time."""
    header_bytes: int = 16_384
    """Of the fields of one request, counted as HPACK counts them."""
    stream_window: int = 4 << 20
    """Of the data of one stream that are on their way or not yet taken."""
    connection_window: int = 64 << 20
    frame_bytes: int = 1 << 20
    resets_per_second: int = 10_000
    """Streams that the other side gives up: as many as can reach their deadline at one moment."""
    idle_frames_per_second: int = 5_000
    """Frames that ask for nothing: pings, settings, empty data, what nobody knows."""


class Stream:
    """One request and its answer."""

    __slots__ = ("credit", "credited", "id", "is_open", "outgoing", "owner", "trailers", "window")

    def __init__(self, number: int, window: int, credit: int) -> None:
        self.id = number
        self.window = window  # what may be sent
        self.credit = credit  # what may be received
        self.credited = 0  # what has been received and may be sent again
        self.is_open = True  # on the other side
        self.owner: Owner | None = None
        self.outgoing: list[memoryview] | None = None  # data that waits for a window
        self.trailers: bytes | None = None  # fields that wait for that data; the stream ends with them


Accept = Callable[[Stream, Head, bool], Owner | None]
"""Takes a new stream, and whether it has ended already: without data. None where it is answered at once."""

_SMALL = 1 << 16
"""Answers up to this size are joined, as a copy of them costs less than their parts would."""
_MOST_HEADS = 256
_MOST_CONTINUATIONS = 64
_WIDEST = 8
"""Header blocks may have this many times the bytes that their fields may have: references are short, so they do not."""


class Connection(Generic[Head]):
    """One connection. `read_head` makes of the fields of a request what `accept` is given, and raises StreamFailure for
    fields that are no request; it is given None for fields above the limit.
    """

    def __init__(self, limits: Limits, read_head: Callable[[list[Field], int], Head], accept: Accept[Head]) -> None:
        self._limits = limits
        self._read_head = read_head
        self._accept = accept
        self._decoder = Decoder(limits.header_bytes)
        self._heads: dict[bytes, Head] = {}
        self._generation = 0
        self.streams: dict[int, Stream] = {}
        self.lingering = 0  # streams that are given up, and whose owner is not done yet
        self.last = 0  # the newest stream
        self.is_closed = False
        self.failure: ConnectionFailure | None = None
        self.pongs: list[bytes] = []
        """Our own pings that were answered, until whoever sent them has taken them out."""
        self._accepts_up_to = LAST_STREAM
        self._out: list[bytes | memoryview] = []
        # What has come and is not a whole frame yet, and the data frame that is under way.
        self._rest = b""
        self._greeted = self._settled = False
        self._data_left = self._padding_left = 0
        self._data_ends = False
        self._data_stream: Stream | None = None
        self._block: list[bytes] | None = None
        self._block_size = self._block_stream = 0
        self._block_ends = False
        # What may be sent.
        self._window = DEFAULT_WINDOW
        self._peer_window = DEFAULT_WINDOW
        self._peer_frame = self._small = DEFAULT_FRAME
        self._waiting: dict[int, Stream] = {}  # streams with data that waits
        self.table_is_shrunk = False
        """Whether the other side has a smaller table for our fields than is usual."""
        # What may be received.
        self._credit = limits.connection_window
        self._credited = 0
        self._block_limit = max(limits.header_bytes * _WIDEST, DEFAULT_FRAME)
        # What cost nothing to send, in the second that began then.
        self._since = 0.0
        self._resets = self._idle_frames = 0
        self._out.append(
            settings_frame(
                {
                    MAX_CONCURRENT_STREAMS: limits.streams,
                    INITIAL_WINDOW_SIZE: limits.stream_window,
                    MAX_FRAME_SIZE: limits.frame_bytes,
                    MAX_HEADER_LIST_SIZE: limits.header_bytes,
                }
            )
        )
        if limits.connection_window > DEFAULT_WINDOW:
            self._out.append(window_update(0, limits.connection_window - DEFAULT_WINDOW))

    # --- what is to be sent ------------------------------------------------------------------------------------------

    def take(self) -> list[bytes | memoryview]:
        """What is to be sent now."""
        out, self._out = self._out, []
        return out

    def send_headers(self, stream: Stream, block: bytes, *, ends: bool = False) -> None:
        """Send fields; with `ends` the stream is over. Fields that end a stream follow its data, which may wait."""
        if ends and stream.outgoing:
            stream.trailers = block
            return
        self._out.append(header_frames(stream.id, block, END_STREAM if ends else 0, self._peer_frame))
        if ends:
            self._end(stream)

    def send_data(self, stream: Stream, *parts: bytes) -> bool:
        """Send data as far as the other side takes it; the rest goes when it takes more. Whether all of it went."""
        views = [memoryview(part) for part in parts if part]
        if stream.outgoing:
            stream.outgoing += views
            return False
        stream.outgoing = views
        return self._pump(stream)

    def fits(self, stream: Stream, size: int) -> bool:
        """Whether `send_answer` can send so many bytes of data: all at once, as the end of a stream."""
        return size <= self._small and size <= stream.window and size <= self._window and not stream.is_open

    def send_answer(self, stream: Stream, headers: bytes, prefix: bytes, message: bytes, trailers: bytes) -> None:
        """Send a whole answer that fits, and end the stream: fields, data in two parts, fields."""
        length = len(prefix) + len(message)
        number = stream.id
        self._window -= length
        size, ending = len(headers), len(trailers)
        pack = HEADER.pack
        self._out.append(
            b"".join(
                (
                    pack(size >> 8, size & 0xFF, HEADERS, END_HEADERS, number),
                    headers,
                    pack(length >> 8, length & 0xFF, DATA, 0, number),
                    prefix,
                    message,
                    pack(ending >> 8, ending & 0xFF, HEADERS, END_HEADERS | END_STREAM, number),
                    trailers,
                )
            )
        )
        del self.streams[number]

    def reset(self, stream: Stream, code: ErrorCode) -> None:
        """End a stream at once."""
        if self.streams.pop(stream.id, None) is not None:
            self._waiting.pop(stream.id, None)
            self._out.append(reset(stream.id, code))

    def ping(self, opaque: bytes) -> None:
        """Ask whether the other side is there; the answer comes to `pongs`."""
        self._out.append(ping(opaque))

    def warn(self) -> None:
        """Say that the connection will end, so that new requests go elsewhere; those that come are still answered."""
        self._out.append(goaway(LAST_STREAM, ErrorCode.NO_ERROR))

    def say_goodbye(self) -> None:
        """Take no more streams than are here; the other side knows then which ones it may send again elsewhere."""
        if self._accepts_up_to == LAST_STREAM:
            self._accepts_up_to = self.last
            self._out.append(goaway(self.last, ErrorCode.NO_ERROR))

    @property
    def said_goodbye(self) -> bool:
        """Whether no further streams are taken."""
        return self._accepts_up_to != LAST_STREAM

    def give_credit(self, stream: Stream, size: int) -> None:
        """The owner of a stream has taken so much of its data: as much may come again."""
        if not stream.is_open:
            return
        stream.credited += size
        if stream.credited >= self._limits.stream_window >> 2:
            self._out.append(window_update(stream.id, stream.credited))
            stream.credit += stream.credited
            stream.credited = 0

    def _pump(self, stream: Stream) -> bool:
        waiting = stream.outgoing or []
        number = stream.id
        done = 0
        for part in waiting:
            while part and (room := min(self._peer_frame, stream.window, self._window)) > 0:
                piece, part = part[:room], part[room:]
                size = len(piece)
                stream.window -= size
                self._window -= size
                self._out.append(HEADER.pack(size >> 8, size & 0xFF, DATA, 0, number))
                self._out.append(piece)
            if part:
                waiting[done] = part
                break
            done += 1
        del waiting[:done]
        if waiting:
            self._waiting[number] = stream
            return False
        stream.outgoing = None
        self._waiting.pop(number, None)
        if stream.trailers is not None:
            self.send_headers(stream, stream.trailers, ends=True)
        return True

    def _end(self, stream: Stream) -> None:
        del self.streams[stream.id]
        if stream.is_open:  # the rest of the request need not come any more
            self._out.append(reset(stream.id, ErrorCode.NO_ERROR))

    # --- what has come -----------------------------------------------------------------------------------------------

    def receive(self, data: bytes, now: float) -> None:
        """Bytes of the other side. What is wrong with them is answered; then the connection is closed."""
        if self.is_closed:
            return
        if now - self._since >= 1.0:
            self._since = now
            self._resets = self._idle_frames = 0
        try:
            self._receive(self._rest + data if self._rest else data)
        except ConnectionFailure as failure:
            self._fail(failure)
        except HpackError as error:
            self._fail(ConnectionFailure(ErrorCode.COMPRESSION_ERROR, str(error)))

    def drop(self) -> None:
        """The connection is gone: nothing is answered any more."""
        self.is_closed = True
        streams, self.streams = list(self.streams.values()), {}
        self._waiting.clear()
        for stream in streams:
            if stream.owner is not None:
                stream.owner.dropped()

    def _fail(self, failure: ConnectionFailure) -> None:
        self.failure = failure
        self._out.append(goaway(self.last, failure.code, str(failure)))
        self.drop()

    def _receive(self, data: bytes) -> None:
        at, end = 0, len(data)
        if not self._greeted:
            at = min(end, len(PREFACE))
            if data[:at] != PREFACE[:at]:
                raise ConnectionFailure(ErrorCode.PROTOCOL_ERROR, "this is no HTTP/2")
            if at < len(PREFACE):
                self._rest = data
                return
            self._greeted = True
        unpack = HEADER.unpack_from
        limit = self._limits.frame_bytes
        while True:
            if self._data_left or self._padding_left:
                at = self._take_data(data, at, end)
            if end - at < 9:
                break
            high, low, kind, flags, number = unpack(data, at)
            size = high << 8 | low
            if size > limit:
                raise ConnectionFailure(ErrorCode.FRAME_SIZE_ERROR, f"a frame of {size} bytes")
            number &= LAST_STREAM
            start = at + 9
            if kind == DATA and self._block is None and self._settled:
                if flags & PADDED:
                    if start == end:
                        break
                    padding = data[start]
                    start += 1
                    if padding >= size:
                        raise ConnectionFailure(ErrorCode.PROTOCOL_ERROR, "more padding than there is room for")
                    self._padding_left = padding
                    self._begin_data(number, size, size - 1 - padding, flags)
                else:
                    self._begin_data(number, size, size, flags)
                at = start
                if not self._data_left and not self._padding_left:
                    self._finish_data(data, at, at)
                continue
            at = start + size
            if at > end:
                if size > self._block_limit:
                    raise ConnectionFailure(ErrorCode.ENHANCE_YOUR_CALM, f"a frame of {size} bytes that are no data")
                at -= 9 + size
                break
            if self._block is not None:
                self._continue_block(kind, flags, number, data[start:at])
            elif kind == HEADERS and self._settled:
                if flags & (PADDED | HAS_PRIORITY):
                    block = _without_padding(data[start:at], flags, number)
                else:
                    block = data[start:at]
                if flags & END_HEADERS:
                    self._take_block(number, block, bool(flags & END_STREAM))
                else:
                    self._block, self._block_size = [block], len(block)
                    self._block_stream, self._block_ends = number, bool(flags & END_STREAM)
                    self._check_block()
            else:
                self._take_other(kind, flags, number, data[start:at])
        self._rest = data[at:] if at < end else b""

    # --- data ---

    def _begin_data(self, number: int, size: int, length: int, flags: int) -> None:
        if not length and not flags & END_STREAM:
            self._count_idle()
        self._credit -= size
        if self._credit < 0:
            raise ConnectionFailure(ErrorCode.FLOW_CONTROL_ERROR, "more data than the connection's window has room for")
        self._credited += size
        if self._credited >= self._limits.connection_window >> 2:
            # Streams have windows of their own; the connection's is only there because there must be one.
            self._out.append(window_update(0, self._credited))
            self._credit += self._credited
            self._credited = 0
        stream = self.streams.get(number)
        if stream is None:
            self._check_known(number, "data")
        elif not stream.is_open:
            self._break(stream, ErrorCode.STREAM_CLOSED)
            stream = None
        elif size > stream.credit:
            self._break(stream, ErrorCode.FLOW_CONTROL_ERROR)
            stream = None
        else:
            stream.credit -= size
            if size > length:
                self.give_credit(stream, size - length)
        self._data_stream = stream
        self._data_left = length
        self._data_ends = bool(flags & END_STREAM)

    def _take_data(self, data: bytes, at: int, end: int) -> int:
        if self._data_left:
            length = min(self._data_left, end - at)
            self._data_left -= length
            if not self._data_left and not self._padding_left:
                self._finish_data(data, at, at + length)
            elif length and (stream := self._data_stream) is not None and stream.owner is not None:
                stream.owner.received(data, at, at + length, False)
            at += length
            if self._data_left:
                return at
        skipped = min(self._padding_left, end - at)
        self._padding_left -= skipped
        if skipped and not self._padding_left:
            self._finish_data(data, at, at)
        return at + skipped

    def _finish_data(self, data: bytes, start: int, end: int) -> None:
        stream = self._data_stream
        self._data_stream = None
        # It may have ended, or broken, while its data was under way.
        if stream is None or stream.id not in self.streams:
            return
        if self._data_ends:
            stream.is_open = False
        if stream.owner is not None:
            stream.owner.received(data, start, end, self._data_ends)

    # --- header blocks ---

    def _check_block(self) -> None:
        if self._block_size > self._block_limit or len(self._block or ()) > _MOST_CONTINUATIONS:
            raise ConnectionFailure(ErrorCode.ENHANCE_YOUR_CALM, "a header block without an end")

    def _continue_block(self, kind: int, flags: int, number: int, piece: bytes) -> None:
        if kind != CONTINUATION or number != self._block_stream or self._block is None:
            raise ConnectionFailure(ErrorCode.PROTOCOL_ERROR, "a header block is not continued")
        self._block.append(piece)
        self._block_size += len(piece)
        self._check_block()
        if flags & END_HEADERS:
            block, self._block = b"".join(self._block), None
            self._take_block(number, block, self._block_ends)

    def _take_block(self, number: int, block: bytes, ends: bool) -> None:
        if number <= self.last:
            self._take_trailers(number, block, ends)
            return
        if not number & 1:
            raise ConnectionFailure(ErrorCode.PROTOCOL_ERROR, f"clients do not open stream {number}")
        self.last = number
        try:
            head = self._heads.get(block)
            if head is None:
                head = self._decode_head(block)
            if number > self._accepts_up_to:
                return
            if len(self.streams) + self.lingering >= self._limits.streams:
                raise StreamFailure(ErrorCode.REFUSED_STREAM, "too many streams")
        except StreamFailure as failure:
            self._out.append(reset(number, failure.code))
            return
        stream = Stream(number, self._peer_window, self._limits.stream_window)
        if ends:
            stream.is_open = False
        self.streams[number] = stream
        stream.owner = self._accept(stream, head, ends)

    def _decode_head(self, block: bytes) -> Head:
        fields, size = self._decoder.decode(block)
        head = self._read_head(fields, size)
        if self._decoder.generation != self._generation:
            # What the blocks refer to is now something else.
            self._generation = self._decoder.generation
            self._heads.clear()
            return head
        if len(self._heads) >= _MOST_HEADS:
            self._heads.clear()
        self._heads[block] = head
        return head

    def _take_trailers(self, number: int, block: bytes, ends: bool) -> None:
        if not number & 1:
            raise ConnectionFailure(ErrorCode.PROTOCOL_ERROR, f"clients do not open stream {number}")
        self._decoder.decode(block)  # what they say is of no interest, but the table has to follow
        if self._decoder.generation != self._generation:
            self._generation = self._decoder.generation
            self._heads.clear()
        stream = self.streams.get(number)
        if stream is None:
            return
        if not stream.is_open:
            self._break(stream, ErrorCode.STREAM_CLOSED)
        elif not ends:
            self._break(stream, ErrorCode.PROTOCOL_ERROR)
        else:
            stream.is_open = False
            if stream.owner is not None:
                stream.owner.received(b"", 0, 0, True)

    # --- all other frames ---

    def _take_other(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        if not self._settled and (kind != SETTINGS or flags & ACK):
            raise ConnectionFailure(ErrorCode.PROTOCOL_ERROR, "the settings come first")
        if kind == WINDOW_UPDATE:
            _check_size(payload, 4)
            self._widen(number, int.from_bytes(payload, "big") & LAST_STREAM)
        elif kind == RST_STREAM:
            _check_size(payload, 4)
            self._take_reset(number)
        elif kind == PING:
            self._take_ping(flags, number, payload)
        elif kind == SETTINGS:
            self._take_settings(flags, number, payload)
        elif kind in (PUSH_PROMISE, CONTINUATION):
            raise ConnectionFailure(ErrorCode.PROTOCOL_ERROR, f"a frame of type {kind} that nobody expects")
        else:
            self._count_idle()
            if kind == PRIORITY and (not number or len(payload) != 5):
                code = ErrorCode.FRAME_SIZE_ERROR if number else ErrorCode.PROTOCOL_ERROR
                raise ConnectionFailure(code, "a broken PRIORITY")
            if kind == GOAWAY and number:
                raise ConnectionFailure(ErrorCode.PROTOCOL_ERROR, "GOAWAY of a stream")

    def _widen(self, number: int, more: int) -> None:
        if not number:
            if not more:
                raise ConnectionFailure(ErrorCode.PROTOCOL_ERROR, "a window that grows by nothing")
            self._window += more
            if self._window > LARGEST_WINDOW:
                raise ConnectionFailure(ErrorCode.FLOW_CONTROL_ERROR, "the connection's window is too large")
            if self._waiting:
                self._pump_all()
            return
        stream = self.streams.get(number)
        if stream is None:
            self._check_known(number, "a window")
            return
        stream.window += more
        if not more:
            self._break(stream, ErrorCode.PROTOCOL_ERROR)
        elif stream.window > LARGEST_WINDOW:
            self._break(stream, ErrorCode.FLOW_CONTROL_ERROR)
        elif stream.outgoing:
            self._pump(stream)

    def _pump_all(self) -> None:
        for stream in list(self._waiting.values()):
            if self._window <= 0:
                return
            self._pump(stream)

    def _take_reset(self, number: int) -> None:
        self._resets += 1
        if self._resets > self._limits.resets_per_second:
            raise ConnectionFailure(ErrorCode.ENHANCE_YOUR_CALM, "too many streams are given up")
        stream = self.streams.pop(number, None)
        if stream is None:
            self._check_known(number, "a reset")
            return
        self._waiting.pop(number, None)
        stream.is_open = False
        if stream.owner is not None:
            stream.owner.dropped()

    def _take_ping(self, flags: int, number: int, payload: bytes) -> None:
        _check_size(payload, 8)
        if number:
            raise ConnectionFailure(ErrorCode.PROTOCOL_ERROR, "PING of a stream")
        if flags & ACK:
            self.pongs.append(payload)
            return
        self._count_idle()
        self._out.append(ping(payload, ACK))

    def _take_settings(self, flags: int, number: int, payload: bytes) -> None:
        if number:
            raise ConnectionFailure(ErrorCode.PROTOCOL_ERROR, "SETTINGS of a stream")
        if flags & ACK:
            _check_size(payload, 0)
            return
        if len(payload) % 6:
            raise ConnectionFailure(ErrorCode.FRAME_SIZE_ERROR, "broken SETTINGS")
        self._count_idle()
        for name, value in read_settings(payload):
            if name == HEADER_TABLE_SIZE:
                self.table_is_shrunk = self.table_is_shrunk or value < 4096
            elif name == ENABLE_PUSH and value > 1:
                raise ConnectionFailure(ErrorCode.PROTOCOL_ERROR, "ENABLE_PUSH is neither 0 nor 1")
            elif name == INITIAL_WINDOW_SIZE:
                self._set_window(value)
            elif name == MAX_FRAME_SIZE:
                if not DEFAULT_FRAME <= value <= LARGEST_FRAME:
                    raise ConnectionFailure(ErrorCode.PROTOCOL_ERROR, f"frames of {value} bytes")
                self._peer_frame = value
                self._small = min(value, _SMALL)
        self._settled = True
        self._out.append(SETTINGS_ACK)

    def _set_window(self, value: int) -> None:
        if value > LARGEST_WINDOW:
            raise ConnectionFailure(ErrorCode.FLOW_CONTROL_ERROR, f"windows of {value} bytes")
        more, self._peer_window = value - self._peer_window, value
        for stream in list(self.streams.values()):
            stream.window += more
            if stream.window > LARGEST_WINDOW:
                raise ConnectionFailure(ErrorCode.FLOW_CONTROL_ERROR, "a stream's window is too large")
        if more > 0:
            self._pump_all()

    # --- what is wrong ---

    def _break(self, stream: Stream, code: ErrorCode) -> None:
        """End a stream by the other side's mistake."""
        self.reset(stream, code)
        if stream.owner is not None:
            stream.owner.dropped()

    def _check_known(self, number: int, what: str) -> None:
        """A stream that is not here any more may still be sent something; one that never was may not."""
        if number > self.last or not number & 1:
            raise ConnectionFailure(ErrorCode.PROTOCOL_ERROR, f"{what} for stream {number}, which is not open")

    def _count_idle(self) -> None:
        self._idle_frames += 1
        if self._idle_frames > self._limits.idle_frames_per_second:
            raise ConnectionFailure(ErrorCode.ENHANCE_YOUR_CALM, "too many frames that ask for nothing")


def _check_size(payload: bytes, size: int) -> None:
    if len(payload) != size:
        raise ConnectionFailure(ErrorCode.FRAME_SIZE_ERROR, f"{len(payload)} bytes where {size} belong")


def _without_padding(payload: bytes, flags: int, number: int) -> bytes:
    """The header block within the payload of HEADERS."""
    start, end = 0, len(payload)
    if flags & PADDED:
        if not payload:
            raise ConnectionFailure(ErrorCode.FRAME_SIZE_ERROR, "no room for the padding's length")
        start, end = 1, end - payload[0]
    if flags & HAS_PRIORITY:
        if end - start >= 5 and int.from_bytes(payload[start : start + 4], "big") & LAST_STREAM == number:
            raise ConnectionFailure(ErrorCode.PROTOCOL_ERROR, "a stream that waits for itself")
        start += 5
    if start > end:
        raise ConnectionFailure(ErrorCode.PROTOCOL_ERROR, "more padding than there is room for")
    return payload[start:end]
