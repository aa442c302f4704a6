"""What another process of the cluster raised, as its callers here should see it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from serving_app.core.errors import Internal, ServingError, Unavailable

if TYPE_CHECKING:
    from ray.exceptions import RayTaskError


class Lost(Unavailable):
    """Nobody answered, and what was asked may have been done all the same: to ask again is the caller's choice.

    Any other Unavailable that a call comes back with says that nothing of it was done.
    """


def cause_of(error: RayTaskError) -> ServingError:
    """What was raised there, without the stack that Ray puts into the text: that is for a log, not for callers."""
    cause = error.cause
    return cause if isinstance(cause, ServingError) else Internal(f"{type(cause).__name__}: {cause}")


def of_a_hop(error: ServingError) -> ServingError:
    """Why a hop failed as a whole, as those see it who are on it: how far their calls had come is not known."""
    return Lost(error.message) if isinstance(error, Unavailable) else error
