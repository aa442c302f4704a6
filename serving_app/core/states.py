"""The life of one servable version, as a table.

Inner states are ours; clients see TensorFlow Serving's five, which are a function of them (`public_state`).
"""

from __future__ import annotations

from enum import Enum, IntEnum


class State(Enum):
    """Where a version is."""

    NEW = "new"  # aspired, nothing ordered yet
    LOADING = "loading"  # a load is under way
    READY = "ready"  # loaded; routes may name it
    DRAINING = "draining"  # no route names it any more; some reader of the routes may not know that yet
    UNLOADING = "unloading"  # its removal is ordered
    CLEARING = "clearing"  # its load failed and what is left of it is being removed
    FAILED = "failed"  # its load failed, nothing of it is left; retried while it stays aspired
    ENDED = "ended"  # unloaded and gone


class PublicState(IntEnum):
    """TensorFlow Serving's ModelVersionStatus.State."""

    UNKNOWN = 0
    START = 10
    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    END = 50


_PUBLIC = {
    State.NEW: PublicState.START,
    State.LOADING: PublicState.LOADING,
    State.READY: PublicState.AVAILABLE,
    State.DRAINING: PublicState.UNLOADING,
    State.UNLOADING: PublicState.UNLOADING,
    State.CLEARING: PublicState.END,
    State.FAILED: PublicState.END,
    State.ENDED: PublicState.END,
}


def public_state(state: State) -> PublicState:
    """What a client of GetModelStatus sees."""
    return _PUBLIC[state]
