"""What has happened, in sentences for people: one line each, for logs and for whoever asks afterwards.

Nothing here takes part in a decision.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable, Set
from dataclasses import dataclass
from itertools import chain


@dataclass(frozen=True, slots=True)
class Happening:
    """Something that happened to a model, or to one of its versions, at a time of the manager's clock."""

    at: float
    model: str
    version: int | None
    what: str

    def __str__(self) -> str:
        return f"{self.model}: {self.what}" if self.version is None else f"{self.model}@{self.version}: {self.what}"


class History:
    """What happened to each model, as far as it is remembered.

    Of a model the newest `per_model` happenings are kept. When there are more than `in_all`, the model to which nothing
    has happened for the longest time is forgotten as a whole, so that dropped models go first.
    """

    def __init__(self, per_model: int = 200, in_all: int = 100_000) -> None:
        if not 1 <= per_model <= in_all:
            raise ValueError(f"per_model is {per_model} and in_all is {in_all}; they must be at least 1, in this order")
        self._per_model = per_model
        self._in_all = in_all
        self._told = 0
        self._count = 0
        # Each with its number in the order of telling. The model that something happened to last is the last one.
        self._by_model: dict[str, deque[tuple[int, Happening]]] = {}

    def add(self, *happenings: Happening) -> None:
        """Remember these; they happened after all that were added before."""
        for happening in happenings:
            told = self._by_model.pop(happening.model, None)
            if told is None:
                told = deque(maxlen=self._per_model)
            self._by_model[happening.model] = told
            self._count += len(told) < self._per_model
            self._told += 1
            told.append((self._told, happening))
            while self._count > self._in_all:
                self._count -= len(self._by_model.pop(next(iter(self._by_model))))

    def find(self, model: str | None = None, version: int | None = None, limit: int = 100) -> tuple[Happening, ...]:
        """The newest `limit` happenings of this model and version, newest last; None means any."""
        told: Iterable[tuple[int, Happening]]
        told = chain.from_iterable(self._by_model.values()) if model is None else self._by_model.get(model, ())
        if version is not None:
            told = (each for each in told if each[1].version == version)
        newest = heapq.nlargest(limit, told, key=lambda each: each[0])
        return tuple(happening for _, happening in reversed(newest))

    @property
    def models(self) -> Set[str]:
        """The models of which something is remembered."""
        return self._by_model.keys()

    def __len__(self) -> int:
        return self._count

    def __repr__(self) -> str:
        return f"<History of {len(self._by_model)} models: {self._count} happenings of {self._told}>"
