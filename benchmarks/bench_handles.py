"""What a call by handle takes, from another job than the server's, beside the same request over REST.

    python -m benchmarks.bench_handles [--rounds 3] [--seconds 3]

half_plus_two, three values a call, dedicated to a replica of its own and colocated with the gateway. One call at a
time: `predict` of a connection, `predict_async` of it, the same request by our REST client, which makes arrays of
answers as a handle does, and a POST on a connection of HTTP that stays open, by a client that does little but read; the
median of each round, in turn. Then 64 calls under way, by `predict_async`, from one process and from four
that begin together: calls per second, and the processor time of a call in the callers. Every answer is checked.
Absolute figures need an idle machine; processor time does not.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks import local

X, Y = [1.0, 2.0, 5.0], [2.5, 3.0, 4.5]
UNDER_WAY = 64
WARM_S = 0.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--caller", nargs=3, metavar=("KIND", "WHERE", "MODEL"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.caller:
        kind, where, model = options.caller
        print(json.dumps(CALLERS[kind](where, model, options.seconds)))
    else:
        compare(options.rounds, options.seconds)


def compare(rounds: int, seconds: float) -> None:
    """Print both tables."""
    latencies, rates = [], []
    with local.cluster() as cluster, local.models() as models:
        base = str(models / "half_plus_two")
        config = {each: {"base_path": base, "placement": each} for each in ("dedicated", "colocated")}
        app = cluster.serve_run("serving_app:app", models=json.dumps(config).replace('"', ""))
        for model in config:
            app.wait_until_answering(model, {"instances": X})
        for model in config:
            rest = str(app.rest_port)
            ways = {"handle": cluster.address, "async": cluster.address, "client": rest, "socket": rest}
            taken: dict[str, list[float]] = {way: [] for way in ways}
            for _ in range(rounds):
                for way, where in ways.items():
                    taken[way].append(ask(1, way, where, model, seconds)[0][0])
            medians = [1e3 * statistics.median(taken[way]) for way in ways]
            latencies.append(f"| {model} | " + " | ".join(f"{median:.2f} ms" for median in medians) + " |")
            for callers in (1, 4):
                many = [ask(callers, "many", cluster.address, model, seconds) for _ in range(rounds)]
                rate = statistics.median(sum(calls for calls, _ in each) / seconds for each in many)
                cpu = statistics.median(sum(cpu for _, cpu in each) / sum(calls for calls, _ in each) for each in many)
                rates.append(f"| {model} | {callers} | {rate:,.0f} per second | {1e6 * cpu:,.0f} us |")
    print("| placement | by handle | the same awaited | REST, our client | REST, a bare socket |")
    print("|---|---|---|---|---|", *latencies, sep="\n")
    print(f"\n| placement | callers, {UNDER_WAY} under way each | calls | of a caller's processor |\n|---|---|---|---|")
    print(*rates, sep="\n")


def ask(callers: int, kind: str, where: str, model: str, seconds: float) -> list[tuple[float, float]]:
    """What so many processes of their own tell that call at the same time."""
    command = [sys.executable, "-m", "benchmarks.bench_handles", "--seconds", str(seconds)]
    running = [
        subprocess.Popen(
            [*command, "--caller", kind, where, model], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            cwd=_ROOT,
        )
        for _ in range(callers)
    ]
    for process in running:
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            sys.exit(f"a caller failed: {kind} {where} {model}")
    told = []
    for process in running:
        assert process.stdin is not None
        process.stdin.write("begin\n")
        process.stdin.flush()
    for process in running:
        out, _ = process.communicate()
        first, second = json.loads(out)
        told.append((first, second))
    return told


def _wait_for_others() -> None:
    print("ready", flush=True)
    sys.stdin.readline()


_ROOT = Path(__file__).parents[1]


def _call_by_handle(where: str, model: str, seconds: float) -> tuple[float, float]:
    from serving_app import connect

    asked = connect(address=where).model(model)

    def predict() -> None:
        assert asked.predict(x=X)["y"].tolist() == Y

    return _time_each(predict, seconds)


def _await_by_handle(where: str, model: str, seconds: float) -> tuple[float, float]:
    from serving_app import connect

    asked = connect(address=where).model(model)
    taken: list[float] = []

    async def ask_for(seconds: float) -> None:
        until = time.perf_counter() + seconds
        while (started := time.perf_counter()) < until:
            assert (await asked.predict_async(x=X))["y"].tolist() == Y
            taken.append(time.perf_counter() - started)

    asyncio.run(ask_for(WARM_S))
    _wait_for_others()
    taken.clear()
    asyncio.run(ask_for(seconds))
    return statistics.median(taken), len(taken)


def _call_by_client(where: str, model: str, seconds: float) -> tuple[float, float]:
    from serving_app.remote import RestClient

    with RestClient(f"http://127.0.0.1:{where}") as client:
        asked = client.model(model)

        def predict() -> None:
            assert asked.predict(x=X)["y"].tolist() == Y

        return _time_each(predict, seconds)


def _call_by_socket(where: str, model: str, seconds: float) -> tuple[float, float]:
    connection = socket.create_connection(("127.0.0.1", int(where)))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    body = json.dumps({"instances": X})
    head = f"POST /v1/models/{model}:predict HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n"
    request = (head + body).encode()

    def post() -> None:
        connection.sendall(request)
        answer = connection.recv(65536)
        while b"\r\n\r\n" not in answer:
            answer += connection.recv(65536)
        head, _, got = answer.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0])
        while len(got) < length:
            got += connection.recv(65536)
        assert json.loads(got) == {"predictions": Y}

    with connection:
        return _time_each(post, seconds)


def _time_each(call: Callable[[], None], seconds: float) -> tuple[float, float]:
    """The median of calls that follow each other, and how many there were."""
    for _ in range(50):
        call()
    _wait_for_others()
    taken = []
    until = time.perf_counter() + seconds
    while (started := time.perf_counter()) < until:
        call()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken), len(taken)


def _keep_under_way(where: str, model: str, seconds: float) -> tuple[float, float]:
    """How many calls were answered in the time, and the processor time of all."""
    from serving_app import connect

    asked = connect(address=where).model(model)
    answered = 0

    async def ask(until: float) -> None:
        nonlocal answered
        while time.perf_counter() < until:
            assert (await asked.predict_async(x=X))["y"].tolist() == Y
            answered += 1

    async def ask_for(seconds: float) -> None:
        until = time.perf_counter() + seconds
        await asyncio.gather(*(ask(until) for _ in range(UNDER_WAY)))

    asyncio.run(ask_for(WARM_S))
    _wait_for_others()
    answered, cpu = 0, time.process_time()
    asyncio.run(ask_for(seconds))
    return answered, time.process_time() - cpu


CALLERS = {
    "handle": _call_by_handle,
    "async": _await_by_handle,
    "client": _call_by_client,
    "socket": _call_by_socket,
    "many": _keep_under_way,
}


if __name__ == "__main__":
    main()
