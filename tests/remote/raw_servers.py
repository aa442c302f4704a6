"""Servers that do on their connections exactly what a test says."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

from tests.stepping import PATIENCE_S

HOST = "127.0.0.1"


class Request(NamedTuple):
    """One request as it came."""

    line: str
    headers: dict[str, str]
    body: bytes


class Connection:
    """A client's connection, as a server sees it."""

    def __init__(self, stream: socket.socket) -> None:
        self._stream = stream
        self._unread = b""

    def read(self) -> Request | None:
        """The next request; None if the client has closed the connection."""
        while b"\r\n\r\n" not in self._unread:
            if not self._more():
                return None
        head, _, self._unread = self._unread.partition(b"\r\n\r\n")
        line, *lines = head.decode().split("\r\n")
        headers = dict(each.split(": ", 1) for each in lines)
        length = int(headers.get("content-length", 0))
        while len(self._unread) < length:
            assert self._more(), "the request was cut short"
        body, self._unread = self._unread[:length], self._unread[length:]
        return Request(line, headers, body)

    def write(self, data: bytes) -> None:
        """Send this. A client that has gone is none of a test's business."""
        with suppress(OSError):
            self._stream.sendall(data)

    def wait_for_the_end(self) -> None:
        """Return when the client has closed the connection."""
        with suppress(OSError):
            while self._stream.recv(1 << 16):
                pass

    def _more(self) -> bool:
        try:
            data = self._stream.recv(1 << 16)
        except OSError:
            return False
        self._unread += data
        return bool(data)


Handler = Callable[[Connection], None]


class RawServer:
    """Its address, and what has come to it so far. Each connection has a thread of its own."""

    def __init__(self, handler: Handler, context: ssl.SSLContext | None) -> None:
        self._handler = handler
        self._context = context
        self._listening = socket.create_server((HOST, 0))
        self.address = f"{HOST}:{self._listening.getsockname()[1]}"
        self.connections = 0
        self._streams: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                stream, _ = self._listening.accept()
            except OSError:  # the end
                return
            self.connections += 1
            thread = threading.Thread(target=self._serve, args=(stream,))
            self._streams.append(stream)
            self._threads.append(thread)
            thread.start()

    def _serve(self, stream: socket.socket) -> None:
        try:
            if self._context is not None:
                stream.settimeout(PATIENCE_S)
                stream = self._context.wrap_socket(stream, server_side=True)
                self._streams.append(stream)
        except OSError:  # it does not like our certificate
            return
        finally:
            if self._context is not None and not isinstance(stream, ssl.SSLSocket):
                stream.close()
        with stream:
            self._handler(Connection(stream))

    def close(self) -> None:
        """End all that is still there."""
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)  # which wakes the one who accepts
        self._listening.close()
        self._threads[0].join()
        for stream in self._streams:
            with suppress(OSError):
                stream.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()


@contextmanager
def serving(handler: Handler, context: ssl.SSLContext | None = None) -> Iterator[RawServer]:
    """A server that does this on each connection, which is closed afterwards."""
    server = RawServer(handler, context)
    try:
        yield server
    finally:
        server.close()


def answer(body: bytes, status: str = "200 OK", **headers: str) -> bytes:
    """An answer with its length."""
    lines = [f"HTTP/1.1 {status}", f"content-length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def saying(*answers: bytes) -> Handler:
    """Answers in this order, whatever connections the requests come on; an empty one ends the connection."""
    left = list(answers)

    def handle(connection: Connection) -> None:
        while left and connection.read() is not None:
            said = left.pop(0)
            if not said:
                return
            connection.write(said)
            if b"\r\nconnection: close" in said:
                return
        connection.wait_for_the_end()

    return handle
