"""The models of the suite behind front ends in this process: servers that are there at once, with any settings."""

from __future__ import annotations

from typing import Any

from serving_app.config import GatewayConfig
from serving_app.core.errors import Code
from serving_app.core.metrics import Snapshot
from serving_app.core.routing import ModelRoutes, Route, RouteTable, VersionStatus
from serving_app.core.servable import ServableId
from serving_app.core.states import PublicState
from serving_app.host import Assignment
from serving_app.serve.listeners import RestListener, claim
from serving_app.serve.metrics_page import MetricsPage
from serving_app.serve.rest_app import RestApp
from tests.conformance.models import LABELS
from tests.conformance.server import Server
from tests.serve.fronts import HOST, IDENTITY, Front, LoopThread
from tests.stepping import PATIENCE_S
from tests.zoo import Zoo


class _Models(Front):
    """The front ends of the tests over other models."""

    def _load(self, zoo: Zoo) -> RouteTable:
        broken = VersionStatus(1, PublicState.END, Code.DATA_LOSS, "damaged")
        return RouteTable(
            1,
            {
                "half_plus_two": self._serve(zoo, "half_plus_two", (1, 2), LABELS),
                "forms": self._serve(zoo, "forms", (1,), {}),
                "broken": ModelRoutes(statuses=(broken,)),
            },
        )

    def _serve(self, zoo: Zoo, name: str, versions: tuple[int, ...], labels: dict[str, int]) -> ModelRoutes:
        routes = {}
        for version in versions:
            servable = ServableId(name, version)
            app = f"app:{servable}"
            routes[version] = Route(servable, app, self.host.load(Assignment(servable, zoo.path(name, version))))
            self._servables[app] = servable
        statuses = tuple(VersionStatus(version, PublicState.AVAILABLE) for version in sorted(versions, reverse=True))
        return ModelRoutes(routes, labels, statuses)


async def _count_nothing() -> Snapshot:
    return {}


class Local:
    """The models, loaded once, and the servers that were started over them. There is no controller that reloads."""

    def __init__(self, loop: LoopThread, zoo: Zoo) -> None:
        self._models = str(zoo.folder)
        self._front = _Models(loop, zoo)
        self._servers: list[Server] = []
        self._listeners: list[Any] = []

    def start(self, **gateway: Any) -> Server:
        """A server with these settings of the gateway."""
        rest, grpc_address = self._front.run(self._listen(gateway))
        self._servers.append(Server(f"http://{rest}", grpc_address, self._models))
        return self._servers[-1]

    async def _listen(self, gateway: dict[str, Any]) -> tuple[str, str]:
        settings = GatewayConfig(request_timeout_s=PATIENCE_S, grpc_timeout_s=PATIENCE_S, **gateway)
        assert settings.metrics_path is not None
        page = MetricsPage(settings.metrics_path, _count_nothing)
        app = RestApp(self._front.plane, identity=IDENTITY, models=(), settings=settings, metrics=page)
        rest = RestListener(app, claim(HOST, 0))
        self._listeners.append(rest)
        rest_address = await rest.start()
        listener, grpc_address = await self._front.start_grpc(PATIENCE_S, **gateway)
        self._listeners.append(listener)
        return rest_address, grpc_address

    def close(self) -> None:
        """Stop everything."""
        for server in self._servers:
            server.close()
        for listener in self._listeners:
            self._front.run(listener.drain(0.0))
        self._front.close()
