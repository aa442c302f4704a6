"""Hops to servable versions through Serve handles, for processes on the Ray cluster."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from ray.exceptions import RayActorError
from ray.serve.exceptions import DeploymentUnavailableError, RayServeException
from ray.serve.handle import DeploymentHandle

from serving_app import ray_private
from serving_app.client.caller import Caller
from serving_app.core.errors import Unavailable
from serving_app.core.routing import RouteTable
from serving_app.protocol.calls import Answer, Call

logger = logging.getLogger(__name__)

_METHOD = "predict_many"
_TRIES = 2


class HandleCallers:
    """One Caller per application that the route table names; opened ahead of the first request."""

    def __init__(self) -> None:
        self._callers: dict[str, Caller] = {}

    def follow(self, table: RouteTable) -> None:
        """Open callers for new routes and let go of those that no route names and nobody uses any more."""
        named = {route.app for model in table.models.values() for route in model.routes.values()}
        for app in named - self._callers.keys():
            self._callers[app] = Caller(_Hop(app).send)
        for app in [app for app, caller in self._callers.items() if app not in named and caller.is_idle]:
            del self._callers[app]

    def find(self, app: str) -> Caller:
        """The caller of an application that some table has named."""
        caller = self._callers.get(app)
        if caller is None:
            caller = self._callers[app] = Caller(_Hop(app).send)
        return caller


class _Hop:
    """Sends lists of calls to any replica of one application."""

    def __init__(self, app: str) -> None:
        self._app = app
        self._handle: DeploymentHandle[Any] | None = None

    async def send(self, calls: list[Call]) -> Answer:
        for attempt in range(_TRIES):
            try:
                return await self._send_once(calls)
            except (RayActorError, DeploymentUnavailableError, RayServeException) as error:
                logger.warning("%s: a replica was lost under %d requests: %r", self._app, len(calls), error)
                self._handle = None
                if attempt + 1 < _TRIES:
                    await asyncio.sleep(0.05)
        raise Unavailable(f"no replica of {self._app} answered; try again")

    async def _send_once(self, calls: list[Call]) -> Answer:
        if self._handle is None:
            self._handle = await ray_private.open_handle(self._app)
        size = sum(call.nbytes for call in calls)
        route = ray_private.inline if size <= ray_private.INLINE_LIMIT_BYTES else ray_private.by_reference
        answer: Answer = await route(self._handle, _METHOD).remote(calls)
        return answer
