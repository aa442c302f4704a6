"""REST: the contract of all front ends, and what is HTTP's own."""

from __future__ import annotations

import gzip
import http.client
import json
import select
import socket
import urllib.parse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest

from serving_app.core.errors import Code
from serving_app.core.servable import ModelSpec
from serving_app.protocol.rest_status import HTTP_STATUS
from tests.serve.front_end_contract import NOTHING, Failed, FrontEndContract, Metadata, Status
from tests.serve.fronts import IDENTITY, LARGEST_REQUEST, Front
from tests.stepping import PATIENCE_S

PREDICT = "/v1/models/half_plus_two:predict"
ONE = b'{"instances": [1.0]}'
THREE_AND_A_HALF = b'{\n    "predictions": [3.5\n    ]\n}'


@contextmanager
def connection(address: str) -> Iterator[http.client.HTTPConnection]:
    client = http.client.HTTPConnection(address, timeout=PATIENCE_S)
    try:
        yield client
    finally:
        client.close()


def ask(address: str, method: str, target: str, body: Any = None, **options: Any) -> tuple[int, bytes]:
    """One request on a connection of its own."""
    with connection(address) as client:
        client.request(method, target, body, **options)
        answer = client.getresponse()
        return answer.status, answer.read()


def ask_json(address: str, method: str, target: str, body: Any = None, **options: Any) -> Any:
    status, text = ask(address, method, target, body, **options)
    if status != 200:
        raise Failed(status, json.loads(text)["error"])
    return json.loads(text)


def target_of(spec: ModelSpec) -> str:
    target = f"/v1/models/{urllib.parse.quote(spec.name)}"
    if spec.version is not None:
        target += f"/versions/{spec.version}"
    if spec.label is not None:
        target += f"/labels/{spec.label}"
    return target


class TestRest(FrontEndContract):
    NUMBERS = HTTP_STATUS

    def predict(
        self, front: Front, spec: ModelSpec, inputs: Mapping[str, Any], signature: str = "", *, hurried: bool = False,
        fields: Mapping[str, str] = NOTHING,
    ) -> dict[str, Any]:
        body: dict[str, Any] = {"inputs": inputs}
        if signature:
            body["signature_name"] = signature
        if inputs.keys() == {"x", "z"}:
            # The columnar format passes over inputs that the signature lacks; rows must have exactly the right ones.
            body = {"instances": [{name: value[0] for name, value in inputs.items()}]}
        address = front.hurried_rest if hurried else front.rest_address
        outputs = ask_json(address, "POST", f"{target_of(spec)}:predict", json.dumps(body), headers=fields)["outputs"]
        return outputs if isinstance(outputs, dict) else {"y": outputs}

    def send_garbage(self, front: Front) -> None:
        ask_json(front.rest_address, "POST", PREDICT, b'{"instances": [1.0')

    def status(self, front: Front, spec: ModelSpec) -> list[Status]:
        listed = ask_json(front.rest_address, "GET", target_of(spec))["model_version_status"]
        return [
            Status(int(each["version"]), each["state"], each["status"]["error_code"], each["status"]["error_message"])
            for each in listed
        ]

    def metadata(self, front: Front, spec: ModelSpec) -> Metadata:
        answer = ask_json(front.rest_address, "GET", f"{target_of(spec)}/metadata")
        signatures = answer["metadata"]["signature_def"]["signature_def"]
        return Metadata(
            answer["model_spec"]["name"],
            int(answer["model_spec"]["version"]),
            {
                key: {name: info["dtype"] for name, info in signature["inputs"].items()}
                for key, signature in signatures.items()
            },
        )


def test_rows_and_columns_are_answered_in_kind(front: Front) -> None:
    """A request by `instances` gets `predictions`, one by `inputs` gets `outputs`, as JSON."""
    with connection(front.rest_address) as client:
        for body, right in (
            ('{"instances": [1.0, 2.0]}', {"predictions": [3.5, 4.0]}),
            ('{"instances": [{"x": 1.0}]}', {"predictions": [3.5]}),
            ('{"inputs": [1.0, 2.0]}', {"outputs": [3.5, 4.0]}),
            ('{"inputs": {"x": []}}', {"outputs": []}),
        ):
            client.request("POST", PREDICT, body)
            answer = client.getresponse()
            text = answer.read()
            assert answer.status == 200, text
            assert json.loads(text) == right
            assert answer.headers["content-type"] == "application/json"
            assert int(answer.headers["content-length"]) == len(text)


