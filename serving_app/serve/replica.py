"""A dedicated replica: one Host that holds one version, behind a Serve deployment.

It learns what to hold from the controller, so a restarted replica comes up like a new one. Loads and runs happen on
threads; the event loop only waits.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import ray
from ray import serve

from serving_app import ray_private
from serving_app.core.batching import BatchingChoice
from serving_app.core.errors import ServingError, as_serving_error
from serving_app.core.families import LOAD_SECONDS, LOADS, REPLICAS, RUNNING
from serving_app.core.metrics import Registry
from serving_app.core.names import NAMESPACE, controller_name
from serving_app.core.signatures import Signature
from serving_app.host import Assignment, Host
from serving_app.host.runner import Runner
from serving_app.protocol.calls import Answer, Call
from serving_app.serve.autoscaling import CALLS
from serving_app.serve.lane_server import LaneServer
from serving_app.serve.ray_metrics import RayExport
from serving_app.serve.reporting import Reporter, Wish

logger = logging.getLogger("ray.serve")


@dataclass(frozen=True)
class Description:
    """What a replica holds, told to a controller that was restarted."""

    signatures: Mapping[str, Signature]
    path: str
    ticket: str


class ServableReplica:
    """Answers `predict_many` for one version."""

    async def __init__(self, controller: str, app: str, ticket: str) -> None:  # type: ignore[misc]  # Serve awaits it
        self._ticket = ticket
        self._registry = Registry()
        self._host = Host(self._registry)
        actor = ray.get_actor(controller, namespace=NAMESPACE)
        self._assignment: Assignment = await actor.assignment.remote(app)
        self._reporter: Reporter = Reporter(
            f"{app}#{uuid.uuid4().hex}", self._registry, partial(_find_controller, controller),
            RayExport(controller.removeprefix(controller_name(""))),
            follow=self._follow,
        )
        self._reporter.batched = self._host.batched
        self._batching: BatchingChoice = BatchingChoice(
            self._assignment.batching, self._assignment.batching_from_version
        )
        started = time.monotonic()
        model = self._assignment.servable.name
        try:
            self._signatures: Mapping[str, Signature] = await asyncio.to_thread(
                self._host.load, self._assignment, partial(actor.replica_progress.remote, app, ticket)
            )
        except Exception as error:
            failure = as_serving_error(error)
            self._registry.count(LOADS, (model, failure.code.name))
            await self._reporter.stop()
            await actor.replica_failed.remote(app, ticket, failure.code, failure.message)
            raise
        self._runner: Runner = Runner(self._host, self._assignment.servable, self._registry)
        seconds = time.monotonic() - started
        logger.info("loaded %s from %s in %.2f s", self._assignment.servable, self._assignment.path, seconds)
        self._registry.count(LOADS, (model, "OK"))
        self._registry.observe(LOAD_SECONDS, (model,), seconds)
        held = (model, str(self._assignment.servable.version))
        self._registry.watch(RUNNING, lambda: {held: self._runner.in_hand})
        self._registry.watch(REPLICAS, lambda: {held: 1})
        self._lanes: LaneServer = LaneServer(
            app, self._reporter.name, lambda _, calls: self.answer(calls), ray_private.max_ongoing_requests
        )
        self._reporter.door = await self._lanes.open(ray_private.node_id(), ray_private.open_address())
        await self._reporter.start()
        await actor.replica_loaded.remote(app, ticket, self._signatures)

    def describe(self) -> Description:
        """What is held here, for a controller that was restarted."""
        return Description(self._signatures, self._assignment.path, self._ticket)

    async def predict_many(self, calls: Sequence[Call]) -> Answer:
        """Asked by Serve handles: a reply to each request, in order, outputs or the error of that one alone."""
        return await self._hold(calls, self._run_collected if self._runner.is_batched else self._runner.run)

    async def answer(self, calls: Sequence[Call]) -> Answer:
        """The same for those who bring calls by other ways, without what the decorator costs."""
        return await self._hold(calls, self._runner.run)

    async def _hold(self, calls: Sequence[Call], run: Callable[[Sequence[Call]], Awaitable[Answer]]) -> Answer:
        """Run calls that came just now, and tell in the answer how long they were here."""
        came = time.perf_counter()
        requests = sum(call.requests for call in calls)
        self._runner.in_hand += requests
        try:
            answer = await run(calls)
        finally:
            self._runner.in_hand -= requests
        return answer._replace(held=time.perf_counter() - came)

    async def _run_collected(self, calls: Sequence[Call]) -> Answer:
        answer: Awaitable[Answer] = await self._collect(calls)
        return await answer

    def record_autoscaling_stats(self) -> dict[str, float]:
        """Asked by Serve where the model autoscales."""
        return {CALLS: self._runner.in_hand}

    async def _follow(self, wish: Wish) -> None:
        """Have the version batched as the configuration says now."""
        wanted = wish.batching
        if wanted is None or wanted == self._batching:
            return
        self._batching = wanted
        servable = self._assignment.servable
        try:
            await asyncio.to_thread(self._host.set_batching, servable, *wanted)
        except ServingError as error:
            logger.warning("%s is batched as before, since what is wanted cannot be done: %s", servable, error)
            return
        self._runner.follow_limits()
        logger.info("%s is batched by %s from now on", servable, self._host.batching(servable))

    @serve.batch(max_batch_size=32, batch_wait_timeout_s=0.0, max_concurrent_batches=1)
    async def _collect(self, hops: list[Sequence[Call]]) -> list[asyncio.Future[Answer]]:
        """Hops that arrived together wait together for their runs; an answer to come for each.

        Nothing is awaited here, so that no hop waits for the answer to another one.
        """
        return self._runner.submit(hops)

    async def __del__(self) -> None:
        # Serve calls this also when the constructor did not get far.
        assignment: Assignment | None = getattr(self, "_assignment", None)
        if assignment is not None:
            lanes: LaneServer | None = getattr(self, "_lanes", None)
            if lanes is not None:
                await lanes.close(ray_private.shutdown_s())
            runner: Runner | None = getattr(self, "_runner", None)
            if runner is not None:
                runner.close()
            await asyncio.to_thread(self._host.unload, assignment.servable)
            await self._reporter.stop()


async def _find_controller(name: str) -> Any:
    # Asks the head of the cluster and waits for it; calls that are under way must not.
    return await asyncio.to_thread(ray.get_actor, name, namespace=NAMESPACE)


Servable: serve.Deployment = serve.deployment()(ServableReplica)
