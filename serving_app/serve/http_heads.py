"""The heads of HTTP answers. Few differ, each second, so they are made once."""

from __future__ import annotations

import time
from collections.abc import Iterable
from email.utils import formatdate
from http import HTTPStatus

from serving_app.serve.http_messages import Headers

UNSAID, CLOSE, KEEP_ALIVE = b"", b"close", b"keep-alive"
"""What an answer says about its connection. A client of HTTP/1.0 that has asked to go on waits for the end unless it is
told that there is none yet; others take it for granted that it stays open.
"""

_REASONS = {status.value: status.phrase.encode() for status in HTTPStatus}
_MOST = 100

_heads: dict[tuple[int, Headers, bytes], bytes] = {}
_heads_of = 0


def make_head(status: int, headers: Headers, connection: bytes) -> bytes:
    """Everything up to the length of the body."""
    global _heads_of
    now = int(time.time())
    if now != _heads_of or len(_heads) > _MOST:
        _heads.clear()
        _heads_of = now
    key = status, headers, connection
    head = _heads.get(key)
    if head is None:
        lines: Iterable[bytes] = (
            b"HTTP/1.1 %d %b" % (status, _REASONS.get(status, b"Unknown")),
            b"date: " + formatdate(now, usegmt=True).encode(),
            *(b"%b: %b" % header for header in headers),
            *([b"connection: " + connection] if connection else []),
            b"",
        )
        head = _heads[key] = b"\r\n".join(lines)
    return head
