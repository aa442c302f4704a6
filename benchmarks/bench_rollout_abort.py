"""How soon an abort is felt: from the order to the last answer that a client gets from the candidate.

    python -m benchmarks.bench_rollout_abort [--runs 50] [--clients 4] [--callers 2]

Two versions of half_plus_two, each in a replica of its own, and a rollout that gives the second one half of the
requests. Clients ask over REST all the while, each on a connection of its own, and tell by the header which version has
answered; others call by handle, and tell it by the answer. In each run the rollout is aborted by `connect().rollouts`,
the time of the last answer of the second version is noted, and the rollout is tried again. Prints the median, the p99
and the largest of the times, and those of the calls themselves. The target is a p99 below a second.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import shutil
import statistics
import sys
import threading
import time
from collections.abc import Callable, Sequence

from benchmarks import local
from serving_app import connect
from serving_app.client.control import Control
from serving_app.client.model import Model
from serving_app.client.rollouts import Rollouts
from serving_app.core.rollout import Phase

MODEL = "half_plus_two"
BODY = json.dumps({"instances": [1.0]})
STRATEGY = {"steps": [50, {"pause_s": "until_told"}], "keep_s": 3600}
AFTERWARDS = 20
"""Answers that each client gets after an abort before the run counts as over."""


Ask = Callable[[], str]
"""Asks once, and returns the version that has answered."""


class Client:
    """Asks over and over, and notes when each version answered last."""

    def __init__(self, ask: Ask) -> None:
        self.answers = 0
        self.last: dict[str, float] = {}
        self._ask = ask
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._is_over.is_set():
            version = self._ask()
            self.last[version] = time.monotonic()
            self.answers += 1

    def stop(self) -> None:
        self._is_over.set()
        self._thread.join()


def by_rest(port: int) -> Ask:
    """Over REST, on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", port)

    def ask() -> str:
        connection.request("POST", f"/v1/models/{MODEL}:predict", BODY)
        answer = connection.getresponse()
        answer.read()
        if answer.status != 200:
            raise SystemExit(f"a request failed with {answer.status}")
        return str(answer.headers["x-model-version"])

    return ask


def by_handle(model: Model) -> Ask:
    """By handle: the first version says 2.5, the second one 3.5."""
    return lambda: str(int(model.predict(x=[1.0])["y"][0]) - 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--clients", type=int, default=4, help="how many ask over REST")
    parser.add_argument("--callers", type=int, default=2, help="how many call by handle")
    options = parser.parse_args()
    with local.cluster() as cluster, local.models() as models:
        shutil.copytree(models.parent / "staged" / MODEL / "2", models / MODEL / "2")
        served = cluster.serve_run(
            "serving_app:app", model_name=MODEL, model_base_path=models / MODEL, version_policy="all"
        )
        for version in (1, 2):
            served.wait_until_answering(f"{MODEL}/versions/{version}", {"instances": [1.0]})
        asyncio.run(Control("default").set_traffic(MODEL, "default", {"weights": {1: 100}}))
        with connect() as connection:
            asks = [by_rest(served.rest_port) for _ in range(options.clients)]
            asks += [by_handle(connection.model(MODEL)) for _ in range(options.callers)]
            _abort_many(connection.rollouts, asks, options.runs)


def _abort_many(rollouts: Rollouts, asks: Sequence[Ask], runs: int) -> None:
    rollout = rollouts.start(MODEL, 2, strategy=STRATEGY).id
    clients = [Client(ask) for ask in asks]
    felt, called = [], []
    try:
        for run in range(runs):
            if run:
                rollouts.retry(rollout)
            rollouts.wait(rollout, Phase.PAUSED, timeout=60)
            _wait_for_candidate(clients)
            ordered = time.monotonic()
            rollouts.abort(rollout)
            called.append(time.monotonic() - ordered)
            _wait_for_answers(clients)
            felt.append(max(0.0, max(client.last["2"] for client in clients) - ordered))
    finally:
        for client in clients:
            client.stop()
    for what, times in (("last answer of the candidate", felt), ("return of the call", called)):
        ranked = sorted(times)
        p99 = ranked[min(len(ranked) - 1, round(0.99 * len(ranked)))]
        print(
            f"{what}: median {statistics.median(times) * 1e3:.0f} ms, p99 {p99 * 1e3:.0f} ms, "
            f"largest {ranked[-1] * 1e3:.0f} ms, of {len(times)} aborts"
        )
    if max(felt) >= 1.0:
        sys.exit("an abort took a second or more")


def _wait_for_candidate(clients: list[Client]) -> None:
    """Returns when the candidate answers each of them, since now."""
    now = time.monotonic()
    while any(client.last.get("2", 0.0) < now for client in clients):
        time.sleep(0.005)


def _wait_for_answers(clients: list[Client]) -> None:
    """Returns when each of them has got some more answers."""
    before = [client.answers for client in clients]
    while any(client.answers < count + AFTERWARDS for client, count in zip(clients, before, strict=True)):
        time.sleep(0.005)


if __name__ == "__main__":
    main()
