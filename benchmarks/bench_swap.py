"""Five version swaps under a steady load: REST and gRPC, so many requests per second each, whatever comes back.

Every answer is checked against the version that it names (gRPC) or that its values belong to (REST). Prints failures,
wrong answers and latencies.

    python -m benchmarks.bench_swap [--seconds 60] [--rate 200] [--swaps 5]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import statistics
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import grpc.aio
import numpy as np

from benchmarks import local
from serving_app.core.servable import ModelSpec
from serving_app.protocol.grpc_methods import PREDICT
from serving_app.protocol.predict_proto import decode_predict_response, encode_predict_request

BODY = json.dumps({"instances": [1.0, 2.0, 5.0]}).encode()
X = np.array([1.0, 2.0, 5.0], np.float32)
ADDED = {1: 2.0, 0: 3.0}
"""half_plus_two adds 2 in the odd versions, which are copies of version 1, and 3 in the even ones."""


@dataclass
class Tally:
    """What came back."""

    versions: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--rate", type=float, default=200.0, help="requests per second, for each protocol")
    parser.add_argument("--swaps", type=int, default=5)
    options = parser.parse_args()
    with local.cluster() as cluster, local.models() as models:
        served = cluster.serve_run(
            "serving_app:app", model_name="half_plus_two", model_base_path=models / "half_plus_two"
        )
        served.wait_until_answering("half_plus_two", {"instances": [1.0]})
        tallies = asyncio.run(_run(served, models, options.seconds, options.rate, options.swaps))
    for name, tally in tallies.items():
        total = sum(tally.versions.values()) + sum(tally.failures.values())
        p99 = statistics.quantiles(tally.seconds, n=100)[98]
        print(
            f"{name}: {total} requests, {sum(tally.failures.values())} failed or wrong; "
            f"median {statistics.median(tally.seconds) * 1000:.1f} ms, p99 {p99 * 1000:.1f} ms; "
            f"answers by version {dict(sorted(tally.versions.items()))}"
        )
        for reason, count in tally.failures.most_common(5):
            print(f"    {count} x {reason}")


async def _run(served: local.Served, models: Path, seconds: float, rate: float, swaps: int) -> dict[str, Tally]:
    tallies = {"REST": Tally(), "gRPC": Tally()}
    pool: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{served.grpc_port}") as channel:
        call = channel.unary_unary(PREDICT)
        request = encode_predict_request(ModelSpec("half_plus_two"), "", {"x": X})

        async def ask_grpc() -> str:
            version, outputs = decode_predict_response(await call(request, timeout=10))
            expected = X / 2 + ADDED[version % 2]
            if not np.array_equal(outputs["y"], expected):
                raise ValueError(f"version {version} answered {outputs['y']}")
            return str(version)

        async def ask_rest() -> str:
            answer = await _post(served.rest_port, pool)
            added = answer["predictions"][0] - 0.5
            if answer["predictions"] != [x / 2 + added for x in X.tolist()] or added not in ADDED.values():
                raise ValueError(f"answered {answer}")
            return f"adding {added}"

        swapping = asyncio.create_task(_swap(models, seconds, swaps))
        async with asyncio.TaskGroup() as senders:
            senders.create_task(_send(ask_rest, tallies["REST"], seconds, rate))
            senders.create_task(_send(ask_grpc, tallies["gRPC"], seconds, rate))
        await swapping
    while not pool.empty():
        pool.get_nowait()[1].close()
    return tallies


async def _send(ask, tally: Tally, seconds: float, rate: float) -> None:  # type: ignore[no-untyped-def]
    """Open loop: a request leaves at its time, also when earlier ones are late; latency counts from that time."""

    async def one(due: float) -> None:
        try:
            tally.versions[await ask()] += 1
            tally.seconds.append(time.monotonic() - due)
        except Exception as error:
            tally.failures[f"{type(error).__name__}: {error}"] += 1

    started = time.monotonic()
    async with asyncio.TaskGroup() as requests:
        for number in range(int(seconds * rate)):
            due = started + number / rate
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            requests.create_task(one(due))


async def _post(port: int, pool: asyncio.Queue) -> dict:  # type: ignore[type-arg]
    """One request over a kept-alive connection."""
    reader, writer = pool.get_nowait() if not pool.empty() else await asyncio.open_connection("127.0.0.1", port)
    writer.write(
        b"POST /v1/models/half_plus_two:predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(BODY), BODY)
    )
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
    body = await reader.readexactly(length)
    if b"connection: close" in head:
        writer.close()
    else:
        pool.put_nowait((reader, writer))
    if not head.startswith(b"http/1.1 200"):
        raise ValueError(f"{head.splitlines()[0]!r}: {body!r}")
    answer: dict = json.loads(body)  # type: ignore[type-arg]
    return answer


async def _swap(models: Path, seconds: float, swaps: int) -> None:
    """Drop in a new version every so often; each makes the one before it go."""
    sources = {1: models / "half_plus_two" / "1", 0: models.parent / "staged" / "half_plus_two" / "2"}
    kept = {
        parity: Path(shutil.copytree(source, models.parent / f"kept{parity}")) for parity, source in sources.items()
    }
    for version in range(2, 2 + swaps):
        await asyncio.sleep(seconds / (swaps + 1))
        incoming = models / "half_plus_two" / "incoming"
        shutil.copytree(kept[version % 2], incoming)
        incoming.rename(models / "half_plus_two" / str(version))


if __name__ == "__main__":
    main()
