"""Names of models that are asked and that nobody knows: counted, but not without bounds."""

from __future__ import annotations

from collections.abc import Callable

_MOST = 100
_LONGEST = 200

OTHERS = "..."
"""Stands for the names of models that nobody knows, once clients have invented too many of them."""


class Strangers:
    """The unknown names that one process counts by themselves. `knows` tells whether there is a model of a name."""

    def __init__(self, knows: Callable[[str], bool]) -> None:
        self._knows = knows
        self._seen: set[str] = set()

    def present(self, model: str) -> str:
        """The name to count under: clients may send any, and what they invent must neither fill the memory nor break
        the page."""
        if not model or self._knows(model) or model in self._seen:
            return model
        if len(self._seen) >= _MOST or len(model) > _LONGEST or not model.isprintable():
            return OTHERS
        self._seen.add(model)
        return model
