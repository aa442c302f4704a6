"""The gateway's sockets: who may share a port, and how a listener ends."""

from __future__ import annotations

import asyncio
import math
import socket
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from types import SimpleNamespace

import pytest

from serving_app.core.errors import FailedPrecondition
from serving_app.serve import listeners
from serving_app.serve.listeners import RestListener, claim
from serving_app.serve.neighbours import PortTaken, _abstract_name, ask_grpc, ask_rest, check_neighbours, is_free, tell
from tests.serve.fronts import HOST, IDENTITY, Front, LoopThread
from tests.serve.test_rest_app import ONE, PREDICT, ask, connection
from tests.stepping import PATIENCE_S, until

STUCK = "/v1/models/stuck:predict"


def port_of(address: str) -> int:
    return int(address.rpartition(":")[2])


# --- ports -----------------------------------------------------------------------------------------------------------


def test_claims_share_a_port() -> None:
    """Two sockets that are claimed may have one port; to anybody else it is taken until neither listens any more."""
    with claim(HOST, 0) as first:
        port = first.getsockname()[1]
        with claim(HOST, port) as second:
            assert second.getsockname() == first.getsockname()
            first.listen()
            second.listen()
        assert not is_free(HOST, port)
    assert is_free(HOST, port)


def test_a_port_of_a_stranger_cannot_be_claimed() -> None:
    """A program that does not share its port keeps it for itself."""
    with socket.create_server((HOST, 0)) as stranger:
        port = stranger.getsockname()[1]
        assert not is_free(HOST, port)
        with pytest.raises(OSError, match="in use"):
            claim(HOST, port)


def test_a_port_is_free_right_after_its_listener() -> None:
    """Connections that linger after their server has closed do not keep a new one from the port."""
    with socket.create_server((HOST, 0)) as server:
        address = server.getsockname()
        with socket.create_connection(address) as client:
            server.accept()[0].close()  # whoever closes first lingers
            client.recv(1)
    assert is_free(*address)
    claim(*address).close()


@pytest.mark.parametrize("port", [0, 8501])
def test_an_address_that_is_not_here_is_said(port: int) -> None:
    """An address of another machine is no port in use: the error names it and the setting."""
    with pytest.raises(FailedPrecondition, match=r"cannot listen at 203\.0\.113\.1.*set gateway\.host") as caught:
        check_neighbours("REST", "203.0.113.1", port, IDENTITY, ask_rest)
    assert not isinstance(caught.value, PortTaken)


@contextmanager
def stranger(answer: bytes) -> Iterator[int]:
    """A program that answers every connection with these bytes, whatever it is asked; its port."""

    def serve() -> None:
        with suppress(OSError):
            while True:
                client, _ = server.accept()
                with client, suppress(OSError):
                    client.recv(65536)
                    client.sendall(answer)

    with socket.create_server((HOST, 0)) as server:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


