"""The history of a serving app's versions: told to the log as it happens, and kept for whoever asks later.

It is kept in the cluster's key-value store, a little behind the events, so that it outlives the controller. A crash may
cost the last second of it; no decision depends on it.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterable
from urllib.parse import quote

from serving_app import ray_private
from serving_app.core.history import Happening, History

logger = logging.getLogger("serving_app.controller")

_SAVE_EVERY_S = 1.0


class Chronicle:
    """What happened to the models of one app. Lives on one event loop."""

    def __init__(self, app: str) -> None:
        self._prefix = f"history:{quote(app, safe='')}:"
        self._history = History()
        self._unsaved: set[str] = set()
        self._saved: set[str] = set()
        """The models of which the cluster keeps something."""

    def tell(self, happenings: Iterable[Happening]) -> None:
        """Log these, and remember them."""
        for happening in happenings:
            logger.info("%s", happening)
            self._history.add(happening)
            self._unsaved.add(happening.model)

    def find(self, model: str | None, version: int | None, limit: int) -> tuple[Happening, ...]:
        """The newest happenings, of everything or of one model or version; the newest comes last."""
        return tuple(self._history.find(model, version, limit))

    async def restore(self) -> None:
        """Remember what an earlier controller kept. To be called before anything is told."""
        kept = await asyncio.to_thread(self._read)
        for happening in sorted(kept, key=lambda each: each.at):
            self._history.add(happening)
        self._saved = {happening.model for happening in kept}

    async def save_behind(self) -> None:
        """Keep what is new, for ever."""
        while True:
            await asyncio.sleep(_SAVE_EVERY_S)
            unsaved, self._unsaved = self._unsaved, set()
            for model in sorted(unsaved):
                await asyncio.to_thread(ray_private.put_state, self._key(model), self._encode(model))
            # What is forgotten here is not kept there either, or models that come and go would fill the cluster.
            self._saved |= unsaved
            for model in sorted(self._saved - self._history.models):
                await asyncio.to_thread(ray_private.delete_state, self._key(model))
                self._saved.discard(model)

    def forget(self) -> None:
        """The app is deleted: nothing is kept of it."""
        for key in ray_private.list_state(self._prefix):
            ray_private.delete_state(key)

    def _read(self) -> list[Happening]:
        keys = ray_private.list_state(self._prefix)
        return [Happening(*fields) for key in keys for fields in json.loads(ray_private.get_state(key) or b"[]")]

    def _key(self, model: str) -> str:
        return self._prefix + quote(model, safe="")

    def _encode(self, model: str) -> bytes:
        happenings = self._history.find(model, None, limit=1_000_000)
        return json.dumps([[each.at, each.model, each.version, each.what] for each in happenings]).encode()
