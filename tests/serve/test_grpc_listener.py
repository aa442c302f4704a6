"""The gateway's gRPC listener: TLS, UNIX sockets, channel arguments, and how it ends."""

from __future__ import annotations

import asyncio
import os
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from serving_app.config.ssl_config import TlsKeys, parse_ssl_config
from serving_app.core.errors import FailedPrecondition
from serving_app.core.servable import ModelSpec
from serving_app.protocol import grpc_methods
from serving_app.serve.grpc_calls import Context, Method
from serving_app.serve.grpc_listener import GrpcListener
from serving_app.serve.grpc_settings import grpc_settings
from serving_app.serve.neighbours import PortTaken, ask_grpc, ask_teller, check_neighbours, is_free
from serving_app.serve.unix_socket import answers, check_socket, socket_place
from tests.serve.certificates import Authority, ssl_config
from tests.serve.fronts import HOST, IDENTITY, Front, channel
from tests.serve.test_grpc_app import predict_request
from tests.serve.test_listeners import port_of
from tests.stepping import PATIENCE_S

ECHO = "/test/Echo"
LARGEST = 1 << 20


class _Echo:
    """Answers what it is asked; a request of `wait` when it is let go."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.waiting = threading.Semaphore(0)
        self.methods = {ECHO: Method(answer=self._answer)}

    async def _answer(self, request: bytes, _context: Context) -> bytes:
        if request == b"wait":
            self.waiting.release()
            await asyncio.to_thread(self.open.wait)
        return request


class Listening:
    """A listener of its own kind on the front ends' loop."""

    def __init__(
        self, front: Front, *, port: int | None = 0, path: str | None = None, keys: TlsKeys | None = None,
        arguments: dict[str, int | str] | None = None,
    ) -> None:
        self._front = front
        self.echo = _Echo()
        self.addresses = front.run(self._start(port, path, keys, grpc_settings(LARGEST, arguments)))

    async def _start(self, port: Any, path: Any, keys: Any, settings: Any) -> list[str]:
        self._listener = GrpcListener(self.echo.methods, IDENTITY, settings, keys)
        return await self._listener.start(HOST, port, path)

    def drain(self, timeout: float = PATIENCE_S) -> None:
        self._front.run(self._listener.drain(timeout))


@contextmanager
def listening(front: Front, **options: Any) -> Iterator[Listening]:
    listener = Listening(front, **options)
    try:
        yield listener
    finally:
        listener.echo.open.set()
        listener.drain(0.0)


def ask(client: grpc.Channel, request: bytes = b"hello", timeout: float = PATIENCE_S) -> bytes:
    answer: bytes = client.unary_unary(ECHO)(request, timeout=timeout)
    return answer


def alone(address: str) -> grpc.Channel:
    """A connection that is shared with no other channel."""
    return grpc.insecure_channel(address, [("grpc.enable_http_proxy", 0), ("grpc.use_local_subchannel_pool", 1)])


# --- TLS -------------------------------------------------------------------------------------------------------------

AUTHORITY, STRANGER = Authority("ours"), Authority("strange")
SERVER, CLIENT = AUTHORITY.certify("server"), AUTHORITY.certify("client")
STRANGE_CLIENT = STRANGER.certify("client")


def secure(address: str, key: str | None = None, cert: str | None = None, ca: str = AUTHORITY.cert) -> grpc.Channel:
    credentials = grpc.ssl_channel_credentials(
        ca.encode(), key.encode() if key else None, cert.encode() if cert else None
    )
    options = [("grpc.enable_http_proxy", 0), ("grpc.ssl_target_name_override", "localhost")]
    return grpc.secure_channel(address, credentials, options)


def refused(client: grpc.Channel) -> bool:
    """Whether the connection is not made."""
    with pytest.raises(grpc.RpcError) as caught:
        ask(client)
    return caught.value.code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("over", ["port", "socket"])
