"""Requests to play with: single ones that tell who answered, and a steady load of them.

They go by REST, as those of clients do, so that gateways count them and rollouts see them.
"""

from __future__ import annotations

import http.client
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import quote

from serving_app.core.errors import InvalidArgument

TIMEOUT_S = 60.0

_NO_ATTRIBUTES: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one request: the version that answered and its prediction, or what went wrong."""

    version: int | None = None
    prediction: Any = None
    error: str = ""


class Visitor:
    """Asks a model one thing after the other, on one connection. For one thread; closed at the end of a `with` block.

    `address` is host and port, as `LocalApp.rest`.
    """

    def __init__(self, address: str, model: str, *, label: str | None = None) -> None:
        named = f"/labels/{quote(label, safe='')}" if label else ""
        self._path = f"/v1/models/{quote(model, safe='')}{named}:predict"
        self._connect = partial(http.client.HTTPConnection, address, timeout=TIMEOUT_S)
        self._connection = self._connect()

    def ask(self, instance: Any, attributes: Mapping[str, str] = _NO_ATTRIBUTES) -> Answer:
        """The answer for one row of inputs. `attributes` go as headers: the model's traffic may be shared by them.

        What goes wrong is an answer, too; nothing is raised, and the next request gets a new connection if need be.
        """
        body = json.dumps({"instances": [_plain(instance)]})
        headers = {"content-type": "application/json", **attributes}
        try:
            answer = self._send(body, headers)
            text = answer.read()
        except (OSError, http.client.HTTPException, ValueError) as error:
            self._connection.close()
            self._connection = self._connect()  # the old one may hold half a request that could not be written
            return Answer(error=f"{type(error).__name__}: {error}")
        return _read(answer, text)

    def _send(self, body: str, headers: Mapping[str, str]) -> http.client.HTTPResponse:
        """What the server answers; on another connection if it has closed the one that rested here."""
        rested = self._connection.sock is not None
        try:
            self._connection.request("POST", self._path, body, dict(headers))
            return self._connection.getresponse()
        except ConnectionError:  # http.client.RemoteDisconnected is one, too
            if not rested:
                raise
        self._connection.close()
        self._connection.request("POST", self._path, body, dict(headers))
        return self._connection.getresponse()

    def close(self) -> None:
        """Close the connection; another request would open it again."""
        self._connection.close()

    def __enter__(self) -> Visitor:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()


def _read(answer: http.client.HTTPResponse, text: bytes) -> Answer:
    """What an answer says; whoever stands between, or at another address, may say anything."""
    try:
        named = answer.headers["x-model-version"]
        version = int(named) if named else None
        told = json.loads(text)
        if answer.status != http.client.OK:
            return Answer(version, error=str(told["error"]))
        return Answer(version, told["predictions"][0])
    except (ValueError, LookupError, TypeError):
        return Answer(error=f"no answer of a model: {answer.status} {answer.reason}: {text[:200]!r}")


def _plain(instance: Any) -> Any:
    """Lists and numbers of Python, which JSON knows."""
    return instance.tolist() if hasattr(instance, "tolist") else instance


class Load:
    """Asks a model steadily, from threads, until `stop` or the end of a `with` block.

    Each request has one of the `instances`, by chance, as its only row. `per_second` is how many are sent as long as
    answers come in time: each of the `threads` waits for its answer before it asks again. `answers` counts by version,
    `errors` by what went wrong.
    """

    def __init__(
        self,
        address: str,
        model: str,
        instances: Sequence[Any],
        *,
        label: str | None = None,
        per_second: float = 50.0,
        threads: int = 4,
        seed: int | None = None,
    ) -> None:
        if not len(instances) or per_second <= 0 or threads < 1:
            raise InvalidArgument("a load needs at least one instance and one thread, and a rate above 0")
        self.answers: Counter[int] = Counter()
        self.errors: Counter[str] = Counter()
        self._instances = instances
        self._gap_s = threads / per_second
        self._counting = threading.Lock()
        self._ended = threading.Event()
        self._threads = [
            threading.Thread(
                target=self._run, args=(Visitor(address, model, label=label), random.Random(f"{seed}, {number}")),
                name=f"load of {model}, {number}", daemon=True,
            )
            for number in range(threads)
        ]  # fmt: skip
        for thread in self._threads:
            thread.start()

    def __repr__(self) -> str:
        versions = ", ".join(f"version {version}: {count}" for version, count in sorted(self.answers.items()))
        return f"Load({versions or 'no answers'}; {self.errors.total()} errors)"

    def stop(self) -> None:
        """Ask no more; returns when the last answer is there."""
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def __enter__(self) -> Load:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.stop()

    def _run(self, visitor: Visitor, chance: random.Random) -> None:
        due = time.monotonic() + chance.random() * self._gap_s  # not all at once
        with visitor:
            while not self._ended.wait(max(0.0, due - time.monotonic())):
                answer = visitor.ask(chance.choice(self._instances))
                with self._counting:
                    if answer.error or answer.version is None:
                        self.errors[answer.error or "the answer does not tell its version"] += 1
                    else:
                        self.answers[answer.version] += 1
                due = max(due + self._gap_s, time.monotonic())  # what is late is not caught up with
