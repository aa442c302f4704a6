"""HTTP/1.1 as the load of an open loop: one request at a time on each connection, sent as prepared bytes."""

from __future__ import annotations

import asyncio
from typing import cast

from benchmarks.load.answers import Answers
from benchmarks.load.pace import Pace


class Http1Line(asyncio.Protocol):
    """A connection that stays open. One that a server closes is opened again, which costs that server the time."""

    def __init__(self, pace: Pace, request: bytes, answers: Answers) -> None:
        self._pace = pace
        self._request = request
        self._answers = answers
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._due: float | None = None
        self._is_closed = False
        self._ended = asyncio.Event()
        self.peer: tuple[str, int] = ("", 0)

    @classmethod
    async def open(cls, host: str, port: int, pace: Pace, request: bytes, answers: Answers) -> Http1Line:
        """A connection to this server."""
        line = cls(pace, request, answers)
        line.peer = (host, port)
        await asyncio.get_running_loop().create_connection(lambda: line, host, port)
        return line

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if self._due is not None:
            self._transport.write(self._request)

    def start(self, due: float) -> None:
        """Send the request."""
        self._due = due
        if self._transport is not None:
            self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head = self._received.find(b"\r\n\r\n")
        if head < 0:
            return
        fields = bytes(self._received[:head]).lower()
        if b"content-length:" in fields:
            length = int(fields.split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
            if len(self._received) < head + 4 + length:
                return
            body = bytes(self._received[head + 4 : head + 4 + length])
        elif b"transfer-encoding: chunked" in fields:
            if not self._received.endswith(b"0\r\n\r\n"):
                return
            body = _joined(bytes(self._received[head + 4 :]))
        else:
            self._finish("an answer without a length")
            return
        self._received.clear()
        is_good = fields.startswith((b"http/1.1 200", b"http/1.0 200"))
        self._finish(self._answers.find_wrong(body) if is_good else f"{fields[:40]!r}: {body[:300]!r}")

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._received.clear()
        if self._is_closed:
            self._ended.set()
            return
        if self._due is not None:
            self._finish(f"the connection was lost: {exc}")
        self._opening = asyncio.get_running_loop().create_task(self._open_again())

    async def _open_again(self) -> None:
        try:
            await asyncio.get_running_loop().create_connection(lambda: self, *self.peer)
        except OSError as error:
            self._finish(f"no connection: {error}")

    async def close(self) -> None:
        """End it for good."""
        self._is_closed = True
        if self._transport is not None:
            self._transport.abort()
            await self._ended.wait()

    def _finish(self, wrong: str | None) -> None:
        due, self._due = self._due, None
        if due is not None:
            self._pace.done(self, due, wrong)


def _joined(chunks: bytes) -> bytes:
    body, at = b"", 0
    while True:
        end = chunks.index(b"\r\n", at)
        length = int(chunks[at:end], 16)
        if length == 0:
            return body
        body += chunks[end + 2 : end + 2 + length]
        at = end + 4 + length


def encode_request(host: str, port: int, path: str, body: bytes) -> bytes:
    """A POST of JSON."""
    head = f"POST {path} HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
