"""Which versions are aspired, and what to do next about them: pure functions over snapshots.

Version policies say which of the versions found in a store are aspired. Aspired-version policies say which single
step brings what is loaded closer to what is aspired.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Latest:
    """The `num_versions` largest version numbers; 0 means 1, as in TFS."""

    num_versions: int = 1


@dataclass(frozen=True, slots=True)
class All:
    """Every version found."""


@dataclass(frozen=True, slots=True)
class Specific:
    """These versions, as far as they are found."""

    versions: tuple[int, ...]


VersionPolicy = Latest | All | Specific


def aspired_versions(policy: VersionPolicy, found: Iterable[int]) -> frozenset[int]:
    """The versions that should be served, of those found."""
    if isinstance(policy, All):
        return frozenset(found)
    if isinstance(policy, Specific):
        return frozenset(found) & frozenset(policy.versions)
    return frozenset(sorted(found, reverse=True)[: policy.num_versions or 1])


@dataclass(frozen=True, slots=True)
class AvailabilityPreserving:
    """Load first, unload after: some version answers at any time, at the price of holding two for a moment."""


@dataclass(frozen=True, slots=True)
class ResourcePreserving:
    """Unload first, load after: never two versions in memory, at the price of a gap."""


AspiredVersionPolicy = AvailabilityPreserving | ResourcePreserving
