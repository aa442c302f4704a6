"""Calls of colocated versions from outside of the gateways: by a handle to the gateways' application.

A gateway asks what lives in its own process by a function call; other processes on the Ray cluster ask any gateway.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import Any

from ray.exceptions import RayActorError, RayTaskError
from ray.serve.exceptions import DeploymentUnavailableError, RayServeException
from ray.serve.handle import DeploymentHandle

from serving_app import ray_private
from serving_app.client.caller import Caller
from serving_app.client.remote_errors import Lost, cause_of, of_a_hop
from serving_app.core.errors import Unavailable
from serving_app.core.placement import Placement
from serving_app.core.routing import Route, RouteTable
from serving_app.core.servable import ServableId
from serving_app.protocol.calls import Answer, Call

logger = logging.getLogger(__name__)

_METHOD = "predict_colocated"
_TRIES = 3
_PAUSE_S = 0.05


_Ways = tuple[DeploymentHandle[Any], DeploymentHandle[Any]]
"""A list of calls goes inside the request or, if it is large, by reference through the object store."""


class GatewayCallers:
    """One Caller per colocated version that the route table names."""

    def __init__(self) -> None:
        self._callers: dict[tuple[str, ServableId], Caller] = {}
        self._handles: dict[str, _Ways] = {}

    async def prepare(self, table: RouteTable) -> None:
        """Get ready to route by this table. Callers that no route names and nobody uses any more are let go of."""
        named = {
            (route.app, route.servable)
            for model in table.models.values()
            for route in model.routes.values()
            if route.placement is Placement.COLOCATED
        }
        for key in [key for key, caller in self._callers.items() if key not in named and caller.is_idle]:
            del self._callers[key]

    def find(self, route: Route) -> Caller:
        """The caller of a version that some table has named."""
        key = (route.app, route.servable)
        caller = self._callers.get(key)
        if caller is None:
            caller = self._callers[key] = Caller(partial(self._send, *key))
        return caller

    async def _send(self, app: str, servable: ServableId, calls: list[Call]) -> Answer:
        """The replies of some gateway. One that dies under them, or goes, means one more try, elsewhere.

        Where nobody answers, Lost tells that they may have been run, Unavailable that nobody has got them.
        """
        is_lost = False
        for attempt in range(_TRIES):
            try:
                return await self._send_once(app, servable, calls)
            except (RayActorError, RayServeException) as error:
                is_lost = is_lost or not isinstance(error, DeploymentUnavailableError)
                logger.warning("%s: a gateway was lost under %d requests: %r", app, len(calls), error)
                self._handles.pop(app, None)
                if attempt + 1 < _TRIES:
                    await asyncio.sleep(_PAUSE_S)
            except RayTaskError as error:
                raise of_a_hop(cause_of(error)) from error
        raise (Lost if is_lost else Unavailable)(f"no gateway of {app} answered; try again")

    async def _send_once(self, app: str, servable: ServableId, calls: list[Call]) -> Answer:
        if app not in self._handles:
            handle = await ray_private.open_handle(app)
            self._handles[app] = ray_private.inline(handle, _METHOD), ray_private.by_reference(handle, _METHOD)
        inline, by_reference = self._handles[app]
        is_small = sum(call.nbytes for call in calls) <= ray_private.INLINE_LIMIT_BYTES
        answer: Answer = await (inline if is_small else by_reference).remote(servable, calls)
        return answer
