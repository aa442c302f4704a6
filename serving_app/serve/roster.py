"""Which versions serve, kept in the cluster's key-value store for the controller that comes next.

That one could ask the replicas, but busy ones answer late, and a version that has not answered yet would drop out of
the routes for so long. A version is entered when it is ready and struck off before it is removed, so whatever is on
the roster serves.
"""

from __future__ import annotations

import logging
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote

from serving_app import ray_private
from serving_app.config import ModelConfig
from serving_app.core.names import parse_servable_app, servable_app
from serving_app.core.servable import ServableId
from serving_app.core.signatures import Signature

logger = logging.getLogger("serving_app.controller")


@dataclass(frozen=True)
class Entry:
    """A version that serves: what it answers, where it came from, and the ticket and settings that loaded it.

    The settings are None where nobody knows them any more.
    """

    signatures: Mapping[str, Signature]
    path: str
    ticket: str
    model: ModelConfig | None = None
    memory: int | None = None


class Roster:
    """The versions of one app that serve, of one kind of place. Every method blocks."""

    def __init__(self, app: str, kind: str = "serving") -> None:
        self._app = app
        self._prefix = f"{kind}:{quote(app, safe='')}:"

    def enter(self, servable: ServableId, entry: Entry) -> None:
        """The version serves from now on."""
        ray_private.put_state(self._key(servable), pickle.dumps(entry))

    def strike(self, servable: ServableId) -> None:
        """The version serves no more."""
        ray_private.delete_state(self._key(servable))

    def read(self) -> dict[ServableId, Entry]:
        """All that serve. An entry that another version of the product wrote, and this one cannot read, is left out."""
        entries = {}
        for key in ray_private.list_state(self._prefix):
            servable = parse_servable_app(self._app, key.removeprefix(self._prefix))
            written = ray_private.get_state(key)
            if servable is None or written is None:
                continue
            try:
                entry = pickle.loads(written)
            except Exception as error:  # pickle raises whatever it stumbles over
                logger.warning("%s: what was kept of it cannot be read (%r); its replica is asked", servable, error)
                continue
            if isinstance(entry, Entry):
                entries[servable] = entry
        return entries

    def forget(self) -> None:
        """The app is deleted: nothing serves."""
        for key in ray_private.list_state(self._prefix):
            ray_private.delete_state(key)

    def _key(self, servable: ServableId) -> str:
        return self._prefix + servable_app(self._app, servable)
