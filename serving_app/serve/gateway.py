"""The gateway: the only Serve application with a route, and the process that clients talk to.

Each replica opens listeners of its own for REST and gRPC; the same REST app stands behind Serve's HTTP door. A replica
takes traffic only when it has a route table and every colocated version that the others have, so one that replaces
another knows what the other knew, and answers what the other answered.
"""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from ray import serve

from serving_app import ray_private
from serving_app.client.callers import Callers
from serving_app.client.control import Control
from serving_app.client.route_follower import RouteFollower
from serving_app.config import GatewayConfig
from serving_app.core.errors import InvalidArgument, Unavailable
from serving_app.core.families import WAITING
from serving_app.core.metrics import Labels, Registry, Snapshot
from serving_app.core.placement import Placement
from serving_app.core.routing import RouteTable
from serving_app.core.servable import ServableId
from serving_app.protocol.calls import Answer, Call
from serving_app.serve.asgi import AsgiApp
from serving_app.serve.control_app import ControlApp, patient_control
from serving_app.serve.control_tokens import read_tokens
from serving_app.serve.controller import find_controller, open_controller
from serving_app.serve.data_plane import DataPlane
from serving_app.serve.grpc_app import GrpcApp
from serving_app.serve.grpc_listener import GrpcListener
from serving_app.serve.grpc_settings import grpc_settings
from serving_app.serve.lane_server import LaneServer
from serving_app.serve.listeners import RestListener, claim
from serving_app.serve.metrics_page import MetricsPage
from serving_app.serve.neighbours import ask_grpc, ask_rest, check_neighbours
from serving_app.serve.opening import wait_until_loaded
from serving_app.serve.ray_metrics import RayExport
from serving_app.serve.reporting import Reporter
from serving_app.serve.request_meter import RequestMeter
from serving_app.serve.residents import Residents
from serving_app.serve.rest_app import RestApp
from serving_app.serve.ssl_file import read_keys
from serving_app.serve.unix_socket import check_socket
from serving_app.serve.wanted import Applied

logger = logging.getLogger("ray.serve")

_CONTROLLER_WAIT_S = 30.0

_SCRAPE_S = 8.0
"""How long a scrape may take; Prometheus waits for ten seconds."""


