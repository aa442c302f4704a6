"""One HTTP connection: uvicorn's, with three things that it leaves to chance.

- A client may ask to go on in another protocol, as Java's does in each first request: `Upgrade: h2c`. Who knows only
  HTTP/1.1 passes over that, as libevent does; the parser would pass over the request's body instead.
- A client may send requests without waiting for answers. Each that is read takes thousands of bytes until its turn, so
  no more are read while any waits.
- A request line and headers may be of any length, and all of them stay in memory, so there is a limit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sized
from typing import Any

import httptools
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MOST_WITHOUT_BODY = 1 << 20
"""Bytes that may come without any of a body among them: a request line with its headers, or what follows a body."""

_REFUSAL = "Invalid HTTP request received."


class HttpConnection(HttpToolsProtocol):
    """For uvicorn.Config's `http`."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._since_progress = 0
        self._is_upgrade = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        """Called once, when the client is there."""
        super().connection_made(transport)
        self.flow = _UnlessWaiting(transport, self.pipeline)

    def data_received(self, data: bytes) -> None:
        """Called with whatever has come."""
        self._unset_keepalive_if_required()
        while data:
            self._since_progress += len(data)
            try:
                self.parser.feed_data(data)
                data = b""
            except httptools.HttpParserUpgrade as upgrade:
                if not self._is_upgrade:  # a tunnel
                    self._refuse(_REFUSAL)
                    return
                data = self._without_upgrade() + data[upgrade.args[0] :]
                self.parser = httptools.HttpRequestParser(self)
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
            except httptools.HttpParserError:
                self._refuse(_REFUSAL)
                return
        if self._since_progress > MOST_WITHOUT_BODY:
            self._refuse(f"The request line and headers are longer than {MOST_WITHOUT_BODY} bytes.")

    def _refuse(self, reason: str) -> None:
        self.logger.warning(reason)
        self.send_400_response(reason)

    def _without_upgrade(self) -> bytes:
        """The head that the parser has stopped at, once more, without the wish for another protocol."""
        lines = [b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())]
        lines += [b"%b: %b" % header for header in self.headers if header[0] != b"upgrade"]
        return b"\r\n".join(lines) + b"\r\n\r\n"

    def on_headers_complete(self) -> None:
        """Called by the parser; so are the others."""
        self._is_upgrade = self.parser.should_upgrade() and any(name == b"upgrade" for name, _ in self.headers)
        if not self._is_upgrade:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._since_progress = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._since_progress = 0
        if not self._is_upgrade:
            super().on_message_complete()


class _UnlessWaiting(FlowControl):
    """Reads on only if no request that was read waits for its turn."""

    def __init__(self, transport: asyncio.Transport, waiting: Sized) -> None:
        super().__init__(transport)
        self._waiting = waiting

    def resume_reading(self) -> None:
        if not self._waiting:
            super().resume_reading()
