"""What Python callers bring to the controller of what they count: each parcel once, until it is kept."""

from __future__ import annotations

from collections.abc import Sequence

from serving_app.client.courier import Parcel
from serving_app.core.families import FAMILIES
from serving_app.core.metrics import Registry, Snapshot, add_to

_MOST_CALLERS = 10_000
"""Callers of which is known what they have brought: more than there are at a time. Those of the past are forgotten."""


class Deliveries:
    """What is not kept yet, in two parts, of which one is just being kept; and the last parcel of each caller."""

    def __init__(self, registry: Registry) -> None:
        """The registry counts all that is brought to this controller."""
        self._registry = registry
        self._new: Snapshot = {}
        self._leaving: Snapshot = {}
        self._taken: dict[str, int] = {}
        self._safe: dict[str, int] = {}
        self._leaving_numbers: dict[str, int] = {}

    @property
    def are_there(self) -> bool:
        """Whether something has come since the last keeping began."""
        return bool(self._new)

    @property
    def counts(self) -> tuple[Snapshot, Snapshot]:
        """All that is not known to be kept; to be added up."""
        return self._leaving, self._new

    def restore(self, numbers: dict[str, int]) -> None:
        """The last parcels that a controller before has kept."""
        self._taken, self._safe = dict(numbers), numbers

    def take(self, caller: str, safe: int, parcels: Sequence[Parcel]) -> tuple[int, int]:
        """Take in parcels of a caller who knows that those up to `safe` are kept; returns up to which they are taken
        and up to which they are kept.

        Only the next one is taken, so none counts twice and none is passed over: one that a controller before had
        taken, and not kept, is missing now, and the caller hears of that.
        """
        taken = max(safe, self._taken.pop(caller, 0))
        for number, counts in parcels:
            if number == taken + 1:
                taken = number
                add_to(self._new, counts)
                _count(self._registry, counts)
        self._taken[caller] = taken
        for oldest in list(self._taken)[: max(0, len(self._taken) - _MOST_CALLERS)]:
            del self._taken[oldest]
        return taken, max(safe, self._safe.get(caller, 0))

    def begin_keeping(self) -> tuple[Snapshot, dict[str, int]]:
        """What is to be kept now, and the numbers that go with it."""
        self._leaving, self._new = self._new, {}
        self._leaving_numbers = dict(self._taken)
        return self._leaving, self._leaving_numbers

    def end_keeping(self, is_kept: bool) -> Snapshot:
        """What is safe by that: nothing, if it could not be kept."""
        kept, self._leaving = self._leaving, {}
        if is_kept:
            self._safe = self._leaving_numbers
            return kept
        add_to(self._new, kept)
        return {}


def _count(registry: Registry, counts: Snapshot) -> None:
    for family in FAMILIES:
        for labels, value in counts.get(family.name, {}).items():
            if isinstance(value, tuple):
                registry.add_observed(family, labels, value)
            else:
                registry.count(family, labels, int(value))
