"""Front ends on real sockets over a real Host, with everything in this process: what only a cluster adds is left out.

A loop of its own, in a thread, carries the listeners; tests ask from outside, as clients do.
"""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Coroutine, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import grpc
import uvloop

from serving_app.client.caller import Caller
from serving_app.client.copy_limits import Limits
from serving_app.client.route_follower import RouteFollower
from serving_app.config import GatewayConfig
from serving_app.core.errors import Code, InvalidArgument
from serving_app.core.metrics import Registry
from serving_app.core.placement import Placement
from serving_app.core.routing import ModelRoutes, Route, RouteTable, VersionStatus
from serving_app.core.servable import ServableId
from serving_app.core.signatures import DType, TensorSpec
from serving_app.core.states import PublicState
from serving_app.core.traffic import Mirror, Rule, Traffic
from serving_app.host import Assignment, Host
from serving_app.host.resident import Resident
from serving_app.protocol.calls import Answer, Call, Outputs
from serving_app.protocol.signature_proto import make_signature
from serving_app.serve.data_plane import DataPlane
from serving_app.serve.followers import Followers
from serving_app.serve.grpc_app import GrpcApp
from serving_app.serve.grpc_listener import GrpcListener
from serving_app.serve.grpc_settings import grpc_settings
from serving_app.serve.listeners import RestListener, claim
from serving_app.serve.rest_app import RestApp
from tests.stepping import PATIENCE_S, Actor
from tests.zoo import Zoo

T = TypeVar("T")

HOST = "127.0.0.1"
IDENTITY = {"app": "default", "cluster": "session_1"}
LARGEST_REQUEST = 1 << 20
HURRIED_S = 0.05
_MODELS = {
    "half_plus_two": (1, 2), "several": (1,), "dense": (1,), "many": (1,), "parser": (1,), "heads": (1, 2),
    "dtypes": (1,),
}
"""Those of the zoo that are served, and their versions."""

_COLOCATED = {ServableId("half_plus_two", 2), ServableId("parser", 1), ServableId("dtypes", 1), ServableId("heads", 2)}
"""Those of them that live in the gateway, where a call may be answered at once; which clients must not see."""


class LoopThread:
    """An event loop that runs beside the test."""

    def __init__(self) -> None:
        self.loop = uvloop.new_event_loop()  # as in a replica
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of a coroutine that runs there."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(PATIENCE_S)

    def stop(self) -> None:
        """End what still runs there, and the loop."""
        self.run(_cancel_the_rest())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


async def _cancel_the_rest() -> None:
    rest = asyncio.all_tasks() - {asyncio.current_task()}
    for task in rest:
        task.cancel()
    await asyncio.gather(*rest, return_exceptions=True)


class _Published:
    """The controller's side of the route table."""

    def __init__(self, table: RouteTable) -> None:
        self._followers = Followers(lambda event: None)
        self._followers.publish(table)

    async def poll_routes(self, name: str, have: int, acknowledged: int, addresses: Any) -> RouteTable | None:
        return await self._followers.poll(name, have, acknowledged)

    async def acknowledge(self, name: str, revision: int) -> None:
        self._followers.acknowledge(name, revision)

    async def leave(self, name: str) -> None:
        self._followers.leave(name)


