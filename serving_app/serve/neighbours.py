"""Who else listens where a gateway is to listen.

Gateways of one serving app on one node share a port by SO_REUSEPORT. That option would also let a stranger in, in
silence, and half of the requests would go there; so whoever finds the port taken first asks who is there, and joins
only its own kind.

REST is asked at the port itself. gRPC is not: it may want certificates of whoever asks, and what is asked for may have
changed with the configuration that is being deployed. Beside the port, each gateway tells who it is on a UNIX socket
with an abstract name, which lives in the same network namespace as the port and ends with its process.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import http.client
import json
import socket
import sys
import urllib.request
from collections.abc import Callable, Mapping

from serving_app.core.errors import FailedPrecondition

_ASK_S = 10.0
"""How long whoever is there may take to say who that is. A gateway that is very busy takes seconds."""

_LONGEST_IDENTITY = 4096
_MOST_TELLERS = 64
"""Gateways of one address on one machine that tell who they are; any further one relies on those."""


class PortTaken(FailedPrecondition):
    """The port belongs to someone else."""


Ask = Callable[[str, int], Mapping[str, str] | None]


def check_neighbours(name: str, host: str, port: int, identity: Mapping[str, str], ask: Ask) -> None:
    """Raise PortTaken unless the port is free or held by a gateway of the same serving app. Blocks for a moment."""
    if is_free(host, port) or port == 0:
        return
    neighbour = ask(host, port)
    if neighbour == identity:
        return
    raise PortTaken(f"{name} port {host}:{port} is in use by {describe(neighbour)}; stop it, or set {_SETTINGS[name]}")


_SETTINGS = {
    "REST": "gateway.rest_port (--rest-port of `serving-app up`, --rest_api_port of `model-server`)",
    "gRPC": "gateway.grpc_port (--grpc-port of `serving-app up`, --port of `model-server`)",
}


def describe(neighbour: Mapping[str, str] | None) -> str:
    """Somebody who was asked, in words."""
    return f"the serving app {neighbour['app']!r} of another cluster or name" if neighbour else "another program"


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
        with opener.open(f"http://{url_host(host)}:{port}/healthz/identity", timeout=_ASK_S) as answer:
            return _read_identity(answer.read(_LONGEST_IDENTITY))
    except (OSError, http.client.HTTPException):
        return None


def ask_grpc(_host: str, port: int) -> Mapping[str, str] | None:
    """Who tells that it answers gRPC on a port; None if it is none of ours."""
    return ask_teller(grpc_place(port))


def grpc_place(port: int) -> str:
    """What a port for gRPC is called between gateways."""
    return f"grpc:{port}"


async def tell(place: str, identity: Mapping[str, str]) -> asyncio.Server | None:
    """Answer whoever on this machine asks who is at a place, until the server is closed. To be started before the
    place is taken, so that nobody finds it taken and nobody there.

    None where it cannot be told: without abstract names, that is not on Linux, or among more gateways than anybody has.
    """
    if sys.platform != "linux":
        return None

    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(json.dumps(dict(identity)).encode())
        writer.close()

    for number in range(_MOST_TELLERS):
        try:
            return await asyncio.start_unix_server(answer, _abstract_name(place, number))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
    return None


def ask_teller(place: str) -> Mapping[str, str] | None:
    """Who tells that it is at a place; None if nobody does."""
    for number in range(_MOST_TELLERS):
        try:
            with socket.socket(socket.AF_UNIX) as teller:
                teller.settimeout(_ASK_S)
                teller.connect(_abstract_name(place, number))
                identity = _read_identity(teller.makefile("rb").read(_LONGEST_IDENTITY))
        except OSError:
            continue
        if identity is not None:
            return identity
    return None


def _abstract_name(place: str, number: int) -> str:
    return f"\0serving_app/{hashlib.sha256(place.encode()).hexdigest()[:32]}/{number}"


def _read_identity(answer: bytes) -> Mapping[str, str] | None:
    """An identity as our gateways write it, or None: a stranger may answer anything."""
    try:
        identity = json.loads(answer)
    except ValueError:
        return None
    return identity if isinstance(identity, dict) and "app" in identity else None


def url_host(host: str) -> str:
    """How a listening address is written by who wants to reach it."""
    address = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"[{address}]" if ":" in address else address
