"""What a controller may tell: views for the commands, and a controller that has them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from serving_app.client.control import Control
from serving_app.core.errors import Code, FailedPrecondition
from serving_app.core.families import STAGE_MICROSECONDS, STAGE_REQUESTS
from serving_app.core.history import Happening
from serving_app.core.metrics import Snapshot
from serving_app.core.plan import Change, Plan
from serving_app.core.rollout import Rollout
from serving_app.core.servable import ServableId
from serving_app.core.stacks import AppProfile, ProcessProfile
from serving_app.core.states import State
from serving_app.core.views import AppView, Failure, ModelView, VersionView
from tests.stepping import Actor

NOW = 1_700_000_000.0
"""When the views are looked at; a minute after everything in them."""


def version(number: int, state: State = State.READY, model: str = "m", **more: Any) -> VersionView:
    """One version; what is not said is as it is with one that answers."""
    settings: dict[str, Any] = {
        "since": NOW - 60, "aspired": True, "path": f"/models/{model}/{number}", "app": None, "failures": 0,
        "error": None, "retry_at": None,
    }
    return VersionView(ServableId(model, number), state, **{**settings, **more})


def model(name: str = "m", *versions: VersionView, **more: Any) -> ModelView:
    """One configured model with these versions."""
    aspired = frozenset(each.servable.version for each in versions)
    settings: dict[str, Any] = {"configured": True, "aspired": aspired, "listing_failure": None}
    return ModelView(name, versions=versions, **{**settings, **more})


def app(*models: ModelView, **more: Any) -> AppView:
    """A serving app with one gateway."""
    settings: dict[str, Any] = {"gateways": {"g": {"REST": "127.0.0.1:8501", "gRPC": "127.0.0.1:8500"}}}
    return AppView("default", 7, {"g": 7}, models={each.name: each for each in models}, **{**settings, **more})


FAILED = version(
    3, State.FAILED, failures=2, error=Failure(Code.NOT_FOUND, "no saved_model.pb"), retry_at=NOW + 20, size=1_234_567
)
BUSY = model(
    "m", version(4, State.LOADING, progress="fetched 120 of 480 MB"), FAILED, version(2), version(1, State.DRAINING),
    labels={"stable": 2, "canary": 4}, waiting={5: "no saved_model.pb yet"},
    warnings=("0002 is 2 as well; one is taken",),
)
LOST = model("lost", aspired=None, listing_failure=Failure(Code.NOT_FOUND, "Could not find base path"))
GONE = model("gone", version(1, State.ENDED, "gone"), configured=False, aspired=frozenset())


class Controller:
    """One that has this view, and no other."""

    def __init__(self, view: AppView) -> None:
        self.seen = view
        self.applied: list[str] = []
        self.labels: list[tuple[Any, ...]] = []
        self.happenings = [Happening(NOW, "m", 2, "loaded"), Happening(NOW, "m", None, "listed")]
        self.changed = 0
        self.changes = 1
        self.profiled: list[float] = []
        self.scrapes = 0
        self.rolling: list[Rollout] = []
        self.growth = 20
        """Requests between two looks at the metrics."""

    async def view(self) -> AppView:
        return self.seen

    async def collect_metrics(self, asker: str | None) -> Snapshot:
        assert asker is None
        self.scrapes += 1
        requests = self.growth * self.scrapes
        stages = {"decode": 100, "hop": 200, "run": 100}
        labels = {stage: ("m", "2", "REST", stage) for stage in stages}
        return {
            STAGE_REQUESTS.name: {labels[stage]: requests for stage in stages},
            STAGE_MICROSECONDS.name: {labels[stage]: requests * micros for stage, micros in stages.items()},
        }

    async def profile(self, seconds: float) -> AppProfile:
        self.profiled.append(seconds)
        gateway = ProcessProfile("gateway", "one", 10, 2.0, {"loop;m.serve": 500_000, "loop;m.serve;m.read": 250_000})
        replica = ProcessProfile("a:m@1", "two", 30, 2.0, {"run;m.run": 250_000})
        return AppProfile((gateway, replica), ("gateway:2",))

    async def config_text(self, form: str, secrets: bool) -> str:
        if form == "tfs":
            return f"{secrets}\n"
        return "models: {m: {base_path: /models/m, version_policy: {latest: 2}}}\n"

    async def apply(self, text: str, source: str, dry_run: bool) -> Plan:
        if "refused" in text:
            raise FailedPrecondition(f"{source} changes gateway.host, which only a new deployment can")
        if text == "same":
            return Plan()
        if not dry_run:
            self.applied.append(text)
        return Plan((Change("m", "change", "labels.stable", "1", "2", "at once"),))

    async def set_label(self, name: str, label: str, number: int) -> None:
        self.labels.append((name, label, number))

    async def delete_label(self, name: str, label: str) -> None:
        self.labels.append((name, label))

    async def set_traffic(self, name: str, target: str, traffic: Mapping[str, Any]) -> None:
        self.labels.append((name, target, traffic))

    async def delete_traffic(self, name: str, target: str) -> None:
        self.labels.append((name, target))

    async def history(self, name: str | None, number: int | None, limit: int) -> tuple[Happening, ...]:
        found = [each for each in self.happenings if name in (None, each.model) and number in (None, each.version)]
        return tuple(found[-limit:])

    async def rollouts(self, name: str | None) -> tuple[Rollout, ...]:
        return tuple(each for each in self.rolling if name in (None, each.model))

    async def rollout(self, number: int) -> Rollout:
        return self.rolling[number - 1]

    async def start_rollout(self, name: str, to: int, target: str, strategy: Any, order: str) -> Rollout:
        self.labels.append((name, to, target, strategy))
        return self.rolling[0]

    async def move_rollout(self, number: int, action: str, order: str) -> Rollout:
        self.labels.append((number, action))
        return self.rolling[number - 1]

    async def report_rollout_value(self, number: int, name: str, value: float | str, number_of: int | None) -> None:
        self.labels.append((number, name, value, number_of))

    async def wait_for_change(self, seen: int, timeout_s: float) -> int:
        """So many times, then Ctrl-C."""
        self.changed += 1
        if self.changed > self.changes:
            raise KeyboardInterrupt
        return self.changed


def serve(monkeypatch: pytest.MonkeyPatch, view: AppView) -> Controller:
    """Let the commands ask a controller with this view, at this time."""
    controller = Controller(view)

    async def find(_app: str) -> Any:
        await asyncio.sleep(0)
        return Actor(controller)

    monkeypatch.setattr("serving_app.cli.asking.open_control", lambda options: Control(options.name, find=find))
    monkeypatch.setattr("time.time", lambda: NOW)
    return controller
