"""What each version has gone through, and what the manager knows: for status pages, logs and error reports.

Nothing here takes part in a decision.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from serving_app.core.errors import Code
from serving_app.core.servable import ServableId
from serving_app.core.states import State


@dataclass(frozen=True, slots=True)
class Moment:
    """Something that happened, at a time of the manager's clock."""

    at: float
    what: str

    def __str__(self) -> str:
        return f"{self.at:.3f} {self.what}"


@dataclass(frozen=True, slots=True)
class Happening:
    """Something that happened to a model, or to one of its versions, at a time of the manager's clock."""

    at: float
    model: str
    version: int | None
    what: str

    def __str__(self) -> str:
        return f"{self.model}: {self.what}" if self.version is None else f"{self.model}@{self.version}: {self.what}"


class Story:
    """The last moments of one version, oldest first. It forgets the oldest, so it never grows beyond `length`."""

    def __init__(self, length: int) -> None:
        self._moments: deque[Moment] = deque(maxlen=length)
        self._told = 0

    def tell(self, at: float, what: str) -> None:
        """Add a moment, unless it only repeats the last one: a report that is sent every second must not flood out
        what mattered."""
        if self._moments and self._moments[-1].what == what:
            return
        self._told += 1
        self._moments.append(Moment(at, what))

    @property
    def moments(self) -> tuple[Moment, ...]:
        """What is still remembered."""
        return tuple(self._moments)

    def __str__(self) -> str:
        forgotten = self._told - len(self._moments)
        lines = [str(moment) for moment in self._moments]
        return "\n".join([f"({forgotten} earlier)", *lines] if forgotten else lines)

    def __repr__(self) -> str:
        return f"<Story of {self._told}, last: {self._moments[-1] if self._moments else None}>"


@dataclass(frozen=True, slots=True)
class Failure:
    """Why something did not work."""

    code: Code
    message: str

    def __str__(self) -> str:
        return f"{self.code.name}: {self.message}"


@dataclass(frozen=True, slots=True)
class VersionView:
    """One version as the manager sees it. `aspired` is None while no listing has told."""

    servable: ServableId
    state: State
    since: float
    aspired: bool | None
    path: str | None
    app: str | None
    failures: int
    error: Failure | None
    retry_at: float | None
    story: tuple[Moment, ...]

    def __str__(self) -> str:
        words = [f"{self.servable} {self.state.value} since {self.since:.3f}"]
        if self.aspired is False:
            words.append("not aspired")
        if self.app:
            words.append(f"app {self.app}")
        if self.error:
            words.append(f"after {self.failures} failures, last {self.error}")
        if self.retry_at is not None:
            words.append(f"next attempt at {self.retry_at:.3f}")
        return ", ".join(words)


@dataclass(frozen=True, slots=True)
class ModelView:
    """One model as the manager sees it, its versions newest first. `aspired` is None while no listing has told."""

    name: str
    configured: bool
    aspired: frozenset[int] | None
    listing_failure: Failure | None
    versions: tuple[VersionView, ...]


@dataclass(frozen=True, slots=True)
class ManagerView:
    """All that the manager knows at one moment. `readers` has the revision that each one acknowledged."""

    revision: int
    readers: Mapping[str, int]
    models: Mapping[str, ModelView]
