"""Names of things that are served."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class ServableId:
    """One version of one model: what gets loaded, routed to and unloaded as a whole."""

    name: str
    version: int

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """How a request names a servable: by model, and at most one of version and label. Neither means the latest."""

    name: str
    version: int | None = None
    label: str | None = None
