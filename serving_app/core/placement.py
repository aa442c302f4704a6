"""Where a version lives."""

from __future__ import annotations

from enum import Enum


class Placement(Enum):
    """The processes that hold a version."""

    DEDICATED = "dedicated"  # replicas of its own
    COLOCATED = "colocated"  # every gateway
