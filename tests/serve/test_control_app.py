"""Control endpoints: what is asked of the controller, what is refused, and that nobody else feels it."""

from __future__ import annotations

import asyncio
import http.client
import json
import threading
from collections.abc import Awaitable, Callable
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from serving_app.cli import make_parser
from serving_app.client.control import Control, Unreachable
from serving_app.config import GatewayConfig
from serving_app.config.control import read_body
from serving_app.core.errors import FailedPrecondition
from serving_app.core.gates import Outcome, Verdict
from serving_app.core.rollout import Check, Phase, Rollout, Transition
from serving_app.core.rollout_orders import ORDERS
from serving_app.core.strategy import Bound, Gate, Measure, Pause, SetWeight, Strategy
from serving_app.core.traffic import Mirror, Rule, Tolerance, Traffic
from serving_app.serve.asgi import AsgiApp
from serving_app.serve.control_app import MOST_AT_A_TIME, ControlApp, patient_control
from serving_app.serve.control_openapi import make_document
from serving_app.serve.control_operations import OPERATIONS, PARAMETERS, Operation
from serving_app.serve.control_requests import MOST_BODY_BYTES
from serving_app.serve.control_tokens import Tokens
from serving_app.serve.http_messages import Answer, HttpRequest
from serving_app.serve.listeners import RestListener, claim
from serving_app.serve.rest_app import RestApp
from tests.cli.views import BUSY, GONE, LOST, NOW, Controller, app, model, version
from tests.serve.fronts import HOST, LoopThread
from tests.stepping import PATIENCE_S, Actor, until

TOKEN = "a-token-for-the-tests"
BEARER = (b"Authorization", f"Bearer {TOKEN}".encode())
JSON = (b"Content-Type", b"application/json")
DOCUMENT = make_document()

_RULES = (Rule("x-team", 2, frozenset({"ads"})), Rule("input:x", 1, pattern="a.*"))
SHARED = Traffic({1: 50.0, 2: 50.0}, "x-user", _RULES, mirror=Mirror(4, 20.0, {"y": Tolerance(0.1, 0.0)}))
VIEW = app(
    BUSY, LOST, GONE, model("a/b", version(2), version(1), labels={"stable": 2}, traffic={"": SHARED}),
    problems=("state: sftp://me:word@host/state is away",),
)


_STRATEGY = Strategy("half", (SetWeight(50.0), Pause(60.0)), (Gate("errors", Measure.ERROR_RATE, Bound.MAX, 0.02),))
_PASSED = Verdict("errors", Outcome.PASS, 0.01, 0.02, 300)
RUNNING = Rollout(
    1, "m", "stable", 1, 2, _STRATEGY, begun=NOW - 60, since=NOW - 60, changed=NOW - 60, phase=Phase.RUNNING, step=1,
    weight=50.0, checks={"errors": Check(1, _PASSED), "drift": Check()},
    transitions=(Transition(NOW - 60, "step 1: weight 50 %", Phase.RUNNING, 50.0, (_PASSED,)),),
)  # fmt: skip
FAILED = replace(RUNNING, id=2, phase=Phase.FAILED, weight=0.0, step=0, reason="errors fail", checks={})


def make_controller() -> Controller:
    """One that has models in every state, a rollout that goes on and one that failed."""
    controller = Controller(VIEW)
    controller.rolling = [RUNNING, FAILED]
    return controller


def finding(controller: Any) -> Callable[[str], Awaitable[Any]]:
    """How a Control finds this one."""

    async def find(_app: str) -> Any:
        return Actor(controller)

    return find


def make_app(controller: Any = None, *, timeout_s: float = PATIENCE_S, find: Any = None, **settings: Any) -> RestApp:
    """A REST app with control endpoints, in front of this controller."""
    control = Control("trial", timeout_s=timeout_s, find=find or finding(controller or make_controller()))
    return RestApp(
        None, identity={}, models=(), settings=GatewayConfig(**settings),  # type: ignore[arg-type]  # no model is asked
        control=ControlApp(control, Tokens([TOKEN])),
    )


def request(method: str, path: str, body: Any = None, *fields: tuple[bytes, bytes]) -> HttpRequest:
    """A request below /control/v1, or at a whole path; with a token, and JSON where it has a body, or these headers."""
    text = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    target = path if path.startswith("/control") else f"/control/v1{path}"
    return HttpRequest(method, target, text, fields=fields or ((BEARER, JSON) if text else (BEARER,)))


