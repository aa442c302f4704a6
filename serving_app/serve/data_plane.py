"""What REST and gRPC have in common: find the servable, run the call, guard its time.

    with plane.route(spec) as route:                  # lookup
        inputs = ... decode by route.signatures ...   # the front end's codec
        outputs = await plane.run(route, call)        # call
        ... encode ...

The front ends are twins over this: they differ in the codec before and after.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from serving_app.client.handle_calls import HandleCallers
from serving_app.client.route_follower import RouteFollower
from serving_app.core.errors import DeadlineExceeded
from serving_app.core.routing import Route, RouteTable, VersionStatus, find_statuses, resolve
from serving_app.core.servable import ModelSpec
from serving_app.protocol.calls import Call, Outputs
from serving_app.serve.request_meter import current_request

LARGE_BYTES = 1 << 18
"""Requests and answers above this are read and written in a thread: it may take seconds to find the mistake in
megabytes of wrong JSON, and other requests are not to wait for that. Below it the thread would cost more than it
gains."""

_Result = TypeVar("_Result")


async def work_on(size: int, work: Callable[[], _Result]) -> _Result:
    """What `work` gives, which reads or writes so many bytes; it raises what that raises."""
    return await asyncio.to_thread(work) if size > LARGE_BYTES else work()


class DataPlane:
    """Routes by the newest table and calls the version that it names."""

    def __init__(self, follower: RouteFollower, callers: HandleCallers) -> None:
        self._follower = follower
        self._callers = callers

    @property
    def table(self) -> RouteTable:
        """The table in force."""
        return self._follower.table

    @contextmanager
    def route(self, spec: ModelSpec) -> Iterator[Route]:
        """The route for one request; the version stays loaded while it is held."""
        request = current_request()
        if request is not None:
            request.model = spec.name
        with self._follower.lease() as table:
            route = resolve(spec, table)
            if request is not None:
                request.version = str(route.servable.version)
            yield route

    def statuses(self, spec: ModelSpec) -> tuple[VersionStatus, ...]:
        """The status of one version, or of all versions of a model."""
        return find_statuses(spec, self._follower.table)

    async def run(self, route: Route, call: Call) -> Outputs:
        """The outputs of one call. Raises its error, or DeadlineExceeded when its time is over."""
        request = current_request()
        if request is not None:
            call = request.take(call)
        reply = self._callers.find(route.app).call(call)
        if call.timeout is None:
            return await reply
        try:
            async with asyncio.timeout(call.timeout):
                return await reply
        except TimeoutError:
            raise DeadlineExceeded(f"{route.servable} gave no answer within {call.timeout:.3f} s") from None
