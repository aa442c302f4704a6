"""The gateway's listener for REST: its socket, which it shares with other gateways of the node, and its gentle end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import Iterator

import uvicorn

from serving_app.core.errors import FailedPrecondition
from serving_app.serve.http_connection import HttpConnection
from serving_app.serve.neighbours import url_host
from serving_app.serve.rest_app import RestApp

logger = logging.getLogger("ray.serve")

_BACKLOG = 4096


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


class RestListener:
    """An HTTP server on the running loop."""

    def __init__(self, app: RestApp, bound: socket.socket) -> None:
        self._app = app
        self._socket = bound
        config = uvicorn.Config(
            app, http=HttpConnection, ws="none", lifespan="off", log_config=None, access_log=False, server_header=False,
            backlog=_BACKLOG, timeout_keep_alive=75, proxy_headers=False,
        )
        self._server = _Server(config)
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> str:
        """Listen; returns the address."""
        self._task = asyncio.get_running_loop().create_task(self._server.serve(sockets=[self._socket]))
        while not self._server.started:
            if self._task.done():
                await self._task
                raise FailedPrecondition("the REST listener did not start; see the log of the gateway")
            await asyncio.sleep(0.005)
        host, port = self._socket.getsockname()[:2]
        return f"{url_host(host)}:{port}" if host != "0.0.0.0" else f"{host}:{port}"

    @property
    def is_alive(self) -> bool:
        """Whether it still serves."""
        return self._task is not None and not self._task.done()

    async def drain(self, timeout: float) -> None:
        """Accept no more connections, let those that are open finish their requests, then close."""
        self._app.draining = True
        for server in self._server.servers:
            server.close()
        deadline = time.monotonic() + timeout
        # Clients with an idle connection learn at their next request that it closes; give them the time for one.
        quiet_since = time.monotonic()
        while self._server.server_state.connections and time.monotonic() < deadline:
            if not self._app.is_idle:
                quiet_since = time.monotonic()
            elif time.monotonic() - quiet_since > _QUIET_S:
                break
            await asyncio.sleep(0.02)
        self._server.should_exit = True
        self._server.force_exit = time.monotonic() >= deadline
        if self._task is not None:
            await self._task


_QUIET_S = 1.0
"""How long an idle keep-alive connection may stay open while its gateway drains."""


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: the process belongs to Ray."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
