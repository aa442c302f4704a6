"""What is to be done: orders from the Manager to its shell. Each outcome comes back as an event.

Orders about versions are numbered from 1. An event that tells the number of the order that it is about cannot be
mistaken for news of another one, however late it comes.
"""

from __future__ import annotations

from dataclasses import dataclass

from serving_app.core.routing import RouteTable
from serving_app.core.servable import ServableId


@dataclass(frozen=True, slots=True)
class StartLoad:
    """Load this version from this path. Answered by ServableLoaded or LoadFailed."""

    servable: ServableId
    path: str
    attempt: int = 1
    order: int = 0


@dataclass(frozen=True, slots=True)
class PublishRoutes:
    """Hand this table to every reader. Answered by RoutesAcknowledged or ReaderLeft, reader by reader."""

    table: RouteTable


@dataclass(frozen=True, slots=True)
class StartUnload:
    """Remove this version, or what is left of a failed or abandoned load. Answered by ServableGone."""

    servable: ServableId
    order: int = 0


Action = StartLoad | PublishRoutes | StartUnload
