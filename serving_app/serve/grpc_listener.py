"""The gateway's gRPC server: where it listens, with which keys, and how it ends without losing a call.

gRPC's own way to stop loses calls: those that arrive after it has begun to stop and before their client has heard of it
are cancelled, and so are connections that come while its socket is still open. So a gateway that goes

1. closes the listening socket alone, which gRPC has no call for; new connections then go to other gateways, and
2. waits until the connections that are there have ended. They do by themselves: each is told to go after a share of the
   time for draining, at any time, in gRPC's own way, which answers every call that was sent before the client knew.

Only then, or when the time is over, is the server stopped. See docs/decisions/0017-connections-that-age.md.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import grpc
import grpc.aio

from serving_app.config.ssl_config import TlsKeys
from serving_app.core.errors import FailedPrecondition
from serving_app.serve.neighbours import grpc_place, tell
from serving_app.serve.unix_socket import SharedPath, socket_place

_SHARE = 0.4
"""Of the time for draining, how long a connection lives; the rest is for the calls that it still has."""


def server_options(
    max_message: int, drain_timeout_s: float, extra: Mapping[str, int | str] | None = None
) -> list[tuple[str, int | str]]:
    """Channel arguments of the server: ours, those that users add or change, and what cannot be changed."""
    options: dict[str, int | str] = {
        "grpc.max_receive_message_length": max_message,
        "grpc.max_send_message_length": -1,
    }
    if drain_timeout_s > 0:
        options["grpc.max_connection_age_ms"] = min(max(1, int(drain_timeout_s * 1000 * _SHARE)), 2**31 - 1)
    # Without sharing the port no gateway could be replaced without a gap.
    return list({**options, **(extra or {}), "grpc.so_reuseport": 1}.items())


class GrpcListener:
    """A grpc.aio server on the running loop, at a port, at a UNIX socket, or at both."""

    def __init__(
        self,
        handlers: Sequence[grpc.GenericRpcHandler],
        identity: Mapping[str, str],
        options: Sequence[tuple[str, int | str]],
        keys: TlsKeys | None = None,
    ) -> None:
        self._server = grpc.aio.server(options=list(options))
        self._server.add_generic_rpc_handlers(tuple(handlers))
        self._identity = identity
        self._credentials = keys and _credentials(keys)
        self._tellers: list[asyncio.Server] = []
        self._addresses: set[int | str] = set()
        self._listening: set[str] = set()
        self._shared: SharedPath | None = None

    async def start(self, host: str, port: int | None, socket_path: str | None = None) -> list[str]:
        """Listen; returns the addresses: the port's, then the socket's as `unix:PATH`."""
        found = []
        if port is not None:
            target = f"[{host}]" if ":" in host else host
            if port:  # before it is bound: who finds it taken asks at once
                await self._tell(grpc_place(port))
            bound = self._bind(f"{target}:{port}")
            self._addresses.add(bound)
            if not port:
                await self._tell(grpc_place(bound))
            found.append(f"{target}:{bound}")
        if socket_path is not None:
            self._shared = SharedPath(socket_path)
            await self._tell(socket_place(socket_path))
            self._bind(f"unix:{self._shared.own}")
            self._addresses.add(self._shared.own)
            found.append(f"unix:{socket_path}")
        await self._server.start()
        if self._shared is not None:
            self._shared.take()
        return found

    async def drain(self, timeout: float) -> None:
        """Accept no more connections, let those that are there end by themselves, then stop; calls that still run when
        the time is over are cancelled.
        """
        deadline = time.monotonic() + timeout
        if self._shared is not None:
            await self._shared.leave()
        for teller in self._tellers:
            teller.close()
        _close_listening(self._listening)
        while time.monotonic() < deadline and await asyncio.to_thread(_has_connections, self._addresses):  # noqa: ASYNC110
            await asyncio.sleep(0.05)  # nobody tells when a connection ends
        await self._server.stop(max(0.0, deadline - time.monotonic()))

    def _bind(self, address: str) -> int:
        before = _sockets().keys()
        try:
            if self._credentials is None:
                bound: int = self._server.add_insecure_port(address)
            else:
                bound = self._server.add_secure_port(address, self._credentials)
        except RuntimeError as error:
            for teller in self._tellers:
                teller.close()
            raise FailedPrecondition(
                f"cannot listen for gRPC at {address}: somebody else has just taken it, or may listen there alone; "
                "stop it, or set gateway.grpc_port"
            ) from error
        self._listening |= _sockets().keys() - before
        return bound

    async def _tell(self, place: str) -> None:
        teller = await tell(place, self._identity)
        if teller is not None:
            self._tellers.append(teller)


def _credentials(keys: TlsKeys) -> grpc.ServerCredentials:
    return grpc.ssl_server_credentials(
        [(keys.server_key, keys.server_cert)],
        root_certificates=keys.client_ca,
        require_client_auth=keys.client_ca is not None,
    )


def _sockets() -> dict[str, int]:
    """The sockets of this process: the kernel's name of each, and its number here. Only Linux tells."""
    found: dict[str, int] = {}
    if sys.platform != "linux":
        return found
    for number in os.listdir("/proc/self/fd"):
        try:
            name = os.readlink(f"/proc/self/fd/{number}")
        except FileNotFoundError:
            continue  # closed meanwhile, as the one that lists the directory is
        if name.startswith("socket:"):
            found[name] = int(number)
    return found


@contextmanager
def _opened(number: int) -> Iterator[socket.socket | None]:
    """A socket of this process by its number, as a duplicate; None if it has been closed meanwhile."""
    try:
        duplicate = os.dup(number)
    except OSError:
        yield None
        return
    try:
        opened = socket.socket(fileno=duplicate)
    except OSError:
        os.close(duplicate)
        yield None
        return
    with opened:
        yield opened


def _is_listening(opened: socket.socket) -> bool:
    return bool(opened.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))


def _close_listening(names: set[str]) -> None:
    """Close the listening ones of these sockets, and leave their numbers to gRPC, which will close them once more.

    What takes their place is a socket at which nothing ever happens. A socket that is only shut down would stop as
    well, but gRPC would log an error for each.
    """
    for name, number in _sockets().items():
        if name not in names:
            continue
        with _opened(number) as opened:
            if opened is None or not _is_listening(opened):
                continue
        with socket.socket(socket.AF_UNIX) as nothing:
            os.dup2(nothing.fileno(), number, inheritable=False)


def _has_connections(addresses: set[int | str]) -> bool:
    """Whether any connection leads to these ports and paths of this process."""
    return any(_is_connection(number, addresses) for number in _sockets().values())


def _is_connection(number: int, addresses: set[int | str]) -> bool:
    with _opened(number) as opened:
        return opened is not None and _local(opened) in addresses and not _is_listening(opened)


def _local(opened: socket.socket) -> int | str | None:
    """The port or path of a socket on this side."""
    if opened.family in (socket.AF_INET, socket.AF_INET6):
        port: int = opened.getsockname()[1]
        return port
    return opened.getsockname() if opened.family == socket.AF_UNIX else None
