"""Hops to servable versions, for processes on the Ray cluster: on a lane to a replica, else by Serve's handle.

The handle knows every replica that Serve knows, waits for one where there is none, and reaches those to which no lane
leads. A lane costs a tenth of it. Both ends give the same answers.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection
from typing import Any, NamedTuple

from ray.exceptions import RayActorError, RayError, RayTaskError
from ray.serve.exceptions import DeploymentUnavailableError, RayServeException
from ray.serve.handle import DeploymentHandle

from serving_app import ray_private
from serving_app.client.caller import Caller
from serving_app.client.lane import LaneBusy, LaneLost, NotCarried
from serving_app.client.lane_set import LaneSet
from serving_app.client.remote_errors import Lost, cause_of, of_a_hop
from serving_app.core.door import Door
from serving_app.core.errors import ServingError, Unavailable
from serving_app.core.placement import Placement
from serving_app.core.routing import RouteTable
from serving_app.protocol.calls import Answer, Call

logger = logging.getLogger(__name__)

_METHOD = "predict_many"
_TRIES = 2
_PREPARE_S = 2.0

_REST_S = 0.005
"""How long a replica that is too busy is left alone."""


class HandleCallers:
    """One Caller per application that the route table names."""

    def __init__(self, node: str | None = None) -> None:
        """`node` is where this process runs, found out if it is not told; replicas elsewhere are called by TCP."""
        self._node = node
        self._callers: dict[str, tuple[Caller, _Hop]] = {}
        self._endings: set[asyncio.Task[None]] = set()

    async def prepare(self, table: RouteTable) -> None:
        """Get ready to route by this table: when a request follows it, the way to the replicas is known already.

        Callers that no route names and nobody uses any more are let go of.
        """
        named = {
            route.app
            for model in table.models.values()
            for route in model.routes.values()
            if route.placement is Placement.DEDICATED
        }
        for app in [app for app, (caller, _) in self._callers.items() if app not in named and caller.is_idle]:
            _, hop = self._callers.pop(app)
            ending = asyncio.create_task(hop.close())
            self._endings.add(ending)
            ending.add_done_callback(self._endings.discard)
        new = [self._open(app)[1] for app in named - self._callers.keys()]
        for app in named:
            self._callers[app][1].follow(table.doors.get(app, ()))
        await asyncio.gather(*(hop.prepare() for hop in new))

    def close_lanes(self) -> None:
        """Nobody calls any more. Handles stay: all of a process that lead to one application share what they are."""
        for _, hop in self._callers.values():
            hop.follow_no_more()

    def find(self, app: str) -> Caller:
        """The caller of an application that some table has named."""
        return (self._callers.get(app) or self._open(app))[0]

    def waiting(self, app: str) -> int:
        """How many calls of an application have not left yet."""
        known = self._callers.get(app)
        return known[0].waiting if known is not None else 0

    def _open(self, app: str) -> tuple[Caller, _Hop]:
        if self._node is None:
            self._node = ray_private.node_id()
        hop = _Hop(app, self._node)
        self._callers[app] = Caller(hop.send, hop.count_replicas), hop
        return self._callers[app]


class _Ways(NamedTuple):
    """The two ways that a list of calls can take: inside the request, or by reference through the object store."""

    inline: DeploymentHandle[Any]
    by_reference: DeploymentHandle[Any]


class _Hop:
    """Sends lists of calls to any replica of one application."""

    def __init__(self, app: str, node: str) -> None:
        self._app = app
        self._lanes = LaneSet(app, node)
        self._ways: _Ways | None = None

    def count_replicas(self) -> int:
        """How many replicas lanes lead to."""
        return len(self._lanes)

    def follow(self, doors: Collection[Door]) -> None:
        """The replicas are behind these doors, as far as is known."""
        self._lanes.follow(doors)

    def follow_no_more(self) -> None:
        """Close the lanes, when what is under way on them is answered."""
        self._lanes.close()

    async def prepare(self) -> None:
        """Open lanes and the handle, and wait a moment until they lead somewhere. What fails here, a request will
        report."""
        await asyncio.gather(self._lanes.prepare(), self._prepare_handle())

    async def _prepare_handle(self) -> None:
        try:
            async with asyncio.timeout(_PREPARE_S):
                ways = await self._open()
                while not ways.inline.running_replicas_populated():  # noqa: ASYNC110 - there is no event to wait for
                    await asyncio.sleep(0.01)
        except (TimeoutError, RayError, RayServeException) as error:
            logger.warning("%s: no replica is known yet: %r", self._app, error)

    async def close(self) -> None:
        """Leave nothing behind that works for the application in the background."""
        self.follow_no_more()
        ways, self._ways = self._ways, None
        if ways is not None:
            await ray_private.close_handle(self._app, ways.inline)

    async def send(self, calls: list[Call]) -> Answer:
        """One reply per call. A replica that dies under them means one more try, elsewhere.

        Where nobody answers, Lost tells that they may have been run, Unavailable that nobody has got them.
        """
        is_lost = False
        for attempt in range(_TRIES):
            try:
                answer = await self._send_on_lane(calls)
                return await self._send_by_handle(calls) if answer is None else answer
            except LaneLost as error:
                is_lost = True
                logger.warning("%s: a replica was lost under %d requests: %s", self._app, len(calls), error)
            except (RayActorError, RayServeException) as error:
                is_lost = is_lost or not isinstance(error, DeploymentUnavailableError)
                logger.warning("%s: a replica was lost under %d requests: %r", self._app, len(calls), error)
                self._ways = None
                if attempt + 1 < _TRIES:
                    await asyncio.sleep(0.05)
            except RayTaskError as error:
                raise of_a_hop(cause_of(error)) from error
            except ServingError as error:
                raise of_a_hop(error) from error
        raise (Lost if is_lost else Unavailable)(f"no replica of {self._app} answered; try again")

    async def _send_on_lane(self, calls: list[Call]) -> Answer | None:
        """The answer of a replica that a lane leads to; None if there is no lane, or none that can carry these."""
        while (lane := await self._lanes.take()) is not None:
            try:
                return await lane.ask(calls)
            except LaneBusy:
                lane.rest(_REST_S)
            except NotCarried:
                return None
        return None

    async def _send_by_handle(self, calls: list[Call]) -> Answer:
        ways = self._ways or await self._open()
        size = sum(call.nbytes for call in calls)
        way = ways.inline if size <= ray_private.INLINE_LIMIT_BYTES else ways.by_reference
        answer: Answer = await way.remote(calls)
        return answer

    async def _open(self) -> _Ways:
        handle = await ray_private.open_handle(self._app)
        self._ways = _Ways(ray_private.inline(handle, _METHOD), ray_private.by_reference(handle, _METHOD))
        return self._ways
