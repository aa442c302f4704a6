"""What each version has gone through, and what the manager knows: for status pages, logs and error reports.

Nothing here takes part in a decision.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass


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
