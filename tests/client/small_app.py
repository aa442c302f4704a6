"""A serving app with one model, in this process: a controller, and a replica behind a handle or a door."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from serving_app.client import link_loop
from serving_app.client.courier import Parcel, Receipt
from serving_app.core.errors import ServingError
from serving_app.core.events import Event
from serving_app.core.families import CALLER_REQUESTS
from serving_app.core.metrics import Labels, Registry, Value, total
from serving_app.core.routing import ModelRoutes, Route, RouteTable, VersionStatus
from serving_app.core.servable import ServableId
from serving_app.core.signatures import DType, TensorSpec
from serving_app.core.states import PublicState
from serving_app.protocol.calls import Answer, Call, Reply
from serving_app.protocol.signature_proto import make_signature
from serving_app.serve.deliveries import Deliveries
from serving_app.serve.followers import Followers
from serving_app.serve.lane_server import LaneServer
from tests.stepping import PATIENCE_S

X = {"x": TensorSpec("x:0", DType.FLOAT, (-1,))}
Y = {"y": TensorSpec("y:0", DType.FLOAT, (-1,))}
EXAMPLES = {"inputs": TensorSpec("e:0", DType.STRING, (-1,))}
SIGNATURES = {
    "serving_default": make_signature(X, Y),
    "integers": make_signature({"x": TensorSpec("x:0", DType.INT64, (-1,))}, Y),
    "classify": make_signature(
        EXAMPLES,
        {"classes": TensorSpec("c:0", DType.STRING, None), "scores": TensorSpec("s:0", DType.FLOAT, None)},
        "tensorflow/serving/classify",
    ),
    "regress": make_signature(
        EXAMPLES, {"outputs": TensorSpec("o:0", DType.FLOAT, None)}, "tensorflow/serving/regress"
    ),
}


def table(revision: int, version: int = 1, signatures: Any = SIGNATURES) -> RouteTable:
    """A table with one ready version of a model, whose application is named after it."""
    routes = {version: Route(ServableId("m", version), f"m@{version}", signatures)}
    statuses = (VersionStatus(version, PublicState.AVAILABLE),)
    return RouteTable(revision, {"m": ModelRoutes(routes, {"stable": version}, statuses)})


class App:
    """A serving app with one model. Everything but `calls` and `outcomes` belongs to the loop of links."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.followers = Followers(self.events.append)
        self.followers.publish(table(1))
        self.deliveries = Deliveries(Registry())
        self.losses: list[BaseException] = []
        """How the next questions for routes end."""
        self.calls: list[tuple[str, Call]] = []
        self.outcomes: list[BaseException | Callable[[], ServingError | None]] = []
        """What happens to the next hops: raised, or done, and an error for each of its calls if it gives one."""
        self.asked_on_lanes = 0

    async def poll_routes(self, name: str, have: int, acknowledged: int, addresses: Any) -> RouteTable | None:
        if self.losses:
            raise self.losses.pop(0)
        return await self.followers.poll(name, have, acknowledged)

    async def acknowledge(self, name: str, revision: int) -> None:
        self.followers.acknowledge(name, revision)

    async def leave(self, name: str) -> None:
        self.followers.leave(name)

    async def take_counts(self, name: str, safe: int, parcels: Sequence[Parcel]) -> Receipt:
        taken, kept = self.deliveries.take(name, safe, parcels)
        return Receipt(taken, kept, 0.001)

    def counted(self) -> dict[Labels, Value]:
        """The requests that callers have told of."""
        return dict(total(self.deliveries.counts).get(CALLER_REQUESTS.name, {}))

    def publish(self, table: RouteTable) -> None:
        async def publish() -> None:
            self.followers.publish(table)

        link_loop.run(publish()).result(PATIENCE_S)

    def open_door(self) -> None:
        """Let lanes lead to the replica of version 1, which then is asked on them."""

        async def answer(_: ServableId | None, calls: Sequence[Call]) -> Answer:
            self.asked_on_lanes += len(calls)
            return await self.answer("m@1", list(calls))

        async def open_door() -> None:
            self.replica = LaneServer("m@1", "r", answer, lambda: 8)
            door = await self.replica.open("node", None)
            self.followers.publish(replace(table(2), doors={"m@1": (door,)}))

        link_loop.run(open_door()).result(PATIENCE_S)

    def break_lanes(self) -> None:
        """As the end of its process does."""
        for lane in list(self.replica.lanes):
            lane.close()

    def close_door(self) -> None:
        """Take the replica away."""
        link_loop.run(self.replica.close(0.0)).result(PATIENCE_S)

    def count(self, kind: type[Event]) -> int:
        return sum(isinstance(event, kind) for event in self.events)

    async def answer(self, app: str, calls: list[Call]) -> Answer:
        self.calls += [(app, call) for call in calls]
        error: ServingError | None = None
        if self.outcomes:
            outcome = self.outcomes.pop(0)
            if isinstance(outcome, BaseException):
                raise outcome
            error = outcome()
        return Answer([error or self._reply(call) for call in calls], 0.0)

    def _reply(self, call: Call) -> Reply:
        if "inputs" not in call.inputs:
            return {"y": call.inputs["x"] / 2 + 2}
        rows = len(call.inputs["inputs"])
        every = {
            "classes": np.full((rows, 1), b"red", object),
            "scores": np.full((rows, 1), 0.5, np.float32),
            "outputs": np.arange(rows, dtype=np.float32)[:, None],
        }
        return {name: every[name] for name in call.outputs or ()}


class Handle:
    def __init__(self, app: App, name: str) -> None:
        self._app, self._name = app, name

    def options(self, **_: Any) -> Handle:
        return self

    def running_replicas_populated(self) -> bool:
        return True

    async def remote(self, calls: list[Call]) -> Answer:
        return await self._app.answer(self._name, calls)