def ask(asked: HttpRequest, rest: RestApp | None = None) -> Answer:
    """The answer to one request."""

    async def answer() -> Answer:
        return await (rest or make_app()).answer(asked)

    return asyncio.run(answer())


STRATEGY = {"steps": [10, {"pause_s": 5}]}


@pytest.mark.parametrize(
    ("method", "path", "body", "told"),
    [
        ("PUT", "/models/m/labels/stable", {"version": 3}, ("m", "stable", 3)),
        ("PUT", "/models/a%2Fb/labels/nightly%20%C3%A4", {"version": 0}, ("a/b", "nightly ä", 0)),
        ("DELETE", "/models/m/labels/stable", None, ("m", "stable")),
        ("DELETE", "/models/m/labels/stable", {}, ("m", "stable")),
        ("PUT", "/models/m/traffic/default", {"weights": {"2": 100}}, ("m", "default", {"weights": {"2": 100}})),
        ("DELETE", "/models/m/traffic/stable", None, ("m", "stable")),
        ("POST", "/rollouts", {"model": "m", "to": 2, "strategy": "s"}, ("m", 2, "default", "s")),
        (
            "POST", "/rollouts", {"model": "m", "to": 2, "target": "stable", "strategy": STRATEGY},
            ("m", 2, "stable", STRATEGY),
        ),
        *(("POST", f"/rollouts/1/{move}", None, (1, move)) for move in ORDERS),
        ("POST", "/rollouts/2/report_value", {"name": "clicks", "value": 1}, (2, "clicks", 1.0, None)),
        ("POST", "/rollouts/2/report_value", {"name": "clicks", "value": -0.5, "version": 1}, (2, "clicks", -0.5, 1)),
    ],
)
def test_orders_reach_the_controller(method: str, path: str, body: Any, told: tuple[Any, ...]) -> None:
    """Each order is told as Python and the commands tell it, and is answered with what is there then."""
    controller = make_controller()
    answer = ask(request(method, path, body), make_app(controller))
    assert answer.status == 200, answer.body
    assert controller.labels == [told]


def answer_of(operation: Operation, **given: Any) -> Any:
    """The document that an operation answers."""
    path = operation.path
    for name, parameter in PARAMETERS.items():
        path = path.replace(f"{{{name}}}", str(given.get(name, {"model": "a%2Fb"}.get(name, parameter.example))))
    answer = ask(request(operation.method, path, dict(operation.example) or None))
    assert answer.status == 200, answer.body
    return json.loads(answer.body)


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda each: each.name)
def test_operations_are_what_their_document_says(operation: Operation) -> None:
    """Each is in the document, its example is a body that is taken, and what it answers is of the shape that it tells.
    """
    described = DOCUMENT["paths"][operation.path][operation.method.lower()]
    assert described["operationId"] == operation.name
    assert bool(described["security"]) is operation.is_order
    if operation.example:
        body = described["requestBody"]["content"]["application/json"]
        read_body(json.dumps(body["example"]).encode(), operation.body)
        check(body["schema"], body["example"])
    schema = described["responses"]["200"]["content"]["application/json"]["schema"]
    for name in ("a%2Fb", "m", "lost", "gone"):
        check(schema, answer_of(operation, model=name))


def check(schema: dict[str, Any], document: Any) -> None:
    """Raise if a document is not of this shape, or has a key that the shape does not tell."""
    closed = json.loads(json.dumps(DOCUMENT["components"]))
    for each in closed["schemas"].values():
        each.setdefault("additionalProperties", False)
    Draft202012Validator({**schema, "components": closed}).validate(document)


def test_the_document_is_right_and_complete() -> None:
    """It is OpenAPI as others understand it, and has the operations of the table and no others."""
    validate(DOCUMENT)
    described = {
        (method.upper(), path) for path, methods in DOCUMENT["paths"].items() for method in methods
    }
    assert described == {(each.method, each.path) for each in OPERATIONS}
    assert len({each.name for each in OPERATIONS}) == len(OPERATIONS)
    assert json.loads(ask(request("GET", "/control/openapi.json")).body) == DOCUMENT