@pytest.mark.parametrize("verify", [False, True])
def test_tls(front: Front, tmp_path: Path, over: str, verify: bool) -> None:
    """Clients who trust the authority are served, at the port and at the UNIX socket; plain ones are not, and neither
    are those without a certificate of the right authority where one is asked for. Gateways recognise each other."""
    keys = parse_ssl_config(ssl_config(SERVER, AUTHORITY.cert, verify), "f")
    path = str(tmp_path / "socket")
    place = {"port": 0} if over == "port" else {"port": None, "path": path}
    with listening(front, keys=keys, **place) as listener:
        [address] = listener.addresses
        with secure(address, CLIENT.key, CLIENT.cert) as client:
            assert ask(client) == b"hello"
        with secure(address) as client:
            assert refused(client) if verify else ask(client) == b"hello"
        with secure(address, STRANGE_CLIENT.key, STRANGE_CLIENT.cert) as client:
            assert refused(client) if verify else ask(client) == b"hello"
        with secure(address, ca=STRANGER.cert) as client, alone(address) as plain:
            assert refused(client)
            assert refused(plain)
        if over == "port":
            check_neighbours("gRPC", HOST, port_of(address), IDENTITY, ask_grpc)
        else:
            check_socket(path, IDENTITY)


# --- channel arguments -----------------------------------------------------------------------------------------------


def test_channel_arguments_reach_the_server(front: Front) -> None:
    """What a user sets goes before what is ours; sharing the port cannot be switched off."""
    small = {"grpc.max_receive_message_length": 100, "grpc.so_reuseport": 0, "grpc.no_such_argument": "x"}
    with listening(front, arguments=small) as listener, channel(listener.addresses[0]) as client:
        assert ask(client) == b"hello"
        with pytest.raises(grpc.RpcError) as caught:
            ask(client, b"x" * 200)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        with listening(front, port=port_of(listener.addresses[0])) as other:
            assert other.addresses == listener.addresses


def test_a_port_that_is_taken_meanwhile_is_said(front: Front) -> None:
    """Somebody who took the port after it was found free is no stack trace of gRPC but an error that names it."""
    with socket.create_server((HOST, 0)) as stranger:
        port = stranger.getsockname()[1]
        with pytest.raises(FailedPrecondition, match=f"cannot listen for gRPC at {HOST}:{port}"):
            Listening(front, port=port)
        assert ask_grpc(HOST, port) is None


# --- what stock clients send -----------------------------------------------------------------------------------------


def test_messages_of_all_sizes(front: Front) -> None:
    """Requests and answers come whole, from nothing to more than any window, one after the other and side by side."""
    with listening(front, arguments={"grpc.max_receive_message_length": -1}) as listener:
        options = [("grpc.max_receive_message_length", -1), ("grpc.enable_http_proxy", 0)]
        with grpc.insecure_channel(listener.addresses[0], options) as client:
            for size in (0, 1, 16_379, 16_380, 65_531, 65_532, 1 << 20, 9 << 20):
                text = random.Random(size).randbytes(size)
                assert ask(client, text) == text
            texts = [bytes([number]) * 300_000 for number in range(20)]
            calls = [client.unary_unary(ECHO).future(text, timeout=PATIENCE_S) for text in texts]
            assert [call.result() for call in calls] == texts


def test_a_thousand_calls_on_one_connection(front: Front) -> None:
    """All are there at once, and each gets its answer; more than are allowed at once wait with their client."""
    for most in (10_000, 100):
        with (
            listening(front, arguments={"grpc.max_concurrent_streams": most}) as listener,
            alone(listener.addresses[0]) as client,
        ):
            calls = [client.unary_unary(ECHO).future(b"%d" % n, timeout=PATIENCE_S) for n in range(1000)]
            assert [call.result() for call in calls] == [b"%d" % n for n in range(1000)]


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_compressed_requests(front: Front, compression: grpc.Compression) -> None:
    """A client may compress what it sends; what would be too large then is refused as it is otherwise."""
    with listening(front) as listener, channel(listener.addresses[0]) as client:
        echo = client.unary_unary(ECHO)
        assert echo(b"x" * LARGEST, timeout=PATIENCE_S, compression=compression) == b"x" * LARGEST
        with pytest.raises(grpc.RpcError) as caught:
            echo(b"x" * (LARGEST + 1), timeout=PATIENCE_S, compression=compression)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


