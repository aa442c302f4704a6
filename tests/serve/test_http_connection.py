"""What clients may do to a connection of HTTP, and what it does to others."""

from __future__ import annotations

import contextlib
import json
import socket

import pytest

from serving_app.serve.http_connection import MOST_WITHOUT_BODY
from tests.serve.fronts import Front
from tests.serve.test_rest_app import ONE, PREDICT, THREE_AND_A_HALF, ask, raw, read_answers, request

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
