"""The server's side of an HTTP/2 connection (RFC 9113), without IO: bytes in, bytes out.

    connection = Connection(limits, read_head, accept)
    connection.receive(data, now)      # calls `accept` for each new stream, and then the stream's owner
    connection.sender.send_headers(...), connection.sender.send_data(...)
    transport.write(b"".join(connection.sender.take()))

It is made for many small requests on one connection, as gRPC has them. A header block that has been seen before, while
HPACK's table is what it was, is looked up and not read; data is handed on as a part of what came, and copied by its
owner, once. What the other side may cost is bounded by Limits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from serving_app.protocol.hpack import TABLE_SIZE, HpackError
from serving_app.protocol.http2_frames import (
    ACK,
    CONTINUATION,
    DEFAULT_FRAME,
    DEFAULT_WINDOW,
    ENABLE_PUSH,
    GOAWAY,
    HEADER_TABLE_SIZE,
    INITIAL_WINDOW_SIZE,
    LARGEST_FRAME,
    LARGEST_WINDOW,
    LAST_STREAM,
    MAX_CONCURRENT_STREAMS,
    MAX_FRAME_SIZE,
    MAX_HEADER_LIST_SIZE,
    PING,
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
    ping,
    read_settings,
    reset,
    settings_frame,
    window_update,
)
from serving_app.protocol.http2_heads import Heads, ReadHead
from serving_app.protocol.http2_reader import FrameReader
from serving_app.protocol.http2_sender import Sender
from serving_app.protocol.http2_streams import Limits, Owner, Stream

Head = TypeVar("Head")
"""What the fields of a request mean."""

Accept = Callable[[Stream, Head, bool], Owner | None]
"""Takes a new stream, and whether it has ended already: without data. None where it is answered at once."""

_WALK = 100
"""A walk over so many streams costs as much as an idle frame may."""

_WIDEST = 8
"""Header blocks may have this many times the bytes that their fields may have: references are short, so they do not."""


class Connection(Generic[Head]):
    """One connection. `read_head` makes of the fields of a request what `accept` is given."""

    def __init__(
        self, limits: Limits, read_head: ReadHead[Head], accept: Accept[Head],
        table_shrank: Callable[[], None] = lambda: None,
    ) -> None:
        """`table_shrank` is told that the other side has a smaller table for our fields than is usual, before that is
        acknowledged: nothing that is sent after it may use the table as it was."""
        self._limits = limits
        self._heads = Heads(limits.header_bytes, read_head)
        self._accept = accept
        self._reader = FrameReader(self, limits.frame_bytes, max(limits.header_bytes * _WIDEST, DEFAULT_FRAME))
        self.streams: dict[int, Stream] = {}
        """Those that are not answered yet."""
        self.sender = Sender(self.streams)
        self.lingering = 0
        """Streams that are given up, and whose owner is not done yet."""
        self.is_closed = False
        self.failure: ConnectionFailure | None = None
        self.pongs: list[bytes] = []
        """Our own pings that were answered, until whoever sent them has taken them out."""
        self._table_shrank = table_shrank
        self._last = 0  # the newest stream
        self._accepts_up_to = LAST_STREAM
        self._data_stream: Stream | None = None  # whose data is under way
        self._data_ends = False
        self._credit, self._credited = limits.connection_window, 0  # as of a stream
        self._since = 0.0
        self._resets = self._idle_frames = 0  # since then
        offer = {
            MAX_CONCURRENT_STREAMS: limits.streams, INITIAL_WINDOW_SIZE: limits.stream_window,
            MAX_FRAME_SIZE: limits.frame_bytes, MAX_HEADER_LIST_SIZE: limits.header_bytes,
        }  # fmt: skip
        self.sender.send(settings_frame(offer))
        if limits.connection_window > DEFAULT_WINDOW:
            self.sender.send(window_update(0, limits.connection_window - DEFAULT_WINDOW))

    # --- for whoever holds the connection ----------------------------------------------------------------------------

    def receive(self, data: bytes, now: float) -> None:
        """Bytes of the other side. What is wrong with them is answered; then the connection is closed."""
        if self.is_closed:
            return
        if now - self._since >= 1.0:
            self._since = now
            self._resets = self._idle_frames = 0
        try:
            self._reader.read(data)
        except ConnectionFailure as failure:
            self._fail(failure)
        except HpackError as error:
            self._fail(ConnectionFailure(ErrorCode.COMPRESSION_ERROR, str(error)))

    def drop(self) -> None:
        """The connection is gone: nothing is answered any more."""
        self.is_closed = True
        for stream in self.sender.forget_all():
            if stream.owner is not None:
                stream.owner.dropped()

    def give_credit(self, stream: Stream, size: int) -> None:
        """The owner of a stream has taken so much of its data: as much may come again."""
        if not stream.is_open:
            return
        stream.credited += size
        if stream.credited >= self._limits.stream_window >> 2:
            self.sender.send(window_update(stream.id, stream.credited))
            stream.credit += stream.credited
            stream.credited = 0

    @property
    def is_settled(self) -> bool:
        """Whether the other side has begun as it must."""
        return self._reader.is_settled

    def ping(self, opaque: bytes) -> None:
        """Ask whether the other side is there; the answer comes to `pongs`."""
        self.sender.send(ping(opaque))

    def warn(self) -> None:
        """Say that the connection will end, so that new requests go elsewhere; those that come are still answered."""
        self.sender.send(goaway(LAST_STREAM, ErrorCode.NO_ERROR))

    def say_goodbye(self) -> None:
        """Take no more streams than are here; the other side knows then which ones it may send again elsewhere."""
        if not self.said_goodbye:
            self._accepts_up_to = self._last
            self.sender.send(goaway(self._last, ErrorCode.NO_ERROR))

    @property
    def said_goodbye(self) -> bool:
        """Whether no further streams are taken."""
        return self._accepts_up_to != LAST_STREAM

    # --- data --------------------------------------------------------------------------------------------------------

    def take_data_start(self, number: int, size: int, length: int, ends: bool) -> None:
        """A frame of data begins, for the reader."""
        if not length and not ends:
            self._count_idle()
        self._credit -= size
        if self._credit < 0:
            raise ConnectionFailure(ErrorCode.FLOW_CONTROL_ERROR, "more data than the connection's window has room for")
        self._credited += size
        if self._credited >= self._limits.connection_window >> 2:
            # Streams have windows of their own; the connection's is only there because there must be one.
            self.sender.send(window_update(0, self._credited))
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
        self._data_stream, self._data_ends = stream, ends

    def take_data(self, data: bytes, start: int, end: int, is_last: bool) -> None:
        """A part of that data, for the reader."""
        stream = self._data_stream
        # It may have been answered, or given up, while its data was under way.
        if stream is None or stream.id not in self.streams or stream.owner is None:
            return
        ends = is_last and self._data_ends
        if ends:
            stream.is_open = False
        stream.owner.received(data, start, end, ends)

    # --- header blocks -----------------------------------------------------------------------------------------------

    def take_block(self, number: int, block: bytes, ends: bool) -> None:
        """A header block, for the reader."""
        if not number & 1:
            raise ConnectionFailure(ErrorCode.PROTOCOL_ERROR, f"clients do not open stream {number}")
        if number <= self._last:
            self._take_trailers(number, block, ends)
            return
        self._last = number
        try:
            head = self._heads.read(block)
            if number > self._accepts_up_to:
                return
            if len(self.streams) + self.lingering >= self._limits.streams:
                raise StreamFailure(ErrorCode.REFUSED_STREAM, "too many streams")
        except StreamFailure as failure:
            self.sender.send(reset(number, failure.code))
            return
        stream = Stream(number, self.sender.initial_window, self._limits.stream_window)
        stream.is_open = not ends
        self.streams[number] = stream
        stream.owner = self._accept(stream, head, ends)

    def _take_trailers(self, number: int, block: bytes, ends: bool) -> None:
        self._heads.skip(block)  # what they say is of no interest, but the table has to follow
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

    # --- all other frames --------------------------------------------------------------------------------------------

    def take_other(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        """A frame of another kind, for the reader."""
        if kind == WINDOW_UPDATE:
            _check_size(payload, 4)
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

    def take_window(self, number: int, more: int) -> None:
        """WINDOW_UPDATE, for the reader."""
        if not number:
            if not more:
                raise ConnectionFailure(ErrorCode.PROTOCOL_ERROR, "a window that grows by nothing")
            self.sender.widen(more)
            return
        stream = self.streams.get(number)
        if stream is None:
            self._check_known(number, "a window")
            return
        if not more:
            self._break(stream, ErrorCode.PROTOCOL_ERROR)
        elif stream.window + more > LARGEST_WINDOW:
            self._break(stream, ErrorCode.FLOW_CONTROL_ERROR)
        else:
            self.sender.widen_stream(stream, more)

    def _take_reset(self, number: int) -> None:
        self._count_reset()
        stream = self.streams.get(number)
        if stream is None:
            self._check_known(number, "a reset")
            return
        self.sender.forget(stream)
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
        self.sender.send(ping(payload, ACK))

    def _take_settings(self, flags: int, number: int, payload: bytes) -> None:
        if number:
            raise ConnectionFailure(ErrorCode.PROTOCOL_ERROR, "SETTINGS of a stream")
        if flags & ACK:
            _check_size(payload, 0)
            return
        if len(payload) % 6:
            raise ConnectionFailure(ErrorCode.FRAME_SIZE_ERROR, "broken SETTINGS")
        self._count_idle()
        window = self.sender.initial_window
        for name, value in read_settings(payload):
            if name == HEADER_TABLE_SIZE and value < TABLE_SIZE:
                self._table_shrank()
            elif name == ENABLE_PUSH and value > 1:
                raise ConnectionFailure(ErrorCode.PROTOCOL_ERROR, "ENABLE_PUSH is neither 0 nor 1")
            elif name == INITIAL_WINDOW_SIZE:
                window = value
            elif name == MAX_FRAME_SIZE:
                if not DEFAULT_FRAME <= value <= LARGEST_FRAME:
                    raise ConnectionFailure(ErrorCode.PROTOCOL_ERROR, f"frames of {value} bytes")
                self.sender.set_frame(value)
        if window != self.sender.initial_window:  # it is the last that counts, and each is a walk over all streams
            self._count_idle(len(self.streams) // _WALK)
            self.sender.set_initial_window(window)
        self.sender.send(SETTINGS_ACK)

    # --- what is wrong -----------------------------------------------------------------------------------------------

    def _fail(self, failure: ConnectionFailure) -> None:
        self.failure = failure
        self.sender.send(goaway(self._last, failure.code, str(failure)))
        self.drop()

    def _break(self, stream: Stream, code: ErrorCode) -> None:
        """End a stream by the other side's mistake, which costs no less than its giving up."""
        self._count_reset()
        self.sender.reset(stream, code)
        if stream.owner is not None:
            stream.owner.dropped()

    def _check_known(self, number: int, what: str) -> None:
        """A stream that is not here any more may still be sent something; one that never was may not."""
        if number > self._last or not number & 1:
            raise ConnectionFailure(ErrorCode.PROTOCOL_ERROR, f"{what} for stream {number}, which is not open")

    def _count_reset(self) -> None:
        self._resets += 1
        if self._resets > self._limits.resets_per_second:
            raise ConnectionFailure(ErrorCode.ENHANCE_YOUR_CALM, "too many streams are given up")

    def _count_idle(self, frames: int = 1) -> None:
        self._idle_frames += frames
        if self._idle_frames > self._limits.idle_frames_per_second:
            raise ConnectionFailure(ErrorCode.ENHANCE_YOUR_CALM, "too many frames that ask for nothing")


def _check_size(payload: bytes, size: int) -> None:
    if len(payload) != size:
        raise ConnectionFailure(ErrorCode.FRAME_SIZE_ERROR, f"{len(payload)} bytes where {size} belong")