class GatewayReplica:
    """One gateway process."""

    async def __init__(self, applied: Applied) -> None:  # type: ignore[misc]  # Serve awaits it
        context = serve.get_replica_context()
        self._app = context.app_name
        self._applied = applied
        config = applied.config.gateway
        self._drain_timeout_s = config.drain_timeout_s
        self._keys = await asyncio.to_thread(read_keys, applied.config)
        self._callers = Callers([Placement.DEDICATED])
        self._follower = RouteFollower(f"gateway:{context.replica_id.unique_id}", self._connect, self._prepare)
        tokens = await asyncio.to_thread(read_tokens, applied.config)
        identity = {"app": self._app, "cluster": ray_private.cluster_identity()}
        registry = Registry()
        self._residents = Residents(self._follower.name, registry, self._find_controller)
        self._plane = plane = DataPlane(self._follower, self._callers, self._residents, registry)
        meter = RequestMeter(registry, lambda model: model in plane.table.models, context.replica_id.unique_id)
        registry.watch(WAITING, self._count_waiting)
        self._reporter = Reporter(self._follower.name, registry, self._find_controller, RayExport(self._app))
        self._reporter.batched = self._residents.batched
        self._lanes = LaneServer(self._app, self._follower.name, self._answer_hop, ray_private.max_ongoing_requests)
        self._rest = RestApp(
            plane,
            identity=identity,
            models=tuple(model.name for model in applied.config.models),
            settings=config,
            meter=meter,
            metrics=None if config.metrics_path is None else MetricsPage(config.metrics_path, self._scrape),
            control=None if tokens is None else ControlApp(patient_control(self._app), tokens),
        )
        self._grpc = GrpcApp(
            plane, Control(self._app).reload, settings=config, meter=meter, scrape=self._scrape
        )
        self._rest_listener: RestListener | None = None
        self._grpc_listener: GrpcListener | None = None
        self._opening: asyncio.Task[None] | None = None
        self._addresses: dict[str, str] = {}
        await self._follower.start()
        await self._reporter.start()
        platforms = {model.platform for model in applied.config.models if model.placement == "colocated"}
        await self._residents.start(sorted(platforms))
        await self._residents.admit()
        # Not before: who finds a door expects everything behind it that the others have.
        self._reporter.door = await self._lanes.open(ray_private.node_id(), ray_private.open_address())
        await _check_places(config, identity)  # what is taken is an error now, also where the ports open later
        self._opening = asyncio.create_task(self._open(config, identity))
        if not config.open_when_loaded:
            await self._opening
        # What lives now lives as long as the process; the collector need not look at it again and again, nor every few
        # requests for cycles, which no request leaves behind.
        gc.collect()
        gc.freeze()
        gc.set_threshold(20_000, 20, 20)

    def __serve_build_asgi_app__(self) -> AsgiApp:
        """What stands behind Serve's HTTP door."""
        return AsgiApp(self._rest)

    async def predict_colocated(self, servable: ServableId, calls: Sequence[Call]) -> Answer:
        """Asked by Serve handles: a reply to each request that is for a version that lives here."""
        return await self._residents.answer(servable, calls)

    async def _answer_hop(self, servable: ServableId | None, calls: Sequence[Call]) -> Answer:
        if servable is None:
            raise InvalidArgument("a gateway holds many versions; the hop does not say for which one it is")
        return await self._residents.answer(servable, calls)

    def check_health(self) -> None:
        """Asked by Serve: a listener that died, or could not be opened, takes the replica with it."""
        self._residents.check()
        if self._opening is not None and self._opening.done():
            self._opening.result()
        if self._rest_listener is not None and not self._rest_listener.is_alive:
            raise RuntimeError("the REST listener has stopped")

    async def __del__(self) -> None:
        """The replica is replaced or removed: finish what is under way, then say good-bye."""
        if self._opening is not None and not self._opening.done():
            self._opening.cancel()
            await asyncio.wait({self._opening})
        self._grpc.drain()
        drains = [
            listener.drain(self._drain_timeout_s)
            for listener in (self._rest_listener, self._grpc_listener)
            if listener is not None
        ]
        await asyncio.gather(*drains, self._lanes.close(self._drain_timeout_s))
        self._plane.close()
        await self._reporter.stop()
        # In this order: who has said good-bye must not be heard of again.
        self._residents.stop()
        await self._follower.stop()

    async def _prepare(self, table: RouteTable) -> None:
        """Get ready to route by this table."""
        await asyncio.gather(self._callers.prepare(table), self._residents.prepare(table))

    async def _find_controller(self) -> Any:
        return await asyncio.to_thread(find_controller, self._app)

    async def _scrape(self) -> Snapshot:
        return await Control(self._app, timeout_s=_SCRAPE_S).metrics(self._reporter.name)

    def _count_waiting(self) -> Mapping[Labels, float]:
        return {
            (route.servable.name, str(route.servable.version)): self._callers.waiting(route)
            for model in self._follower.table.models.values()
            for route in model.routes.values()
        }

    async def _connect(self) -> Any:
        """The controller, made if there is none; one that is on its way out is waited for."""
        deadline = asyncio.get_running_loop().time() + _CONTROLLER_WAIT_S
        while True:
            try:
                # Asks the head of the cluster and waits for it; requests that are under way must not.
                controller = await asyncio.to_thread(open_controller, self._app, self._applied)
                await controller.register.remote(self._applied, self._follower.name, self._addresses)
                return controller
            except Exception as error:
                if asyncio.get_running_loop().time() > deadline:
                    raise Unavailable(f"the controller of {self._app} does not answer: {error}") from error
                await asyncio.sleep(0.2)

    async def _open(self, config: GatewayConfig, identity: Mapping[str, str]) -> None:
        """Listen, now or when all that is to be served is loaded, and tell where."""
        if config.open_when_loaded:
            await self._follower.hold(await wait_until_loaded(self._app, self._applied.config))
            await _check_places(config, identity)
        self._addresses = self._follower.addresses = await self._listen(config, identity)
        for protocol, address in self._addresses.items():
            logger.info("listening for %s at %s", protocol, address)
        await self._connect()  # once more, to tell the addresses

    async def _listen(self, config: GatewayConfig, identity: Mapping[str, str]) -> dict[str, str]:
        addresses = {}
        if config.rest_port is not None:
            self._rest_listener = RestListener(self._rest, claim(config.host, config.rest_port))
            addresses["REST"] = await self._rest_listener.start()
        port, path = config.grpc_port, config.grpc_socket_path
        if port is not None or path is not None:
            settings = grpc_settings(config.max_request_bytes, config.grpc_channel_arguments)
            self._grpc_listener = GrpcListener(self._grpc.methods(), identity, settings, self._keys)
            found = await self._grpc_listener.start(config.host, port, path)
            addresses |= {"gRPC (UNIX socket)" if each.startswith("unix:") else "gRPC": each for each in found}
        return addresses


async def _check_places(config: GatewayConfig, identity: Mapping[str, str]) -> None:
    """Raise PortTaken if a stranger has a place where this gateway is to listen."""
    if config.rest_port is not None:
        await asyncio.to_thread(check_neighbours, "REST", config.host, config.rest_port, identity, ask_rest)
    if config.grpc_port is not None:
        await asyncio.to_thread(check_neighbours, "gRPC", config.host, config.grpc_port, identity, ask_grpc)
    if config.grpc_socket_path is not None:
        await asyncio.to_thread(check_socket, config.grpc_socket_path, identity)


Gateway: serve.Deployment = serve.deployment()(serve.ingress()(GatewayReplica))
