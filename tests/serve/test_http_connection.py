"""What clients may do to a connection of HTTP, and what it does to others."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from typing import cast

import pytest

from serving_app.serve.http_connection import MOST_WITHOUT_BODY, SILENT_TICKS, HttpConnection
from serving_app.serve.http_messages import Answer, HttpRequest
from tests.serve.fronts import Front
from tests.serve.test_rest_app import ONE, PREDICT, THREE_AND_A_HALF, ask, raw, read_answers, request
from tests.stepping import turns, until

UPGRADE = (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQBAAAAAAIAAAAA")
CHUNKED = b"POST %s HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n" % PREDICT.encode()


@pytest.mark.parametrize(
    "asked",
    [
        request(ONE, *UPGRADE),
        b"\r\n".join([CHUNKED + b"\r\n".join(UPGRADE), b"", b"%x" % len(ONE), ONE, b"0", b"", b""]),
        request(ONE, b"upgrade: websocket", b"connection: keep-alive, upgrade"),
    ],
)
def test_the_wish_for_another_protocol_is_passed_over(front: Front, asked: bytes) -> None:
    """A request that would rather be of another protocol is answered in this one, and so are those that follow it."""
    with raw(front.rest_address) as client:
        client.sendall(asked + request(ONE) + asked)
        assert read_answers(client, 3) == [THREE_AND_A_HALF] * 3
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in asked:
            client.sendall(bytes([byte]))
        assert read_answers(client, 1) == [THREE_AND_A_HALF]


def test_a_tunnel_is_refused(front: Front) -> None:
    """CONNECT is an error, whatever protocol it would go on in."""
    for headers in (b"", b"Connection: upgrade\r\nUpgrade: h2c\r\n"):
        with raw(front.rest_address) as client:
            client.sendall(b"CONNECT example.com:443 HTTP/1.1\r\nHost: x\r\n" + headers + b"\r\n")
            assert client.makefile("rb").read().startswith(b"HTTP/1.1 400 ")


def send_until_refused(client: socket.socket, part: bytes, most: int) -> int:
    """Send the same again and again; returns how many bytes went before the server had enough."""
    sent = 0
    with contextlib.suppress(OSError):  # the connection is closed, or nothing goes any more
        while sent < most:
            sent += client.send(part)
    return sent


@pytest.mark.parametrize(
    "beginning",
    [b"GET /v1/models/", b"GET /v1/models/m HTTP/1.1\r\nA: ", CHUNKED + b"\r\n0\r\nA: ", CHUNKED + b"\r\n1;"],
)
def test_what_is_no_body_has_a_limit(front: Front, beginning: bytes) -> None:
    """A request line, header or trailer without end is refused, and the connection closed, before it fills memory."""
    with raw(front.rest_address) as client:
        client.sendall(beginning)
        assert send_until_refused(client, b"a" * 65536, 40 * MOST_WITHOUT_BODY) < 40 * MOST_WITHOUT_BODY
    assert ask(front.rest_address, "POST", PREDICT, ONE) == (200, THREE_AND_A_HALF)


def test_long_names_are_within_the_limit(front: Front) -> None:
    """A request line of 60 kB and headers of hundreds of kB are read."""
    status, text = ask(front.rest_address, "GET", "/v1/models/" + "m" * 60_000, headers={"A": "a" * 500_000})
    assert status == 404
    assert json.loads(text)["error"].startswith("Could not find any versions of model mmm")


def test_requests_that_wait_for_their_turn_are_not_read_without_end(front: Front) -> None:
    """A client that sends request after request on one connection gets rid of no more than lie between the two."""
    quick = b"GET /healthz/live HTTP/1.1\r\n\r\n"
    front.hold()
    try:
        with raw(front.rest_address) as client:
            client.sendall(quick * 1000 + request(ONE, target="/v1/models/stuck:predict"))
            client.settimeout(0.2)
            assert send_until_refused(client, quick * 10_000, 40 << 20) < 40 << 20
    finally:
        front.let_go()


class Silence:
    """What a connection sees of a client that says nothing and takes nothing."""

    def __init__(self) -> None:
        self.unsent = 0
        self.ended = ""
        self.written = b""

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def get_extra_info(self, _name: str) -> None:
        return None

    def is_closing(self) -> bool:
        return bool(self.ended)

    def close(self) -> None:
        self.ended = self.ended or "closed"

    def abort(self) -> None:
        self.ended = "aborted"

    def write(self, data: bytes) -> None:
        self.written += data

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


class Waiting:
    """An app that answers when it is let."""

    most_body_bytes = 100

    def __init__(self) -> None:
        self.answers = asyncio.Semaphore(0)
        self.cancelled = 0

    async def answer(self, request: HttpRequest) -> Answer:
        try:
            await self.answers.acquire()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return Answer(200, request.body, ())

    def refuse_body(self) -> Answer:
        return Answer(400, b"too large", ())


def connected(app: Waiting) -> tuple[HttpConnection, Silence, set[HttpConnection]]:
    connections: set[HttpConnection] = set()
    connection, transport = HttpConnection(app, connections), Silence()
    connection._transport = cast(asyncio.Transport, transport)
    connections.add(connection)
    return connection, transport, connections


def test_silent_clients_are_let_go() -> None:
    """One that sends nothing is closed after a while, in the middle of a request as well; one that waits is not."""

    async def scenario() -> None:
        for beginning in (b"", b"POST /v1/models/m:predict HTTP/1.1\r\nContent-Le"):
            connection, transport, _ = connected(Waiting())
            connection.data_received(beginning)
            for _ in range(SILENT_TICKS):
                connection.tick()
            connection.data_received(b"\r\n" if not beginning else b"n")
            for _ in range(SILENT_TICKS):
                connection.tick()
            assert not transport.ended
            connection.tick()
            assert transport.ended == "closed"
        app = Waiting()
        connection, transport, _ = connected(app)
        connection.data_received(request(ONE))
        for _ in range(3 * SILENT_TICKS):
            connection.tick()
        assert not transport.ended
        app.answers.release()
        await until(lambda: ONE in transport.written)

    asyncio.run(scenario())


def test_clients_that_take_no_answer_are_let_go() -> None:
    """As long as some of an answer goes out its client is slow; when nothing does, the connection is ended."""

    async def scenario() -> None:
        connection, transport, _ = connected(Waiting())
        for left in range(5 * SILENT_TICKS, 0, -1):
            transport.unsent = left
            connection.tick()
        assert not transport.ended
        for _ in range(SILENT_TICKS):
            connection.tick()
        assert transport.ended == "aborted"

    asyncio.run(scenario())


def test_a_client_that_leaves_gives_its_request_up() -> None:
    """What is worked out for a client that went away is cancelled, and what it had asked besides is not begun."""

    async def scenario() -> None:
        app = Waiting()
        connection, transport, connections = connected(app)
        connection.data_received(request(ONE) * 2)
        await turns()
        connection.connection_lost(None)
        await until(lambda: app.cancelled == 1)
        await turns()
        assert (app.cancelled, transport.written, connections) == (1, b"", set())

    asyncio.run(scenario())


def test_who_does_not_read_is_not_answered_on() -> None:
    """While answers lie unsent no further request is begun; it is when they are gone."""

    async def scenario() -> None:
        app = Waiting()
        connection, transport, _ = connected(app)
        connection.pause_writing()
        connection.data_received(request(ONE))
        app.answers.release()
        await turns()
        assert transport.written == b""
        connection.resume_writing()
        await until(lambda: ONE in transport.written)

    asyncio.run(scenario())


def test_a_body_that_is_too_large_is_read_to_its_end() -> None:
    """It is refused when all of it has come, and the connection goes on with the next request."""

    async def scenario() -> None:
        app = Waiting()
        app.answers.release()
        connection, transport, _ = connected(app)
        connection.data_received(request(b"x" * 101) + request(ONE))
        await until(lambda: ONE in transport.written)
        assert transport.written.startswith(b"HTTP/1.1 400 ")
        assert b"too large" in transport.written

    asyncio.run(scenario())
