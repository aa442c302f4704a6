"""What was counted, kept in the cluster's key-value store for the next controller. Everything here blocks."""

from __future__ import annotations

import logging
import pickle
import zlib
from typing import NamedTuple

from serving_app import ray_private
from serving_app.core.metrics import Snapshot

logger = logging.getLogger("serving_app.controller")


class KeptCounts(NamedTuple):
    """The sum of what processes counted that are gone, what each of the others has reported, and the names of those who
    have said good-bye, in this order; what callers have brought since it was kept last, and the number of the last
    parcel that each of them has brought, those who were here last at the end."""

    departed: Snapshot
    reported: dict[str, Snapshot]
    farewells: tuple[str, ...]
    brought: Snapshot
    parcels: dict[str, int]


NOTHING = KeptCounts({}, {}, (), {}, {})


def read(app: str) -> KeptCounts:
    """What is kept for an app; nothing if that cannot be read, as when another release wrote it."""
    encoded = ray_private.get_state(_key(app))
    if encoded is None:
        return NOTHING
    try:
        kept = pickle.loads(zlib.decompress(encoded))
    except Exception as error:  # pickle raises whatever it stumbles over
        logger.warning("what was counted before cannot be read (%r); what is gone is not counted any more", error)
        return NOTHING
    return kept if isinstance(kept, KeptCounts) else NOTHING


def write(app: str, pickled: bytes) -> None:
    """Keep these counts, as `pickle.dumps` makes them, in place of those before."""
    # Most of it are buckets that nothing fell into.
    ray_private.put_state(_key(app), zlib.compress(pickled, 1))


def forget(app: str) -> None:
    """Keep nothing for this app."""
    ray_private.delete_state(_key(app))


def _key(app: str) -> str:
    return f"metrics:{app}"
