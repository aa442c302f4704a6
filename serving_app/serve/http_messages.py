"""A request and an answer of HTTP, whoever carries them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

Headers = tuple[tuple[bytes, bytes], ...]
"""Names in small letters, and values. Content-Length is not among them, as whoever sends the body knows it."""


class HttpRequest(NamedTuple):
    """A whole request: the target as it was sent, undecoded, with its query, and the headers that matter to us."""

    method: str
    target: str
    body: bytes = b""
    origin: bytes = b""
    content_encoding: bytes = b""
    is_too_large: bool = False
    """Its body was larger than allowed, and is not here."""
    fields: Sequence[tuple[bytes, bytes]] = ()
    """All headers as they were sent."""


class Answer(NamedTuple):
    """A whole answer."""

    status: int
    body: bytes
    headers: Headers
