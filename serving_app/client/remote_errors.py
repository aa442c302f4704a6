"""What another process of the cluster raised, as its callers here should see it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from serving_app.core.errors import Internal, ServingError

if TYPE_CHECKING:
    from ray.exceptions import RayTaskError


def cause_of(error: RayTaskError) -> ServingError:
    """What was raised there, without the stack that Ray puts into the text: that is for a log, not for callers."""
    cause = error.cause
    return cause if isinstance(cause, ServingError) else Internal(f"{type(cause).__name__}: {cause}")
