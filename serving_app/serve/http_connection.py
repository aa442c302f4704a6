"""One HTTP connection of the gateway's own listener, straight on the parser: no server framework stands in between.

Requests are answered one at a time and in order. What a client may try is bounded:

- It may ask to go on in another protocol, as Java's does in each first request: `Upgrade: h2c`. Who knows HTTP/1.1
  alone passes over that, as libevent does; the parser would pass over the request's body instead.
- It may send requests without waiting for answers. Each that is read takes thousands of bytes until its turn, so no
  more are read while any waits, nor while the client does not take its answers.
- A request line and headers may be of any length, and all of them stay in memory, so there is a limit. A body has one.
- It may go away: what is being worked out for it is cancelled. It may also only say that it sends no more, and wait.
  Both look the same from here until something is sent to it (see `eof_received`).
- It may fall silent in the middle of a request, or take no more of an answer: `tick` closes such connections.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import deque
from typing import Any, Protocol, cast

import httptools

from serving_app.core.errors import Unavailable
from serving_app.protocol.rest_status import error_answer
from serving_app.serve.http_heads import CLOSE, KEEP_ALIVE, UNSAID, make_head
from serving_app.serve.http_messages import Answer, Headers, HttpRequest
from serving_app.serve.steps import Steps

logger = logging.getLogger("ray.serve")

MOST_WITHOUT_BODY = 1 << 20
"""Bytes that may come without any of a body among them: a request line with its headers, or what follows a body."""

SILENT_TICKS = 15
"""How often `tick` may find nothing new before it closes the connection."""

_TUNNEL = b"CONNECT"
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_UNREADABLE = "Invalid HTTP request received."
_SMALL_PIECE = 4096
"""Pieces of bodies below this are copied together: each would take many times its bytes."""
_GONE_S = 0.1
"""How long after the end of what a client sends it is looked whether the client is there, besides every `tick`."""
_CLOSED = 7
"""TCP_CLOSE in the kernel's tcp_states.h."""
_JOINED_BYTES = 1 << 16
"""Bodies up to this go out in one piece with their head; copying larger ones costs more than another call."""


class HttpApp(Protocol):
    """What answers requests."""

    most_body_bytes: int

    async def answer(self, request: HttpRequest) -> Answer:
        """The answer to one request. Raises nothing but CancelledError. It is awaited outside of any task."""

    def refuse_body(self) -> Answer:
        """The answer to a request whose body is larger than `most_body_bytes`."""


