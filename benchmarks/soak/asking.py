"""Clients that ask every model again and again, over REST and by handle, and judge each answer."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from benchmarks.soak.models import Model
from serving_app.client.connection import Connection

PATIENCE_S = 60.0
"""How long a request may take. Longer than it takes to start a replica, or a controller."""

Complain = Callable[[str, str], None]
"""Told the model and what was wrong."""


class Tally:
    """What came of the requests. Any thread may add to it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.answered: Counter[str] = Counter()  # by way of asking
        self.excused: Counter[str] = Counter()  # failures during an outage, by its model
        self.slowest_s = 0.0

    def add_answer(self, way: str, seconds: float) -> None:
        with self._lock:
            self.answered[way] += 1
            self.slowest_s = max(self.slowest_s, seconds)

    def add_excused(self, model: str) -> None:
        with self._lock:
            self.excused[model] += 1


class Rest:
    """A connection to the gateway that is kept alive."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)

    def ask(self, where: str) -> tuple[str, int]:
        """The model and the version that answer, `m01/labels/stable`, say. Raises if nobody does."""
        try:
            self._connection.request("POST", f"/v1/models/{where}:predict", '{"instances": [1]}')
            answer = self._connection.getresponse()
            body = answer.read()
        except OSError:
            self._connection.close()  # the next request opens it again
            raise
        if answer.status != 200:
            raise ConnectionError(f"{answer.status}: {body.decode(errors='replace')}")
        [prediction] = json.loads(body)["predictions"]
        return prediction["model"], prediction["version"]

    def close(self) -> None:
        self._connection.close()


Ask = Callable[[], int]
"""Asks once; returns the version that answered."""


def ways_to_ask(model: Model, rest: Rest, connection: Connection) -> dict[str, Ask]:
    """Each way to ask a model, by name."""

    def by_handle(name: str) -> tuple[str, int]:
        answer = connection.model(name).predict(x=[1], timeout=PATIENCE_S)
        return answer["model"][0].decode(), int(answer["version"][0])

    def checked(ask: Callable[[str], tuple[str, int]], where: str) -> Ask:
        def check() -> int:
            name, version = ask(where)
            if name != model.name:
                raise ValueError(f"{name} answers for {model.name}")
            return version

        return check

    ways = {"REST": checked(rest.ask, model.name), "handle": checked(by_handle, model.name)}
    if model.is_labelled:
        ways["label"] = checked(rest.ask, f"{model.name}/labels/stable")
    return ways


@contextlib.contextmanager
def asking_steadily(
    connection: Connection, rest_port: int, models: Sequence[Model], pause_s: float, complain: Complain
) -> Iterator[Tally]:
    """Asks each model in a thread of its own for as long as the block runs, `pause_s` between two rounds."""
    tally = Tally()
    stop = threading.Event()

    def ask(model: Model) -> None:
        with contextlib.closing(Rest(rest_port)) as rest:
            ways = ways_to_ask(model, rest, connection)
            while not stop.is_set():
                for way, once in ways.items():
                    _ask_once(model, way, once, tally, complain)
                stop.wait(pause_s)

    threads = [threading.Thread(target=ask, args=[model], name=f"asks {model.name}") for model in models]
    for thread in threads:
        thread.start()
    try:
        yield tally
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def _ask_once(model: Model, way: str, once: Ask, tally: Tally, complain: Complain) -> None:
    begun = time.monotonic()
    try:
        version = once()
    except Exception as error:  # whatever a client meets is what its user meets
        ended = time.monotonic()
        if model.may_fail(begun, ended):
            tally.add_excused(model.name)
        else:
            said = f"{type(error).__name__}: {error}"
            complain(model.name, f"a request ({way}) failed after {ended - begun:.2f} s: {said}")
        return
    ended = time.monotonic()
    tally.add_answer(way, ended - begun)
    known = model.versions.get(version)
    if known is None or not known.is_good:
        complain(model.name, f"version {version} answered ({way}), which is none that can")
    if way == "label" and not model.may_answer_for_label(version, begun, ended):
        complain(model.name, f"its label answered with version {version}, but is set to {model.label}")
