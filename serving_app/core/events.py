"""What has happened, told to the Manager: past facts only.

An event about a version may tell in `order` the number of the order that it answers; if the version vanished uncalled
for, the number of the order that had loaded it; 0 if an earlier manager gave that order. None leaves it open.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from serving_app.core.door import Door
from serving_app.core.errors import Code
from serving_app.core.placement import Placement
from serving_app.core.policies import AspiredVersionPolicy, AvailabilityPreserving, Latest, VersionPolicy
from serving_app.core.resources import Demand, NodeResources
from serving_app.core.servable import ServableId
from serving_app.core.signatures import Signature
from serving_app.core.traffic import Traffic, versions_of


@dataclass(frozen=True, slots=True)
class ModelIntent:
    """What the manager needs to know of a configured model."""

    name: str
    version_policy: VersionPolicy = field(default_factory=Latest)
    aspired_policy: AspiredVersionPolicy = field(default_factory=AvailabilityPreserving)
    labels: Mapping[str, int] = field(default_factory=dict)
    demand: Demand = field(default_factory=Demand)
    """What a replica reserves; without a figure for memory, that is estimated from the size of a version's files."""
    memory_factor: float = 1.2
    """Bytes of memory estimated for each byte of a version's files (TensorFlow Serving's factor)."""
    traffic: Mapping[str, Traffic] = field(default_factory=dict)
    """How requests are shared among versions, by the label that they name, "" for none. Those versions are served
    besides the policy's."""

    @property
    def named(self) -> frozenset[int]:
        """The versions that are served besides the policy's."""
        return versions_of(self.traffic.values())


@dataclass(frozen=True, slots=True)
class ConfigApplied:
    """The models that are wanted from now on; a model that is not listed is wanted no more."""

    models: tuple[ModelIntent, ...]


@dataclass(frozen=True, slots=True)
class VersionsListed:
    """A poll of a model's base path succeeded and found these finished versions (number to path).

    `waiting` has the versions that are still being written, and what each of them lacks; they are not to be loaded.
    `sizes` has the bytes of the versions that were looked into. `warnings` are for people. `found` has every version
    that lies there, also those that nobody has looked into.
    """

    model: str
    versions: Mapping[int, str]
    waiting: Mapping[int, str] = field(default_factory=dict)
    sizes: Mapping[int, int] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    found: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class ListingFailed:
    """A poll of a model's base path failed; what was known before still holds."""

    model: str
    code: Code
    message: str


@dataclass(frozen=True, slots=True)
class NodesSeen:
    """What the nodes of the cluster have; told when it is first known and when it changes."""

    nodes: tuple[NodeResources, ...]


@dataclass(frozen=True, slots=True)
class LoadProgressed:
    """How far a load is, in words (`fetched 120 of 480 MB`). Only for people."""

    servable: ServableId
    message: str
    order: int | None = None


@dataclass(frozen=True, slots=True)
class ServableLoaded:
    """A version is loaded and can answer under this application name."""

    servable: ServableId
    app: str
    signatures: Mapping[str, Signature]
    order: int | None = None
    placement: Placement = Placement.DEDICATED


@dataclass(frozen=True, slots=True)
class ServableMoved:
    """A loaded version has been loaded once more, somewhere else, and is to be asked there from now on.

    Where it was it answers until no reader names it there: that is the teller's affair.
    """

    servable: ServableId
    app: str
    signatures: Mapping[str, Signature]
    placement: Placement
    order: int | None = None


@dataclass(frozen=True, slots=True)
class LoadFailed:
    """A version could not be loaded; remains of it may be left until ServableGone."""

    servable: ServableId
    code: Code
    message: str
    order: int | None = None


@dataclass(frozen=True, slots=True)
class ServableGone:
    """Nothing of a version is left: after an ordered unload, or because someone else removed it."""

    servable: ServableId
    order: int | None = None


@dataclass(frozen=True, slots=True)
class LoadAdopted:
    """A load that an earlier manager ordered was found under way (sent only before the first Tick after a restart)."""

    servable: ServableId
    path: str | None = None


@dataclass(frozen=True, slots=True)
class ServableAdopted:
    """A version that an earlier manager loaded was found serving (sent only before the first Tick after a restart)."""

    servable: ServableId
    app: str
    signatures: Mapping[str, Signature]
    path: str | None = None
    placement: Placement = Placement.DEDICATED


@dataclass(frozen=True, slots=True)
class DoorsSeen:
    """Where all replicas of an application listen for lanes that are known to be there now."""

    app: str
    doors: tuple[Door, ...]


@dataclass(frozen=True, slots=True)
class ReaderJoined:
    """Someone (a gateway, a handle client) routes by our tables; it acknowledges nothing yet."""

    reader: str


@dataclass(frozen=True, slots=True)
class RoutesAcknowledged:
    """No request of this reader follows a table older than this revision any more, whatever it had in flight."""

    reader: str
    revision: int


@dataclass(frozen=True, slots=True)
class ReaderLeft:
    """The reader said good-bye, or its lease lapsed: nothing needs to wait for it."""

    reader: str


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed: retries may be due."""


Event = (
    ConfigApplied
    | VersionsListed
    | ListingFailed
    | NodesSeen
    | LoadProgressed
    | ServableLoaded
    | ServableMoved
    | LoadFailed
    | ServableGone
    | LoadAdopted
    | ServableAdopted
    | DoorsSeen
    | ReaderJoined
    | RoutesAcknowledged
    | ReaderLeft
    | Tick
)
