"""HTTP/1.1 as this client speaks it, free of any IO: requests as bytes, and answers out of the bytes that come.

The parser is that of `httptools`, which the gateways use, too.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

import httptools

from serving_app import __version__
from serving_app.core.errors import InvalidArgument
from serving_app.remote.outcomes import Answer

Headers = Mapping[str, str] | Callable[[], Mapping[str, str]]
"""Headers of every request, or what gives those of the next one: a token that is renewed from time to time."""

_PACKED_FROM = 1 << 10
"""Bytes of a body from which on packing it pays."""

_MOST_HEADERS = 1 << 18
"""Bytes of headers that an answer may have."""

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_OWN = frozenset({"accept-encoding", "connection", "content-encoding", "content-length", "host", "transfer-encoding"})


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server is. `prefix` is what its paths begin with, behind a proxy; mostly nothing."""

    host: str
    port: int
    is_tls: bool
    prefix: str = ""

    def __str__(self) -> str:
        return f"{'https' if self.is_tls else 'http'}://{self.authority}{self.prefix}"

    @property
    def authority(self) -> str:
        """What the Host header says."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def read_address(text: str) -> Address:
    """The address in a URL; `localhost:8501` is short for `http://localhost:8501`. InvalidArgument if it is none."""
    try:
        parts = urlsplit(text if "://" in text else f"http://{text}")
        port = parts.port
    except ValueError as error:
        raise InvalidArgument(f"{text!r} is no address of a server: {error}") from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidArgument(f"{text!r} is no address of a server; write http://HOST:PORT or https://HOST:PORT")
    if parts.username is not None or parts.query or parts.fragment:
        raise InvalidArgument(f"write no more than scheme, host, port and path of {parts.hostname}; tokens are headers")
    if not all(0x20 < ord(char) < 0x7F for char in parts.netloc + parts.path):
        raise InvalidArgument(f"{text!r} has characters that no address has")
    is_tls = parts.scheme == "https"
    return Address(parts.hostname, (443 if is_tls else 80) if port is None else port, is_tls, parts.path.rstrip("/"))


@dataclass(frozen=True, slots=True)
class RequestWriter:
    """Writes requests to one server."""

    address: Address
    headers: Headers
    compress: bool

    def write(self, target: str, body: bytes | None) -> list[bytes]:
        """A POST with this body, or a GET if there is none. The parts, one after the other, are the request."""
        path = self.address.prefix + target
        lines = [f"{'GET' if body is None else 'POST'} {path} HTTP/1.1", f"host: {self.address.authority}"]
        lines.append(f"user-agent: serving-app/{__version__}")
        if self.compress:
            lines.append("accept-encoding: gzip")
            if body is not None and len(body) >= _PACKED_FROM:
                body = gzip.compress(body, 1, mtime=0)  # the quickest: the network is what is slower than that
                lines.append("content-encoding: gzip")
        if body is not None:
            lines += ["content-type: application/json", f"content-length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in read_headers(self.headers).items()]
        head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
        return [head] if not body else [head, body]


def read_headers(headers: Headers) -> dict[str, str]:
    """The headers, with names in small letters; InvalidArgument if one cannot be sent."""
    given = headers() if callable(headers) else headers
    for name, value in given.items():
        if not _NAME.fullmatch(name) or name.lower() in _OWN:
            raise InvalidArgument(f"{name!r} cannot be a header here; leave it out")
        if any(char in "\r\n\0" for char in value) or not value.isascii():
            raise InvalidArgument(f"the value of the header {name!r} has characters that no header has")
    return {name.lower(): value for name, value in given.items()}


class AnswerReader:
    """Reads one answer out of what comes on a connection. Raises httptools.HttpParserError if that is no HTTP."""

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._status = 0
        self._reason = b""
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []
        self._has_headers = False
        self._head_bytes = 0
        self.is_complete = False
        self.is_begun = False
        self.can_go_on = False
        """Whether another request may be sent on the connection after this answer."""

    def feed(self, data: bytes) -> None:
        """Bytes that came."""
        if self.is_complete:
            self.can_go_on = False  # nobody has asked for that
            return
        self.is_begun = True
        if not self._has_headers:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as error:
            raise httptools.HttpParserError("it wants to speak another protocol") from error
        except httptools.HttpParserError:
            if not self.is_complete:
                raise
            self.can_go_on = False
        if not self._has_headers and not self.is_complete and self._head_bytes > _MOST_HEADERS:
            raise httptools.HttpParserError(f"the headers have more than {_MOST_HEADERS} bytes")

    def feed_end(self) -> None:
        """Nothing comes any more. An answer that tells no length ends there."""
        tells_length = "content-length" in self._headers or "transfer-encoding" in self._headers
        if self._has_headers and not tells_length and not self.is_complete:
            self._status = self._parser.get_status_code()
            self.is_complete = True
        self.can_go_on = False

    @property
    def answer(self) -> Answer:
        """The answer, when it is complete."""
        return Answer(self._status, self._reason.decode("latin-1"), self._headers, b"".join(self._body))

    # --- what the parser calls ---------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self.is_complete:
            self.can_go_on = False

    def on_status(self, reason: bytes) -> None:
        if not self.is_complete:
            self._reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.is_complete:
            self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self._has_headers = not self.is_complete and not self._is_interim()

    def on_body(self, data: bytes) -> None:
        if not self.is_complete:
            self._body.append(data)

    def on_message_complete(self) -> None:
        if self.is_complete:
            return
        if self._is_interim():  # the real one is still to come
            self._headers, self._reason = {}, b""
            return
        self.is_complete = True
        self._status = self._parser.get_status_code()
        self.can_go_on = self._parser.should_keep_alive()

    def _is_interim(self) -> bool:
        return self._parser.get_status_code() < 200