def test_the_words_are_those_of_python_and_the_commands() -> None:
    """What the command `rollout` can do is offered under the same names."""
    commands = make_parser()._subparsers._group_actions[0].choices["rollout"]  # type: ignore[union-attr,index]
    actions = set(commands._subparsers._group_actions[0].choices)
    assert actions - {"list", "status"} <= {each.name for each in OPERATIONS}


class _Page(HTMLParser):
    """Looks whether every element is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: set[str] = set()
        self.links: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag != "meta":
            self.open.append(tag)
        found = dict(attrs)
        self.ids |= {str(found["id"])} if "id" in found else set()
        self.links |= {str(found["href"])} if "href" in found else set()
        assert "src" not in found

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_shows_every_operation_and_needs_nothing() -> None:
    """It is whole by itself: without scripts, and with links that lead to places in it, or to the document."""
    answer = ask(request("GET", "/control/"))
    assert dict(answer.headers)[b"content-security-policy"].startswith(b"default-src 'none'")
    page = _Page()
    page.feed(answer.body.decode())
    page.close()
    assert page.open == []
    assert {each.name for each in OPERATIONS} <= page.ids
    assert {link for link in page.links if not link.startswith("#")} == {"openapi.json"}
    assert {link[1:] for link in page.links if link.startswith("#")} <= page.ids
    assert b"<script" not in answer.body


def test_the_page_is_found_without_its_slash() -> None:
    """By a relative place, because a door may put something before the path."""
    answer = ask(request("GET", "/control"))
    assert (answer.status, dict(answer.headers)[b"location"]) == (308, b"control/")


START = {"model": "m", "to": 2, "strategy": "s"}


@pytest.mark.parametrize(
    ("asked", "status", "message"),
    [
        (request("GET", "/nothing"), 404, "/control/ tells what there is"),
        (request("GET", "/models/"), 404, "Not found"),
        (request("GET", "/rollouts/1/"), 404, "Not found"),
        (request("GET", "/control/v2/models"), 404, "Not found"),
        (request("GET", "/control/v1"), 404, "Not found"),
        (request("GET", "//models"), 404, "Not found"),
        (request("POST", "/models", {}), 405, "POST is not offered at /control/v1/models; use GET, HEAD"),
        (request("DELETE", "/rollouts/1"), 405, "use GET, HEAD"),
        (request("GET", "/rollouts/1/abort"), 405, "use POST"),
        (request("OPTIONS", "/rollouts"), 405, "use GET, HEAD, POST"),
        (request("POST", "/control/"), 405, "use GET, HEAD"),
        (request("PUT", "/models/m/labels/x", {"version": 1}, JSON, BEARER, (b"content-encoding", b"x")), 200, ""),
        (request("PUT", "/models/m/labels/x", b"{", BEARER, JSON), 400, "The body is no JSON"),
        (request("PUT", "/models/m/labels/x", {"version": "1"}), 400, "version: Input should be a valid integer"),
        (request("PUT", "/models/m/labels/x", None), 415, "send it with `Content-Type: application/json`"),
        (request("PUT", "/models/m/labels/x", {"version": 1}, BEARER), 415, "Content-Type"),
        (request("POST", "/rollouts", START, BEARER, (b"content-type", b"text/plain")), 415, "Content-Type"),
        (request("POST", "/rollouts", START, BEARER, JSON, JSON), 415, "Content-Type"),
        (request("POST", "/rollouts", START, BEARER, (b"content-type", b"Application/JSON; charset=utf-8")), 200, ""),
        (request("POST", "/rollouts/1/abort", {"hard": True}), 400, "hard: there is no such setting"),
        (request("POST", "/rollouts", b" " * (MOST_BODY_BYTES + 1)), 413, "at most 1048576 are taken"),
        (request("GET", "/rollouts/one"), 400, "rollout: 'one' is no number of one"),
        (request("GET", "/rollouts/-1"), 400, "rollout: '-1' is no number"),
        (request("GET", f"/rollouts/{'9' * 5000}"), 400, "is no number"),
        (request("GET", "/rollouts/²"), 400, "is no number"),
        (request("GET", "/models/%FF"), 400, "model: '%FF' is no UTF-8"),
        (request("GET", "/models/\udcff"), 400, "is no UTF-8"),
        (request("GET", "/rollouts?models=m"), 400, "there is no parameter 'models' in the query here"),
        (request("GET", "/rollouts?model=m&model=n"), 400, "model stands twice"),
        (request("GET", "/rollouts?model"), 400, "cannot be read"),
        (request("GET", "/rollouts?model=%FF"), 400, "cannot be read"),
        (request("GET", "/models?x=1"), 400, "those that there are: none"),
        (request("GET", f"/rollouts?{'&'.join(['model=m'] * 17)}"), 400, "cannot be read"),
        (request("GET", "/rollouts", {}), 400, "GET takes no body here; leave it away"),
        (request("HEAD", "/status", b"[" * (MOST_BODY_BYTES + 1)), 400, "GET takes no body here"),
        (request("GET", "/rollouts?model=m"), 200, ""),
        (request("HEAD", "/status"), 200, ""),
        (request("GET", "/models/nope"), 404, "knows no model 'nope'; the models are a/b, gone, lost, m"),
        (request("GET", "/models/nope/labels"), 404, "knows no model 'nope'"),
    ],
)
def test_what_makes_no_sense_is_refused(asked: HttpRequest, status: int, message: str) -> None:
    """By the status that HTTP has for it, and a sentence that says what to do instead."""
    answer = ask(asked)
    assert answer.status == status, answer.body
    if status != 200:
        assert message in json.loads(answer.body)["error"]
    if status == 405:
        assert message.endswith(dict(answer.headers)[b"allow"].decode())


def test_a_packed_body_is_refused() -> None:
    """It is not unpacked to see what is in it."""
    asked = request("POST", "/rollouts", START)._replace(content_encoding=b"gzip")
    assert ask(asked).status == 415


@pytest.mark.parametrize(
    ("fields", "is_accepted", "hint"),
    [
        ([BEARER], True, ""),
        ([(b"authorization", f"bearer  {TOKEN} ".encode())], True, ""),
        ([], False, ""),
        ([(b"Authorization", TOKEN.encode())], False, "invalid_token"),
        ([(b"Authorization", f"Basic {TOKEN}".encode())], False, "invalid_token"),
        ([(b"Authorization", b"Bearer")], False, "invalid_token"),
        ([(b"Authorization", b"Bearer ")], False, "invalid_token"),
        ([(b"Authorization", f"Bearer {TOKEN}x".encode())], False, "invalid_token"),
        ([(b"Authorization", f"Bearer {TOKEN[:-1]}".encode())], False, "invalid_token"),
        ([(b"Authorization", b"Bearer \xff\xfe")], False, "invalid_token"),
        ([BEARER, BEARER], False, "invalid_token"),
        ([(b"Cookie", f"Authorization=Bearer {TOKEN}".encode())], False, ""),
    ],
)
def test_a_token_is_looked_at_closely(fields: list[tuple[bytes, bytes]], is_accepted: bool, hint: str) -> None:
    """It has to be the whole of one that is known, in the one header for it; what is shown is not repeated."""
    controller = make_controller()
    answer = ask(HttpRequest("POST", "/control/v1/rollouts/1/abort", fields=fields), make_app(controller))
    assert answer.status == (200 if is_accepted else 401), answer.body
    assert bool(controller.labels) is is_accepted
    if not is_accepted:
        asked_for = dict(answer.headers)[b"www-authenticate"].decode()
        assert asked_for == 'Bearer realm="serving_app"' + (f', error="{hint}"' if hint else "")
        assert "`Authorization: Bearer TOKEN`" in json.loads(answer.body)["error"]
        assert TOKEN.encode() not in answer.body


@pytest.mark.parametrize("operation", [each for each in OPERATIONS if each.is_order], ids=lambda each: each.name)
def test_orders_need_a_token(operation: Operation) -> None:
    """Whatever changes something does nothing without one, be the rest right or wrong."""
    controller = make_controller()
    for body in (json.dumps(operation.example).encode(), b"", b"[1"):
        path = operation.path.replace("{rollout}", "1")
        assert ask(request(operation.method, path, body, JSON), make_app(controller)).status == 401
    assert controller.labels == []


@pytest.mark.parametrize("path", [each.path for each in OPERATIONS if not each.is_order])
def test_reading_needs_no_token(path: str) -> None:
    """As the states and signatures of models need none."""
    path = path.replace("{model}", "m").replace("{rollout}", "1")
    assert ask(HttpRequest("GET", f"/control/v1{path}")).status == 200


def test_there_is_nothing_unless_a_token_is_configured() -> None:
    """Without one the paths are as unknown as any other."""
    rest = RestApp(None, identity={}, models=(), settings=GatewayConfig())  # type: ignore[arg-type]  # nothing is asked
    for path in ("/control", "/control/", "/control/openapi.json", "/control/v1/models"):
        answer = ask(HttpRequest("GET", path, fields=[BEARER]), rest)
        body = answer.body.replace(path.encode(), b"/elsewhere")
        assert answer._replace(body=body) == ask(HttpRequest("GET", "/elsewhere"), rest)
        assert answer.status == 404


def test_web_pages_of_others_cannot_read_or_change_anything() -> None:
    """Answers allow no other origin, not even where those of REST do."""
    rest = make_app(rest_cors=True)
    origin = (b"Origin", b"https://elsewhere.example")
    for asked in (
        request("OPTIONS", "/rollouts/1/abort", None, origin),
        request("GET", "/models", None, origin),
        request("POST", "/rollouts", START, origin, (b"content-type", b"text/plain")),
    ):
        answer = ask(asked._replace(origin=origin[1]), rest)
        assert not [name for name, _ in answer.headers if b"access-control" in name]


def test_passwords_of_urls_are_not_shown() -> None:
    """What stands before the host of a URL is hidden, in documents and in errors."""
    assert "sftp://***@host/state" in ask(request("GET", "/status")).body.decode()

    class Angry(Controller):
        async def rollout(self, number: int) -> Any:
            raise FailedPrecondition("Prometheus at http://me:word@host:9090 is away")

    answer = ask(request("GET", "/rollouts/1"), make_app(Angry(VIEW)))
    assert json.loads(answer.body) == {"error": "Prometheus at http://***@host:9090 is away"}
    assert answer.status == 400


class Silent(Controller):
    """One that answers nothing until it is let go."""

    def __init__(self) -> None:
        super().__init__(VIEW)
        self.rolling = [RUNNING]
        self.waiting = 0
        self.go = asyncio.Event()

    async def view(self) -> Any:
        self.waiting += 1
        await self.go.wait()
        return VIEW


def test_a_controller_that_is_away() -> None:
    """One that cannot be found is 503; one that does not answer is 504, and whether something changed is left open."""

    async def find(_app: str) -> Any:
        raise Unreachable("no serving app named 'trial' runs here")

    assert ask(request("GET", "/status"), make_app(find=find)).status == 503
    answer = ask(request("GET", "/status"), make_app(Silent(), timeout_s=0.01))
    assert answer.status == 504
    assert "has not answered" in json.loads(answer.body)["error"]


def test_faults_of_ours_are_internal() -> None:
    """They are told as such, without passwords, and no request is left without an answer."""

    class Broken(Controller):
        async def view(self) -> Any:
            raise OSError("nothing at sftp://me:word@host/state")

    answer = ask(request("GET", "/status"), make_app(Broken(VIEW)))
    assert answer.status == 500
    assert json.loads(answer.body) == {"error": "OSError: nothing at sftp://***@host/state"}


def test_those_who_look_hold_up_nobody() -> None:
    """Of questions only some are answered at a time; orders have places of their own, and places become free again."""

    async def scenario() -> None:
        controller = Silent()
        rest = make_app(controller)
        looks = [asyncio.create_task(rest.answer(request("GET", "/status"))) for _ in range(MOST_AT_A_TIME)]
        await until(lambda: controller.waiting == MOST_AT_A_TIME)
        assert (await rest.answer(request("GET", "/status"))).status == 429
        assert (await rest.answer(request("POST", "/rollouts", START))).status == 200
        assert controller.labels == [("m", 2, "default", "s")]
        looks[0].cancel()
        await asyncio.wait({looks[0]})
        controller.go.set()
        assert [each.status for each in await asyncio.gather(*looks[1:])] == [200] * (MOST_AT_A_TIME - 1)
        assert (await rest.answer(request("GET", "/status"))).status == 200

    asyncio.run(scenario())


def test_the_head_of_the_cluster_is_asked_on_threads_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it hangs, those threads hang, and not the ones that read and write the requests for models."""
    asked: list[str] = []

    def get_actor(name: str, namespace: str) -> Any:
        asked.append(threading.current_thread().name)
        raise ValueError(name)

    monkeypatch.setattr("ray.get_actor", get_actor)
    monkeypatch.setattr("ray.get_runtime_context", lambda: type("Context", (), {"gcs_address": "head:1"}))
    monkeypatch.setattr("serving_app.client.control._apps", lambda: asked.append(threading.current_thread().name))
    monkeypatch.setattr("serving_app.ray_private.clusters_here", list)

    with pytest.raises(Unreachable):
        asyncio.run(patient_control("trial").view())
    assert [name.rpartition("_")[0] for name in asked] == ["find-controller"] * 2


