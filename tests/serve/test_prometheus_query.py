"""Asking Prometheus: one number, or a sentence about why there is none."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from serving_app.core.errors import InvalidArgument, Unavailable
from serving_app.serve.prometheus_query import ask, fill_in


class Server(HTTPServer):
    """Answers every query with `answer`, and remembers what was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answer: Any = {}
        self.status = 200
        self.asked: list[tuple[str, str]] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        self.server.asked.append((url.path, parse_qs(url.query)["query"][0]))
        body = self.server.answer if isinstance(self.server.answer, bytes) else json.dumps(self.server.answer).encode()
        self.send_response(self.server.status)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@pytest.fixture
def prometheus() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def vector(*values: str) -> Any:
    result = [{"metric": {}, "value": [1.0, value]} for value in values]
    return {"status": "success", "data": {"resultType": "vector", "result": result}}


def test_one_number_is_told(prometheus: Server) -> None:
    """A vector with one sample, or a scalar, is a number; the query arrives as it was written."""
    prometheus.answer = vector("2.5")
    assert ask(prometheus.address + "/", 'sum(rate(x{v="1"}[5m]))') == 2.5
    assert prometheus.asked == [("/api/v1/query", 'sum(rate(x{v="1"}[5m]))')]
    prometheus.answer = {"data": {"resultType": "scalar", "result": [1.0, "7"]}}
    assert ask(prometheus.address, "7") == 7.0


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (vector(), "has 0 values; write one that has one"),
        (vector("1", "2"), "has 2 values"),
        (vector("NaN"), "has the value nan"),
        (vector("+Inf"), "has the value inf"),
        ({"data": {"resultType": "matrix", "result": [{"values": []}]}}, "has no numbers for an answer"),
        ([], "has no numbers"),
        ({"data": "x" * 5000}, r"has no numbers for an answer, but .{300}…$"),
    ],
)
def test_what_is_no_number_is_told(prometheus: Server, answer: Any, complaint: str) -> None:
    """The sentence says what the query has in place of one number."""
    prometheus.answer = answer
    with pytest.raises(InvalidArgument, match=complaint):
        ask(prometheus.address, "q")


def test_a_server_that_does_not_answer_is_told(prometheus: Server) -> None:
    """An error, a body that is no JSON and nobody at all are the same: there is no value."""
    prometheus.answer = b"no json"
    with pytest.raises(Unavailable, match="gave no answer to 'q'"):
        ask(prometheus.address, "q")
    prometheus.answer = b"[" * 100_000
    with pytest.raises(Unavailable, match="gave no answer to 'q'"):
        ask(prometheus.address, "q")
    prometheus.answer = b"9" * ((1 << 20) + 1)
    with pytest.raises(Unavailable, match="it is longer than 1048576 bytes"):
        ask(prometheus.address, "q")
    for body in (b"no json", b"[]", b"[" * 100_000):
        prometheus.status, prometheus.answer = 500, body
        with pytest.raises(Unavailable, match="refused 'q': HTTP Error 500"):
            ask(prometheus.address, "q")
    prometheus.status = 400
    prometheus.answer = {"status": "error", "errorType": "bad_data", "error": "unexpected end of input"}
    with pytest.raises(Unavailable, match=r"refused 'sum\(': unexpected end of input \(HTTP Error 400"):
        ask(prometheus.address, "sum(")
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{nobody.getsockname()[1]}"
    with pytest.raises(Unavailable, match="gave no answer to 'q'"):
        ask(address, "q")


def test_a_query_is_about_a_version() -> None:
    """The model and the version stand where the query names them."""
    assert fill_in('x{model="$model", version="$version"}', "m", 3) == 'x{model="m", version="3"}'
