"""What requests have that traffic may be shared by: the same wherever a request comes from."""

from __future__ import annotations

import asyncio
import json
from functools import partial
from typing import Any

import numpy as np
import pytest

from serving_app.client.attributes import attributes_of, check_attributes
from serving_app.core.errors import InvalidArgument
from serving_app.core.routing import ModelRoutes, Route, RouteTable, resolve
from serving_app.core.servable import ModelSpec, ServableId
from serving_app.core.traffic import Attributes, Rule, Traffic
from serving_app.protocol.first_values import first_of_body, first_of_examples, first_of_given, first_of_inputs
from serving_app.protocol.json_examples import encode_example
from serving_app.protocol.json_predict import parse_predict
from serving_app.protocol.tensor_proto import encode_tensor
from serving_app.serve.asgi import AsgiApp
from serving_app.serve.attributes import RequestAttributes
from serving_app.serve.http_messages import Answer, HttpRequest


def of_json(**body: Any) -> Attributes:
    return RequestAttributes((), partial(first_of_body, parse_predict(json.dumps(body).encode())))


def everywhere(value: Any, dtype: Any) -> dict[str, Attributes]:
    """Requests with this input, `user`, in all ways in which requests come."""
    array = np.array([value], dtype)
    return {
        "rows": of_json(instances=[{"user": value}]),
        "columns": of_json(inputs={"user": [value, value]}),
        "a large body": of_json(instances=[{"user": value, "x": [0.5] * 9}] * 1000),
        "a tensor": RequestAttributes((), partial(first_of_inputs, {"user": encode_tensor(array)})),
        "a tensor of known form": RequestAttributes((), partial(first_of_inputs, {"user": array})),
        "an example": RequestAttributes((), partial(first_of_examples, [encode_example({"user": value})])),
        "a Python call": attributes_of({}, partial(first_of_given, {"user": [value]})),
        "a Python call with an array": attributes_of({}, partial(first_of_given, {"user": array})),
    }


@pytest.mark.parametrize(
    ("value", "dtype", "text"),
    [
        ("ada", object, "ada"),
        ("名", object, "名"),
        (7, np.int64, "7"),
        (-(2**63), np.int64, "-9223372036854775808"),
        (7.0, np.float32, "7"),
        (7, np.float32, "7"),
        (0.1, np.float32, "0.1"),
        (0.1, np.float64, "0.1"),
        (2.5, np.float16, "2.5"),
    ],
)
def test_the_same_wherever_it_comes_from(value: Any, dtype: Any, text: str) -> None:
    """An input has one text, and so its user one version, by REST, gRPC and from Python, and in whichever form."""
    routes = {number: Route(ServableId("m", number), f"m-{number}", {}) for number in (1, 2, 3)}
    shared = Traffic({1: 50.0, 2: 50.0}, "input:user", seed="m")
    audience = Traffic({1: 100.0}, rules=(Rule("input:user", 3, frozenset({text})),))
    table = RouteTable(1, {"m": ModelRoutes(routes, traffic={"": shared, "audience": audience})})
    asked = everywhere(value, dtype)
    assert {name: find("input:user") for name, find in asked.items()} == dict.fromkeys(asked, text)
    assert len({resolve(ModelSpec("m"), table, find).servable for find in asked.values()}) == 1
    assert {resolve(ModelSpec("m", label="audience"), table, find).servable.version for find in asked.values()} == {3}


@pytest.mark.parametrize(
    ("fields", "name", "value"),
    [
        ([(b"X-User", b" ada\t")], "x-user", "ada"),
        ([(b"x-user", b"ada"), (b"X-User", b"grace")], "x-user", "ada"),
        ([(b"x-user", b"")], "x-user", ""),
        ([(b"x-user", "名".encode())], "x-user", "名"),
        ([(b"x-user", b"\xe9")], "x-user", "\\xe9"),
        ([(b"x-users", b"ada")], "x-user", None),
        ([(b"x-user-bin", b"YWRh")], "x-user-bin", "ada"),
        ([(b"x-user-bin", b"YWRhbQ==")], "x-user-bin", "adam"),
        ([(b"x-user-bin", b"YWRhbQ")], "x-user-bin", "adam"),
        ([(b"x-user-bin", b"YWRh,Z3JhY2U")], "x-user-bin", "ada"),
        ([(b"x-user-bin", b"/w")], "x-user-bin", "\\xff"),
        ([(b"x-user-bin", b"*")], "x-user-bin", "*"),
        ([(b"x-user", b"YWRh")], "x-user", "YWRh"),
    ],
)
def test_headers_and_metadata(fields: list[tuple[bytes, bytes]], name: str, value: str | None) -> None:
    """Whatever capitals the name has; the first of several; bytes that are no text are written out."""
    assert RequestAttributes(fields)(name) == value


def test_of_a_python_caller() -> None:
    """The same texts as a header would have; an input is looked at once, however often it is asked for."""
    looked: list[str] = []

    def first(name: str) -> str:
        looked.append(name)
        return "ada"

    find = attributes_of(check_attributes({"X-User": " ada\t"}), first)
    assert [find(name) for name in ("x-user", "x-team", "input:a", "input:a")] == ["ada", None, "ada", "ada"]
    assert looked == ["a"]
    assert attributes_of({}, None)("input:a") is None


@pytest.mark.parametrize(
    ("given", "complaint"),
    [({"x-user": 7}, "'x-user' is 7; give both as text"), ({7: "x"}, "7 is 'x'"), ({"input:a": "x"}, "as an input")],
)
def test_attributes_that_are_none(given: Any, complaint: str) -> None:
    """What could be no header is refused, and not taken for another user than the same from elsewhere."""
    with pytest.raises(InvalidArgument, match=complaint):
        check_attributes(given)


class _Asked:
    """An app that keeps what it is asked."""

    most_body_bytes = 100

    async def answer(self, request: HttpRequest) -> Answer:
        self.request = request
        return Answer(200, b"", ())

    def refuse_body(self) -> Answer:
        raise AssertionError("the body is small")


def test_behind_the_door_of_serve() -> None:
    """Requests have their headers there, too."""
    app = _Asked()

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        pass

    headers = [(b"x-user", b"ada")]
    asyncio.run(
        AsgiApp(app)({"type": "http", "method": "POST", "path": "/v1", "headers": headers}, receive, send)
    )
    assert RequestAttributes(app.request.fields)("x-user") == "ada"
