"""Cuts what comes on an HTTP/2 connection into frames, whatever pieces it comes in.

Data is handed on as it comes, a part of a frame as well: a large frame need not be here as a whole. Everything else is
small, and is handed on whole; header blocks without padding, and with what continues them.
"""

from __future__ import annotations

from typing import Protocol

from serving_app.protocol.http2_frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HAS_PRIORITY,
    HEADER,
    HEADERS,
    LAST_STREAM,
    PADDED,
    PREFACE,
    SETTINGS,
    WINDOW_UPDATE,
    ConnectionFailure,
    ErrorCode,
)

_MARKS = END_HEADERS | HAS_PRIORITY
_MOST_CONTINUATIONS = 64


class FrameTaker(Protocol):
    """Who is handed the frames. Each may raise ConnectionFailure."""

    def take_data_start(self, number: int, size: int, length: int, ends: bool) -> None:
        """A frame of data begins: with padding it has this size, without it this length."""

    def take_data(self, data: bytes, start: int, end: int, is_last: bool) -> None:
        """A part of that data, or its last part, which may be empty."""

    def take_block(self, number: int, block: bytes, ends: bool) -> None:
        """A header block."""

    def take_window(self, number: int, more: int) -> None:
        """A window grows."""

    def take_other(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        """Any other frame."""


class FrameReader:
    """The frames of one connection. Those that are no data have at most `block_limit` bytes."""

    def __init__(self, taker: FrameTaker, frame_limit: int, block_limit: int) -> None:
        self._taker = taker
        self._frame_limit, self._block_limit = frame_limit, block_limit
        self._rest = b""  # what is not a whole frame yet
        self._is_greeted = self._is_settled = False
        self._data_left = self._padding_left = 0  # of the frame of data that is under way
        self._block: list[bytes] | None = None  # the header block that is under way
        self._block_size = self._block_stream = 0
        self._block_ends = False

    @property
    def is_settled(self) -> bool:
        """Whether the other side has begun as it must: with the preface and its settings."""
        return self._is_settled

    def read(self, data: bytes) -> None:
        """Hand on the frames that these bytes bring. Raises ConnectionFailure."""
        if self._rest:
            data = self._rest + data
        at, end = 0, len(data)
        if not self._is_greeted:
            at = min(end, len(PREFACE))
            if data[:at] != PREFACE[:at]:
                raise ConnectionFailure(ErrorCode.PROTOCOL_ERROR, "this is no HTTP/2")
            if at < len(PREFACE):
                self._rest = data
                return
            self._is_greeted = True
        if self._data_left or self._padding_left:
            at = self._read_data(data, at, end)
        unpack, taker = HEADER.unpack_from, self._taker
        while end - at >= HEADER.size:
            high, low, kind, flags, number = unpack(data, at)
            size = high << 8 | low
            number &= LAST_STREAM
            start = at + HEADER.size
            if size > self._frame_limit:
                raise ConnectionFailure(ErrorCode.FRAME_SIZE_ERROR, f"a frame of {size} bytes")
            is_plain = self._is_settled and self._block is None
            if is_plain and start + size <= end and not flags & PADDED:
                # What most frames are; all of it is also told below, in general.
                if kind == DATA:
                    at = start + size
                    taker.take_data_start(number, size, size, bool(flags & END_STREAM))
                    taker.take_data(data, start, at, True)
                    continue
                if kind == HEADERS and flags & _MARKS == END_HEADERS and size <= self._block_limit:
                    at = start + size
                    taker.take_block(number, data[start:at], bool(flags & END_STREAM))
                    continue
            if kind == DATA and is_plain:
                padding = -1
                if flags & PADDED:
                    if start == end:
                        break
                    padding = data[start]
                    start += 1
                    if padding >= size:
                        raise ConnectionFailure(ErrorCode.PROTOCOL_ERROR, "more padding than there is room for")
                self._data_left, self._padding_left = size - 1 - padding, max(padding, 0)
                taker.take_data_start(number, size, self._data_left, bool(flags & END_STREAM))
                if self._data_left or self._padding_left:
                    at = self._read_data(data, start, end)
                else:
                    at = start
                    taker.take_data(data, at, at, True)
                continue
            if size > self._block_limit:
                raise ConnectionFailure(ErrorCode.ENHANCE_YOUR_CALM, f"a frame of {size} bytes that are no data")
            if start + size > end:
                break
            at = start + size
            if kind == WINDOW_UPDATE and is_plain and size == 4:
                taker.take_window(number, int.from_bytes(data[start:at], "big") & LAST_STREAM)
            else:
                self._hand_on(kind, flags, number, data[start:at])
        self._rest = data[at:] if at < end else b""

    def _read_data(self, data: bytes, at: int, end: int) -> int:
        """Hand on what is here of the data that is under way; returns where that ends."""
        start, at = at, min(at + self._data_left, end)
        self._data_left -= at - start
        if at > start and (self._data_left or self._padding_left):
            self._taker.take_data(data, start, at, False)
            start = at
        if self._data_left:
            return at
        at = min(at + self._padding_left, end)
        if self._padding_left:
            self._padding_left -= at - start
            start = at
        if not self._padding_left:
            self._taker.take_data(data, start, at, True)
        return at

    def _hand_on(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        if self._block is not None:
            self._continue_block(kind, flags, number, payload)
        elif not self._is_settled and (kind != SETTINGS or flags & ACK):
            raise ConnectionFailure(ErrorCode.PROTOCOL_ERROR, "the settings come first")
        elif kind == HEADERS:
            block = _without_padding(payload, flags, number) if flags & (PADDED | HAS_PRIORITY) else payload
            if flags & END_HEADERS:
                self._taker.take_block(number, block, bool(flags & END_STREAM))
            else:
                self._block, self._block_size = [block], len(block)
                self._block_stream, self._block_ends = number, bool(flags & END_STREAM)
        else:
            self._taker.take_other(kind, flags, number, payload)
            self._is_settled = True

    def _continue_block(self, kind: int, flags: int, number: int, piece: bytes) -> None:
        assert self._block is not None
        if kind != CONTINUATION or number != self._block_stream:
            raise ConnectionFailure(ErrorCode.PROTOCOL_ERROR, "a header block is not continued")
        self._block.append(piece)
        self._block_size += len(piece)
        if self._block_size > self._block_limit or len(self._block) > _MOST_CONTINUATIONS:
            raise ConnectionFailure(ErrorCode.ENHANCE_YOUR_CALM, "a header block without an end")
        if flags & END_HEADERS:
            block, self._block = b"".join(self._block), None
            self._taker.take_block(number, block, self._block_ends)


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
