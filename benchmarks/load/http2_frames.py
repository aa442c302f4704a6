"""Frames of HTTP/2 (RFC 9113): their kinds and flags, how they are written, and what a connection opens with."""

from __future__ import annotations

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
END_STREAM, ACK, END_HEADERS, PADDED, PRIORITY = 0x1, 0x1, 0x4, 0x8, 0x20
REFUSED = 7  # the code of a stream that was not looked at
LARGEST_WINDOW = 2**31 - 1
REFILL = 2**30
"""The connection's window for answers is filled up when so much of it is used."""


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """A frame of at most 16 MiB."""
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


OPENING = (
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    # ENABLE_PUSH 0, INITIAL_WINDOW_SIZE as large as can be: answers are never held up.
    + frame(SETTINGS, 0, 0, b"\0\2" + bytes(4) + b"\0\4" + LARGEST_WINDOW.to_bytes(4, "big"))
    + frame(WINDOW_UPDATE, 0, 0, (LARGEST_WINDOW - 65535).to_bytes(4, "big"))
)
