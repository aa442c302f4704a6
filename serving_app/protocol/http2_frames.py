"""The frames of HTTP/2 (RFC 9113, section 6): their numbers, and how those are written that are part of no answer."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping
from enum import IntEnum

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""What a client begins with."""

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)

ACK = END_STREAM = 0x1
END_HEADERS = 0x4
PADDED = 0x8
HAS_PRIORITY = 0x20

HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE = (
    range(1, 7)
)

DEFAULT_WINDOW = 65_535
LARGEST_WINDOW = 2**31 - 1
DEFAULT_FRAME = 16_384
LARGEST_FRAME = 2**24 - 1
LAST_STREAM = 2**31 - 1

HEADER = struct.Struct(">HBBBI")
"""The first nine bytes of a frame: length (in two parts), type, flags, stream."""

_NUMBER = struct.Struct(">I")
_SETTING = struct.Struct(">HI")


class ErrorCode(IntEnum):
    """Why a stream or a connection ends (RFC 9113, section 7)."""

    NO_ERROR = 0x0
    PROTOCOL_ERROR = 0x1
    INTERNAL_ERROR = 0x2
    FLOW_CONTROL_ERROR = 0x3
    SETTINGS_TIMEOUT = 0x4
    STREAM_CLOSED = 0x5
    FRAME_SIZE_ERROR = 0x6
    REFUSED_STREAM = 0x7
    CANCEL = 0x8
    COMPRESSION_ERROR = 0x9
    CONNECT_ERROR = 0xA
    ENHANCE_YOUR_CALM = 0xB
    INADEQUATE_SECURITY = 0xC
    HTTP_1_1_REQUIRED = 0xD


class ConnectionFailure(Exception):
    """What the other side did that no connection survives."""

    def __init__(self, code: ErrorCode, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class StreamFailure(Exception):
    """What the other side did that ends one stream."""

    def __init__(self, code: ErrorCode, reason: str) -> None:
        super().__init__(reason)
        self.code = code


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """A whole frame."""
    length = len(payload)
    return HEADER.pack(length >> 8, length & 0xFF, kind, flags, stream) + payload


def header_frames(stream: int, block: bytes, flags: int, largest: int) -> bytes:
    """A header block, in as many frames as it needs where a frame has at most `largest` bytes."""
    if len(block) <= largest:
        return frame(HEADERS, flags | END_HEADERS, stream, block)
    pieces = [block[at : at + largest] for at in range(0, len(block), largest)]
    last = len(pieces) - 1
    return frame(HEADERS, flags, stream, pieces[0]) + b"".join(
        frame(CONTINUATION, END_HEADERS if number == last else 0, stream, piece)
        for number, piece in enumerate(pieces)
        if number
    )


def settings_frame(values: Mapping[int, int]) -> bytes:
    """SETTINGS with these values."""
    return frame(SETTINGS, 0, 0, b"".join(_SETTING.pack(*pair) for pair in values.items()))


def read_settings(payload: bytes) -> Iterable[tuple[int, int]]:
    """The values of a SETTINGS frame, in order."""
    pairs: Iterator[tuple[int, int]] = _SETTING.iter_unpack(payload)
    return pairs


SETTINGS_ACK = frame(SETTINGS, ACK, 0)


def window_update(stream: int, more: int) -> bytes:
    """WINDOW_UPDATE: so many bytes more may be sent."""
    return frame(WINDOW_UPDATE, 0, stream, _NUMBER.pack(more))


def reset(stream: int, code: ErrorCode) -> bytes:
    """RST_STREAM."""
    return frame(RST_STREAM, 0, stream, _NUMBER.pack(code))


def ping(opaque: bytes, flags: int = 0) -> bytes:
    """PING, with eight bytes that come back."""
    return frame(PING, flags, 0, opaque)


def goaway(last: int, code: ErrorCode, reason: str = "") -> bytes:
    """GOAWAY: streams above `last` are not looked at."""
    return frame(GOAWAY, 0, 0, _NUMBER.pack(last) + _NUMBER.pack(code) + reason.encode()[:200])
