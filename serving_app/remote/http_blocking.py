"""Carries requests by HTTP and blocks meanwhile; used from as many threads as one likes.

Connections are kept and used again, the latest first. There are never more than there were calls at the same time, and
those that were idle for long are closed.
"""

from __future__ import annotations

import os
import select
import socket
import ssl
import threading
import time
from typing import NamedTuple

import httptools

from serving_app.core.errors import Unavailable
from serving_app.remote.http_messages import Address, AnswerReader, RequestWriter
from serving_app.remote.outcomes import Answer, broken, distrusted, judge, no_http, refused
from serving_app.remote.plans import Exchange

IDLE_S = 60.0
"""For so long a connection is kept that nobody uses: networks forget idle ones without telling either end."""

_PIECE = 1 << 18


class _Idle(NamedTuple):
    connection: socket.socket
    since: float


class _Stale(Exception):
    """A connection that was used before was closed by the server before anything of the answer came."""


class BlockingHttp:
    """The connections to one server. Closed by `close`."""

    def __init__(self, address: Address, writer: RequestWriter, context: ssl.SSLContext | None) -> None:
        self._address = address
        self._writer = writer
        self._context = context
        self._lock = threading.Lock()
        self._idle: list[_Idle] = []
        self._process = os.getpid()
        self._is_closed = False

    def exchange(self, step: Exchange) -> bytes:
        """Make one exchange, as plans.py has it."""
        ends = None if step.timeout is None else time.monotonic() + step.timeout
        parts = self._writer.write(step.query.target, step.query.body)
        while True:
            connection = self._take()
            is_used = connection is not None
            if connection is None:
                connection = self._open(ends)
            try:
                answer, can_go_on = self._ask(connection, parts, ends, is_used)
            except _Stale:
                connection.close()
                continue  # with another that was used before, or else a new one
            except BaseException:
                connection.close()
                raise
            if can_go_on:
                self._put(connection)
            else:
                connection.close()
            return judge(answer, str(self._address))

    def close(self) -> None:
        """Close what nobody uses, and the others after their calls."""
        with self._lock:
            self._is_closed = True
            idle, self._idle = self._idle, []
        for each in idle:
            each.connection.close()

    # --- connections -------------------------------------------------------------------------------------------------

    def _take(self) -> socket.socket | None:
        if self._process != os.getpid():
            self._forget()
        while True:
            with self._lock:
                if self._is_closed:
                    raise Unavailable("this client is closed; make another one")
                if not self._idle:
                    return None
                connection, since = self._idle.pop()
            if since >= time.monotonic() - IDLE_S and not _has_news(connection):
                return connection
            connection.close()  # it is too old, or the server has closed it, or says what nobody asked for

    def _forget(self) -> None:
        """After a fork: the connections are the parent's, and who held the lock does not live here."""
        self._process, self._lock = os.getpid(), threading.Lock()
        idle, self._idle = self._idle, []
        for each in idle:
            os.close(each.connection.detach())  # without a word on the connection

    def _put(self, connection: socket.socket) -> None:
        now = time.monotonic()
        outdated = []
        with self._lock:
            is_kept = not self._is_closed and self._process == os.getpid()
            if is_kept:
                self._idle.append(_Idle(connection, now))
                while self._idle[0].since < now - IDLE_S:
                    outdated.append(self._idle.pop(0).connection)
        for each in outdated if is_kept else [connection]:
            each.close()

    def _open(self, ends: float | None) -> socket.socket:
        server = str(self._address)
        try:
            found = socket.getaddrinfo(self._address.host, self._address.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise refused(server, error) from error
        failure: OSError = OSError("its name stands for no address")
        for family, kind, protocol, _, where in found:
            connection = socket.socket(family, kind, protocol)
            try:
                connection.settimeout(_left(ends))
                connection.connect(where)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if self._context is None:
                    return connection
                return self._wrap(connection, self._context, ends)
            except OSError as error:
                connection.close()
                if is_own_limit(error):
                    raise
                failure = error
            except BaseException:
                connection.close()
                raise
        if is_about_tls(failure):
            raise distrusted(server, failure) from failure
        raise refused(server, failure) from failure

    def _wrap(self, connection: socket.socket, context: ssl.SSLContext, ends: float | None) -> ssl.SSLSocket:
        connection.settimeout(_left(ends))
        return context.wrap_socket(connection, server_hostname=self._address.host)

    # --- one request -------------------------------------------------------------------------------------------------

    def _ask(
        self, connection: socket.socket, parts: list[bytes], ends: float | None, is_used: bool
    ) -> tuple[Answer, bool]:
        """The answer, and whether the connection can be used again."""
        server = str(self._address)
        reader = AnswerReader()
        was_cut = False
        try:
            for part in parts:
                connection.settimeout(_left(ends))
                connection.sendall(part)
        except OSError as error:
            if is_own_limit(error):
                raise
            was_cut = True  # there may be an answer all the same, such as that the request is too large
        while not reader.is_complete:
            connection.settimeout(_left(ends))
            try:
                data = connection.recv(_PIECE)
            except OSError as error:
                if is_own_limit(error):
                    raise
                if is_about_tls(error):
                    raise distrusted(server, error) from error
                data = b""
            if data:
                try:
                    reader.feed(data)
                except httptools.HttpParserError as error:
                    raise no_http(server, error) from error
                continue
            reader.feed_end()
            if not reader.is_complete:
                if is_used and not reader.is_begun:
                    raise _Stale
                raise broken(server, reader.is_begun)
        return reader.answer, reader.can_go_on and not was_cut


def _has_news(connection: socket.socket) -> bool:
    """Whether there is something to read on a connection on which nothing is awaited: mostly its end."""
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    return bool(poll.poll(0))


def is_own_limit(error: OSError) -> bool:
    """Whether the time is over that was given; networks have limits of their own, whose errors have a number."""
    return isinstance(error, TimeoutError) and error.errno is None


def is_about_tls(error: BaseException) -> bool:
    """Whether the two sides do not agree on TLS, and have not merely ended it."""
    return isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError)


def _left(ends: float | None) -> float | None:
    if ends is None:
        return None
    left = ends - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left