class Gate:
    """What the model `stuck` waits for. `reached` counts the calls that came since it was closed."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.reached = threading.Semaphore(0)


class _Callers:
    """One Caller per application, over the Host of this process. Two applications behave as the test needs it."""

    def __init__(self, host: Host, servables: Mapping[str, ServableId], gate: Gate) -> None:
        self._host = host
        self._pool = ThreadPoolExecutor(2)
        self._gate = gate
        self._callers = {app: Caller(self._way(servable)) for app, servable in servables.items()}
        self._callers["app:stuck@1"] = Caller(self._wait)
        self._callers["app:faulty@1"] = Caller(self._fail)

    async def prepare(self, table: RouteTable) -> None:
        pass

    def find(self, route: Route) -> Caller:
        return self._callers[route.app]

    def close(self) -> None:
        self._pool.shutdown()

    def _way(self, servable: ServableId) -> Any:
        async def send(calls: list[Call]) -> Answer:
            loop = asyncio.get_running_loop()
            replies = [loop.run_in_executor(self._pool, self._host.run, servable, call) for call in calls]
            return Answer(await asyncio.gather(*replies), 0.0)

        return send

    async def _wait(self, calls: list[Call]) -> Answer:
        self._gate.reached.release(len(calls))
        await self._gate.open.wait()
        return Answer([{"y": call.inputs["x"]} for call in calls], 0.0)

    async def _fail(self, calls: list[Call]) -> Answer:
        raise KeyError("a fault of our own")


class _Residents:
    """What lives in this process, without a controller that orders it."""

    def __init__(self, host: Host, held: Iterable[ServableId]) -> None:
        self._residents = {servable: Resident(host, servable, Registry()) for servable in _COLOCATED & set(held)}

    def begin(self, servable: ServableId, call: Call, request: Any) -> Outputs | asyncio.Future[Outputs]:
        return self._residents[servable].begin(call, request)


def _mirrored(routes: Mapping[int, Route]) -> ModelRoutes:
    """A model whose version 1 answers, with a target for each kind of version that gets copies of all requests."""
    real, other = routes[1], routes[2]
    candidates = {
        "alike": Route(ServableId("mirrored", 2), real.app, real.signatures),
        "another": Route(other.servable, other.app, other.signatures, other.placement),
        "stuck": Route(ServableId("mirrored", 4), "app:stuck@1", real.signatures),
        "faulty": Route(ServableId("mirrored", 5), "app:faulty@1", real.signatures),
        "strange": Route(ServableId("mirrored", 6), real.app, {}),
        "early": None,
    }
    numbered = {1: Route(ServableId("mirrored", 1), real.app, real.signatures)}
    traffic = {}
    for number, (name, route) in enumerate(candidates.items(), 2):
        if route is not None:
            numbered[number] = route
        traffic[name] = Traffic({1: 100.0}, mirror=Mirror(number, 100.0))
    return ModelRoutes(numbered, {}, (), traffic)


class Front:
    """Both front ends, listening; and twins of them in a hurry, which give each request next to no time."""

    def __init__(self, loop: LoopThread, zoo: Zoo) -> None:
        self._loop = loop
        self.gate = Gate()
        self.host = Host()
        self._servables: dict[str, ServableId] = {}
        self.table = self._load(zoo)
        loop.run(self._start())

    def _load(self, zoo: Zoo) -> RouteTable:
        models: dict[str, ModelRoutes] = {}
        for name, versions in _MODELS.items():
            routes = {}
            for version in versions:
                servable = ServableId(name, version)
                assignment = Assignment(servable, zoo.path(name, version))
                app = f"app:{servable}"
                placement = Placement.COLOCATED if servable in _COLOCATED else Placement.DEDICATED
                routes[version] = Route(servable, app, self.host.load(assignment), placement)
                self._servables[app] = servable
            models[name] = _routes(routes)
        failed = VersionStatus(3, PublicState.END, Code.NOT_FOUND, 'no "saved_model.pb"')
        lines = models["half_plus_two"]
        rules = (Rule("x-team", 2, frozenset({"ads"})), Rule("input:x", 2, frozenset({"8"})))
        models["half_plus_two"] = ModelRoutes(
            lines.routes, {"stable": 1, "canary": 2}, (failed, *lines.statuses),
            {"shared": Traffic({1: 100.0}, rules=rules), "split": Traffic({1: 50.0, 2: 50.0}, "x-user")},
        )
        models["mirrored"] = _mirrored(lines.routes)
        spec = TensorSpec("x:0", DType.FLOAT, (-1,))
        signatures = {"serving_default": make_signature({"x": spec}, {"y": spec})}
        for name in ("stuck", "faulty"):
            models[name] = _routes({1: Route(ServableId(name, 1), f"app:{name}@1", signatures)})
        broken = VersionStatus(1, PublicState.END, Code.DATA_LOSS, "damaged")
        models["broken"] = ModelRoutes(statuses=(broken,))
        return RouteTable(1, models)

    async def _start(self) -> None:
        self.reloads: list[tuple[bytes, float | None]] = []
        published = Actor(_Published(self.table))
        self._callers = _Callers(self.host, self._servables, self.gate)

        async def connect() -> Any:
            return published

        self._follower = RouteFollower("gateway:1", connect, self._callers.prepare)
        await self._follower.start()
        residents = _Residents(self.host, self._servables.values())
        self.copied = Registry()
        self.plane = DataPlane(
            self._follower, self._callers, residents, self.copied,  # type: ignore[arg-type]  # as much as it needs
            Limits(
                late_s=math.inf, busy_share=math.inf, waiting_share=math.inf, answer_s=PATIENCE_S, gather_s=0.001
            ),
        )
        patient, hurried = self.rest_listener(PATIENCE_S), self.rest_listener(HURRIED_S)
        self.rest_address, self.hurried_rest = await patient.start(), await hurried.start()
        patient_grpc, self.grpc_address = await self.start_grpc(PATIENCE_S)
        hurried_grpc, self.hurried_grpc = await self.start_grpc(HURRIED_S)
        self._listeners = (patient, hurried, patient_grpc, hurried_grpc)

    def rest_listener(
        self, timeout: float, port: int = 0, models: tuple[str, ...] = (), **options: Any
    ) -> RestListener:
        """Another listener on the same data plane, with other settings of the gateway."""
        settings = GatewayConfig(request_timeout_s=timeout, max_request_bytes=LARGEST_REQUEST, **options)
        app = RestApp(self.plane, identity=IDENTITY, models=models, settings=settings)
        return RestListener(app, claim(HOST, port))

    async def start_grpc(self, timeout: float, port: int = 0, **options: Any) -> tuple[GrpcListener, str]:
        """Another listener on the same data plane, and its address. gRPC wants it made on the loop that it serves."""
        settings = GatewayConfig(grpc_timeout_s=timeout, **options)
        app = GrpcApp(self.plane, self._reload, settings=settings)
        arguments = grpc_settings(LARGEST_REQUEST, settings.grpc_channel_arguments)
        listener = GrpcListener(app.methods(), IDENTITY, arguments)
        return listener, (await listener.start(HOST, port))[0]

    async def _reload(self, config: bytes, wait_s: float | None) -> None:
        self.reloads.append((config, wait_s))
        if not config:
            raise InvalidArgument("only lists")

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of a coroutine on the front ends' loop."""
        return self._loop.run(work)

    def let_go(self) -> None:
        """Answer what is stuck, from now on."""
        self.run(self._set(True))

    def hold(self) -> None:
        """Let calls of `stuck` wait, from now on."""
        self.gate.reached = threading.Semaphore(0)
        self.run(self._set(False))

    async def _set(self, is_open: bool) -> None:
        self.gate.open.set() if is_open else self.gate.open.clear()

    def close(self) -> None:
        """Stop everything."""
        self.let_go()
        for listener in self._listeners:
            self.run(listener.drain(0.0))
        self.run(self._follower.stop())
        self._loop.loop.call_soon_threadsafe(self.plane.close)
        self._callers.close()
        for servable in self._servables.values():
            self.host.unload(servable)


def _routes(routes: Mapping[int, Route]) -> ModelRoutes:
    statuses = tuple(VersionStatus(version, PublicState.AVAILABLE) for version in sorted(routes, reverse=True))
    return ModelRoutes(routes, {}, statuses)


def channel(address: str) -> grpc.Channel:
    """A connection of a client."""
    return grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)])
