"""The ways to all versions that a process calls: by routes, one Caller for each version."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from functools import partial

from serving_app import ray_private
from serving_app.client.caller import Caller
from serving_app.client.hops import Hops
from serving_app.client.lane_set import LaneSet
from serving_app.core.placement import Placement
from serving_app.core.routing import Route, RouteTable
from serving_app.core.servable import ServableId

_METHODS = {Placement.DEDICATED: "predict_many", Placement.COLOCATED: "predict_colocated"}
"""Of replicas of a version's own application, and of gateways."""

_Key = tuple[str, ServableId | None]
"""An application and, where that is the gateways', one of the versions that they hold."""


class Callers:
    """One Caller per version that the route table names. Versions that live in gateways share the ways there."""

    def __init__(self, placements: Collection[Placement] = tuple(Placement), node: str | None = None) -> None:
        """Versions at these places are called from here. `node` is where this process runs, found out if it is not
        told."""
        self._placements = placements
        self._node = node
        self._callers: dict[_Key, Caller] = {}
        self._hops: dict[str, Hops] = {}
        self._endings: set[asyncio.Task[None]] = set()

    async def prepare(self, table: RouteTable) -> None:
        """Get ready to route by this table: when a request follows it, the way to the replicas is known already.

        Callers that no route names and nobody uses any more are let go of.
        """
        named = {
            _key(route): route
            for model in table.models.values()
            for route in model.routes.values()
            if route.placement in self._placements
        }
        for key in [key for key, caller in self._callers.items() if key not in named and caller.is_idle]:
            del self._callers[key]
        used = {app for app, _ in self._callers} | {route.app for route in named.values()}
        for app in self._hops.keys() - used:
            ending = asyncio.create_task(self._hops.pop(app).close())
            self._endings.add(ending)
            ending.add_done_callback(self._endings.discard)
        new = {route.app for route in named.values()} - self._hops.keys()
        for route in named.values():
            self.find(route)
        for app in used:
            self._hops[app].follow(table.doors.get(app, ()))
        await asyncio.gather(*(self._hops[app].prepare() for app in new))

    def close_lanes(self) -> None:
        """Nobody calls any more. Handles stay: all of a process that lead to one application share what they are."""
        for hops in self._hops.values():
            hops.follow_no_more()

    def find(self, route: Route) -> Caller:
        """The caller of a version that some table has named."""
        return self._callers.get(_key(route)) or self._open(route)

    def find_idle(self, route: Route) -> tuple[LaneSet, ServableId | None] | None:
        """The lanes to a version for which nothing waits or is under way, and how it is called there; None if there is
        something, or they are not known. May be asked from any thread."""
        app, servable = key = _key(route)
        caller, hops = self._callers.get(key), self._hops.get(app)
        return (hops.lanes, servable) if caller is not None and hops is not None and caller.is_idle else None

    def waiting(self, route: Route) -> int:
        """How many calls of a version have not left yet."""
        known = self._callers.get(_key(route))
        return known.waiting if known is not None else 0

    def _open(self, route: Route) -> Caller:
        app, servable = key = _key(route)
        if app not in self._hops:
            if self._node is None:
                self._node = ray_private.node_id()
            self._hops[app] = Hops(app, self._node, _METHODS[route.placement])
        hops = self._hops[app]
        self._callers[key] = caller = Caller(partial(hops.send, servable=servable), hops.count_replicas)
        return caller


def _key(route: Route) -> _Key:
    return route.app, route.servable if route.placement is Placement.COLOCATED else None
