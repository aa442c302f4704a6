"""What the loads of a soak have written down, and whether each of them had a reason."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.soak.asking import Complain
from benchmarks.soak.loader import Entry, read_ledger
from benchmarks.soak.models import Model
from serving_app.core.servable import ServableId


@dataclass(frozen=True)
class Instance:
    """A version that a process holds, and since when."""

    servable: ServableId
    pid: int
    since: float
    is_over: bool = False


class Ledger:
    """The entries so far. Each question reads on first; any thread may ask.

    Complains of loads without a reason, and of versions that were loaded before they were whole although no pause of
    their upload was as long as `settle_s`.
    """

    def __init__(self, path: Path, models: Mapping[str, Model], settle_s: float, complain: Complain) -> None:
        self.path = path
        self._models = models
        self._settle_s = settle_s
        self._complain = complain
        self.counts: Counter[str] = Counter()
        self._offset = 0
        self._begun: Counter[ServableId] = Counter()
        self._failed: Counter[ServableId] = Counter()
        self._killed: Counter[ServableId] = Counter()
        self._instances: dict[tuple[ServableId, int], Instance] = {}
        self._lock = threading.Lock()

    def follow(self) -> None:
        """Read what is new."""
        with self._lock:
            self._read_on()

    def _read_on(self) -> None:
        for entry, behind in read_ledger(self.path, self._offset):
            self._offset = behind
            self.counts[entry.what] += 1
            model = self._models[entry.servable.name]
            if entry.what == "begun":
                self._judge_begin(model, entry.servable)
            elif entry.what == "torn" and model.versions[entry.servable.version].longest_pause_s < self._settle_s:
                self._complain(model.name, f"{entry.servable} was loaded before its upload was finished")
            self._take(entry)

    def _judge_begin(self, model: Model, servable: ServableId) -> None:
        """A version is loaded once by each replica, once more for each load that failed and each replica that was
        killed, and again if it comes back after a newer one."""
        self._begun[servable] += 1
        newer = sum(number > servable.version for number in model.versions)
        reasons = model.replicas * (1 + self._failed[servable] + newer) + self._killed[servable]
        begun = self._begun[servable]
        if begun > reasons:
            self._complain(model.name, f"load {begun} of {servable}, for which there are {reasons} reasons")

    def _take(self, entry: Entry) -> None:
        key = entry.servable, entry.pid
        if entry.what == "loaded":
            self._instances[key] = Instance(entry.servable, entry.pid, entry.at)
        elif entry.what == "closed" and key in self._instances:
            self._instances[key] = replace(self._instances[key], is_over=True)
        elif entry.what in ("failed", "torn"):
            self._failed[entry.servable] += 1

    def kill(self, victim: Instance) -> None:
        """This one is about to be killed: it is over, and another one may be loaded for it."""
        with self._lock:
            self._killed[victim.servable] += 1
            self._instances[victim.servable, victim.pid] = replace(victim, is_over=True)

    def steady(self, model: str, seconds: float) -> list[Instance]:
        """What has been held for so long and still is, oldest version first."""
        horizon = time.time() - seconds
        with self._lock:
            self._read_on()
            held = [each for each in self._instances.values() if each.servable.name == model and not each.is_over]
        # Whoever is killed otherwise (by Serve, because it takes too long to go) leaves no entry.
        alive = [each for each in held if each.since < horizon and Path(f"/proc/{each.pid}").exists()]
        return sorted(alive, key=lambda each: (each.servable, each.pid))

    def has_loaded_since(self, model: str, at: float) -> bool:
        """Whether any version of a model was loaded after this time."""
        with self._lock:
            self._read_on()
            return any(each.servable.name == model and each.since > at for each in self._instances.values())