def test_a_large_mistake_holds_up_nobody_else(front: Front) -> None:
    """While a large body is searched for its mistake, others are answered."""
    with connection(front.rest_address) as slow, connection(front.rest_address) as quick:
        slow.request("POST", PREDICT, b"[" * 900_000)
        for _ in range(3):
            quick.request("POST", PREDICT, ONE)
            assert quick.getresponse().read() == THREE_AND_A_HALF
        slow_socket: socket.socket = slow.sock
        assert select.select([slow_socket], [], [], 0)[0] == []
        answer = slow.getresponse()
        assert answer.status == 400
        assert b"JSON Parse error: Invalid value. at offset: 900000" in answer.read()


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/v2/models/half_plus_two", 404),
        ("POST", "/healthz/live", 404),
        ("GET", PREDICT, 400),
        ("PUT", PREDICT, 400),
        ("POST", "/v1/models/half_plus_two", 400),
        ("POST", PREDICT + "?x=1", 400),
        ("GET", "/v1/models", 400),
        ("POST", "/v1/models/half_plus_two:classify", 400),
        ("POST", "/v1/models/half_plus_two:regress", 400),
        ("GET", "/v1/models/half%5Fplus%5Ftwo", 200),
        ("GET", "/v1/models/half%2Fplus", 404),
        ("GET", "/v1/models/m/versions/" + "9" * 30, 400),
        ("GET", "/v1/models/%zz", 400),
        ("DELETE", PREDICT, 400),
        ("PATCH", PREDICT, 400),
    ],
)
def test_targets_that_mean_something_else(front: Front, method: str, target: str, status: int) -> None:
    """Methods and targets are told apart as in TensorFlow Serving; every error but two has a body that says so."""
    number, body = ask(front.rest_address, method, target, ONE if method == "POST" else None)
    assert number == status, body
    if "9" * 30 in target or "%zz" in target:
        assert body == b""
    elif number != 200:
        assert json.loads(body)["error"]


def test_a_head_request_has_no_body(front: Front) -> None:
    """HEAD is answered without a body, and the connection goes on."""
    with connection(front.rest_address) as client:
        for target, status in (("/healthz/live", 200), ("/v1/models/half_plus_two", 400), (PREDICT, 400)):
            client.request("HEAD", target)
            answer = client.getresponse()
            assert (answer.status, answer.read()) == (status, b"")
        client.request("POST", PREDICT, ONE)
        assert client.getresponse().read() == THREE_AND_A_HALF


def test_a_connection_carries_many_requests(front: Front) -> None:
    """A connection is kept, also after answers that are errors."""
    with connection(front.rest_address) as client:
        client.connect()
        first = client.sock
        for body, status in ((ONE, 200), (b"{", 400), (b"", 400), (ONE, 200)):
            client.request("POST", PREDICT, body)
            answer = client.getresponse()
            answer.read()
            assert answer.status == status
            assert client.sock is first


def raw(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=PATIENCE_S)


