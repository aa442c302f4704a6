"""gRPC clients and servers that do not behave; and what such a client sends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
import pytest

from serving_app.core.errors import Code, Internal, InvalidArgument, ResourceExhausted, ServingError, Unavailable
from serving_app.protocol import messages
from serving_app.remote import AsyncGrpcClient, GrpcClient, Retries
from tests.remote.client_contract import used
from tests.stepping import PATIENCE_S

AT_ONCE = Retries(attempts=4, first_pause=0.0, longest_pause=0.0)
NOTHING = messages.GetModelStatusResponse().SerializeToString()

Method = Callable[[bytes, grpc.ServicerContext], bytes]


@pytest.fixture(params=[GrpcClient, AsyncGrpcClient])
def kind(request: pytest.FixtureRequest) -> Any:
    """Both clients, in turn."""
    return request.param


class _Handler(grpc.GenericRpcHandler):
    def __init__(self, method: Method) -> None:
        self._method = method

    def service(self, details: Any) -> Any:
        return grpc.unary_unary_rpc_method_handler(self._method)


@contextmanager
def asking(kind: Any, method: Method, **options: Any) -> Iterator[Any]:
    """A client of a server that answers every method so."""
    with ThreadPoolExecutor(2) as pool:
        server = grpc.server(pool, [_Handler(method)])
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            with used(kind(f"127.0.0.1:{port}", **options)) as client:
                yield client
        finally:
            server.stop(None).wait()


def failing(code: grpc.StatusCode, message: str, *, times: int = 1, **trailers: str) -> Method:
    """Fails so many times, and then answers."""
    left = [None] * times

    def method(request: bytes, context: grpc.ServicerContext) -> bytes:
        if left:
            left.pop()
            context.set_trailing_metadata(tuple((name.replace("_", "-"), value) for name, value in trailers.items()))
            context.abort(code, message)
        return NOTHING

    return method


@pytest.mark.parametrize(
    "method",
    [
        lambda: failing(grpc.StatusCode.UNAVAILABLE, "not yet", times=2),
        lambda: failing(grpc.StatusCode.UNAVAILABLE, "not yet", times=1, grpc_retry_pushback_ms="1"),
        lambda: failing(grpc.StatusCode.RESOURCE_EXHAUSTED, "full", times=1, grpc_retry_pushback_ms="1"),
    ],
)
def test_what_may_pass_is_asked_again(kind: Any, method: Callable[[], Method]) -> None:
    """A server that is busy is asked again, also one that says when."""
    with asking(kind, method(), retries=AT_ONCE) as client:
        assert client.model("m").status(timeout=PATIENCE_S) == ()


@pytest.mark.parametrize(
    ("code", "times", "trailers", "error"),
    [
        (Code.UNAVAILABLE, 4, {}, Unavailable),
        (Code.UNAVAILABLE, 1, {"grpc_retry_pushback_ms": "-1"}, Unavailable),
        (Code.UNAVAILABLE, 1, {"grpc_retry_pushback_ms": "9" * 400}, Unavailable),
        (Code.RESOURCE_EXHAUSTED, 1, {}, ResourceExhausted),
        (Code.UNAUTHENTICATED, 1, {}, ServingError),
        (Code.OUT_OF_RANGE, 1, {}, ServingError),
        (Code.DEADLINE_EXCEEDED, 1, {}, ServingError),
    ],
)
def test_errors_have_the_servers_code_and_words(
    kind: Any, code: Code, times: int, trailers: dict[str, str], error: type[ServingError]
) -> None:
    """Every code comes as it is, with the message; what will not pass is not asked again."""
    method = failing(grpc.StatusCode[code.name], "why", times=times, **trailers)
    with asking(kind, method, retries=AT_ONCE) as client:
        with pytest.raises(error, match=r"^why$") as caught:
            client.model("m").status(timeout=PATIENCE_S)
        assert caught.value.code is code


def test_an_answer_that_is_none_is_told_so(kind: Any) -> None:
    """Bytes that are no message are a fault of whoever sent them."""
    with asking(kind, lambda request, context: b"\xff\xff") as client:
        for ask in (client.model("m").status, client.model("m").metadata, lambda: client.model("m").classify([{}])):
            with pytest.raises(Internal, match="the answer cannot be read"):
                ask()


def test_the_outcome_of_a_reload_may_be_in_its_answer(kind: Any) -> None:
    """Servers that answer with a status in the response have refused, too; and nothing is sent twice."""
    response = messages.ReloadConfigResponse()
    response.status.error_code, response.status.error_message = 3, "bad config"
    for method, error in (
        (lambda request, context: response.SerializeToString(), InvalidArgument),
        (failing(grpc.StatusCode.UNAVAILABLE, "bad config"), Unavailable),
    ):
        with asking(kind, method, retries=AT_ONCE) as client, pytest.raises(error, match=r"^bad config$"):
            client.reload_config(b"")


def test_headers_go_with_every_call(kind: Any) -> None:
    """Metadata are sent with each call, those of a function as they are then; bad ones are refused."""
    seen: list[str] = []
    tokens = iter(["one", "two"])

    def note(request: bytes, context: grpc.ServicerContext) -> bytes:
        seen.extend(str(value) for key, value in context.invocation_metadata() if key == "authorization")
        return NOTHING

    with asking(kind, note, headers=lambda: {"Authorization": next(tokens)}) as client:
        client.model("m").status()
        client.model("m").status()
    assert seen == ["one", "two"]
    with pytest.raises(InvalidArgument, match="cannot be a header"):
        kind("host:1", headers={"a b": "c"})


def test_addresses_are_those_of_grpc(kind: Any) -> None:
    """A URL is no address here, and the error says what is."""
    for address in ("http://localhost:8500", ""):
        with pytest.raises(InvalidArgument, match="HOST:PORT"):
            kind(address)


def test_channel_arguments_are_passed_on(kind: Any) -> None:
    """A user's own arguments go before what is ours, and `keepalive` is accepted beside them."""
    options = [("grpc.max_receive_message_length", 10)]
    response = messages.GetModelStatusResponse()
    response.model_version_status.add().status.error_message = "x" * 100
    with (
        asking(kind, lambda *_: response.SerializeToString(), keepalive=600.0, options=options) as client,
        pytest.raises(ResourceExhausted, match="larger than max"),
    ):
        client.model("m").status()
