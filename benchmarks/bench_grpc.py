"""What a call costs a gRPC server besides its work: CPU time per call of an echo, ours against grpc.aio's.

    python -m benchmarks.bench_grpc [--calls 20000] [--concurrency 64] [--bytes 100,600000]

The client is the same stock one, in a process of its own. CPU time is that of the server's process alone, all threads
included, so other work on the machine hardly matters.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import grpc.aio
import uvloop

from serving_app.serve.grpc_calls import Context, Method
from serving_app.serve.grpc_listener import GrpcListener
from serving_app.serve.grpc_settings import grpc_settings

PATH = "/bench/Echo"
_NO_LIMIT = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
_SMALL = 10_000
"""Of larger messages fewer are sent."""


async def _ours() -> tuple[str, Callable[[], Awaitable[None]]]:
    async def echo(request: bytes, _context: Context) -> bytes:
        return request

    listener = GrpcListener({PATH: Method(answer=echo)}, {"app": "bench"}, grpc_settings(-1))
    [address] = await listener.start("127.0.0.1", 0)
    return address, lambda: listener.drain(1.0)


async def _grpc_aio() -> tuple[str, Callable[[], Awaitable[None]]]:
    class Handler(grpc.GenericRpcHandler):
        def service(self, handler_call_details: Any) -> Any:
            async def echo(request: bytes, _context: Any) -> bytes:
                return request

            return grpc.unary_unary_rpc_method_handler(echo)

    server = grpc.aio.server(options=_NO_LIMIT)
    server.add_generic_rpc_handlers((Handler(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    return f"127.0.0.1:{port}", lambda: server.stop(1.0)


async def call(address: str, calls: int, concurrency: int, size: int) -> None:
    """The client: as many calls as that, so many at a time."""
    request = b"x" * size
    left = iter(range(calls))
    async with grpc.aio.insecure_channel(address, _NO_LIMIT) as channel:
        ask = channel.unary_unary(PATH)

        async def ask_on() -> None:
            for _ in left:
                assert await ask(request, timeout=30.0) == request

        await asyncio.gather(*(ask_on() for _ in range(concurrency)))


async def measure(start: Callable[[], Awaitable[Any]], calls: int, concurrency: int, size: int) -> tuple[float, float]:
    """Microseconds of CPU per call, and calls per second as far as the client could."""
    address, stop = await start()
    used = seconds = 0.0
    for count in (calls // 10 + 1, calls):  # the first are to warm up
        used = time.process_time()
        client = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "benchmarks.bench_grpc", "--client", address),
            *("--calls", str(count), "--concurrency", str(concurrency), "--bytes", str(size)),
            stdout=subprocess.PIPE,
        )
        assert client.stdout is not None
        seconds = float(await client.stdout.read())
        assert await client.wait() == 0
    used = time.process_time() - used
    await stop()
    return used / calls * 1e6, calls / seconds


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=20_000)
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--bytes", default="100,600000")
    parser.add_argument("--client", help=argparse.SUPPRESS)
    options = parser.parse_args()
    sizes = [int(size) for size in options.bytes.split(",")]
    if options.client:
        begun = time.perf_counter()
        asyncio.run(call(options.client, options.calls, options.concurrency, sizes[0]))
        print(time.perf_counter() - begun)
        return
    print(f"{'server':10} {'bytes':>8} {'us CPU/call':>12} {'calls/s':>9}")
    for size in sizes:
        calls = options.calls if size <= _SMALL else max(100, options.calls // 50)
        for name, start in (("grpc.aio", _grpc_aio), ("own", _ours)):
            cost, rate = uvloop.run(measure(start, calls, options.concurrency, size))
            print(f"{name:10} {size:8} {cost:12.1f} {rate:9.0f}", flush=True)


if __name__ == "__main__":
    main()
