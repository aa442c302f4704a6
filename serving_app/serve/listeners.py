"""The gateway's listener for REST: its socket, which it shares with other gateways of the node, and its gentle end."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator

from serving_app.serve.http_connection import HttpApp, HttpConnection
from serving_app.serve.neighbours import url_host

_BACKLOG = 4096
_LOOK_S = 0.02
_QUIET_LOOKS = 50
"""How often in a row no connection of a gateway that drains may have a request until those that are open are closed:
after a second. Not by the clock: when this process stood still, requests may have arrived that it has not read yet."""
_TICK_S = 5.0


def claim(host: str, port: int) -> socket.socket:
    """A bound socket that shares its port with others who ask for that; not yet listening."""
    family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    bound = socket.socket(family, kind, proto)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.bind(address)
    except BaseException:
        bound.close()
        raise
    return bound


def take_waiting(listening: socket.socket) -> Iterator[socket.socket]:
    """Connections that the system has accepted and nobody has taken yet; they would be cut when this one is closed."""
    while True:
        try:
            arrived, _ = listening.accept()
        except OSError:  # mostly as there is none; else nothing could be done for it
            return
        arrived.setblocking(False)
        yield arrived


class RestListener:
    """An HTTP server on the running loop."""

    def __init__(self, app: HttpApp, bound: socket.socket) -> None:
        self._app = app
        self._socket = bound
        self._connections: set[HttpConnection] = set()
        self._server: asyncio.Server | None = None
        self._ticking: asyncio.Task[None] | None = None
        self._is_draining = False

    async def start(self) -> str:
        """Listen; returns the address."""
        loop = asyncio.get_running_loop()
        self._socket.setblocking(False)
        self._server = await loop.create_server(self._meet, sock=self._socket, backlog=_BACKLOG)
        self._ticking = loop.create_task(self._tick())
        host, port = self._socket.getsockname()[:2]
        return f"{url_host(host)}:{port}" if host != "0.0.0.0" else f"{host}:{port}"

    @property
    def is_alive(self) -> bool:
        """Whether it still serves."""
        return self._ticking is not None and not self._ticking.done()

    @property
    def is_listening(self) -> bool:
        """Whether new connections are accepted."""
        return self._server is not None and self._server.is_serving()

    async def drain(self, timeout: float) -> None:
        """Accept no more connections, let those that are open finish their requests, then close."""
        deadline = time.monotonic() + timeout
        self._is_draining = True
        waiting = []
        if self._server is not None:
            waiting = list(take_waiting(self._socket))
            self._server.close()
        for connection in self._connections:
            connection.drain()
        await asyncio.gather(*map(self._welcome, waiting))
        # Clients with an idle connection learn at their next request that it closes; give them the time for one.
        quiet_looks = 0
        while self._connections and time.monotonic() < deadline:
            quiet_looks = quiet_looks + 1 if all(connection.is_idle for connection in self._connections) else 0
            if quiet_looks > _QUIET_LOOKS:
                for connection in list(self._connections):
                    connection.end_if_idle()
            await asyncio.sleep(_LOOK_S)
        for connection in list(self._connections):
            connection.abort()
        if self._ticking is not None:
            self._ticking.cancel()
            await asyncio.wait({self._ticking})

    def _meet(self) -> HttpConnection:
        connection = HttpConnection(self._app, self._connections)
        connection.draining = self._is_draining
        return connection

    async def _welcome(self, arrived: socket.socket) -> None:
        """Serve a connection that came just before the socket was closed."""
        try:
            await asyncio.get_running_loop().connect_accepted_socket(self._meet, arrived)
        except OSError:
            arrived.close()  # it has gone again

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(_TICK_S)
            for connection in list(self._connections):
                connection.tick()
