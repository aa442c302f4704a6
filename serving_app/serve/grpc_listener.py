"""The gateway's gRPC server: where it listens, with which keys, and how it ends without losing a call.

A gateway that goes closes its listening sockets, having taken whoever was waiting there, so that new connections go to
other gateways; then it sends the clients that it has elsewhere, which answers every call that they had sent before they
knew (see grpc_lifetime.py). It ends when the last of them has gone, or when its time is over.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import Mapping
from functools import partial
from typing import Any
from weakref import WeakSet

from serving_app.config.ssl_config import TlsKeys, server_context
from serving_app.core.errors import FailedPrecondition
from serving_app.serve.grpc_calls import Methods
from serving_app.serve.grpc_connection import GrpcConnection
from serving_app.serve.grpc_settings import GrpcSettings
from serving_app.serve.listeners import claim, take_waiting
from serving_app.serve.neighbours import grpc_place, tell
from serving_app.serve.unix_socket import SharedPath, socket_place

_BACKLOG = 4096
_HANDSHAKE_S = 10.0
"""How long a client may take to agree on keys."""
_ARRIVAL_S = 2.0
"""How long one that is at it is waited for at the end; nobody tells when it fails."""
_ABORT_S = 1.0
"""How long connections may take to end that were cut."""


class GrpcListener:
    """A gRPC server on the running loop, at a port, at a UNIX socket, or at both."""

    def __init__(
        self, methods: Methods, identity: Mapping[str, str], settings: GrpcSettings, keys: TlsKeys | None = None
    ) -> None:
        self._identity = identity
        self._meet = partial(_meet, methods, settings, self)
        self._tls = None if keys is None else server_context(keys)
        self._servers: list[asyncio.Server] = []
        self._sockets: list[socket.socket] = []
        self._tellers: list[asyncio.Server] = []
        self._connections: WeakSet[GrpcConnection] = WeakSet()
        self._arrivals: set[asyncio.Task[object]] = set()
        self._left = asyncio.Event()
        self._is_draining = False
        self._shared: SharedPath | None = None

    async def start(self, host: str, port: int | None, socket_path: str | None = None) -> list[str]:
        """Listen; returns the addresses: the port's, then the socket's as `unix:PATH`."""
        found = []
        if port is not None:
            target = f"[{host}]" if ":" in host else host
            if port:  # before it is bound: who finds it taken asks at once
                await self._tell(grpc_place(port))
            bound = await self._bind(host, port, f"{target}:{port}")
            if not port:
                await self._tell(grpc_place(bound))
            found.append(f"{target}:{bound}")
        if socket_path is not None:
            self._shared = SharedPath(socket_path)
            await self._tell(socket_place(socket_path))
            await self._bind_path(self._shared.own)
            self._shared.take()
            found.append(f"unix:{socket_path}")
        return found

    async def drain(self, timeout: float) -> None:
        """Accept no more connections, let those that are there end their calls and go; calls that still run when the
        time is over are cancelled.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        if self._shared is not None:
            await self._shared.leave()
        for teller in self._tellers:
            teller.close()
        waiting = [each for listening in self._sockets for each in take_waiting(listening)]
        for server in self._servers:
            server.close()
        self._is_draining = True
        for arrived in waiting:
            task = loop.create_task(self._welcome(arrived))
            self._arrivals.add(task)
            task.add_done_callback(self._arrivals.discard)
        for connection in list(self._connections):
            connection.retire()
        await self._wait_until_left(deadline, _ARRIVAL_S)
        for connection in list(self._connections):
            connection.abort()
        await self._wait_until_left(loop.time() + _ABORT_S, 0.0)

    def joined(self, connection: GrpcConnection) -> None:
        """A connection has been accepted. It may yet have to agree on keys."""
        self._connections.add(connection)
        if self._is_draining:
            connection.retire()

    def left(self, connection: GrpcConnection) -> None:
        """A connection is over."""
        self._connections.discard(connection)
        self._left.set()

    async def _wait_until_left(self, deadline: float, arrival_s: float) -> None:
        loop = asyncio.get_running_loop()

        def is_here(connection: GrpcConnection) -> bool:
            is_arriving = not connection.is_over and loop.time() < connection.made + arrival_s
            return connection.is_connected or is_arriving

        while self._arrivals or any(map(is_here, list(self._connections))):
            self._left.clear()
            left_s = deadline - loop.time()
            if left_s <= 0:
                return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._left.wait(), min(left_s, 0.5))

    async def _welcome(self, arrived: socket.socket) -> None:
        """Serve a connection that came just before the sockets were closed."""
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                self._meet, arrived, ssl=self._tls, ssl_handshake_timeout=_HANDSHAKE_S if self._tls else None
            )
        except OSError:
            arrived.close()  # it has gone again, or could not agree on keys: nobody to tell
        finally:
            self._left.set()

    async def _bind(self, host: str, port: int, address: str) -> int:
        try:
            bound = claim(host, port)
        except OSError as error:
            self._give_up()
            raise _refusal(address) from error
        number: int = bound.getsockname()[1]
        await self._listen(bound)
        if host == "0.0.0.0" and (beside := self._claim_beside(number)) is not None:
            await self._listen(beside)
        return number

    async def _bind_path(self, path: str) -> None:
        bound = socket.socket(socket.AF_UNIX)
        try:
            bound.bind(path)
        except OSError as error:
            bound.close()
            self._give_up()
            raise FailedPrecondition(
                f"cannot listen for gRPC at unix:{path} ({error.strerror}); set gateway.grpc_socket_path to a path in "
                "a directory that this user may write to"
            ) from error
        await self._listen(bound)

    def _claim_beside(self, port: int) -> socket.socket | None:
        """All addresses are those of version 6, too, as of grpc; None where this machine has none."""
        try:
            beside = socket.socket(socket.AF_INET6)
        except OSError:
            return None
        try:
            beside.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            beside.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            beside.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            beside.bind(("::", port))
        except OSError as error:
            beside.close()
            if error.errno != errno.EADDRINUSE:
                return None
            self._give_up()
            raise _refusal(f"[::]:{port}") from error
        return beside

    async def _listen(self, bound: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        make: Any = loop.create_unix_server if bound.family == socket.AF_UNIX else loop.create_server
        # What is given for the handshake is refused where there is none.
        tls: dict[str, Any] = {} if self._tls is None else {"ssl": self._tls, "ssl_handshake_timeout": _HANDSHAKE_S}
        bound.setblocking(False)
        self._sockets.append(bound)
        self._servers.append(await make(self._meet, sock=bound, backlog=_BACKLOG, **tls))

    def _give_up(self) -> None:
        for server in (*self._tellers, *self._servers):
            server.close()

    async def _tell(self, place: str) -> None:
        teller = await tell(place, self._identity)
        if teller is not None:
            self._tellers.append(teller)


def _meet(methods: Methods, settings: GrpcSettings, listener: GrpcListener) -> GrpcConnection:
    connection = GrpcConnection(methods, settings, listener.left)
    listener.joined(connection)
    return connection


def _refusal(address: str) -> FailedPrecondition:
    return FailedPrecondition(
        f"cannot listen for gRPC at {address}: somebody else has just taken it, or may listen there alone; "
        "stop it, or set gateway.grpc_port"
    )
