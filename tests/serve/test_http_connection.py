"""What clients may do to a connection of HTTP, and what it does to others."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import tracemalloc
from typing import cast

import pytest

from serving_app.serve.http_connection import MOST_WITHOUT_BODY, SILENT_TICKS, HttpConnection
from serving_app.serve.http_messages import Answer, HttpRequest
from serving_app.serve.listeners import RestListener, claim
from tests.serve.fronts import HOST, Front
from tests.serve.test_rest_app import ONE, PREDICT, THREE_AND_A_HALF, ask, raw, read_answers, request
from tests.stepping import PATIENCE_S, turns, until

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
        self.begun = self.cancelled = 0
        self.seen: list[HttpRequest] = []

    async def answer(self, request: HttpRequest) -> Answer:
        self.begun += 1
        self.seen.append(request)
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


async def arrive(port: int, asked: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection(HOST, port)
    writer.write(asked)
    return reader, writer


def test_who_sends_no_more_may_wait_or_be_gone() -> None:
    """A client that has closed its connection gives its request up; one that closed its own half gets its answer."""

    async def scenario() -> None:
        app = Waiting()
        listener = RestListener(app, claim(HOST, 0))
        port = int((await listener.start()).rpartition(":")[2])
        _, leaving = await arrive(port, request(ONE))
        reader, writer = await arrive(port, request(ONE))
        await until(lambda: app.begun == 2)
        leaving.close()
        await until(lambda: app.cancelled == 1)
        writer.write_eof()
        assert await reader.readline() == b"HTTP/1.1 100 Continue\r\n"
        app.answers.release()
        assert (await reader.read()).endswith(ONE)
        writer.close()
        assert app.cancelled == 1
        await listener.drain(0.0)

    asyncio.run(scenario())


def test_connections_that_nobody_has_taken_yet_are_answered() -> None:
    """Those that came just before a gateway began to drain get their answers, and learn that they are the last."""

    async def scenario() -> None:
        app = Waiting()
        listener = RestListener(app, claim(HOST, 0))
        port = int((await listener.start()).rpartition(":")[2])
        clients = [socket.create_connection((HOST, port)) for _ in range(20)]  # the loop does not turn meanwhile
        for client in clients:
            client.sendall(request(ONE))
            app.answers.release()
        await listener.drain(PATIENCE_S)
        for client in clients:
            with client, client.makefile("rb") as answer:
                text = answer.read()
                assert text.startswith(b"HTTP/1.1 200 ")
                assert b"connection: close" in text

    asyncio.run(scenario())


def test_what_is_cancelled_here_is_answered() -> None:
    """A request that is given up by the server, or fails in a way that nobody thought of, is an error for its client,
    and not a wait without end."""

    class Cancelling(Waiting):
        async def answer(self, request: HttpRequest) -> Answer:
            if request.body == ONE:
                asyncio.get_running_loop().call_soon(waiting.cancel)
                await waiting
            raise KeyError("nobody thought of that")

    async def scenario() -> None:
        nonlocal waiting
        waiting = asyncio.get_running_loop().create_future()
        connection, transport, _ = connected(Cancelling())
        connection.data_received(request(ONE) + request(b"{}"))
        await until(lambda: transport.written.count(b"given the request up") == 2)
        assert transport.written.count(b"HTTP/1.1 503 ") == 2

    waiting: asyncio.Future[None]
    asyncio.run(scenario())


def test_clients_of_http_1_0() -> None:
    """One that asks to go on is told that it may, as it would wait for the end; and none is sent 100 (Continue)."""

    async def scenario() -> None:
        app = Waiting()
        connection, transport, _ = connected(app)
        for keeps in (b"Connection: keep-alive\r\n", b""):
            app.answers.release()
            connection.data_received(b"POST / HTTP/1.0\r\n%bExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx" % keeps)
            await turns()
        first, second = transport.written.split(b"HTTP/1.1 200 OK\r\n")[1:]
        assert b"connection: keep-alive\r\n" in first
        assert b"connection: close\r\n" in second
        assert transport.ended

    asyncio.run(scenario())


def test_trailers_say_nothing_about_their_request() -> None:
    """What comes after a body does not change how that body is read."""

    async def scenario() -> None:
        app = Waiting()
        app.answers.release()
        connection, transport, _ = connected(app)
        connection.data_received(CHUNKED + b"\r\n1\r\nx\r\n0\r\nContent-Encoding: gzip\r\nOrigin: http://x\r\n\r\n")
        await until(lambda: b"200 OK" in transport.written)
        sent = [(b"Host", b"x"), (b"Transfer-Encoding", b"chunked")]
        assert app.seen == [HttpRequest("POST", PREDICT, b"x", fields=sent)]

    asyncio.run(scenario())


def test_small_pieces_of_a_body_take_no_more_memory_than_the_body() -> None:
    """A body in chunks of two bytes is kept as one of its size, between large pieces as well."""

    async def scenario() -> None:
        app = Waiting()
        app.most_body_bytes = 1 << 20
        app.answers.release()
        connection, _, _ = connected(app)
        large = b"%x\r\n%b\r\n" % (5000, b"y" * 5000)
        connection.data_received(CHUNKED + b"\r\n" + large)
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(100):
            connection.data_received(b"2\r\nxx\r\n" * 500)
        assert tracemalloc.get_traced_memory()[0] - before < 300_000
        connection.data_received(large + b"0\r\n\r\n")
        await until(lambda: bool(app.seen))
        assert app.seen[0].body == b"y" * 5000 + b"x" * 100_000 + b"y" * 5000

    tracemalloc.start()
    try:
        asyncio.run(scenario())
    finally:
        tracemalloc.stop()


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
