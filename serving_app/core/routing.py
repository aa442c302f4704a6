"""Which servable answers a request: one immutable, numbered table, and one function over it.

The controller publishes tables; gateways and handle clients hold the newest one they have seen and run the same
`resolve`. A table names only versions that are ready. It also carries every known version's public status, so that
a status request needs no call to the controller.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from serving_app.core.door import Door
from serving_app.core.errors import Code, InvalidArgument, NotFound
from serving_app.core.placement import Placement
from serving_app.core.servable import ModelSpec, ServableId
from serving_app.core.signatures import Signature
from serving_app.core.states import PublicState
from serving_app.core.traffic import Attributes, Tolerance, Traffic, is_copied, no_attributes, pick


@dataclass(frozen=True, slots=True)
class Route:
    """A ready version and the Serve application that answers for it. Nobody derives that name: it is read here.

    A colocated version is answered for by the gateways' application: each gateway has it in its own process.
    """

    servable: ServableId
    app: str
    signatures: Mapping[str, Signature]
    placement: Placement = Placement.DEDICATED


@dataclass(frozen=True, slots=True)
class VersionStatus:
    """One version as GetModelStatus reports it."""

    version: int
    state: PublicState
    code: Code = Code.OK
    message: str = ""


@dataclass(frozen=True, slots=True)
class ModelRoutes:
    """One model's ready versions, its labels, and the status of every version known of it, newest first."""

    routes: Mapping[int, Route] = field(default_factory=dict)
    labels: Mapping[str, int] = field(default_factory=dict)
    statuses: tuple[VersionStatus, ...] = ()
    traffic: Mapping[str, Traffic] = field(default_factory=dict)
    """How requests are shared, by the label that they name; those that name nothing but the model are at ""."""

    latest: int | None = field(init=False)
    """The largest ready version."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "latest", max(self.routes, default=None))


@dataclass(frozen=True, slots=True)
class RouteTable:
    """Everything a reader needs to route. Revisions only grow; equal revisions mean equal tables."""

    revision: int = 0
    models: Mapping[str, ModelRoutes] = field(default_factory=dict)
    doors: Mapping[str, tuple[Door, ...]] = field(default_factory=dict)
    """Where replicas listen for lanes, by application, of those that some route names. It may name none of a version's
    replicas, or one that is gone: Serve's handle reaches those that there are."""


def resolve(spec: ModelSpec, table: RouteTable, attributes: Attributes = no_attributes) -> Route:
    """The route for a request, or TensorFlow Serving's error (server_core.cc, ServableRequestFromModelSpec).

    Where traffic is shared and none of its versions is ready, it is as if it were not shared.
    """
    if not spec.name:
        raise InvalidArgument("ModelSpec has no name specified.")
    model = table.models.get(spec.name)
    version = spec.version
    if version is None and model is not None and model.traffic and spec.label != "":
        traffic = model.traffic.get(spec.label or "")
        version = pick(traffic, model.routes, attributes) if traffic else None
    if version is None and spec.label is not None:
        version = model.labels.get(spec.label) if model else None
        if version is None:
            raise InvalidArgument(f"Unrecognized servable version label: {spec.label}")
    if version is None:
        version = model.latest if model else None
        if model is None or version is None:
            raise NotFound(f"Servable not found for request: Latest({spec.name})")
        return model.routes[version]
    route = model.routes.get(version) if model else None
    if route is None:
        raise NotFound(f"Servable not found for request: Specific({spec.name}, {version})")
    return route


class Candidate(NamedTuple):
    """A version that is to get a copy of a request, and what its answer may differ by."""

    route: Route
    tolerances: Mapping[str, Tolerance]


def find_candidate(spec: ModelSpec, table: RouteTable, route: Route) -> Candidate | None:
    """Who gets a copy of a request that `resolve` has given this route to; nobody, most of the time.

    A version gets no copies of what it answers itself, and none while it is not ready.
    """
    model = table.models[spec.name]
    if not model.traffic or spec.version is not None or spec.label == "":
        return None
    traffic = model.traffic.get(spec.label or "")
    if traffic is None or traffic.mirror is None or not is_copied(traffic.mirror):
        return None
    candidate = model.routes.get(traffic.mirror.version)
    if candidate is None or candidate is route:
        return None
    return Candidate(candidate, traffic.mirror.tolerances)


def is_routed(route: Route, table: RouteTable) -> bool:
    """Whether a table still names the version."""
    model = table.models.get(route.servable.name)
    return model is not None and route.servable.version in model.routes


def find_statuses(spec: ModelSpec, table: RouteTable) -> tuple[VersionStatus, ...]:
    """What GetModelStatus answers: one version if the spec names one, else all; labels are not looked at, as in TFS."""
    model = table.models.get(spec.name)
    statuses = model.statuses if model else ()
    if spec.version is not None:
        statuses = tuple(status for status in statuses if status.version == spec.version)
    if not statuses:
        # Of a model that is unknown the same is said as of a version that is (get_model_status_impl.cc).
        missing = "any versions" if spec.version is None else f"version {spec.version}"
        raise NotFound(f"Could not find {missing} of model {spec.name}")
    return statuses
