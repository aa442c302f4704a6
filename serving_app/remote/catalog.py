"""The signatures of servers' models, as far as a client has asked for them.

They are what makes lists into tensors and JSON into arrays of the right type. A version's never change, so those of a
version that is named by its number are kept for good. Behind a label, or behind no version at all, another version may
be at any time: those are asked for again after a while, and whenever a call does not fit them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

from serving_app.core.servable import ModelSpec
from serving_app.core.signatures import Signature

FRESH_S = 60.0
"""For so long signatures of a version that may change are taken for right."""

_MOST = 1024

Signatures = Mapping[str, Signature]


class _Entry(NamedTuple):
    signatures: Signatures
    learned: float


class Catalog:
    """Signatures by how requests name models. Its methods may be called from any thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._entries: dict[ModelSpec, _Entry] = {}

    def recall(self, spec: ModelSpec) -> Signatures | None:
        """What is known, None if that is nothing, or old."""
        entry = self._entries.get(spec)
        if entry is None or (spec.version is None and self._clock() - entry.learned > FRESH_S):
            return None
        return entry.signatures

    def learn(self, spec: ModelSpec, signatures: Signatures) -> None:
        """Remember what the server said just now."""
        if len(self._entries) >= _MOST:
            self._entries.clear()
        self._entries[spec] = _Entry(signatures, self._clock())
