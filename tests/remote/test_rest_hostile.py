"""REST clients and servers, proxies and networks that do not behave."""

from __future__ import annotations

import gzip
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from serving_app.core.errors import (
    Code,
    DataLoss,
    DeadlineExceeded,
    Internal,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    ServingError,
    Unavailable,
)
from serving_app.remote import AsyncRestClient, RestClient, Retries
from serving_app.remote.http_blocking import IDLE_S
from tests.remote.client_contract import used
from tests.remote.raw_servers import Connection, Handler, RawServer, Request, answer, saying, serving
from tests.stepping import PATIENCE_S

GOOD = answer(b'{"model_version_status": []}')
AT_ONCE = Retries(attempts=4, first_pause=0.0, longest_pause=0.0)
ONCE = Retries(attempts=1)


@pytest.fixture(params=[RestClient, AsyncRestClient])
def kind(request: pytest.FixtureRequest) -> Any:
    """Both clients, in turn."""
    return request.param


@contextmanager
def asking(kind: Any, handler: Handler, **options: Any) -> Iterator[tuple[Any, RawServer]]:
    """A client of a server that does this, and the server."""
    with serving(handler) as server, used(kind(f"http://{server.address}", **options)) as client:
        yield client, server


def status(client: Any, timeout: float | None = PATIENCE_S) -> Any:
    return client.model("m").status(timeout=timeout)