# --- UNIX sockets ----------------------------------------------------------------------------------------------------


def test_a_socket_beside_the_port(front: Front, tmp_path: Path) -> None:
    """The same server answers at the port and at the socket; at the end nothing is left behind."""
    path = tmp_path / "socket"
    with listening(front, path=str(path)) as listener:
        at_port, at_socket = listener.addresses
        assert at_socket == f"unix:{path}"
        for address in (at_port, at_socket):
            with channel(address) as client:
                assert ask(client) == b"hello"
        assert ask_teller(socket_place(str(path))) == IDENTITY
    assert list(tmp_path.iterdir()) == []


def test_a_path_that_cannot_be_made_is_said(front: Front, tmp_path: Path) -> None:
    """A directory that went meanwhile is no stack trace but an error that names the path and the setting."""
    with pytest.raises(FailedPrecondition, match=r"cannot listen for gRPC at unix:.*set gateway\.grpc_socket_path"):
        Listening(front, path=str(tmp_path / "gone" / "socket"))


def test_a_stale_socket_is_replaced(front: Front, tmp_path: Path) -> None:
    """What a server that was killed has left behind is in nobody's way, and is removed."""
    path = tmp_path / "socket"
    for left in (path, tmp_path / "socket.0a1b2c"):
        with socket.socket(socket.AF_UNIX) as killed:
            killed.bind(str(left))
    check_socket(str(path), IDENTITY)
    with listening(front, port=None, path=str(path)) as listener, channel(listener.addresses[0]) as client:
        assert ask(client) == b"hello"
    assert list(tmp_path.iterdir()) == []


def test_gateways_share_a_path(front: Front, tmp_path: Path) -> None:
    """Whoever comes later has the path; when it goes, it gives the path to the other without a gap."""
    path = str(tmp_path / "socket")
    with listening(front, port=None, path=path) as first:
        check_socket(path, IDENTITY)
        with listening(front, port=None, path=path) as second:
            later = os.stat(path).st_ino
        assert second.addresses == first.addresses
        assert answers(path)
        assert os.stat(path).st_ino != later
        with alone(f"unix:{path}") as client:
            assert ask(client) == b"hello"
    assert list(tmp_path.iterdir()) == []


