"""One soak, from an empty cluster to a verdict."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray
from ray import serve
from ray.serve.schema import ApplicationStatus

from benchmarks.ports import free_port
from benchmarks.soak.asking import PATIENCE_S, Rest, Tally, asking_steadily, ways_to_ask
from benchmarks.soak.churn import SETTLE_S, Churn
from benchmarks.soak.ledger import Ledger
from benchmarks.soak.loader import PLATFORM
from benchmarks.soak.models import Model, make_models
from benchmarks.soak.store import SCHEME, serve_store
from benchmarks.soak.watching import Watch
from serving_app import connect
from serving_app.client.connection import Connection
from serving_app.client.control import Control
from serving_app.config import parse
from serving_app.core.errors import ServingError
from serving_app.core.names import GATEWAY_DEPLOYMENT, parse_servable_app, servable_app
from serving_app.core.servable import ServableId
from serving_app.serve.builder import build
from serving_app.serve.controller import find_controller

_PATIENCE_S = 180.0
_CACHE_BYTES = 8 << 20
_GROWS_MB_PER_HOUR = 30.0
_JUDGE_GROWTH_FROM_S = 600.0
"""Memory is judged when it was watched for so long without a restart: a process that is younger still warms up."""
_MORE_DESCRIPTORS = 60
_MORE_THREADS = 30


@dataclass(frozen=True)
class Options:
    """What a soak is like. Equal options deal equal cards."""

    seconds: float
    models: int = 20
    seed: int = 1
    every_s: float = 4.0
    """Seconds between two cards, on average."""
    kill_controllers_until: float = 0.5
    """The part of the time in which controllers are killed; what is left shows whether one of them grows."""
    sample_s: float = 5.0
    """Seconds between two looks at the processes."""


@dataclass(frozen=True)
class Violation:
    """A promise that was broken: when, about which model (or nothing that is one), and how."""

    at: float
    model: str
    what: str

    def __str__(self) -> str:
        return f"{self.at:7.1f} s  {self.model}: {self.what}"


@dataclass
class Report:
    """What came of it. `lines` are for a table, by what they tell; `played` has the cards that were dealt."""

    lines: list[tuple[str, str]] = field(default_factory=list)
    played: Counter[str] = field(default_factory=Counter)
    violations: list[Violation] = field(default_factory=list)
    stories: dict[str, Sequence[str]] = field(default_factory=dict)

    def __str__(self) -> str:
        width = max((len(title) for title, _ in self.lines), default=0)
        table = [f"{title:<{width}}  {text}" for title, text in self.lines]
        if not self.violations:
            return "\n".join([*table, "", "every promise was kept"])
        broken = [f"{len(self.violations)} promises were broken:", *map(str, self.violations[:50])]
        stories = [line for model, story in self.stories.items() for line in (f"\nthe story of {model}:", *story)]
        return "\n".join([*table, "", *broken, *stories])


def soak(options: Options, name: str = "soak") -> Report:
    """Serve, disturb, ask and judge, on the Ray cluster of this process, on which Serve runs already."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="serving-app-soak-")))
        store, store_port = stack.enter_context(serve_store())
        run = _Run(options, name, folder)
        run.churn = Churn(
            run.models, store, run.ledger, random.Random(options.seed), set_label=run.set_label,
            kill_controller=run.kill_controller, answers=run.version_that_answers, complain=run.complain,
        )  # fmt: skip
        run.churn.begin()
        stack.enter_context(run.deployed(store_port))
        run.connection = stack.enter_context(connect(name))
        run.wait_for("every model to answer", lambda: all(map(run.version_that_answers, run.models)))
        run.begin_labels()
        pause_s = 0.03 * options.models
        with asking_steadily(run.connection, run.rest_port, run.models, pause_s, run.complain) as tally:
            run.disturb()
            run.converge()
        run.judge_processes(folder)
        return run.report(tally)


