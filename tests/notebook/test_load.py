"""Requests to play with, against a gateway's own front end."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import takewhile

import numpy as np
import pytest

from serving_app.core.errors import InvalidArgument
from serving_app.notebook import Answer, Load, Visitor
from tests.cluster.waiting import wait_for
from tests.serve.fronts import Front


def test_a_visitor_is_told_who_answered(front: Front) -> None:
    """An answer has its version and the prediction, by any label; an array is an instance as good as a number."""
    for label, version, value in (("stable", 1, 2.5), ("canary", 2, 3.5), (None, 2, 3.5)):
        with Visitor(front.rest_address, "half_plus_two", label=label) as visitor:
            assert visitor.ask(1.0) == Answer(version, value)
            assert visitor.ask(np.float32(1.0)) == Answer(version, value)


def test_attributes_decide(front: Front) -> None:
    """Attributes go as headers, by which a target's traffic is shared: an audience, and users who stay."""
    with Visitor(front.rest_address, "half_plus_two", label="shared") as visitor:
        assert visitor.ask(1.0).version == 1
        assert visitor.ask(1.0, {"x-team": "ads"}).version == 2
    with Visitor(front.rest_address, "half_plus_two", label="split") as visitor:
        users = [{"x-user": str(number)} for number in range(30)]
        assert [visitor.ask(1.0, user).version for user in users] == [visitor.ask(2.0, user).version for user in users]


def test_what_goes_wrong_is_an_answer(front: Front) -> None:
    """A refused request, a server that is not there: told, not raised; and the visitor asks on."""
    with Visitor(front.rest_address, "half_plus_two") as visitor:
        refused = visitor.ask("one")
        assert refused.version is None or refused.version == 2
        assert refused.error
        assert visitor.ask(1.0, {"x-user": "no\r\nheader"}).error.startswith("ValueError: Invalid header value")
        assert visitor.ask(1.0).prediction == 3.5
        visitor.close()
        assert visitor.ask(1.0).prediction == 3.5
    with Visitor("127.0.0.1:1", "half_plus_two") as nobody:
        assert nobody.ask(1.0).error.startswith("ConnectionRefusedError: ")


def test_a_connection_that_was_closed_is_no_error() -> None:
    """A server may close connections that rest; the next request goes out on another one."""
    answer = b'HTTP/1.1 200 OK\r\nx-model-version: 3\r\ncontent-length: 20\r\n\r\n{"predictions": [7]}'
    with answering(answer, 3) as address, Visitor(address, "digits") as visitor:
        assert [visitor.ask(1.0) for _ in range(3)] == [Answer(3, 7)] * 3


@contextmanager
def answering(answer: bytes, times: int) -> Iterator[str]:
    """The address of a server that gives this answer, so often, each time on another connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            for _ in range(times):
                connection, _ = server.accept()
                with connection, connection.makefile("rb") as asked:
                    lines = takewhile(bytes.strip, asked)
                    length = next(int(line.split()[1]) for line in list(lines) if b"content-length" in line.lower())
                    asked.read(length)
                    connection.sendall(answer)
            server.close()  # else whoever asks once more would wait

        serving = threading.Thread(target=serve)
        serving.start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        serving.join()


@pytest.mark.parametrize(
    "answer",
    [
        b"502 Bad Gateway\r\ncontent-length: 6\r\n\r\n<html>",
        b"502 Bad Gateway\r\ncontent-length: 2\r\n\r\n{}",
        b"200 OK\r\ncontent-length: 4\r\n\r\nnull",
        b'200 OK\r\ncontent-length: 19\r\n\r\n{"predictions": []}',
        b'200 OK\r\nx-model-version: new\r\ncontent-length: 20\r\n\r\n{"predictions": [7]}',
    ],
)
def test_answers_of_others_are_errors(answer: bytes) -> None:
    """A proxy, or whoever else listens there, may say anything; it is told, and a load goes on."""
    with answering(b"HTTP/1.1 " + answer, 1) as address, Visitor(address, "digits") as visitor:
        told = visitor.ask(1.0)
    status = answer.splitlines()[0].decode()
    assert told.error.startswith(f"no answer of a model: {status}: b")


def test_a_load_wants_to_know_who_answered() -> None:
    """An answer that names no version, as TensorFlow Serving's, is counted with that reason."""
    answer = b'HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\n{"predictions": [7]}'
    with answering(answer, 1) as address, Load(address, "digits", [1.0], per_second=1000, threads=1) as load:
        wait_for("an error", lambda: load.errors.total())
    assert load.errors["the answer does not tell its version"] == 1


def test_names_are_quoted() -> None:
    """Models and labels may have any name."""
    visitor = Visitor("127.0.0.1:1", "a/b", label="nightly ä")
    assert visitor._path == "/v1/models/a%2Fb/labels/nightly%20%C3%A4:predict"


def test_a_load_goes_on_until_it_is_stopped(front: Front) -> None:
    """Answers are counted by version and errors by what they say, until the load is stopped and nothing comes any more.
    """
    with Load(front.rest_address, "half_plus_two", [1.0, "one"], label="canary", per_second=1000, seed=1) as load:
        wait_for("answers", lambda: load.answers[2] >= 20 and load.errors.total() >= 20)
    counted = dict(load.answers), load.errors.total()
    assert repr(load) == f"Load(version 2: {load.answers[2]}; {load.errors.total()} errors)"
    load.stop()
    assert (dict(load.answers), load.errors.total()) == counted


def test_a_load_that_nobody_answers(front: Front) -> None:
    """Where nobody listens, errors are counted, and it can be stopped."""
    with Load("127.0.0.1:1", "digits", np.zeros((2, 64)), per_second=1000) as load:
        wait_for("errors", lambda: load.errors.total() > 2)
    assert repr(load).startswith("Load(no answers; ")


@pytest.mark.parametrize("settings", [{"per_second": 0}, {"threads": 0}, {"instances": []}])
def test_loads_that_make_no_sense(settings: dict[str, object]) -> None:
    """A load of nothing is refused before a thread starts."""
    with pytest.raises(InvalidArgument, match="at least one instance and one thread, and a rate above 0"):
        Load("127.0.0.1:1", "digits", **{"instances": [1.0], **settings})  # type: ignore[arg-type]
