"""What is known at one moment, for people: status pages, commands, error reports.

Values only. They travel between processes, and nothing here takes part in a decision.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from serving_app.core.batching import Batching
from serving_app.core.errors import Code
from serving_app.core.placement import Placement
from serving_app.core.servable import ServableId
from serving_app.core.states import State
from serving_app.core.traffic import Traffic


@dataclass(frozen=True, slots=True)
class Failure:
    """Why something did not work."""

    code: Code
    message: str

    def __str__(self) -> str:
        return f"{self.code.name}: {self.message}"


@dataclass(frozen=True, slots=True)
class VersionView:
    """One version as the manager sees it.

    `aspired` is None while no listing has told. `error` is the last failure until a load succeeds, also while the
    version is tried again. `retry_at` is None when no attempt is due by time alone. `progress` is told while the
    version loads. `size` is in bytes of its files, None while nobody has looked into them. `placement` says where it
    lives, None while nothing of it could answer. `batching` is by which limits its requests are joined, None if they
    are not.
    """

    servable: ServableId
    state: State
    since: float
    aspired: bool | None
    path: str | None
    app: str | None
    failures: int
    error: Failure | None
    retry_at: float | None
    progress: str | None = None
    size: int | None = None
    placement: Placement | None = None
    batching: Batching | None = None

    def __str__(self) -> str:
        words = [f"{self.servable} {self.state.value} since {self.since:.3f}"]
        if self.progress:
            words.append(self.progress)
        if self.aspired is False:
            words.append("not aspired")
        if self.app:
            words.append(f"app {self.app}")
        if self.error:
            words.append(f"after {self.failures} failures, last {self.error}" if self.failures else str(self.error))
        if self.retry_at is not None:
            words.append(f"next attempt at {self.retry_at:.3f}")
        return ", ".join(words)


@dataclass(frozen=True, slots=True)
class ModelView:
    """One model as the manager sees it, its versions newest first.

    `aspired` is None while no listing has told. `waiting` has the versions that are still being written, and what each
    of them lacks. A label is active if the version that it names is ready, else it is pending.
    """

    name: str
    configured: bool
    aspired: frozenset[int] | None
    listing_failure: Failure | None
    versions: tuple[VersionView, ...]
    waiting: Mapping[int, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    labels: Mapping[str, int] = field(default_factory=dict)
    traffic: Mapping[str, Traffic] = field(default_factory=dict)
    """How requests are shared, by the label that they name; those that name nothing but the model are at ""."""


@dataclass(frozen=True, slots=True)
class ManagerView:
    """All that the manager knows at one moment. `readers` has the revision that each one acknowledged."""

    revision: int
    readers: Mapping[str, int]
    models: Mapping[str, ModelView]


@dataclass(frozen=True, slots=True)
class AppView:
    """All that one serving app knows of itself at one moment.

    `readers` has the route table's revision that each gateway and Python caller acknowledged, `gateways` where each of
    them listens (protocol to address), `problems` what a person should look at that no model shows.
    """

    app: str
    revision: int
    readers: Mapping[str, int]
    gateways: Mapping[str, Mapping[str, str]]
    models: Mapping[str, ModelView]
    problems: tuple[str, ...] = ()


def with_batching(
    models: Mapping[str, ModelView], batching: Mapping[ServableId, Batching]
) -> Mapping[str, ModelView]:
    """The models with the limits of those versions that are batched."""
    changed = dict(models)
    for name in {servable.name for servable in batching} & models.keys():
        model = models[name]
        versions = tuple(replace(each, batching=batching.get(each.servable)) for each in model.versions)
        changed[name] = replace(model, versions=versions)
    return changed