@pytest.mark.parametrize(
    "first",
    [
        answer(b'{"error": "not yet"}', "503 Service Unavailable"),
        answer(b"<html>no backend</html>", "502 Bad Gateway"),
        answer(b'{"error": "too many"}', "429 Too Many Requests", retry_after="0"),
        answer(b'{"error": "x"}', "503 Service Unavailable", retry_after="Thu, 01 Jan 1970 00:00:00 GMT"),
        b"",
        b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\nconnection: close\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{",
    ],
)
def test_what_may_pass_is_asked_again(kind: Any, first: bytes) -> None:
    """A server that is busy, a proxy without one, and a connection that breaks are tried again."""
    with asking(kind, saying(first, GOOD), retries=AT_ONCE) as (client, _):
        assert status(client) == ()


@pytest.mark.parametrize(
    ("said", "error", "message"),
    [
        (answer(b'{"error": "full"}', "503 Service Unavailable"), Unavailable, "^full$"),
        (answer(b'{"error": "full"}', "429 Too Many Requests"), ResourceExhausted, "^full$"),
        (answer(b'{"error": "full"}', "429 Too Many Requests", retry_after="3600"), ResourceExhausted, "^full$"),
        (answer(b"{}", "404 Not Found"), NotFound, r"404 Not Found, but not in the words of a model server.*\{\}"),
        (answer(b"<html> <b>nginx</b>", "404 Not Found"), NotFound, "http://.*look at.*proxies.*<html> <b>nginx"),
        (answer(b"<html>hello", "200 OK"), Internal, "not in the words of a model server.*hello"),
        (answer(b"Hello", "200 OK", content_type="text/html"), Internal, "not in the words of a model server"),
        (answer(b"{", "200 OK"), Internal, "the answer is no JSON"),
        (answer(b"{}", "200 OK"), Internal, "has no 'model_version_status'"),
        (answer(b'{"model_version_status": [{"state": "ODD"}]}'), Internal, "tells no states"),
        (answer(b"", "301 Moved", location="https://other/"), ServingError, "points to https://other/"),
        (answer(b"", "403 Forbidden"), ServingError, "403 Forbidden.*It said: nothing else"),
        (answer(b"no gzip", "200 OK", content_encoding="gzip"), DataLoss, "cannot be unpacked"),
        (answer(b"?", "200 OK", content_encoding="br"), Internal, "'br'"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", Unavailable, "did not answer by HTTP/1.1"),
        (b"HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n", Unavailable, "another protocol"),
        (b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 60_000, Unavailable, "headers have more than"),
    ],
)
def test_other_answers_are_errors_that_name_what_was_wrong(
    kind: Any, said: bytes, error: type[ServingError], message: str
) -> None:
    """An answer that is none is told with the address, what it said, and where to look; it is not asked for again."""
    with asking(kind, saying(said), retries=ONCE) as (client, _), pytest.raises(error, match=message):
        status(client)


@pytest.mark.parametrize(
    ("number", "code"),
    [(400, Code.INVALID_ARGUMENT), (401, Code.UNAUTHENTICATED), (409, Code.ABORTED), (418, Code.INVALID_ARGUMENT),
     (499, Code.CANCELLED), (500, Code.INTERNAL), (504, Code.DEADLINE_EXCEEDED), (599, Code.UNKNOWN)],
)
def test_every_status_has_a_code(number: int, code: Code) -> None:
    """Each status of HTTP comes as the code that it stands for, with the server's words."""
    with asking(RestClient, saying(answer(b'{"error": "why"}', f"{number} X"))) as (client, _):
        with pytest.raises(ServingError, match=r"^why$") as caught:
            status(client)
        assert caught.value.code is code


@pytest.mark.parametrize(
    "good",
    [
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + GOOD,
        b'HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{"model_version_status": []}',
        b'HTTP/1.0 200 OK\r\ncontent-length: 28\r\nconnection: close\r\n\r\n{"model_version_status": []}',
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
        b'3\r\n{"m\r\n19\r\nodel_version_status": []}\r\n0\r\n\r\n',
        answer(gzip.compress(b'{"model_version_status": []}'), content_encoding="gzip"),
    ],
)
def test_answers_have_many_forms(kind: Any, good: bytes) -> None:
    """Interim answers, answers without a length, in chunks and packed are read, and also when they come in crumbs."""

    def crumble(connection: Connection) -> None:
        while connection.read() is not None:
            for at in range(len(good)):
                connection.write(good[at : at + 1])
            if b"connection: close" in good:
                return

    with asking(kind, crumble, retries=ONCE) as (client, _):
        assert [status(client), status(client)] == [(), ()]


def test_connections_are_used_again(kind: Any) -> None:
    """Calls one after the other go over one connection; none is kept that the server wants closed, or talks on."""
    closing = answer(b'{"model_version_status": []}', connection="close")
    with asking(kind, saying(*[GOOD] * 5, closing, GOOD), retries=ONCE) as (client, server):
        assert [status(client) for _ in range(6)] == [()] * 6
        assert server.connections == 1
        assert status(client) == ()
        assert server.connections == 2
    with asking(kind, saying(GOOD + b"HTTP/1.1 200 OK\r\n", GOOD), retries=ONCE) as (client, _):
        assert [status(client), status(client)] == [(), ()]


def test_a_connection_that_was_closed_meanwhile_costs_nothing(kind: Any) -> None:
    """A server that drops idle connections makes no call fail, even without retries."""

    def answer_once(connection: Connection) -> None:
        if connection.read() is not None:
            connection.write(GOOD)

    with asking(kind, answer_once, retries=ONCE) as (client, server):
        assert [status(client) for _ in range(5)] == [()] * 5
        assert server.connections == 5


def test_a_connection_that_was_idle_for_long_is_not_used(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks forget idle connections without a word; on such a one a call would wait until its deadline."""
    passed = 0.0
    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + passed)
    for module in ("http_blocking", "http_async"):
        monkeypatch.setattr(f"serving_app.remote.{module}.time", clock)
    with asking(kind, saying(GOOD, GOOD, GOOD), retries=ONCE) as (client, server):
        for calls in range(1, 4):
            assert status(client) == ()
            assert server.connections == calls
            passed += 2 * IDLE_S


def test_there_are_no_more_connections_than_calls_at_once() -> None:
    """As many connections are opened as calls are under way together, and later calls find them."""
    together = threading.Barrier(4)

    def answer_together(connection: Connection) -> None:
        while connection.read() is not None:
            together.wait(PATIENCE_S)
            connection.write(GOOD)

    with asking(RestClient, answer_together) as (client, server), ThreadPoolExecutor(4) as pool:
        for _ in range(3):
            assert list(pool.map(lambda _: status(client), range(4))) == [()] * 4
        assert server.connections == 4


def test_a_forked_process_leaves_the_connections_to_its_parent() -> None:
    """After a fork connections are opened anew, and those of the parent are not ended."""
    with asking(RestClient, saying(GOOD, GOOD, GOOD)) as (client, server):
        status(client)
        http = client._exchange.__self__
        http._process -= 1  # as a child would find it
        kept = [each.connection.dup() for each in http._idle]
        assert status(client) == ()
        assert server.connections == 2
        for each in kept:
            each.setblocking(False)
            with pytest.raises(BlockingIOError), each:
                each.recv(1)


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{"])
def test_a_deadline_holds_wherever_a_server_stops(kind: Any, said: bytes) -> None:
    """Before, in the middle and towards the end of an answer: the caller hears when the time is over."""

    def stop(connection: Connection) -> None:
        connection.read()
        connection.write(said)
        connection.wait_for_the_end()

    with asking(kind, stop) as (client, _), pytest.raises(DeadlineExceeded, match=r"gave no answer within 0\.1 s"):
        status(client, 0.1)


def test_a_deadline_holds_while_a_request_is_sent(kind: Any) -> None:
    """A server that does not read holds nobody longer than was said."""
    done = threading.Event()

    def ignore(connection: Connection) -> None:
        done.wait(PATIENCE_S)

    with asking(kind, ignore, typed=False) as (client, _):
        with pytest.raises(DeadlineExceeded):
            client.model("m").predict(x=b"a" * 16_000_000, timeout=0.5)
        done.set()


def test_a_handshake_that_never_ends_is_given_up(kind: Any) -> None:
    """A server that takes a connection and says nothing of TLS holds nobody longer than was said."""
    with (
        serving(Connection.wait_for_the_end) as server,
        used(kind(f"https://{server.address}")) as client,
        pytest.raises(DeadlineExceeded),
    ):
        status(client, 0.1)


@pytest.mark.parametrize("asked", ["9" * 400, "Mon, 01 Jan 0001 00:00:00 +2359", "soon"])
def test_a_pause_that_never_ends_is_not_made(kind: Any, asked: str) -> None:
    """A server that asks for a pause beyond all measure, or for none that makes sense, is not waited for."""
    busy = answer(b'{"error": "busy"}', "429 Too Many Requests", retry_after=asked)
    with (
        asking(kind, saying(busy, busy), retries=Retries(2, 0.0, 0.0)) as (client, _),
        pytest.raises(ResourceExhausted, match=r"^busy$"),
    ):
        client.model("m").status(timeout=None if asked.isdecimal() else PATIENCE_S)


def test_what_is_sent(kind: Any) -> None:
    """The request line, the headers and the body are those of TensorFlow Serving's API, behind a proxy's path, too."""
    seen: list[Request] = []
    tokens = iter(["one", "two"])

    def note(connection: Connection) -> None:
        while (request := connection.read()) is not None:
            seen.append(request)
            connection.write(answer(b'{"outputs": {"y": [1]}}') if request.body else GOOD)

    with serving(note) as server:
        options = {"headers": lambda: {"Authorization": f"Bearer {next(tokens)}"}, "compress": True, "typed": False}
        with used(kind(f"http://{server.address}/team/", **options)) as client:
            model = client.model("a model/1", label="b:c")
            assert model.status() == ()
            assert model.predict(x=[1.0] * 1000, signature_name="other")["y"].tolist() == [1]
    first, second = seen
    assert first.line == "GET /team/v1/models/a%20model%2F1/labels/b%3Ac HTTP/1.1"
    assert (first.headers["host"], first.headers["authorization"]) == (server.address, "Bearer one")
    assert first.headers["accept-encoding"] == "gzip"
    assert second.line == "POST /team/v1/models/a%20model%2F1/labels/b%3Ac:predict HTTP/1.1"
    assert (second.headers["authorization"], second.headers["content-encoding"]) == ("Bearer two", "gzip")
    right = b'{"signature_name":"other","inputs":{"x":[' + b",".join([b"1.0"] * 1000) + b"]}}"
    assert gzip.decompress(second.body) == right


@pytest.mark.parametrize(
    ("address", "options", "message"),
    [
        ("ftp://host", {}, "http://HOST:PORT"),
        ("http://", {}, "http://HOST:PORT"),
        ("http://host:port", {}, "no address of a server"),
        ("http://me:secret@host", {}, "tokens are headers"),
        ("http://host/?a=b", {}, "no more than"),
        ("http://host/a b", {}, "characters"),
        ("http://host", {"headers": {"a b": "c"}}, "'a b' cannot be a header"),
        ("http://host", {"headers": {"Host": "c"}}, "'Host' cannot be a header"),
        ("http://host", {"headers": {"a": "b\r\nc: d"}}, "characters that no header has"),
        ("http://host", {"tls": object()}, "without TLS"),
    ],
)
def test_a_client_that_cannot_be_is_refused_at_once(
    kind: Any, address: str, options: dict[str, Any], message: str
) -> None:
    """What is wrong with an address or a header is told when the client is made, and no secret of it is."""
    with pytest.raises(InvalidArgument, match=message) as caught:
        kind(address, **options)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("address", ["http://no.such.host.invalid", f"http://{'a' * 70}.invalid"])
def test_a_name_that_stands_for_nothing_is_told(kind: Any, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that is not known is as one where nobody listens."""

    def unknown(*_: object, **__: object) -> Any:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with used(kind(address, retries=ONCE)) as client, pytest.raises(Unavailable, match="cannot be reached"):
        status(client)
