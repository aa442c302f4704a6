"""Hops to one Serve application, for processes on the Ray cluster: on a lane to a replica, else by Serve's handle.

The handle knows every replica that Serve knows, waits for one where there is none, and reaches those to which no lane
leads. A lane costs a tenth of it. Both ends give the same answers.

The replicas of a version's own application hold nothing else. Gateways hold all colocated versions, so these are told
for which one a hop is.
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
from serving_app.client.lane import LaneBusy, LaneLost, NotCarried
from serving_app.client.lane_set import LaneSet
from serving_app.client.remote_errors import Lost, cause_of, of_a_hop
from serving_app.core.door import Door
from serving_app.core.errors import ServingError, Unavailable
from serving_app.core.servable import ServableId
from serving_app.protocol.calls import Answer, Call

logger = logging.getLogger(__name__)

_TRIES = 2
_PAUSE_S = 0.05
_PREPARE_S = 2.0

_REST_S = 0.005
"""How long a replica that is too busy is left alone."""


class _Ways(NamedTuple):
    """The two ways that a list of calls can take: inside the request, or by reference through the object store."""

    inline: DeploymentHandle[Any]
    by_reference: DeploymentHandle[Any]


class Hops:
    """Sends lists of calls to any replica of one application."""

    def __init__(self, app: str, node: str, method: str) -> None:
        """`method` is what handles call; `node` is where this process runs: replicas elsewhere are called by TCP."""
        self._app = app
        self._method = method
        self.lanes = LaneSet(app, node)
        self._ways: _Ways | None = None

    def count_replicas(self) -> int:
        """How many replicas lanes lead to."""
        return len(self.lanes)

    def follow(self, doors: Collection[Door]) -> None:
        """The replicas are behind these doors, as far as is known."""
        self.lanes.follow(doors)

    def follow_no_more(self) -> None:
        """Close the lanes, when what is under way on them is answered."""
        self.lanes.close()

    async def prepare(self) -> None:
        """Open lanes and the handle, and wait a moment until they lead somewhere. What fails here, a request will
        report."""
        await asyncio.gather(self.lanes.prepare(), self._prepare_handle())

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

    async def send(self, calls: list[Call], servable: ServableId | None = None) -> Answer:
        """One reply per call. A replica that dies under them means one more try, elsewhere.

        Where nobody answers, Lost tells that they may have been run, Unavailable that nobody has got them.
        """
        is_lost = False
        who = "replica" if servable is None else "gateway"
        for attempt in range(_TRIES):
            try:
                answer = await self._send_on_lane(calls, servable)
                return await self._send_by_handle(calls, servable) if answer is None else answer
            except LaneLost as error:
                is_lost = True
                logger.warning("%s: a %s was lost under %d requests: %s", self._app, who, len(calls), error)
            except (RayActorError, RayServeException) as error:
                is_lost = is_lost or not isinstance(error, DeploymentUnavailableError)
                logger.warning("%s: a %s was lost under %d requests: %r", self._app, who, len(calls), error)
                self._ways = None
                if attempt + 1 < _TRIES:
                    await asyncio.sleep(_PAUSE_S)
            except RayTaskError as error:
                raise of_a_hop(cause_of(error)) from error
            except ServingError as error:
                raise of_a_hop(error) from error
        raise (Lost if is_lost else Unavailable)(f"no {who} of {self._app} answered; try again")

    async def _send_on_lane(self, calls: list[Call], servable: ServableId | None) -> Answer | None:
        """The answer of a replica that a lane leads to; None if there is no lane, or none that can carry these."""
        while (lane := await self.lanes.take()) is not None:
            try:
                return await lane.ask(calls, servable)
            except LaneBusy:
                lane.rest(_REST_S)
            except NotCarried:
                return None
        return None

    async def _send_by_handle(self, calls: list[Call], servable: ServableId | None) -> Answer:
        ways = self._ways or await self._open()
        size = sum(call.nbytes for call in calls)
        way = ways.inline if size <= ray_private.INLINE_LIMIT_BYTES else ways.by_reference
        answer: Answer = await (way.remote(calls) if servable is None else way.remote(servable, calls))
        return answer

    async def _open(self) -> _Ways:
        handle = await ray_private.open_handle(self._app)
        self._ways = _Ways(ray_private.inline(handle, self._method), ray_private.by_reference(handle, self._method))
        return self._ways
