"""What goes to the other side of an HTTP/2 connection: answers, as far as its windows have room for them."""

from __future__ import annotations

import struct
from collections import OrderedDict

from serving_app.protocol.http2_frames import (
    DATA,
    DEFAULT_FRAME,
    DEFAULT_WINDOW,
    END_HEADERS,
    END_STREAM,
    HEADER,
    HEADERS,
    LARGEST_WINDOW,
    ConnectionFailure,
    ErrorCode,
    header_frames,
    reset,
)
from serving_app.protocol.http2_streams import Stream

_START, _END = struct.Struct(">HBBBI3sHBBBI"), struct.Struct(">HBBBI1s")
"""Headers of frames, with a block of three bytes and with one of one byte."""

_SMALL = 1 << 16
"""Answers up to this size are joined, as a copy of them costs less than their parts would."""


_TURN = DEFAULT_FRAME
"""What one stream sends before another has its turn, where the connection's window has no room for all of them."""


class Sender:
    """The frames that wait to be sent, and the data that waits for room. Streams that end leave `streams`.

    Data waits for the window of its stream or for that of the connection. Only streams that could go on as soon as the
    connection's grows are `_waiting`, and they take turns: a small answer does not wait for the end of a large one, and
    a window that grows costs nothing for those that it does not help.
    """

    def __init__(self, streams: dict[int, Stream]) -> None:
        self.initial_window = DEFAULT_WINDOW
        """Of new streams."""
        self._streams = streams
        self._out: list[bytes | memoryview] = []
        self._window = DEFAULT_WINDOW
        self._frame = self._small = DEFAULT_FRAME
        self._waiting: OrderedDict[int, Stream] = OrderedDict()

    def take(self) -> list[bytes | memoryview]:
        """What is to be sent now."""
        out, self._out = self._out, []
        return out

    def send(self, frame: bytes) -> None:
        """Send a frame that needs no room."""
        self._out.append(frame)

    def send_headers(self, stream: Stream, block: bytes, *, ends: bool = False) -> None:
        """Send fields; with `ends` the stream is over. Fields that end a stream follow its data, which may wait."""
        if ends and stream.outgoing:
            stream.trailers = block
            return
        self._out.append(header_frames(stream.id, block, END_STREAM if ends else 0, self._frame))
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
        if size == 3 and ending == 1:  # all but the first of a connection
            high, low = length >> 8, length & 0xFF
            start = _START.pack(0, 3, HEADERS, END_HEADERS, number, headers, high, low, DATA, 0, number)
            end = _END.pack(0, 1, HEADERS, END_HEADERS | END_STREAM, number, trailers)
            self._out.append(b"".join((start, prefix, message, end)))
            del self._streams[number]
            return
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
        del self._streams[number]

    def reset(self, stream: Stream, code: ErrorCode) -> None:
        """End a stream at once."""
        if self._streams.pop(stream.id, None) is not None:
            self._waiting.pop(stream.id, None)
            self._out.append(reset(stream.id, code))

    def forget(self, stream: Stream) -> None:
        """A stream is over; what waits for it is not sent."""
        self._streams.pop(stream.id, None)
        self._waiting.pop(stream.id, None)

    def forget_all(self) -> list[Stream]:
        """All streams are over; these were open."""
        streams = list(self._streams.values())
        self._streams.clear()
        self._waiting.clear()
        return streams

    def widen(self, more: int) -> None:
        """The connection's window has grown. Raises ConnectionFailure where it is too large."""
        self._window += more
        if self._window > LARGEST_WINDOW:
            raise ConnectionFailure(ErrorCode.FLOW_CONTROL_ERROR, "the connection's window is too large")
        self._pump_all()

    def widen_stream(self, stream: Stream, more: int) -> None:
        """A stream's window has grown, and is not too large."""
        stream.window += more
        if stream.outgoing:
            self._pump(stream)

    def set_initial_window(self, size: int) -> None:
        """New streams have this window, and those that are open so much more or less. Raises ConnectionFailure."""
        if size > LARGEST_WINDOW:
            raise ConnectionFailure(ErrorCode.FLOW_CONTROL_ERROR, f"windows of {size} bytes")
        more, self.initial_window = size - self.initial_window, size
        for stream in self._streams.values():
            stream.window += more
            if stream.window > LARGEST_WINDOW:
                raise ConnectionFailure(ErrorCode.FLOW_CONTROL_ERROR, "a stream's window is too large")
            if stream.outgoing and stream.window > 0:
                self._waiting[stream.id] = stream
        self._pump_all()

    def set_frame(self, size: int) -> None:
        """Frames may be as large as this."""
        self._frame, self._small = size, min(size, _SMALL)

    def _pump(self, stream: Stream, most: int = LARGEST_WINDOW) -> bool:
        """Send what there is room for, at most so much; returns whether nothing is left."""
        waiting = stream.outgoing or []
        number = stream.id
        done = 0
        for part in waiting:
            while part and (room := min(self._frame, stream.window, self._window, most)) > 0:
                piece, part = part[:room], part[room:]
                size = len(piece)
                most -= size
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
            if stream.window > 0:
                self._waiting[number] = stream
            return False
        stream.outgoing = None
        self._waiting.pop(number, None)
        if stream.went is not None:
            went, stream.went = stream.went, None
            went()
        if stream.trailers is not None:
            self.send_headers(stream, stream.trailers, ends=True)
        return True

    def _end(self, stream: Stream) -> None:
        del self._streams[stream.id]
        if stream.is_open:  # the rest of the request need not come any more
            self._out.append(reset(stream.id, ErrorCode.NO_ERROR))

    def _pump_all(self) -> None:
        while self._window > 0 and self._waiting:
            _, stream = self._waiting.popitem(last=False)
            self._pump(stream, _TURN)  # which puts it behind the others if it is not done
