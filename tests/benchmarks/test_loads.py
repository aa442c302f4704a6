"""The load generators against real servers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import grpc.aio
import numpy as np
import pytest

from benchmarks.load import http1, http2, open_inference
from benchmarks.load.answers import READERS, Answers
from benchmarks.load.grpcio import GrpcioLine
from benchmarks.load.pace import ClosedLoop, Line, OpenLoop, Pace
from serving_app.protocol.predict_proto import encode_predict
from tests.stepping import PATIENCE_S, until

PATH = "/test.Echo/Say"
SMALL = np.array([2.5, 3.0], np.float32)
LARGE = np.random.default_rng(0).random(40_000, np.float32)
SECONDS = 0.1
FOR_EVER = 1000.0
Echo = Callable[[bytes, "grpc.aio.ServicerContext[bytes, bytes]"], Awaitable[bytes]]


def message(array: np.ndarray) -> bytes:  # type: ignore[type-arg]
    return encode_predict("m", 1, "s", {"y": array}, as_content=True)


def answers(array: np.ndarray) -> Answers:  # type: ignore[type-arg]
    return Answers(READERS["predict"]("y"), array)


async def echo(request: bytes, context: object) -> bytes:
    return request


@contextlib.asynccontextmanager
async def server(say: Echo, *options: tuple[str, int]) -> AsyncIterator[int]:
    running = grpc.aio.server(options=[("grpc.max_receive_message_length", -1), *options])
    handler = grpc.unary_unary_rpc_method_handler(say)
    running.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Echo", {"Say": handler}),))
    port = running.add_insecure_port("127.0.0.1:0")
    await running.start()
    try:
        yield port
    finally:
        await running.stop(None)


async def run_until(pace: ClosedLoop, lines: Sequence[Line], calls: Sequence[int], enough: Callable[[], bool]) -> None:
    """Run a loop that has no end until this is so."""
    running = asyncio.create_task(pace.run(lines, calls))
    await until(lambda: enough() or running.done())
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


async def raw_lines(port: int, pace: Pace, sent: bytes, right: Answers, count: int) -> list[http2.Http2Line]:
    call = http2.Call("127.0.0.1", port, PATH, sent)
    return [await http2.Http2Line.open(pace, call, right) for _ in range(count)]


@pytest.mark.parametrize(
    "options",
    [(), (("grpc.max_concurrent_streams", 2),), (("grpc.http2.hpack_table_size.decoder", 0),),
     (("grpc.http2.max_frame_size", 1 << 20),)],
    ids=["as it is", "two streams at most", "no dynamic table", "large frames"],
)  # fmt: skip
@pytest.mark.parametrize("array", [SMALL, LARGE], ids=["small", "large"])
def test_closed_loop_of_grpc(options: tuple[tuple[str, int], ...], array: np.ndarray) -> None:  # type: ignore[type-arg]
    """Calls over HTTP/2 to gRPC's own server are answered rightly, whatever its settings, also when a message is larger
    than every window."""

    async def run() -> ClosedLoop:
        async with server(echo, *options) as port:
            pace = ClosedLoop(0.0, FOR_EVER)
            lines = await raw_lines(port, pace, message(array), answers(array), 2)
            await run_until(pace, lines, [5, 5], lambda: len(pace.latencies) >= 30 or bool(pace.failures))
            return pace

    pace = asyncio.run(run())
    assert not pace.failures


@pytest.mark.parametrize("kind", ["raw", "grpcio"])
def test_errors_count_as_failures(kind: str) -> None:
    """A call that ends with another status than OK is a failure with its status and message."""

    async def refuse(request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too much of it")

    async def run() -> ClosedLoop:
        async with server(refuse) as port:
            pace = ClosedLoop(0.0, FOR_EVER)
            lines: Sequence[Line]
            if kind == "raw":
                lines = await raw_lines(port, pace, message(SMALL), answers(SMALL), 1)
            else:
                lines = [await GrpcioLine.open(f"127.0.0.1:{port}", PATH, pace, message(SMALL), answers(SMALL))]
            await run_until(pace, lines, [2], lambda: bool(pace.failures or pace.latencies))
            return pace

    pace = asyncio.run(run())
    assert not pace.latencies
    (text,) = pace.failures
    assert "too much of it" in text
    assert "'8'" in text or "RESOURCE_EXHAUSTED" in text


@pytest.mark.parametrize("kind", ["raw", "grpcio"])
def test_wrong_answers_count_as_failures(kind: str) -> None:
    """A call that succeeds with another answer than the right one is a failure."""

    async def run() -> ClosedLoop:
        async with server(echo) as port:
            pace = ClosedLoop(0.0, FOR_EVER)
            lines: Sequence[Line]
            if kind == "raw":
                lines = await raw_lines(port, pace, message(SMALL + 1), answers(SMALL), 1)
            else:
                lines = [await GrpcioLine.open(f"127.0.0.1:{port}", PATH, pace, message(SMALL + 1), answers(SMALL))]
            await run_until(pace, lines, [2], lambda: bool(pace.failures or pace.latencies))
            return pace

    pace = asyncio.run(run())
    assert not pace.latencies
    assert all(text.startswith("a wrong answer") for text in pace.failures)


def test_connections_that_age() -> None:
    """Where a server ends connections by GOAWAY, as one that goes does, calls go on over others and none fails."""

    async def run() -> ClosedLoop:
        grace_ms = 1000 * int(PATIENCE_S)
        ages = (("grpc.max_connection_age_ms", 40), ("grpc.max_connection_age_grace_ms", grace_ms))
        async with server(echo, *ages) as port:
            pace = ClosedLoop(0.0, FOR_EVER)
            lines = await raw_lines(port, pace, message(SMALL), answers(SMALL), 2)
            have_aged = lambda: all(line.opened > 2 for line in lines)  # noqa: E731
            await run_until(pace, lines, [4, 4], lambda: have_aged() or bool(pace.failures))
            return pace

    assert not asyncio.run(run()).failures


def test_open_loop_charges_a_pause() -> None:
    """A server that stands still is charged with every request that was due meanwhile, not only with those that it
    had."""

    paused = False

    async def pause_once(request: bytes, context: object) -> bytes:
        nonlocal paused
        if not paused:
            paused = True
            await asyncio.sleep(0)
            import time

            time.sleep(0.15)  # noqa: ASYNC251  # the whole loop stands still, also the client's: due times stay
        return request

    async def run() -> OpenLoop:
        async with server(pause_once) as port:
            pace = OpenLoop(0.0, 0.4, 200.0, 100)
            await pace.run(await raw_lines(port, pace, message(SMALL), answers(SMALL), 2), PATIENCE_S)
            return pace

    pace = asyncio.run(run())
    assert not pace.failures
    assert len(pace.latencies) in (79, 80, 81)
    assert sum(latency > 0.05 for latency in pace.latencies) >= 20


@pytest.mark.parametrize("body", [b'{"predictions": [2.5, 3.0]}', b'{"outputs": {"y": [[2.5], [3.0]]}}', b"[2.5, 3]",
                                  b'{"outputs": [{"name": "y", "data": [2.5, 3.0]}]}',
                                  b'{"predictions": [{"y": 2.5}, {"y": 3.0}]}'])  # fmt: skip
@pytest.mark.parametrize("head", ["Content-Length: {}\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n"])
def test_open_loop_of_rest(head: str, body: bytes) -> None:
    """Requests over HTTP/1.1 are answered rightly, in every form of JSON, with a length or in chunks."""

    served: set[asyncio.Task[None]] = set()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        served.add(task)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                fields = await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(int(fields.lower().split(b"content-length:")[1].split(b"\r\n")[0]))
                chunked = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
                writer.write(b"HTTP/1.1 200 OK\r\n" + head.format(len(body)).encode())
                writer.write(chunked if "chunked" in head else body)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    async def run() -> OpenLoop:
        running = await asyncio.start_server(answer, "127.0.0.1", 0)
        port = running.sockets[0].getsockname()[1]
        pace = OpenLoop(0.0, SECONDS, 400.0, 1)
        right = Answers(READERS["json"]("y"), SMALL)
        request = http1.encode_request("127.0.0.1", port, "/", b"{}")
        lines = [await http1.Http1Line.open("127.0.0.1", port, pace, request, right) for _ in range(2)]
        await pace.run(lines, PATIENCE_S)
        running.close()
        await asyncio.gather(*served)
        return pace

    pace = asyncio.run(run())
    assert not pace.failures
    assert len(pace.latencies) in (39, 40, 41)


def test_open_inference_protocol() -> None:
    """The messages of the open inference protocol are read as they are written."""
    encoded = open_inference.encode_request("m", {"y": LARGE[:8].reshape(2, 4)})
    # A request's inputs have the numbers 5 and 7 where an answer's outputs have 5 and 6.
    request = open_inference.MESSAGES["ModelInferRequest"].FromString(encoded)
    response = open_inference.MESSAGES["ModelInferResponse"](raw_output_contents=request.raw_input_contents)
    response.outputs.extend(request.inputs)
    decoded = open_inference.decode_response(response.SerializeToString())
    np.testing.assert_array_equal(decoded["y"], LARGE[:8].reshape(2, 4))