def test_a_gateway_steps_in_for_one_that_was_killed(
    front: Front, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When nobody answers at the path any more, or it is gone, a gateway that is left takes it over."""
    monkeypatch.setattr("serving_app.serve.unix_socket.LOOK_S", 0.01)
    path = str(tmp_path / "socket")
    with listening(front, port=None, path=path):
        with socket.socket(socket.AF_UNIX) as killed:
            killed.bind(f"{path}.killed")
        os.replace(f"{path}.killed", path)
        wait_for_answers(path)
        os.unlink(path)
        wait_for_answers(path)


def wait_for_answers(path: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not answers(path):
        assert time.monotonic() < deadline


def test_paths_that_cannot_be_used_are_refused(front: Front, tmp_path: Path) -> None:
    """A file, a missing directory and a socket of somebody else are left alone, and named."""
    file = tmp_path / "file"
    file.write_text("precious")
    with pytest.raises(FailedPrecondition, match="is no socket but another kind of file"):
        check_socket(str(file), IDENTITY)
    assert file.read_text() == "precious"
    with pytest.raises(FailedPrecondition, match="this user can make no file in /nonexistent"):
        check_socket("/nonexistent/socket", IDENTITY)
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as program:
        program.bind(path)
        program.listen()
        with pytest.raises(PortTaken, match="is in use by another program"):
            check_socket(path, IDENTITY)
    os.unlink(path)
    with (
        listening(front, port=None, path=path),
        pytest.raises(PortTaken, match="is in use by the serving app 'default' of another cluster"),
    ):
        check_socket(path, {**IDENTITY, "cluster": "session_2"})


# --- the end ---------------------------------------------------------------------------------------------------------


def test_gateways_share_a_grpc_port(front: Front) -> None:
    """A second gRPC listener may come to the port of the first, and goes on when the first has gone."""
    with listening(front) as first, listening(front, port=port_of(first.addresses[0])) as second:
        assert second.addresses == first.addresses
        first.drain()
        assert ask_grpc(HOST, port_of(second.addresses[0])) == IDENTITY
        with alone(second.addresses[0]) as client:
            assert ask(client) == b"hello"


def test_a_draining_listener_finishes_what_it_has(front: Front) -> None:
    """A call that runs is answered, a new one goes elsewhere, then the listener ends."""
    with listening(front) as listener, ThreadPoolExecutor(1) as pool:
        address = listener.addresses[0]
        with alone(address) as client, alone(address) as newcomer:
            running = client.unary_unary(ECHO).future(b"wait", timeout=PATIENCE_S)
            assert listener.echo.waiting.acquire(timeout=PATIENCE_S)
            drain = pool.submit(listener.drain)
            while not is_free(HOST, port_of(address)):
                continue
            assert refused(newcomer)
            assert not running.done()
            listener.echo.open.set()
            assert running.result(PATIENCE_S) == b"wait"
            drain.result(PATIENCE_S)


def test_draining_ends_when_its_time_is_over(front: Front) -> None:
    """A call that does not end keeps a gateway no longer than its time for draining, and is told."""
    with listening(front) as listener, alone(listener.addresses[0]) as client:
        running = client.unary_unary(ECHO).future(b"wait", timeout=PATIENCE_S)
        assert listener.echo.waiting.acquire(timeout=PATIENCE_S)
        listener.drain(0.2)
        with pytest.raises(grpc.RpcError) as caught:
            running.result(PATIENCE_S)
        assert caught.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)


@pytest.mark.parametrize("over", ["port", "socket"])
def test_no_call_is_lost_when_gateways_are_replaced(front: Front, tmp_path: Path, over: str) -> None:
    """Clients that call as fast as they can see nothing of listeners that come and go under them."""
    path = str(tmp_path / "socket")
    stop = threading.Event()
    outcomes: Counter[str] = Counter()

    def call(address: str) -> None:
        with alone(address) as client:
            while not stop.is_set():
                try:
                    outcomes["right" if ask(client) == b"hello" else "wrong"] += 1
                except grpc.RpcError as error:
                    outcomes[f"{error.code()}: {error.details()}"] += 1

    def replace(before: Listening | None) -> Listening:
        port = None if over == "socket" else port_of(before.addresses[0]) if before else 0
        return Listening(front, port=port, path=path if over == "socket" else None)

    listener = replace(None)
    clients = [threading.Thread(target=call, args=(listener.addresses[0],)) for _ in range(4)]
    for client in clients:
        client.start()
    for _ in range(3):
        before = outcomes["right"]
        while outcomes["right"] < before + 20 and outcomes.keys() <= {"right"}:
            time.sleep(0.005)
        successor = replace(listener)
        listener.drain()
        listener = successor
    stop.set()
    for client in clients:
        client.join()
    listener.drain(0.0)
    assert outcomes.keys() == {"right"}, outcomes


def test_a_front_end_drains(front: Front) -> None:
    """Calls of the real front end, too, are answered while it drains, also those that run."""
    front.hold()
    listener, address = front.run(front.start_grpc(PATIENCE_S))
    with ThreadPoolExecutor(1) as pool, alone(address) as client:
        running = client.unary_unary(grpc_methods.PREDICT).future(predict_request(ModelSpec("stuck"), [1.0]))
        assert front.gate.reached.acquire(timeout=PATIENCE_S)
        drain = pool.submit(front.run, listener.drain(PATIENCE_S))
        front.let_go()
        assert running.result(PATIENCE_S)
        drain.result(PATIENCE_S)