def test_a_head_of_the_cluster_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Questions end with 504 in their time, and threads for everything else are free meanwhile."""
    go = threading.Event()

    def hang(*_: Any, **__: Any) -> Any:
        go.wait()
        raise ValueError("gone")

    async def scenario() -> None:
        control = patient_control("trial")
        control._timeout_s = 0.01
        rest = RestApp(
            None, identity={}, models=(), settings=GatewayConfig(),  # type: ignore[arg-type]  # no model is asked
            control=ControlApp(control, Tokens([TOKEN])),
        )
        answers = await asyncio.gather(*(rest.answer(request("GET", "/status")) for _ in range(MOST_AT_A_TIME)))
        assert {answer.status for answer in answers} == {504}
        assert await asyncio.to_thread(lambda: 1) == 1

    monkeypatch.setattr("ray.get_actor", hang)
    try:
        asyncio.run(scenario())
    finally:
        go.set()


def test_over_a_socket() -> None:
    """A connection carries control requests beside others: what they need of a task is there."""
    loop = LoopThread()
    try:
        listener = RestListener(make_app(), claim(HOST, 0))
        address = loop.run(listener.start())
        connection = http.client.HTTPConnection(*address.split(":"))
        connection.request("PUT", "/control/v1/models/m/labels/stable", '{"version": 2}', {
            "Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json",
        })  # fmt: skip
        answer = connection.getresponse()
        assert (answer.status, json.loads(answer.read())["labels"][1]["label"]) == (200, "stable")
        connection.request("HEAD", "/control/v1/status")
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (200, b"")
        connection.request("GET", "/control/v1/nothing")
        assert connection.getresponse().status == 404
        connection.close()
        loop.run(listener.drain(0.0))
    finally:
        loop.stop()


def test_behind_serves_door() -> None:
    """The same app answers there, below the prefix of the application."""
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b'{"version": 2}'}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http", "method": "PUT", "path": "/app/control/v1/models/a/b/labels/stable", "root_path": "/app",
        "raw_path": b"/app/control/v1/models/a%2Fb/labels/stable", "query_string": b"",
        "headers": [(b"authorization", f"Bearer {TOKEN}".encode()), (b"content-type", b"application/json")],
    }
    controller = make_controller()
    asyncio.run(AsgiApp(make_app(controller))(scope, receive, send))
    assert sent[0]["status"] == 200
    assert controller.labels == [("a/b", "stable", 2)]


@settings(max_examples=40)
@given(
    st.sampled_from(["GET", "PUT", "POST", "DELETE", "PATCH", "get", ""]),
    st.lists(st.one_of(
        st.sampled_from(["models", "rollouts", "labels", "traffic", "m", "1", "abort", "%2F", "%", "?", "", ".."]),
        st.text(max_size=5),
    ), max_size=6),
    st.one_of(st.binary(max_size=20), st.sampled_from([b'{"version": 1}', b"{}", b"null", b'{"\\ud800": 1}'])),
)  # fmt: skip
def test_whatever_comes_is_answered(method: str, parts: list[str], body: bytes) -> None:
    """No request is a fault of ours, and every error is told in JSON."""
    answer = ask(HttpRequest(method, f"/control/v1/{'/'.join(parts)}", body, fields=[BEARER, JSON]))
    assert answer.status in {200, 400, 404, 405}
    assert answer.status == 200 or list(json.loads(answer.body)) == ["error"]