class _Run:
    """The state of one soak."""

    churn: Churn
    connection: Connection

    def __init__(self, options: Options, name: str, folder: Path) -> None:
        self.options = options
        self.models = make_models(options.models)
        by_name = {model.name: model for model in self.models}
        self.ledger = Ledger(folder / "ledger", by_name, SETTLE_S, self.complain)
        self.rest_port = free_port()
        self._name = name
        self._cache = folder / "cache"
        self._control = Control(name, timeout_s=PATIENCE_S)
        self._violations: list[Violation] = []
        self._begun = time.monotonic()
        self._lock = threading.Lock()
        self._controller, self._gateway = Watch("controller"), Watch("gateway")
        self._applications = 0
        self._converged_s = 0.0

    def complain(self, model: str, what: str) -> None:
        """A promise about a model was broken."""
        violation = Violation(time.monotonic() - self._begun, model, what)
        with self._lock:
            self._violations.append(violation)
        print(violation, file=sys.stderr, flush=True)

    # The app.

    @contextlib.contextmanager
    def deployed(self, store_port: int) -> Iterator[None]:
        """The serving app for as long as the block runs; nothing of it may be left afterwards."""
        serve.run(build(parse(self._config(store_port), "The soak")), name=self._name, route_prefix=f"/{self._name}")
        try:
            yield
        finally:
            serve.delete(self._name)
            self.wait_for("the end of the app", lambda: not self._applications_now())

    def _config(self, store_port: int) -> dict[str, Any]:
        return {
            "models": [
                {
                    "name": model.name,
                    "base_path": f"{SCHEME}://{model.directory}",
                    "platform": PLATFORM,
                    "replicas": model.replicas,
                    "version_policy": "all" if model.is_labelled else "latest",
                    "settle_s": SETTLE_S,
                    "num_cpus": 0.01,
                }
                for model in self.models
            ],
            "stores": {SCHEME: {"host": "127.0.0.1", "port": store_port}},
            "poll_interval_s": 1.0,
            "poll_timeout_s": 5.0,
            "load": {"retry_base_s": 0.5, "retry_max_s": 4.0, "slow_retry_s": 4.0},
            "cache_dir": str(self._cache),
            "cache_max_bytes": _CACHE_BYTES,
            "gateway": {"rest_port": self.rest_port, "grpc_port": None, "request_timeout_s": PATIENCE_S},
        }

    def set_label(self, model: str, version: int) -> None:
        """Set the label `stable` at run time."""
        asyncio.run(self._control.set_label(model, "stable", version))

    def kill_controller(self) -> None:
        """Without a good-bye."""
        os.kill(self._pid_of(find_controller(self._name)), signal.SIGKILL)

    def version_that_answers(self, model: Model) -> int | None:
        """The version that answers for a model however it is asked, but for its label; None if there is no such."""
        versions = set((self._versions_that_answer(model, but_for_labels=True) or {}).values())
        return versions.pop() if len(versions) == 1 else None

    def begin_labels(self) -> None:
        """Each label is set for the first time, and known to the gateway."""
        for model in self.models:
            if model.is_labelled:
                model.begin_to_set(1)
                self.set_label(model.name, 1)
                model.end_setting(was_set=True)
                self.wait_for(f"the label of {model.name}", lambda model=model: self._versions_that_answer(model))

    def _versions_that_answer(self, model: Model, but_for_labels: bool = False) -> dict[str, int] | None:
        """By way of asking; None if one of them fails."""
        with contextlib.closing(Rest(self.rest_port)) as rest:
            ways = ways_to_ask(model, rest, self.connection)
            try:
                return {way: ask() for way, ask in ways.items() if way != "label" or not but_for_labels}
            except (OSError, ServingError):
                return None

    # What happens to it.

    def disturb(self) -> None:
        """Deal cards until the time is over and every kind was among them, and watch."""
        rng = random.Random(self.options.seed + 1)
        started = time.monotonic()
        ends = started + self.options.seconds
        next_card = next_sample = started
        while (now := time.monotonic()) < ends or (not self.churn.has_seen_all and now < ends + _PATIENCE_S):
            if now >= next_card:
                share = (now - started) / self.options.seconds
                self.churn.play(kill_controllers=share <= self.options.kill_controllers_until)
                next_card = now + rng.expovariate(1.0 / self.options.every_s)
            if now >= next_sample:
                self._look()
                next_sample = now + self.options.sample_s
            self.ledger.follow()
            time.sleep(min(0.2, max(0.0, next_card - time.monotonic())))

    def converge(self) -> None:
        """Leave it in peace: every model comes to answer by its newest good version, and nothing else is left."""
        began = time.monotonic()
        self.churn.settle()
        deadline = time.monotonic() + _PATIENCE_S
        while unlike := self._unlike_wanted():
            if time.monotonic() > deadline:
                for model, what in unlike.items():
                    self.complain(model, what)
                break
            self.ledger.follow()
            time.sleep(0.2)
        self._converged_s = time.monotonic() - began
        self.ledger.follow()
        self._look()

    def _unlike_wanted(self) -> dict[str, str]:
        """What is not yet as it should be at the end, by model; applications that are too many under their own."""
        unlike = {}
        wanted = {self._name}
        for model in self.models:
            present = [version.number for version in model.present()]
            served = present if model.is_labelled else present[-1:]
            wanted |= {servable_app(self._name, ServableId(model.name, number)) for number in served}
            expected = {"REST": present[-1], "handle": present[-1]}
            if model.is_labelled and model.label is not None:
                expected["label"] = model.label
            if (answers := self._versions_that_answer(model)) != expected:
                unlike[model.name] = f"left in peace, {answers} answer, and not {expected}"
        if not unlike and (there := self._applications_now()) != wanted:
            unlike["applications"] = f"too many: {sorted(there - wanted)}, too few: {sorted(wanted - there)}"
        return unlike

    def _applications_now(self, but_for_deleted: bool = False) -> set[str]:
        """Those of this app, its gateway among them; how soon Serve is done with those that it deletes is its affair.
        """
        return {
            name
            for name, application in serve.status().applications.items()
            if name == self._name or parse_servable_app(self._name, name) is not None
            if not (but_for_deleted and application.status == ApplicationStatus.DELETING)
        }

    # What it costs.

    def _look(self) -> None:
        at = time.monotonic() - self._begun
        # A controller that was killed a moment ago has no process yet; the next look will find it.
        with contextlib.suppress(ray.exceptions.RayError, ServingError, ValueError):
            self._controller.look(self._pid_of(find_controller(self._name)), at)
            self._gateway.look(self._gateway_pid(), at)
        self._applications = max(self._applications, len(self._applications_now(but_for_deleted=True)))

    def _pid_of(self, actor: Any) -> int:
        return int(ray.get(actor.__ray_call__.remote(lambda _self: os.getpid()), timeout=60))

    def _gateway_pid(self) -> int:
        [gateway] = [reader for reader in asyncio.run(self._control.view()).readers if reader.startswith("gateway:")]
        replica = gateway.removeprefix("gateway:")
        actor = ray.get_actor(f"SERVE_REPLICA::{self._name}#{GATEWAY_DEPLOYMENT}#{replica}", namespace="serve")
        return self._pid_of(actor)

    def judge_processes(self, folder: Path) -> None:
        """Nothing grows without bounds."""
        for watch in (self._controller, self._gateway):
            seen = watch.of_last_process(self._second_half)
            if seen[-1].at - seen[0].at >= _JUDGE_GROWTH_FROM_S:
                slope, _ = watch.grown(self._second_half)
                if slope > _GROWS_MB_PER_HOUR:
                    self.complain(watch.role, f"grows by {slope:.1f} MB per hour, more than {_GROWS_MB_PER_HOUR:.0f}")
            if seen[-1].descriptors > seen[0].descriptors + _MORE_DESCRIPTORS:
                self.complain(watch.role, f"{seen[-1].descriptors} open files, {seen[0].descriptors} at half time")
            if seen[-1].threads > seen[0].threads + _MORE_THREADS:
                self.complain(watch.role, f"{seen[-1].threads} threads, {seen[0].threads} at half time")
        most = 1 + sum(2 + 4 * model.is_labelled + model.replicas for model in self.models)
        if self._applications > most:
            self.complain("applications", f"there were {self._applications} at one time, more than {most}")
        if (cached := self._cached_bytes()) > 2 * _CACHE_BYTES:
            self.complain("cache", f"{cached} bytes are kept, with a limit of {_CACHE_BYTES}")

    @property
    def _second_half(self) -> float:
        seen = self._controller.samples
        return (seen[0].at + seen[-1].at) / 2

    def _cached_bytes(self) -> int:
        return sum(file.stat().st_size for file in self._cache.rglob("*") if file.is_file())

    # The verdict.

    def report(self, tally: Tally) -> Report:
        """Everything in figures, and the stories of the models that something went wrong with."""
        versions = [version for model in self.models for version in model.versions.values()]
        loads = self.ledger.counts
        lines = [
            ("time", f"{self.options.seconds / 60:.1f} minutes, seed {self.options.seed}, {len(self.models)} models"),
            ("requests", _counts(tally.answered)),
            ("failed", f"{len(self._violations)} violations, {tally.excused.total()} failures during outages"),
            ("slowest answer", f"{tally.slowest_s:.2f} s"),
            ("cards", _counts(self.churn.played)),
            ("versions", f"{len(versions)}, {sum(not each.is_good for each in versions)} of them broken"),
            ("loads", _counts(loads)),
            ("applications", f"{self._applications} at most, {len(self._applications_now())} at the end"),
            ("converged after", f"{self._converged_s:.1f} s"),
            ("cache", f"{self._cached_bytes() / 1e6:.1f} MB, limit {_CACHE_BYTES / 1e6:.1f} MB"),
            *((watch.role, self._describe(watch)) for watch in (self._controller, self._gateway)),
        ]
        concerned = {violation.model for violation in self._violations} & {model.name for model in self.models}
        stories = {model: self._story(model) for model in sorted(concerned)[:5]}
        return Report(lines, self.churn.played, self._violations, stories)

    def _describe(self, watch: Watch) -> str:
        seen = watch.of_last_process(self._second_half)
        slope, ratio = watch.grown(self._second_half)
        watched_s = seen[-1].at - seen[0].at
        trend = f", {slope:+.1f} MB per hour" if watched_s >= _JUDGE_GROWTH_FROM_S else ""
        return (
            f"{seen[0].resident:.0f} MB at half time, {seen[-1].resident:.0f} MB at the end (ratio {ratio:.3f}{trend} "
            f"in {watched_s / 60:.1f} minutes); at most {max(each.threads for each in seen)} threads, "
            f"{max(each.descriptors for each in seen)} open files"
        )

    def _story(self, model: str) -> Sequence[str]:
        happenings = asyncio.run(self._control.history(model))
        return [f"{time.strftime('%X', time.localtime(each.at))} {each}" for each in happenings]

    def wait_for(self, what: str, is_so: Any) -> None:
        """Returns as soon as something is so."""
        deadline = time.monotonic() + _PATIENCE_S
        while not is_so():
            if time.monotonic() > deadline:
                raise TimeoutError(f"waited {_PATIENCE_S:.0f} s in vain for {what}; {self._story_of_all()}")
            time.sleep(0.1)

    def _story_of_all(self) -> str:
        """What the controller says of everything, if it says anything."""
        try:
            view = asyncio.run(self._control.view())
        except ServingError as error:
            return f"the controller does not tell why: {error}"
        lines = [f"{model.name}: {model.listing_failure}" for model in view.models.values() if model.listing_failure]
        lines += [f"{version}" for model in view.models.values() for version in model.versions]
        return "the controller says:\n" + "\n".join([*view.problems, *lines])


def _counts(counter: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {what}" for what, count in sorted(counter.items())) or "none"
