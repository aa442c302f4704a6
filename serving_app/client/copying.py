"""The copies that a caller on the cluster makes of its requests."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from serving_app.client.copy_limits import USUAL, Limits
from serving_app.client.mirroring import Begin, Mirroring
from serving_app.client.remote_errors import Lost
from serving_app.core.errors import Unavailable, as_serving_error
from serving_app.core.metrics import Registry
from serving_app.core.routing import Candidate, Route, RouteTable, is_routed
from serving_app.protocol.calls import Call, Outputs


class Copying:
    """Copies the requests of one caller. Lives on one event loop."""

    def __init__(
        self, registry: Registry, table: Callable[[], RouteTable], begin: Begin, limits: Limits = USUAL
    ) -> None:
        """`table` gives the newest routes. What comes of copies is counted in the registry."""
        self._mirroring = Mirroring(registry, begin, lambda route: is_routed(route, table()), limits)

    async def watch(
        self, route: Route, candidate: Candidate | None, call: Call, answering: Awaitable[Outputs]
    ) -> Outputs:
        """What it comes to, which a copy of the call is compared with, if some candidate is to get one.

        Tensors belong to whoever calls, who may use their memory again afterwards. A call that is refused before
        anything was done has no outcome yet: it will be tried again.
        """
        if candidate is None:
            return await answering
        began = time.perf_counter()
        try:
            outputs = await answering
        except Exception as error:
            if isinstance(error, Lost) or not isinstance(error, Unavailable):
                self._mirroring.offer(route, candidate, call, as_serving_error(error), 0.0, is_shared=True)
            raise
        took_s = time.perf_counter() - began
        self._mirroring.offer(route, candidate, call, outputs, took_s, is_shared=True)
        return outputs

    def close(self) -> None:
        """Copy no more."""
        self._mirroring.close()