def request(body: bytes, *headers: bytes, target: str = PREDICT) -> bytes:
    lines = [f"POST {target} HTTP/1.1".encode(), b"Host: x", b"Content-Length: %d" % len(body), *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def read_answers(client: socket.socket, count: int) -> list[bytes]:
    """The bodies of so many answers."""
    bodies, file = [], client.makefile("rb")
    for _ in range(count):
        length = 0
        while (line := file.readline().strip()) != b"":
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        bodies.append(file.read(length))
    return bodies


def test_requests_that_follow_at_once_are_answered_in_order(front: Front) -> None:
    """A client that sends requests without waiting gets the answers in the order of its requests."""
    with raw(front.rest_address) as client:
        client.sendall(b"".join(request(b'{"instances": [%d]}' % value) for value in range(20)))
        bodies = read_answers(client, 20)
    assert [json.loads(body)["predictions"] for body in bodies] == [[value / 2 + 3] for value in range(20)]


def test_a_body_may_come_in_pieces(front: Front) -> None:
    """Chunked bodies, and bodies that dribble in byte by byte, are read to their end."""
    chunks = (bytes([byte]) for byte in ONE)
    status, body = ask(front.rest_address, "POST", PREDICT, chunks, encode_chunked=True,
                       headers={"Transfer-Encoding": "chunked"})
    assert (status, body) == (200, THREE_AND_A_HALF)
    with raw(front.rest_address) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in request(ONE):
            client.sendall(bytes([byte]))
        assert read_answers(client, 1) == [THREE_AND_A_HALF]


def test_a_client_may_ask_before_it_sends(front: Front) -> None:
    """`Expect: 100-continue`, which curl sends with large bodies, is answered before the body comes."""
    with raw(front.rest_address) as client:
        head, body = request(ONE, b"Expect: 100-continue")[: -len(ONE)], ONE
        client.sendall(head)
        assert client.recv(100).startswith(b"HTTP/1.1 100 ")
        client.sendall(body)
        assert read_answers(client, 1) == [THREE_AND_A_HALF]


@pytest.mark.parametrize("extra", [0, 1])
def test_the_largest_body_is_a_limit(front: Front, extra: int) -> None:
    """A body of the configured size is read, one byte more is refused with the name of the setting."""
    body = ONE.ljust(LARGEST_REQUEST + extra)
    status, text = ask(front.rest_address, "POST", PREDICT, body)
    assert status == (400 if extra else 200)
    if extra:
        assert "max_request_bytes" in json.loads(text)["error"]


def test_a_client_that_goes_away_disturbs_nobody(front: Front) -> None:
    """Connections that end in the middle of a head, of a body or before the answer leave the others alone."""
    front.hold()
    try:
        with connection(front.rest_address) as other:
            for part in (b"POST /v1", request(ONE)[:-3], request(ONE, target="/v1/models/stuck:predict")):
                with raw(front.rest_address) as client:
                    client.sendall(part)
                    if b"stuck" in part:
                        assert front.gate.reached.acquire(timeout=PATIENCE_S)
                other.request("POST", PREDICT, ONE)
                assert other.getresponse().read() == THREE_AND_A_HALF
    finally:
        front.let_go()


def test_what_is_no_http_is_refused(front: Front) -> None:
    """Bytes that are no HTTP get an error and the connection is closed; the next client is served."""
    with raw(front.rest_address) as client:
        client.sendall(b"\x16\x03\x01\x02\x00\r\n\r\n")
        assert b"400" in client.makefile("rb").read()
    assert ask(front.rest_address, "POST", PREDICT, ONE)[0] == 200


def test_health_is_told(front: Front) -> None:
    """A gateway is live at once, tells who it is, and is ready when each configured model can be asked."""
    assert ask(front.rest_address, "GET", "/healthz/live")[0] == 200
    assert json.loads(ask(front.rest_address, "GET", "/healthz/identity?x=1")[1]) == IDENTITY
    for models, status, waiting in (
        ((), 200, []),
        (("half_plus_two", "several"), 200, []),
        (("half_plus_two", "broken", "nope"), 503, ["broken", "nope"]),
    ):
        listener = front.rest_listener(PATIENCE_S, models=models)
        address = front.run(listener.start())
        try:
            number, body = ask(address, "GET", "/healthz/ready")
        finally:
            front.run(listener.drain(0.0))
        assert (number, json.loads(body)) == (status, {"ready": not waiting, "waiting_for": waiting})


CORS = {
    "access-control-allow-origin": "*",
    "access-control-allow-methods": "POST, GET",
    "access-control-allow-headers": "Content-Type",
}


def test_answers_can_be_compact(front: Front) -> None:
    """With json_text: compact, answers have no blanks."""
    listener = front.rest_listener(PATIENCE_S, json_text="compact")
    try:
        assert ask(front.run(listener.start()), "POST", PREDICT, ONE) == (200, b'{"predictions":[3.5]}')
    finally:
        front.run(listener.drain(0.0))


def test_pages_of_other_origins_may_ask_where_that_is_allowed(front: Front) -> None:
    """With rest_cors every answer under /v1/ says so, also an error; no other answer does, nor any without it."""
    cases = [
        ("POST", PREDICT, {}, ONE, 200, True),
        ("POST", PREDICT, {}, b"{", 400, True),
        ("GET", "/v1/nonsense", {}, None, 400, True),
        ("GET", "/v1/models/nope", {}, None, 404, True),
        ("GET", "/v1/models/%zz", {}, None, 400, True),
        ("OPTIONS", PREDICT, {"Origin": "http://example.com"}, None, 200, True),
        ("OPTIONS", "/V1/any?thing", {"Origin": "null, https://example.com"}, None, 200, True),
        ("OPTIONS", PREDICT, {"Origin": "example.com"}, None, 400, True),
        ("OPTIONS", PREDICT, {}, None, 400, True),
        ("GET", "/healthz/live", {}, None, 200, False),
        ("OPTIONS", "/", {"Origin": "http://example.com"}, None, 404, False),
    ]
    listener = front.rest_listener(PATIENCE_S, rest_cors=True)
    allowing = front.run(listener.start())
    try:
        for address in (allowing, front.rest_address):
            with connection(address) as client:
                for method, target, headers, body, status, is_api in cases:
                    client.request(method, target, body, headers)
                    answer = client.getresponse()
                    text = answer.read()
                    assert answer.status == status, (method, target, text)
                    told = {name: answer.headers[name] for name in CORS if name in answer.headers}
                    assert told == (CORS if is_api and address == allowing else {})
                    if method == "OPTIONS" and is_api:
                        assert (text, answer.headers["content-type"]) == (b"", None)
                    else:
                        assert answer.headers["content-type"] == "application/json"
    finally:
        front.run(listener.drain(0.0))


def test_bodies_may_be_packed(front: Front) -> None:
    """A body is unpacked if Content-Encoding has the word gzip; a damaged one counts as an empty body."""
    packed = gzip.compress(ONE)
    with connection(front.rest_address) as client:
        for encoding, body, status, text in (
            ("gzip", packed, 200, b"3.5"),
            ("x-gzip, identity", packed, 200, b"3.5"),
            ("identity", ONE, 200, b"3.5"),
            ("GZIP", packed, 400, b"JSON Parse error: Invalid value. at offset: 0"),
            ("gzip", packed[:-1], 400, b"JSON Parse error: The document is empty"),
            ("gzip", ONE, 400, b"JSON Parse error: The document is empty"),
            ("gzip", gzip.compress(bytes(101 << 20)), 400, b"JSON Parse error: The document is empty"),
        ):
            client.request("POST", PREDICT, body, {"Content-Encoding": encoding})
            answer = client.getresponse()
            read = answer.read()
            assert (answer.status, text in read) == (status, True), read
            assert "content-encoding" not in answer.headers


def test_errors_are_tfs_bodies(front: Front) -> None:
    """The body of an error is an object with one member, indented as TensorFlow Serving writes it."""
    assert ask(front.rest_address, "POST", "/v1/models/nope:predict", ONE) == (
        HTTP_STATUS[Code.NOT_FOUND],
        b'{\n    "error": "Servable not found for request: Latest(nope)"\n}',
    )


@pytest.mark.parametrize(("label", "version"), [("stable", b"1"), ("canary", b"2")])
def test_an_answer_names_the_version(front: Front, label: str, version: bytes) -> None:
    """A header says which version answered, whatever was asked for; what is answered by none has no such header."""
    with connection(front.rest_address) as client:
        client.request("POST", f"/v1/models/half_plus_two/labels/{label}:predict", b'{"instances": [1.0]}')
        answered = client.getresponse()
        answered.read()
        client.request("GET", "/v1/models/half_plus_two")
        status = client.getresponse()
        status.read()
        client.request("POST", f"/v1/models/half_plus_two/labels/{label}:predict", b'{"instances": ["text"]}')
        refused = client.getresponse()
        refused.read()
    assert answered.headers["x-model-version"] == refused.headers["x-model-version"] == version.decode()
    assert "x-model-version" not in status.headers
