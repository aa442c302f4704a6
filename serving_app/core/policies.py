"""Which versions are aspired, and what to do next about them: pure functions over snapshots.

Version policies say which of the versions found in a store are aspired. Aspired-version policies say which single
step brings what is loaded closer to what is aspired.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from serving_app.core.states import State


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


def describe_policy(policy: VersionPolicy) -> str:
    """A version policy in words, for people."""
    match policy:
        case All():
            return "all versions"
        case Specific():
            numbers = ", ".join(map(str, policy.versions)) or "(none)"
            return f"version {numbers}" if len(policy.versions) == 1 else f"versions {numbers}"
        case Latest():
            return "the latest version" if policy.num_versions <= 1 else f"the latest {policy.num_versions} versions"


def aspired_versions(
    policy: VersionPolicy, found: Iterable[int], named: AbstractSet[int] = frozenset()
) -> frozenset[int]:
    """The versions that should be served, of those found: the policy's, and those `named` for other reasons."""
    found = frozenset(found)
    if isinstance(policy, All):
        return found
    if isinstance(policy, Specific):
        return found & (named | frozenset(policy.versions))
    return found & (named | frozenset(sorted(found, reverse=True)[: policy.num_versions or 1]))


@dataclass(frozen=True, slots=True)
class AvailabilityPreserving:
    """Load first, unload after: some version answers at any time, at the price of holding two for a moment."""


@dataclass(frozen=True, slots=True)
class ResourcePreserving:
    """Unload first, load after: never two versions in memory, at the price of a gap."""


AspiredVersionPolicy = AvailabilityPreserving | ResourcePreserving


@dataclass(frozen=True, slots=True)
class VersionSnapshot:
    """What a policy needs to know of one version."""

    version: int
    state: State
    aspired: bool


@dataclass(frozen=True, slots=True)
class Load:
    """Load this version next."""

    version: int


@dataclass(frozen=True, slots=True)
class Unload:
    """Unload this version next."""

    version: int


def next_step(policy: AspiredVersionPolicy, versions: Sequence[VersionSnapshot]) -> Load | Unload | None:
    """The one step of a model that comes next, or None when it has to wait or is done.

    Whoever takes the step asks again with the changed snapshots, until the answer is None.
    """
    if isinstance(policy, ResourcePreserving):
        return _preserve_resources(versions)
    return _preserve_availability(versions)


def _preserve_availability(versions: Sequence[VersionSnapshot]) -> Load | Unload | None:
    """As TensorFlow Serving's availability_preserving_policy.cc.

    An unwanted version may go when nothing is aspired, when something aspired is ready, or when another unwanted one
    stays behind. So the last version keeps serving while its successors load, and for as long as they fail.
    """
    unwanted = [each.version for each in versions if each.state is State.READY and not each.aspired]
    any_aspired = any(each.aspired for each in versions)
    any_aspired_ready = any(each.aspired and each.state is State.READY for each in versions)
    if unwanted and (not any_aspired or any_aspired_ready or len(unwanted) > 1):
        return Unload(min(unwanted))
    return _highest_new(versions)


_BEING_REMOVED = frozenset({State.DRAINING, State.UNLOADING, State.CLEARING})
_NOT_THERE = frozenset({State.NEW, State.FAILED, State.UNFIT, State.ENDED})


def _preserve_resources(versions: Sequence[VersionSnapshot]) -> Load | Unload | None:
    """As TensorFlow Serving's resource_preserving_policy.cc: unload all that is unwanted, wait for it, then load.

    It also waits for an aspired version that is being removed (it was unwanted a moment ago, or its load failed),
    which TensorFlow Serving's manager does by postponing the whole list. And nothing goes to make room for versions
    that would not fit even then.
    """
    aspired = [each for each in versions if each.aspired]
    unwanted = [each for each in versions if not each.aspired]
    if aspired and all(each.state is State.UNFIT for each in aspired):
        return None
    ready = [each.version for each in unwanted if each.state is State.READY]
    if ready:
        return Unload(min(ready))
    if any(each.state not in _NOT_THERE for each in unwanted):
        return None
    if any(each.state in _BEING_REMOVED for each in versions):
        return None
    return _highest_new(versions)


def _highest_new(versions: Sequence[VersionSnapshot]) -> Load | None:
    new = [each.version for each in versions if each.aspired and each.state is State.NEW]
    return Load(max(new)) if new else None
