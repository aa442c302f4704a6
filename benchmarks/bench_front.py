"""CPU time of the REST front per request, without a socket and without a model: what the gateway itself costs.

A connection is fed the bytes of requests and its answers are thrown away; the call to the version is answered at once.
Beside it the floor: the same parser and JSON work with nothing else.

    python -m benchmarks.bench_front [--requests 20000] [--profile]
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import json
import pstats
import time
from collections.abc import Callable
from typing import Any

import httptools
import numpy as np
import orjson
import uvloop

from serving_app.client.route_follower import RouteFollower
from serving_app.config import GatewayConfig
from serving_app.core.metrics import Registry
from serving_app.core.routing import ModelRoutes, Route, RouteTable
from serving_app.core.servable import ServableId
from serving_app.core.signatures import DEFAULT_SIGNATURE, DType, Signature, TensorSpec
from serving_app.protocol.calls import Call, Outputs
from serving_app.serve.data_plane import DataPlane
from serving_app.serve.http_connection import HttpConnection
from serving_app.serve.request_meter import RequestMeter
from serving_app.serve.rest_app import RestApp

BODY = b'{"instances": [1.0, 2.0, 5.0]}'
RIGHT = {"predictions": [2.5, 3.0, 4.5]}
REQUEST = (
    b"POST /v1/models/half_plus_two:predict HTTP/1.1\r\nHost: 127.0.0.1:8501\r\n"
    b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(BODY), BODY)
)
_TOGETHER = 64


class _Immediate:
    """Answers every call at once."""

    def find(self, _app: str) -> _Immediate:
        return self

    def submit(self, call: Call, _traveller: object = None) -> asyncio.Future[Outputs]:
        reply: asyncio.Future[Outputs] = asyncio.get_running_loop().create_future()
        reply.set_result({"y": call.inputs["x"] / np.float32(2) + np.float32(2)})
        return reply


class _Transport(asyncio.Transport):
    """Keeps the last answer and counts them all."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0
        self.last = b""

    def write(self, data: Any) -> None:
        self.count += 1
        self.last = bytes(data)

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


def make_app(json_text: str) -> RestApp:
    spec = TensorSpec("x:0", DType.FLOAT, (-1,))
    signature = Signature({"x": spec}, {"y": spec}, "tensorflow/serving/predict")
    route = Route(ServableId("half_plus_two", 1), "app", {DEFAULT_SIGNATURE: signature})
    follower = RouteFollower("gateway", _nobody, _nobody)
    follower.table = RouteTable(1, {"half_plus_two": ModelRoutes({1: route})})
    plane = DataPlane(follower, _Immediate(), None)  # type: ignore[arg-type]  # as much of them as it needs
    settings = GatewayConfig(json_text=json_text)
    return RestApp(plane, identity={}, models=(), settings=settings, meter=RequestMeter(Registry()))


async def _nobody(*_: Any) -> Any:
    raise AssertionError("nobody is asked")


class _Floor:
    """The least that answers the same: no routes, no checks, no errors, no counts."""

    def __init__(self) -> None:
        self._parser = httptools.HttpRequestParser(self)

    def connection_made(self, transport: _Transport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        self._body = body

    def on_message_complete(self) -> None:
        x = np.array(orjson.loads(self._body)["instances"], np.float32)
        text = orjson.dumps({"predictions": x / np.float32(2) + np.float32(2)}, option=orjson.OPT_SERIALIZE_NUMPY)
        self._transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(text), text))


async def measure(make: Callable[[], Any], requests: int) -> float:
    """Microseconds of CPU per request, the least of some rounds, with 64 connections in turn."""
    connections = [make() for _ in range(_TOGETHER)]
    transports = [_Transport() for _ in connections]
    for connection, transport in zip(connections, transports, strict=True):
        connection.connection_made(transport)
    best = float("inf")
    for _ in range(40):
        for transport in transports:
            transport.count = 0
        started = time.process_time()
        for turn in range(1, 1 + requests // 40 // _TOGETHER):
            for connection in connections:
                connection.data_received(REQUEST)
            while any(each.count < turn for each in transports):  # noqa: ASYNC110 - an event would be measured, too
                await asyncio.sleep(0)
        best = min(best, (time.process_time() - started) / sum(each.count for each in transports))
    for transport in transports:
        assert json.loads(transport.last.partition(b"\r\n\r\n")[2]) == RIGHT
    return best * 1e6


async def run(options: argparse.Namespace) -> None:
    print(f"{'microseconds of CPU per request':40}{await measure(_Floor, options.requests):8.1f}  floor")
    for text in ("exact", "compact"):
        app = make_app(text)
        profile = cProfile.Profile()
        taken = await measure(lambda app=app: HttpConnection(app, set()), options.requests)  # type: ignore[misc]
        print(f"{'':40}{taken:8.1f}  gateway, {text} numbers")
        if options.profile:
            profile.enable()
            await measure(lambda app=app: HttpConnection(app, set()), options.requests)  # type: ignore[misc]
            profile.disable()
            pstats.Stats(profile).sort_stats("tottime").print_stats(25)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--profile", action="store_true")
    uvloop.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
