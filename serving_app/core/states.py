"""The life of one servable version, as a table.

Inner states are ours; clients see TensorFlow Serving's five, which are a function of them (`public_state`).

A version moves for a cause, and only as `MOVES` says. Causes come in two sorts:

* Reports tell what the world did. They can come late or twice, so the table has an entry for every state, and most
  of those entries say that nothing changes. A report that is known to be about an order other than the newest one
  does not get here at all; the table is for the others. It relies on one rule of the reporters: reports about one
  version arrive in the order in which they became true. So a `GONE` that arrives in LOADING is a repetition of the
  one that made room for this load, and a `LOADED` that arrives in UNLOADING has crossed the order to unload.
* Decisions are the manager's own. A decision that the table does not know is a mistake in the manager, and raises
  `IllegalMove` with everything that this version has gone through.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, IntEnum
from typing import Any

from serving_app.core.errors import Internal


class State(Enum):
    """Where a version is."""

    NEW = "new"  # aspired, nothing ordered yet
    LOADING = "loading"  # a load is under way
    READY = "ready"  # loaded; routes may name it
    DRAINING = "draining"  # no route names it any more; some reader of the routes may not know that yet
    UNLOADING = "unloading"  # its removal is ordered
    CLEARING = "clearing"  # its load failed and what is left of it is being removed
    FAILED = "failed"  # its load failed, nothing of it is left; retried while it stays aspired
    UNFIT = "unfit"  # no node of the cluster could hold it, nothing of it is there; looked at again when that changes
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
    State.UNFIT: PublicState.END,
    State.ENDED: PublicState.END,
}


def public_state(state: State) -> PublicState:
    """What a client of GetModelStatus sees."""
    return _PUBLIC[state]


class Cause(Enum):
    """Why a version moves."""

    # Reports.
    LOADED = "loaded"
    LOAD_FAILED = "load failed"
    GONE = "gone"
    FOUND_LOADING = "found loading"
    FOUND_SERVING = "found serving"
    # Decisions.
    ASPIRE = "aspired again"
    LOAD = "load ordered"
    REJECT = "found to fit on no node"
    ADMIT = "found to fit"
    DRAIN = "taken out of the routes"
    KEEP = "put back into the routes"
    UNLOAD = "unload ordered"
    END = "aspired no more"


REPORTS = (Cause.LOADED, Cause.LOAD_FAILED, Cause.GONE, Cause.FOUND_LOADING, Cause.FOUND_SERVING)

MOVES: Mapping[tuple[State, Cause], State] = {
    # Nothing is ordered yet, so nothing that is reported can be about this life of the version, unless an earlier
    # manager had ordered it.
    (State.NEW, Cause.LOADED): State.NEW,
    (State.NEW, Cause.LOAD_FAILED): State.NEW,
    (State.NEW, Cause.GONE): State.NEW,
    (State.NEW, Cause.FOUND_LOADING): State.LOADING,
    (State.NEW, Cause.FOUND_SERVING): State.READY,
    (State.NEW, Cause.LOAD): State.LOADING,
    (State.NEW, Cause.REJECT): State.UNFIT,
    # Exactly one answer ends a load, LOADED or LOAD_FAILED, unless the order to unload comes before it.
    (State.LOADING, Cause.LOADED): State.READY,
    (State.LOADING, Cause.LOAD_FAILED): State.CLEARING,
    (State.LOADING, Cause.GONE): State.LOADING,
    (State.LOADING, Cause.FOUND_LOADING): State.LOADING,
    (State.LOADING, Cause.FOUND_SERVING): State.READY,
    (State.LOADING, Cause.UNLOAD): State.UNLOADING,
    # Loaded once, a version cannot fail to load: whatever ends it uncalled for is reported as GONE.
    (State.READY, Cause.LOADED): State.READY,
    (State.READY, Cause.LOAD_FAILED): State.READY,
    (State.READY, Cause.GONE): State.ENDED,
    (State.READY, Cause.FOUND_LOADING): State.READY,
    (State.READY, Cause.FOUND_SERVING): State.READY,
    (State.READY, Cause.DRAIN): State.DRAINING,
    # Until the order to unload is given, the way back is open.
    (State.DRAINING, Cause.LOADED): State.DRAINING,
    (State.DRAINING, Cause.LOAD_FAILED): State.DRAINING,
    (State.DRAINING, Cause.GONE): State.ENDED,
    (State.DRAINING, Cause.FOUND_LOADING): State.DRAINING,
    (State.DRAINING, Cause.FOUND_SERVING): State.DRAINING,
    (State.DRAINING, Cause.KEEP): State.READY,
    (State.DRAINING, Cause.UNLOAD): State.UNLOADING,
    # Only GONE ends an unload; a version that is aspired again has to wait for it.
    (State.UNLOADING, Cause.LOADED): State.UNLOADING,
    (State.UNLOADING, Cause.LOAD_FAILED): State.UNLOADING,
    (State.UNLOADING, Cause.GONE): State.ENDED,
    (State.UNLOADING, Cause.FOUND_LOADING): State.UNLOADING,
    (State.UNLOADING, Cause.FOUND_SERVING): State.UNLOADING,
    # As UNLOADING, but the failure is remembered. A LOADED after all comes too late: the removal is ordered.
    (State.CLEARING, Cause.LOADED): State.CLEARING,
    (State.CLEARING, Cause.LOAD_FAILED): State.CLEARING,
    (State.CLEARING, Cause.GONE): State.FAILED,
    (State.CLEARING, Cause.FOUND_LOADING): State.CLEARING,
    (State.CLEARING, Cause.FOUND_SERVING): State.CLEARING,
    # Nothing is left of the version and nothing is ordered.
    (State.FAILED, Cause.LOADED): State.FAILED,
    (State.FAILED, Cause.LOAD_FAILED): State.FAILED,
    (State.FAILED, Cause.GONE): State.FAILED,
    (State.FAILED, Cause.FOUND_LOADING): State.LOADING,
    (State.FAILED, Cause.FOUND_SERVING): State.READY,
    (State.FAILED, Cause.LOAD): State.LOADING,
    (State.FAILED, Cause.REJECT): State.UNFIT,
    (State.FAILED, Cause.END): State.ENDED,
    # Likewise; that it was found all the same is believed, as the nodes may have changed.
    (State.UNFIT, Cause.LOADED): State.UNFIT,
    (State.UNFIT, Cause.LOAD_FAILED): State.UNFIT,
    (State.UNFIT, Cause.GONE): State.UNFIT,
    (State.UNFIT, Cause.FOUND_LOADING): State.LOADING,
    (State.UNFIT, Cause.FOUND_SERVING): State.READY,
    (State.UNFIT, Cause.ADMIT): State.NEW,
    (State.UNFIT, Cause.END): State.ENDED,
    # Likewise, and nobody wants it.
    (State.ENDED, Cause.LOADED): State.ENDED,
    (State.ENDED, Cause.LOAD_FAILED): State.ENDED,
    (State.ENDED, Cause.GONE): State.ENDED,
    (State.ENDED, Cause.FOUND_LOADING): State.LOADING,
    (State.ENDED, Cause.FOUND_SERVING): State.READY,
    (State.ENDED, Cause.ASPIRE): State.NEW,
}


class IllegalMove(Internal):
    """The manager decided something that the table of moves does not know: a defect, shown with the version's story."""

    def __init__(self, subject: str, state: State, cause: Cause, story: str) -> None:
        super().__init__(f"{subject} is {state.value} and cannot be '{cause.value}'. Its story so far:\n{story}")
        self.subject = subject
        self.state = state
        self.cause = cause
        self.story = story

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.subject, self.state, self.cause, self.story)
