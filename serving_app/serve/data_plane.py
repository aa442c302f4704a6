"""What REST and gRPC have in common: find the servable, run the call, guard its time.

    with plane.route(spec, measured, attributes) as route:        # lookup
        inputs = ... decode by route.signatures ...   # the front end's codec
        outputs = await plane.run(route, call, measured)
        ... encode ...

The front ends are twins over this: they differ in the codec before and after.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from serving_app.client.callers import Callers
from serving_app.client.copy_limits import USUAL, Limits
from serving_app.client.mirroring import Mirroring
from serving_app.client.route_follower import RouteFollower
from serving_app.core.errors import as_serving_error
from serving_app.core.metrics import Registry
from serving_app.core.placement import Placement
from serving_app.core.routing import (
    Route,
    RouteTable,
    VersionStatus,
    find_candidate,
    find_statuses,
    is_routed,
    resolve,
)
from serving_app.core.servable import ModelSpec
from serving_app.core.stages import Traveller
from serving_app.core.traffic import Attributes
from serving_app.protocol.calls import Call, Outputs
from serving_app.serve.deadlines import Deadlines
from serving_app.serve.request_meter import Request
from serving_app.serve.residents import Residents

LARGE_BYTES = 1 << 18
"""Requests and answers above this are read and written in a thread: it may take seconds to find the mistake in
megabytes of wrong JSON, and other requests are not to wait for that. Below it the thread would cost more than it
gains."""

_Result = TypeVar("_Result")


async def work_on(size: int, work: Callable[[], _Result]) -> _Result:
    """What `work` gives, which reads or writes so many bytes; it raises what that raises."""
    return await asyncio.to_thread(work) if size > LARGE_BYTES else work()


class DataPlane:
    """Routes by the newest table and calls the version that it names. Those that live in this process are among
    `residents`."""

    def __init__(
        self, follower: RouteFollower, callers: Callers, residents: Residents | None = None,
        registry: Registry | None = None, copies: Limits = USUAL,
    ) -> None:
        """Without a registry nobody gets to know what comes of copies, which may cost as much as `copies` says."""
        self._follower = follower
        self._callers = callers
        self._residents = residents
        self._deadlines = Deadlines()
        self._mirroring = Mirroring(
            registry or Registry(), self._begin, lambda route: is_routed(route, self.table), copies
        )

    @property
    def table(self) -> RouteTable:
        """The table in force."""
        return self._follower.table

    def route(self, spec: ModelSpec, measured: Request, attributes: Attributes) -> RouteLease:
        """The route for one request, as a context; the version stays loaded while it is held."""
        return RouteLease(self._follower, spec, measured, attributes)

    def statuses(self, spec: ModelSpec) -> tuple[VersionStatus, ...]:
        """The status of one version, or of all versions of a model."""
        return find_statuses(spec, self._follower.table)

    def close(self) -> None:
        """Copy no more requests."""
        self._mirroring.close()

    async def run(self, route: Route, call: Call, measured: Request) -> Outputs:
        """The outputs of one call. Raises its error, or DeadlineExceeded when its time is over."""
        call = measured.take(call)
        candidate = measured.candidate
        try:
            begun = self._begin(route, call, measured)
            if isinstance(begun, dict):
                outputs = begun
            else:
                outputs = await (
                    begun if call.timeout is None else self._deadlines.wait(begun, call.timeout, route.servable)
                )
        except Exception as error:
            if candidate is not None:
                self._mirroring.offer(route, candidate, call, as_serving_error(error), 0.0)
            raise
        measured.receive()
        if candidate is not None:
            self._mirroring.offer(route, candidate, call, outputs, measured.got - measured.sent)
        return outputs

    def _begin(
        self, route: Route, call: Call, traveller: Traveller | None = None
    ) -> Outputs | asyncio.Future[Outputs]:
        if route.placement is Placement.COLOCATED and self._residents is not None:
            return self._residents.begin(route.servable, call, traveller)
        return self._callers.find(route).submit(call, traveller)


class RouteLease:
    """The route for one request, for the length of a block. Raises what `resolve` raises."""

    __slots__ = ("_attributes", "_follower", "_measured", "_spec", "_table")

    def __init__(
        self, follower: RouteFollower, spec: ModelSpec, measured: Request, attributes: Attributes
    ) -> None:
        self._follower = follower
        self._spec = spec
        self._measured = measured
        self._attributes = attributes

    def __enter__(self) -> Route:
        self._measured.model = self._spec.name
        table = self._follower.table
        route = resolve(self._spec, table, self._attributes)
        self._measured.version = str(route.servable.version)
        self._measured.candidate = find_candidate(self._spec, table, route)
        self._table = self._follower.borrow()
        return route

    def __exit__(self, *_error: object) -> None:
        self._follower.give_back(self._table)
