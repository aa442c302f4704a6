"""Carries requests by HTTP on an event loop; the twin of http_blocking.py."""

from __future__ import annotations

import asyncio
import ssl
import time
from typing import NamedTuple, cast

import httptools

from serving_app.core.errors import Unavailable
from serving_app.remote.event_loops import own_loop
from serving_app.remote.http_blocking import IDLE_S, is_about_tls, is_own_limit
from serving_app.remote.http_messages import Address, AnswerReader, RequestWriter
from serving_app.remote.outcomes import Answer, broken, distrusted, judge, no_http, refused
from serving_app.remote.plans import Exchange


class _Idle(NamedTuple):
    connection: _Connection
    since: float


class _Ended(Exception):
    """The connection ended before the answer did. `is_begun` tells whether something of the answer had come."""

    def __init__(self, is_begun: bool) -> None:
        self.is_begun = is_begun


class _Connection(asyncio.Protocol):
    """One connection, on which one request at a time is answered."""

    def __init__(self) -> None:
        self._reader = AnswerReader()
        self._waiter: asyncio.Future[None] | None = None
        self.is_over = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self._waiter is None:  # nobody has asked for that
            self.abort()
            return
        try:
            self._reader.feed(data)
        except httptools.HttpParserError as error:
            self._fail(error)
            return
        if self._reader.is_complete and not self._waiter.done():
            self._waiter.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_over = True
        self._reader.feed_end()
        if self._waiter is None or self._waiter.done():
            return
        if self._reader.is_complete:
            self._waiter.set_result(None)
        elif exc is not None and is_about_tls(exc):
            self._fail(exc)
        else:
            self._fail(_Ended(self._reader.is_begun))

    def abort(self) -> None:
        """End it now."""
        self.is_over = True
        self.transport.abort()

    def _fail(self, error: Exception) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(error)

    async def ask(self, parts: list[bytes]) -> tuple[Answer, bool]:
        """The answer, and whether the connection can be used again."""
        self._reader = AnswerReader()
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            if self.is_over:
                raise _Ended(False)
            self.transport.writelines(parts)
            await self._waiter
            return self._reader.answer, self._reader.can_go_on and not self.is_over
        finally:
            self._waiter = None


class AsyncHttp:
    """The connections to one server, all on the event loop of the first call. Closed by `close`."""

    def __init__(self, address: Address, writer: RequestWriter, context: ssl.SSLContext | None) -> None:
        self._address = address
        self._writer = writer
        self._context = context
        self._loop: asyncio.AbstractEventLoop | None = None
        self._idle: list[_Idle] = []
        self._is_closed = False

    async def exchange(self, step: Exchange) -> bytes:
        """Make one exchange, as plans.py has it."""
        self._loop = own_loop(self._loop)
        parts = self._writer.write(step.query.target, step.query.body)
        async with asyncio.timeout(step.timeout):
            answer = await self._ask(parts)
        return judge(answer, str(self._address))

    async def close(self) -> None:
        """Close what nobody uses, and the others after their calls."""
        self._is_closed = True
        while self._idle:
            self._idle.pop().connection.abort()
        await asyncio.sleep(0)  # that is when they end

    async def _ask(self, parts: list[bytes]) -> Answer:
        server = str(self._address)
        while True:
            connection = self._take()
            is_used = connection is not None
            if connection is None:
                connection = await self._open()
            try:
                answer, can_go_on = await connection.ask(parts)
            except _Ended as end:
                connection.abort()
                if is_used and not end.is_begun:
                    continue  # with another that was used before, or else a new one
                raise broken(server, end.is_begun) from None
            except httptools.HttpParserError as error:
                connection.abort()
                raise no_http(server, error) from error
            except ssl.SSLError as error:
                connection.abort()
                raise distrusted(server, error) from error
            except BaseException:
                connection.abort()
                raise
            if can_go_on and not self._is_closed:
                self._put(connection)
            else:
                connection.transport.close()
            return answer

    def _take(self) -> _Connection | None:
        if self._is_closed:
            raise Unavailable("this client is closed; make another one")
        while self._idle:
            connection, since = self._idle.pop()
            if since < time.monotonic() - IDLE_S:
                connection.transport.close()
            elif not connection.is_over and not connection.transport.is_closing():
                return connection
        return None

    def _put(self, connection: _Connection) -> None:
        now = time.monotonic()
        self._idle.append(_Idle(connection, now))
        while self._idle[0].since < now - IDLE_S:
            self._idle.pop(0).connection.transport.close()

    async def _open(self) -> _Connection:
        server = str(self._address)
        try:
            _, connection = await asyncio.get_running_loop().create_connection(
                _Connection, self._address.host, self._address.port, ssl=self._context
            )
        except (OSError, UnicodeError) as error:
            if isinstance(error, OSError) and is_own_limit(error):
                raise
            raise (distrusted if is_about_tls(error) else refused)(server, error) from error
        return connection