def as_http(body: bytes, status: int = 200) -> bytes:
    return b"HTTP/1.1 %d Fine\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (status, len(body), body)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"HTTP/1.1 nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\ncut",
        as_http(b"not found", 404),
        as_http(b"<html>"),
        as_http(b"\xff\xfe"),
        as_http(b"null"),
        as_http(b"[1]"),
        as_http(b'{"status": "UP"}'),
        as_http(b'{"app": ' + b" " * 100_000),
    ],
)
def test_strangers_are_recognised(answer: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a stranger on the port says, it is none of ours, and the error names the port and the setting."""
    monkeypatch.setattr("serving_app.serve.neighbours._ASK_S", 0.2)
    with stranger(answer) as port:
        for name, asking in (("REST", ask_rest), ("gRPC", ask_grpc)):
            assert asking(HOST, port) is None
            said = f"{name} port {HOST}:{port} is in use by another program.*gateway.{name.lower()}_port"
            with pytest.raises(PortTaken, match=said):
                check_neighbours(name, HOST, port, IDENTITY, asking)


def test_who_tells_nonsense_is_passed_over(loop_thread: LoopThread, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside a port somebody may tell what he likes, or nothing: who is of ours is found after him."""
    monkeypatch.setattr("serving_app.serve.neighbours._ASK_S", 0.2)
    with socket.socket(socket.AF_UNIX) as silent, socket.socket(socket.AF_UNIX) as dead:
        silent.bind(_abstract_name("grpc:1", 0))
        silent.listen()
        dead.bind(_abstract_name("grpc:1", 1))
        assert ask_grpc(HOST, 1) is None
        teller = loop_thread.run(tell("grpc:1", IDENTITY))
        assert teller is not None
        assert any(ask_grpc(HOST, 1) == IDENTITY for _ in range(100))  # on a busy machine it may take him long
        loop_thread.loop.call_soon_threadsafe(teller.close)
        while ask_grpc(HOST, 1) is not None:
            continue


def test_our_own_kind_is_welcome(front: Front) -> None:
    """A gateway of the same serving app on the port is a neighbour; one of another app or cluster is named."""
    for name, address, asking in (("REST", front.rest_address, ask_rest), ("gRPC", front.grpc_address, ask_grpc)):
        port = port_of(address)
        assert asking(HOST, port) == IDENTITY
        check_neighbours(name, HOST, port, IDENTITY, asking)
        for other in ({**IDENTITY, "app": "other"}, {**IDENTITY, "cluster": "session_2"}):
            with pytest.raises(PortTaken, match=f"{name} port .* is in use by the serving app 'default'"):
                check_neighbours(name, HOST, port, other, asking)


def test_a_proxy_of_the_environment_is_not_asked(front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is on this machine's port is found out on this machine, whatever proxy is set for going elsewhere."""
    for name in ("http_proxy", "HTTP_PROXY", "grpc_proxy"):
        monkeypatch.setenv(name, f"http://{HOST}:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    assert ask_rest(HOST, port_of(front.rest_address)) == IDENTITY
    assert ask_grpc(HOST, port_of(front.grpc_address)) == IDENTITY


def test_a_free_port_needs_no_questions() -> None:
    """Where nobody listens nobody is asked, nor for a port that the system chooses."""

    def never(host: str, port: int) -> None:
        raise AssertionError("nobody is there")

    check_neighbours("REST", HOST, 0, IDENTITY, never)
    with socket.create_server((HOST, 0)) as server:
        port = server.getsockname()[1]
    check_neighbours("REST", HOST, port, IDENTITY, never)


def test_gateways_share_a_rest_port(front: Front) -> None:
    """Two listeners on one port both get connections; when one drains, the other answers every new one."""
    first = front.rest_listener(PATIENCE_S, models=("nope",))  # not ready, by which one can tell it
    port = port_of(front.run(first.start()))
    second = front.rest_listener(PATIENCE_S, port)
    address = front.run(second.start())
    try:
        assert port_of(address) == port
        seen: set[int] = set()
        for _ in range(500):  # the kernel spreads connections by chance
            seen.add(ask(address, "GET", "/healthz/ready")[0])
            if len(seen) == 2:
                break
        assert seen == {200, 503}
        front.run(first.drain(PATIENCE_S))
        assert {ask(address, "GET", "/healthz/ready")[0] for _ in range(20)} == {200}
    finally:
        front.run(second.drain(0.0))


# --- draining --------------------------------------------------------------------------------------------------------


def refused(address: str) -> bool:
    try:
        ask(address, "GET", "/healthz/live")
    except ConnectionError:
        return True
    return False


async def closed(listener: RestListener) -> None:
    """Wait until no new connection is accepted."""
    await until(lambda: not listener.is_listening)


def test_a_draining_rest_listener_finishes_what_it_has(front: Front) -> None:
    """New connections are refused, requests that run are answered, open ones learn that they close, then it ends."""
    front.hold()
    listener = front.rest_listener(PATIENCE_S)
    address = front.run(listener.start())
    assert listener.is_alive
    with ThreadPoolExecutor(2) as pool, connection(address) as idle:
        idle.request("GET", "/healthz/live")
        idle.getresponse().read()
        running = pool.submit(ask, address, "POST", STUCK, ONE)
        assert front.gate.reached.acquire(timeout=PATIENCE_S)
        drain = pool.submit(front.run, listener.drain(PATIENCE_S))
        front.run(closed(listener))
        assert refused(address)
        idle.request("POST", PREDICT, ONE)
        answer = idle.getresponse()
        assert (answer.read(), answer.headers["connection"]) == (b'{\n    "predictions": [3.5\n    ]\n}', "close")
        assert not running.done()
        assert not drain.done()
        front.let_go()
        assert running.result(PATIENCE_S) == (200, b'{\n    "predictions": [1.0\n    ]\n}')
        drain.result(PATIENCE_S)
    assert not listener.is_alive
    assert is_free(HOST, port_of(address))


def test_a_draining_rest_listener_that_stood_still_reads_first(front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    """However late it is by the clock, a connection is not closed as idle before it was looked at many times: what had
    arrived while the process stood still is read by then."""
    leaps: list[float] = []

    def leap() -> float:
        leaps.append(100.0 * len(leaps))
        return leaps[-1]

    monkeypatch.setattr(listeners, "time", SimpleNamespace(monotonic=leap))
    monkeypatch.setattr(listeners, "_QUIET_LOOKS", sys.maxsize)
    listener = front.rest_listener(PATIENCE_S)
    address = front.run(listener.start())
    with ThreadPoolExecutor(1) as pool, connection(address) as idle:
        idle.request("GET", "/healthz/live")
        idle.getresponse().read()
        drain = pool.submit(front.run, listener.drain(math.inf))
        front.run(until(lambda: len(leaps) > 10))
        idle.request("POST", PREDICT, ONE)
        assert idle.getresponse().read() == b'{\n    "predictions": [3.5\n    ]\n}'
        drain.result(PATIENCE_S)


def test_draining_ends_when_its_time_is_over(front: Front) -> None:
    """A request that does not end keeps a gateway no longer than its time for draining; its client hears of that."""
    front.hold()
    listener = front.rest_listener(PATIENCE_S)
    address = front.run(listener.start())
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(ask, address, "POST", STUCK, ONE)
        assert front.gate.reached.acquire(timeout=PATIENCE_S)
        front.run(listener.drain(0.05))
        assert not listener.is_alive
        assert isinstance(running.exception(PATIENCE_S), ConnectionError)
        front.let_go()


def test_a_listener_that_dies_is_seen(front: Front) -> None:
    """When the server's task ends, for whatever reason, `is_alive` says so."""
    listener = front.rest_listener(PATIENCE_S)
    assert not listener.is_alive
    front.run(listener.start())
    assert listener.is_alive

    async def kill() -> None:
        assert listener._ticking is not None
        listener._ticking.cancel()
        await asyncio.gather(listener._ticking, return_exceptions=True)

    front.run(kill())
    assert not listener.is_alive
    front.run(listener.drain(0.0))
