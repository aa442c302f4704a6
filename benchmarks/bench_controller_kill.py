"""The controller is killed during ten concurrent loads: how soon all ten answer, while what is ready answers on.

Ten models serve a version each. A new version of each appears, which takes three seconds to load; at a certain moment
the controller is killed with `kill -9`. Every model is asked over REST and by handle all the while. A round is good if
all ten new versions come to answer, each was loaded once, and no request failed; the exit status is 1 if one was not.

    python -m benchmarks.bench_controller_kill [--rounds 2]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray import serve

from benchmarks import local
from benchmarks.ports import free_port
from benchmarks.soak.asking import Rest, Tally, asking_steadily, ways_to_ask
from benchmarks.soak.loader import PLATFORM, files_of, read_ledger
from benchmarks.soak.models import Model
from serving_app import connect
from serving_app.client.connection import Connection
from serving_app.client.control import Control
from serving_app.config import parse
from serving_app.core.errors import ServingError
from serving_app.core.servable import ServableId
from serving_app.core.states import State
from serving_app.serve.builder import build
from serving_app.serve.controller import find_controller

AT_ONCE = 10
LOAD_S = 3.0

IsThen = Callable[["Loads", int], bool]
"""Whether the moment has come, of the loads of a version."""

MOMENTS: dict[str, IsThen] = {
    "all are ordered": lambda loads, version: loads.are_ordered(version),
    "one has begun": lambda loads, version: loads.count("begun", version) >= 1,
    "half have begun": lambda loads, version: loads.count("begun", version) >= loads.at_once // 2,
    "all have begun": lambda loads, version: loads.count("begun", version) >= loads.at_once,
    "one is loaded": lambda loads, version: loads.count("loaded", version) >= 1,
    "half are loaded": lambda loads, version: loads.count("loaded", version) >= loads.at_once // 2,
}


@dataclass(frozen=True)
class Outcome:
    """A round: seconds from the kill until a controller answered and until all versions did, and what went wrong."""

    controller_s: float
    all_ready_s: float
    answers: int
    faults: list[str]


class Loads:
    """A serving app with some models that answer by their first version."""

    def __init__(self, name: str, folder: Path, at_once: int = AT_ONCE) -> None:
        self.at_once = at_once
        self.rest_port = free_port()
        self._name = name
        self._folder = folder
        self._ledger = folder / "ledger"
        self._models = [Model(f"m{index}") for index in range(at_once)]
        self._connection: Connection

    @contextlib.contextmanager
    def deployed(self) -> Iterator[None]:
        """The app for as long as the block runs."""
        for model in self._models:
            (self._folder / model.name).mkdir()
            self._add(model, load_s=0.0)
        models: dict[str, Any] = {
            model.name: {
                "base_path": str(self._folder / model.name), "platform": PLATFORM, "num_cpus": 0.01, "settle_s": 0.0
            }
            for model in self._models
        }  # fmt: skip
        config = {
            "models": models,
            "poll_interval_s": 0.2,
            "load": {"max_concurrent_loads": self.at_once},
            "gateway": {"rest_port": self.rest_port, "grpc_port": None},
        }
        serve.run(build(parse(config, "The benchmark")), name=self._name, route_prefix=f"/{self._name}")
        try:
            with connect(self._name) as self._connection:
                local.wait_for("the first versions", lambda: self._all_answer(1))
                yield
        finally:
            serve.delete(self._name)

    def count(self, what: str, version: int) -> int:
        """How many entries of a kind the ledger has about a version of any model."""
        return sum(entry.what == what and entry.servable.version == version for entry, _ in read_ledger(self._ledger))

    def are_ordered(self, version: int) -> bool:
        """Whether the controller has ordered the loads of this version of all models."""
        view = asyncio.run(Control(self._name).view())
        states = [each.state for model in view.models.values() for each in model.versions
                  if each.servable.version == version]
        return len(states) == self.at_once and State.NEW not in states

    def round(self, is_then: IsThen) -> Outcome:
        """New versions, the kill at its moment, and what came of it."""
        faults: list[str] = []
        with asking_steadily(
            self._connection, self.rest_port, self._models, 0.05, lambda model, what: faults.append(f"{model}: {what}")
        ) as tally:
            [version] = {self._add(model, LOAD_S) for model in self._models}
            local.wait_for("the moment to kill", lambda: is_then(self, version), every=0.005)
            controller_s, all_ready_s = self._kill(version)
        faults += self._needless_loads(version)
        return Outcome(controller_s, all_ready_s, _total(tally), faults)

    def _kill(self, version: int) -> tuple[float, float]:
        actor = find_controller(self._name)
        os.kill(ray.get(actor.__ray_call__.remote(lambda _self: os.getpid())), signal.SIGKILL)
        killed = time.monotonic()
        asyncio.run(Control(self._name, timeout_s=60.0).view())
        controller_s = time.monotonic() - killed
        local.wait_for("the new versions", lambda: self._all_answer(version))
        return controller_s, time.monotonic() - killed

    def _needless_loads(self, version: int) -> list[str]:
        entries = [entry for entry, _ in read_ledger(self._ledger) if entry.servable.version == version]
        begun = Counter(entry.servable for entry in entries if entry.what == "begun")
        return [f"{servable} was loaded {times} times" for servable, times in begun.items() if times > 1]

    def _add(self, model: Model, load_s: float) -> int:
        """A version, all of it at once; returns its number."""
        version = model.add(is_good=True)
        staged = self._folder / f"{model.name}.staged"
        staged.mkdir()
        for name, content in files_of(ServableId(model.name, version.number), self._ledger, load_s=load_s).items():
            (staged / name).write_bytes(content)
        staged.rename(self._folder / model.name / str(version.number))
        return version.number

    def _all_answer(self, version: int) -> bool:
        with contextlib.closing(Rest(self.rest_port)) as rest:
            try:
                return all(
                    ask() == version
                    for model in self._models
                    for ask in ways_to_ask(model, rest, self._connection).values()
                )
            except (OSError, ServingError):
                return False


def _total(tally: Tally) -> int:
    return tally.answered.total()


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2, help="kills at each of the moments (default: 2)")
    options = parser.parse_args()
    failed = 0
    with local.cluster(), tempfile.TemporaryDirectory(prefix="serving-app-kill-") as folder:
        loads = Loads("kill", Path(folder))
        with loads.deployed():
            for moment, is_then in MOMENTS.items():
                for _ in range(options.rounds):
                    outcome = loads.round(is_then)
                    failed += bool(outcome.faults)
                    print(
                        f"killed when {moment}: a controller answers after {outcome.controller_s:.1f} s, all "
                        f"{AT_ONCE} versions after {outcome.all_ready_s:.1f} s; {outcome.answers} answers, "
                        f"{len(outcome.faults)} failed requests or needless loads",
                        flush=True,
                    )
                    for fault in outcome.faults[:10]:
                        print(f"    {fault}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
