"""The gateway's own sockets: opening them, sharing them with other gateways of the node, and closing them gently.

Gateways of one serving app on one node share a port by SO_REUSEPORT. That option would also let a stranger in, in
silence, and half of the requests would go there; so whoever finds the port taken first asks who is there, and joins
only its own kind.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import http.client
import json
import logging
import socket
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import grpc
import grpc.aio
import uvicorn

from serving_app.core.errors import FailedPrecondition
from serving_app.serve.rest_app import RestApp

logger = logging.getLogger("ray.serve")

IDENTITY_METHOD = "/serving_app.Gateway/Identity"
"""A gRPC method of our own that answers who we are: empty request, JSON answer."""

_ASK_S = 2.0
_LONGEST_IDENTITY = 4096
_BACKLOG = 4096


class PortTaken(FailedPrecondition):
    """The port belongs to someone else."""


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


def is_free(host: str, port: int) -> bool:
    """Whether nobody listens there (someone who merely lingers in TIME_WAIT does not count).

    Raises FailedPrecondition if nobody ever could: no such address here, or a port that needs other rights.
    """
    try:
        family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, proto) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return False
        raise FailedPrecondition(
            f"cannot listen at {host}:{port} ({error.strerror}); set gateway.host to an address of this machine, "
            "and ports above 1023"
        ) from error
    return True


def ask_rest(host: str, port: int) -> Mapping[str, str] | None:
    """Who answers REST on a port; None if it is none of ours."""
    # Without a proxy, whatever the environment says: the question is who is on this machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://{_url_host(host)}:{port}/healthz/identity", timeout=_ASK_S) as answer:
            return _read_identity(answer.read(_LONGEST_IDENTITY))
    except (OSError, http.client.HTTPException):
        return None


def ask_grpc(host: str, port: int) -> Mapping[str, str] | None:
    """Who answers gRPC on a port; None if it is none of ours."""
    with grpc.insecure_channel(f"{_url_host(host)}:{port}", options=[("grpc.enable_http_proxy", 0)]) as channel:
        try:
            return _read_identity(channel.unary_unary(IDENTITY_METHOD)(b"", timeout=_ASK_S))
        except grpc.RpcError:
            return None


def _read_identity(answer: bytes) -> Mapping[str, str] | None:
    """An identity as our gateways write it, or None: a stranger may answer anything."""
    try:
        identity = json.loads(answer)
    except ValueError:
        return None
    return identity if isinstance(identity, dict) and "app" in identity else None


Ask = Callable[[str, int], Mapping[str, str] | None]


def check_neighbours(name: str, host: str, port: int, identity: Mapping[str, str], ask: Ask) -> None:
    """Raise PortTaken unless the port is free or held by a gateway of the same serving app. Blocks for a moment."""
    if is_free(host, port) or port == 0:
        return
    neighbour = ask(host, port)
    if neighbour == identity:
        return
    who = f"the serving app {neighbour['app']!r} of another cluster or name" if neighbour else "another program"
    setting = f"gateway.{name.lower()}_port (--{name.lower()}-port of serving-app up)"
    raise PortTaken(f"{name} port {host}:{port} is in use by {who}; stop it, or set {setting}")


def _url_host(host: str) -> str:
    address = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"[{address}]" if ":" in address else address


class RestListener:
    """An HTTP server on the running loop."""

    def __init__(self, app: RestApp, bound: socket.socket) -> None:
        self._app = app
        self._socket = bound
        config = uvicorn.Config(
            app, http="httptools", ws="none", lifespan="off", log_config=None, access_log=False, server_header=False,
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
        return f"{_url_host(host)}:{port}" if host != "0.0.0.0" else f"{host}:{port}"

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


class GrpcListener:
    """A grpc.aio server on the running loop."""

    def __init__(self, handlers: list[grpc.GenericRpcHandler], identity: Mapping[str, str], max_message: int) -> None:
        self._server = grpc.aio.server(
            options=[
                ("grpc.so_reuseport", 1),
                ("grpc.max_receive_message_length", max_message),
                ("grpc.max_send_message_length", -1),
            ]
        )
        self._server.add_generic_rpc_handlers((_Identity(identity), *handlers))

    async def start(self, host: str, port: int) -> str:
        """Listen; returns the address."""
        target = f"[{host}]" if ":" in host else host
        bound = self._server.add_insecure_port(f"{target}:{port}")
        await self._server.start()
        return f"{target}:{bound}"

    async def drain(self, timeout: float) -> None:
        """Accept no more calls, finish those that run; clients move to other connections by themselves."""
        await self._server.stop(timeout)


class _Identity(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpc carries no types
    def __init__(self, identity: Mapping[str, str]) -> None:
        self._answer = json.dumps(dict(identity)).encode()

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        if handler_call_details.method != IDENTITY_METHOD:
            return None

        async def answer(_request: bytes, _context: Any) -> bytes:
            return self._answer

        return grpc.unary_unary_rpc_method_handler(answer)