class HttpConnection(asyncio.Protocol):
    """For `loop.create_server`. While it lives it is a member of `connections`."""

    def __init__(self, app: HttpApp, connections: set[HttpConnection]) -> None:
        self._app = app
        self._connections = connections
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._parser = self._make_parser()
        self.draining = False
        """Say with the next answer that it is the last."""
        # Of the request that is being read:
        self._method = self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._found: dict[bytes, bytes] = {}  # the headers that matter
        self._wanted: dict[bytes, bytes] = {}  # the same when all have come: trailers are found, too, and say nothing
        self._fields: list[tuple[bytes, bytes]] = []  # likewise all headers
        self._body: list[Any] = []  # bytes, and from the second piece on also bytearray
        self._body_bytes = 0
        self._is_reading = False
        self._is_upgrade = False
        self._awaits_continue = False
        self._since_progress = 0
        # Of those that were read:
        self._waiting: deque[tuple[HttpRequest, bytes]] = deque()  # with what is said about the connection
        self._answering: Steps | None = None
        self._is_full = False
        self._is_last = False  # no request is read any more
        self._is_half_closed = self._is_gone = False
        self._silent_ticks = 0
        self._unsent = 0

    def _make_parser(self) -> Any:
        parser = httptools.HttpRequestParser(self)
        # What follows a request with `Connection: close` is passed over, and not an error.
        parser.set_dangerous_leniencies(lenient_data_after_close=True)
        return parser

    @property
    def is_idle(self) -> bool:
        """Whether no request is being read or answered."""
        return not self._is_reading and self._owes_nothing

    @property
    def _owes_nothing(self) -> bool:
        return self._answering is None and not self._waiting

    # Called by the event loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The client is there."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are of a class of their own
        self._connections.add(self)

    def connection_lost(self, _error: Exception | None) -> None:
        """The client is gone."""
        self._connections.discard(self)
        self._waiting.clear()
        self._is_last = self._is_gone = True
        if self._answering is not None:
            self._answering.cancel()

    def eof_received(self) -> bool:
        """The client sends no more; what it has asked is answered, unless it has gone altogether.

        That shows when it is sent something, so it is sent what clients take at any time and pass over. Those of
        HTTP/1.0 know nothing of the kind.
        """
        self._is_last = True
        if self._answering is not None and not self._is_full and not self._is_old():
            self._is_half_closed = True
            self._transport.write(_CONTINUE)
            self._loop.call_later(_GONE_S, self._look_if_gone)
        return not self._owes_nothing

    def _is_old(self) -> bool:
        is_old: bool = self._parser.get_http_version() == "1.0"
        return is_old

    def _look_if_gone(self) -> None:
        """The system knows; the event loop does not look at a connection of which nothing comes any more."""
        if self._transport.is_closing():
            return
        connected: socket.socket = self._transport.get_extra_info("socket")
        if connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == _CLOSED:
            self._transport.abort()

    def pause_writing(self) -> None:
        """The client does not take its answers as fast as they come."""
        self._is_full = True

    def resume_writing(self) -> None:
        """It does."""
        self._is_full = False
        self._go_on()

    def data_received(self, data: bytes) -> None:
        """Called with whatever has come."""
        self._silent_ticks = 0
        while data and not self._is_last:
            self._since_progress += len(data)
            try:
                self._parser.feed_data(data)
                data = b""
            except httptools.HttpParserUpgrade as upgrade:
                if not self._is_upgrade:
                    self._refuse(_UNREADABLE)
                    return
                data = self._without_upgrade() + data[upgrade.args[0] :]
                self._parser = self._make_parser()
            except httptools.HttpParserError:
                self._refuse(_UNREADABLE)
                return
        if self._since_progress > MOST_WITHOUT_BODY:
            self._refuse(f"The request line and headers are longer than {MOST_WITHOUT_BODY} bytes.")

    def _without_upgrade(self) -> bytes:
        """The head that the parser has stopped at, once more, without the wish for another protocol."""
        lines = [b"%b %b HTTP/%b" % (self._method, self._url, self._parser.get_http_version().encode())]
        lines += [b"%b: %b" % header for header in self._headers if header[0].lower() != b"upgrade"]
        return b"\r\n".join(lines) + b"\r\n\r\n"

    # Called by the parser.

    def on_message_begin(self) -> None:
        """A request begins."""
        self._is_reading = True
        self._url = b""
        self._headers = []
        self._found = {}
        self._body = []
        self._body_bytes = 0

    def on_url(self, url: bytes) -> None:
        """Part of its target."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """One of its headers, or of its trailers."""
        self._headers.append((name, value))
        name = name.lower()
        if name in _WANTED:
            self._found[name] = value

    def on_headers_complete(self) -> None:
        """The body comes next, if there is one."""
        self._fields = self._headers.copy()
        wanted = self._wanted = self._found
        self._found = {}
        self._method = self._parser.get_method()
        self._is_upgrade = b"upgrade" in wanted and self._parser.should_upgrade() and self._method != _TUNNEL
        if b"expect" in wanted and wanted[b"expect"].lower() == b"100-continue" and not self._is_upgrade:
            if self._is_old():
                return
            if self._owes_nothing:
                self._transport.write(_CONTINUE)
            else:
                self._awaits_continue = True

    def on_body(self, body: bytes) -> None:
        """Part of the body."""
        self._since_progress = 0
        self._body_bytes += len(body)
        if self._body_bytes <= self._app.most_body_bytes:
            if len(body) < _SMALL_PIECE and self._body:
                self._join(body)
            else:
                self._body.append(body)
        else:  # the rest is read all the same, as the client reads no answer before it has sent that
            self._body.clear()

    def _join(self, piece: bytes) -> None:
        if isinstance(last := self._body[-1], bytearray):
            last += piece
        else:
            self._body.append(bytearray(piece))

    def on_message_complete(self) -> None:
        """The request is there."""
        self._since_progress = 0
        if self._is_upgrade or self._method == _TUNNEL:
            return  # the parser goes no further either
        if self._is_last:
            return  # it came with one that was answered as the last
        self._is_reading = self._awaits_continue = False
        parser = self._parser
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._body = []
        request = HttpRequest(
            self._method.decode("ascii"),
            self._url.decode("utf-8", "surrogateescape"),
            body,
            self._wanted.get(b"origin", b""),
            self._wanted.get(b"content-encoding", b""),
            self._body_bytes > self._app.most_body_bytes,
            self._fields,
        )
        is_last = not parser.should_keep_alive()
        if is_last:
            self._is_last = True
        said = CLOSE if is_last else KEEP_ALIVE if b"connection" in self._wanted else UNSAID
        if self._answering is None and not self._is_full and not self._waiting:
            self._start(request, said)
        else:
            self._waiting.append((request, said))
            self._transport.pause_reading()

    # Answering.

    def _start(self, request: HttpRequest, said: bytes) -> None:
        self._answering = Steps(self._answer(request, said))
        self._answering.go()

    async def _answer(self, request: HttpRequest, said: bytes) -> None:
        app = self._app
        try:
            answer = app.refuse_body() if request.is_too_large else await app.answer(request)
        except asyncio.CancelledError:
            if self._is_gone:
                raise
            logger.warning("%s: its request was given up here", self._transport.get_extra_info("peername"))
            answer = _GIVEN_UP
        except Exception:
            logger.exception("%s %s was not answered", request.method, request.target)
            answer = _GIVEN_UP
        self._answering = None
        transport = self._transport
        if transport.is_closing():
            return
        if self.draining:
            said = CLOSE
        body = answer.body
        head = make_head(answer.status, answer.headers, said) + b"content-length: %d\r\n\r\n" % len(body)
        if request.method == "HEAD":
            transport.write(head)
        elif len(body) <= _JOINED_BYTES:
            transport.write(head + body)
        else:
            transport.writelines([head, body])
        if said == CLOSE:
            self._end()
        elif self._waiting or self._awaits_continue or self._is_last:
            self._loop.call_soon(self._go_on)  # not from here: answers that need no waiting would pile up on the stack

    def _go_on(self) -> None:
        """After an answer: the next request that has come, or read on."""
        if self._answering is not None or self._is_full or self._transport.is_closing():
            return
        if self._waiting:
            self._start(*self._waiting.popleft())
        if not self._waiting:
            self._transport.resume_reading()
            if self._answering is None and self._awaits_continue:
                self._awaits_continue = False
                self._transport.write(_CONTINUE)
            if self._answering is None and self._is_last:
                self._end()

    def _refuse(self, reason: str) -> None:
        """What came is no HTTP, or too much of it: nobody can tell where a next request would begin."""
        logger.warning("%s: %s", self._transport.get_extra_info("peername"), reason)
        self._is_last = True
        if self._owes_nothing:
            if not self._transport.is_closing():
                head = make_head(400, _PLAIN, CLOSE)
                self._transport.write(b"%bcontent-length: %d\r\n\r\n%b" % (head, len(reason), reason.encode()))
            self._end()

    def _end(self) -> None:
        self._is_last = True
        self._waiting.clear()
        if not self._transport.is_closing():
            self._transport.close()

    # Called by the listener.

    def tick(self) -> None:
        """To be called every few seconds: closes the connection when nothing has moved for too long."""
        if self._is_half_closed:
            self._look_if_gone()
        unsent = self._transport.get_write_buffer_size()
        if self._answering is not None or unsent < self._unsent:
            self._silent_ticks = 0
        self._unsent = unsent
        self._silent_ticks += 1
        if self._silent_ticks > SILENT_TICKS:
            self._transport.abort() if unsent else self._end()

    def drain(self) -> None:
        """Say with the next answer that it is the last."""
        self.draining = True

    def end_if_idle(self) -> None:
        """Close the connection unless a request is being read or answered."""
        if self.is_idle:
            self._end()

    def abort(self) -> None:
        """Close the connection whatever happens on it."""
        self._transport.abort()


_WANTED = frozenset({b"origin", b"content-encoding", b"connection", b"expect", b"upgrade"})
_PLAIN: Headers = ((b"content-type", b"text/plain; charset=utf-8"),)
_JSON: Headers = ((b"content-type", b"application/json"),)
_GIVEN_UP = Answer(*error_answer(Unavailable("the server has given the request up; send it again")), _JSON)
