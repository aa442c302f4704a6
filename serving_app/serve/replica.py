"""A dedicated replica: one Host that holds one version, behind a Serve deployment.

It learns what to hold from the controller, so a restarted replica comes up like a new one. Loads and runs happen on
threads; the event loop only waits.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
import uuid
from collections.abc import Awaitable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import ray
from ray import serve

from serving_app.core.errors import DeadlineExceeded, as_serving_error
from serving_app.core.families import LOAD_SECONDS, LOADS, REPLICAS, RUNNING
from serving_app.core.metrics import Registry
from serving_app.core.names import NAMESPACE, controller_name
from serving_app.core.signatures import Signature
from serving_app.host import Assignment, Batcher, Host
from serving_app.host.meter import RunMeter
from serving_app.protocol.calls import Answer, Call, Reply
from serving_app.serve.autoscaling import CALLS
from serving_app.serve.ray_metrics import RayExport
from serving_app.serve.reporting import Reporter

logger = logging.getLogger("ray.serve")


@dataclass(frozen=True)
class Description:
    """What a replica holds, told to a controller that was restarted."""

    signatures: Mapping[str, Signature]
    path: str
    ticket: str


_SPREAD_ABOVE_S = 200e-6
"""Calls that take longer than this are spread over threads; below it a thread hop costs more than it gains."""

_NO_WAIT_S = 1e-3
"""A wait that is not worth counting."""

_TOO_LATE = DeadlineExceeded("Run() timeout exceeded while waiting for others to run")


class ServableReplica:
    """Answers `predict_many` for one version."""

    async def __init__(self, controller: str, app: str, ticket: str) -> None:  # type: ignore[misc]  # Serve awaits it
        self._ticket = ticket
        self._registry = Registry()
        self._host = Host(self._registry)
        self._threads = max(2, os.cpu_count() or 2)
        self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="run")
        self._seconds_per_call = 1.0  # until measured
        self._in_hand = 0
        self._batcher: Batcher | None = None
        actor = ray.get_actor(controller, namespace=NAMESPACE)
        self._assignment: Assignment = await actor.assignment.remote(app)
        self._reporter: Reporter = Reporter(
            f"{app}#{uuid.uuid4().hex}", self._registry, partial(_find_controller, controller),
            RayExport(controller.removeprefix(controller_name(""))),
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
        limits = self._host.batching(self._assignment.servable)
        if limits is not None:
            servable = self._assignment.servable
            meter = RunMeter(self._registry, servable)
            self._batcher = Batcher(limits, partial(self._host.run_batch, servable), meter)
        seconds = time.monotonic() - started
        logger.info("loaded %s from %s in %.2f s", self._assignment.servable, self._assignment.path, seconds)
        self._registry.count(LOADS, (model, "OK"))
        self._registry.observe(LOAD_SECONDS, (model,), seconds)
        held = (model, str(self._assignment.servable.version))
        self._registry.watch(RUNNING, lambda: {held: self._in_hand})
        self._registry.watch(REPLICAS, lambda: {held: 1})
        await self._reporter.start()
        await actor.replica_loaded.remote(app, ticket, self._signatures)

    def describe(self) -> Description:
        """What is held here, for a controller that was restarted."""
        return Description(self._signatures, self._assignment.path, self._ticket)

    async def predict_many(self, calls: Sequence[Call]) -> Answer:
        """One reply per call, in order: outputs, or the error of that call alone."""
        self._in_hand += len(calls)
        try:
            if self._batcher is None:
                return await self._run_apart(calls)
            answer: Awaitable[Answer] = await self._collect(calls)
            return await answer
        finally:
            self._in_hand -= len(calls)

    def record_autoscaling_stats(self) -> dict[str, float]:
        """Asked by Serve where the model autoscales."""
        return {CALLS: self._in_hand}

    async def _run_apart(self, calls: Sequence[Call]) -> Answer:
        """Each call by itself: in one thread when they are quick, in several when they are not."""
        arrived = time.monotonic()
        lanes = min(self._threads, len(calls)) if self._seconds_per_call > _SPREAD_ABOVE_S else 1
        if lanes == 1:
            replies = await self._run_on_thread(calls, arrived)
            return Answer(replies, self._seconds_per_call * len(calls))
        # Gathered, so that a hop that is cancelled gives up all of its lanes.
        parts = await asyncio.gather(*(self._run_on_thread(calls[lane::lanes], arrived) for lane in range(lanes)))
        gathered: list[Any] = [None] * len(calls)
        for lane, part in enumerate(parts):
            gathered[lane::lanes] = part
        return Answer(gathered, self._seconds_per_call * len(calls) / lanes)

    def _run_on_thread(self, calls: Sequence[Call], arrived: float) -> asyncio.Future[list[Reply]]:
        return asyncio.get_running_loop().run_in_executor(self._pool, self._run_in_turn, calls, arrived)

    def _run_in_turn(self, calls: Sequence[Call], arrived: float) -> list[Reply]:
        started = time.perf_counter()
        replies = [self._run_in_time(call, arrived) for call in calls]
        run = len(replies) - replies.count(_TOO_LATE)
        if run:
            taken = (time.perf_counter() - started) / run
            # Threads may overwrite one another's measure; any of them will do.
            self._seconds_per_call += 0.2 * (taken - self._seconds_per_call)
        return replies

    def _run_in_time(self, call: Call, arrived: float) -> Reply:
        """One call with what it has left of its time; nobody waits any more for one that has nothing left."""
        if call.timeout is not None and (waited := time.monotonic() - arrived) > _NO_WAIT_S:
            if waited >= call.timeout:
                return _TOO_LATE
            call = call._replace(timeout=call.timeout - waited)
        return self._host.run(self._assignment.servable, call)

    @serve.batch(max_batch_size=32, batch_wait_timeout_s=0.0, max_concurrent_batches=1)
    async def _collect(self, hops: list[Sequence[Call]]) -> list[asyncio.Future[Answer]]:
        """Hops that arrived together wait together for their runs; an answer to come for each.

        Nothing is awaited here, so that no hop waits for the answer to another one.
        """
        assert self._batcher is not None
        return self._batcher.submit(hops)

    async def __del__(self) -> None:
        # Serve calls this also when the constructor did not get far.
        assignment: Assignment | None = getattr(self, "_assignment", None)
        if assignment is not None:
            if self._batcher is not None:
                self._batcher.close()
            await asyncio.to_thread(self._host.unload, assignment.servable)
            await self._reporter.stop()
            self._pool.shutdown(wait=False)


async def _find_controller(name: str) -> Any:
    # Asks the head of the cluster and waits for it; calls that are under way must not.
    return await asyncio.to_thread(ray.get_actor, name, namespace=NAMESPACE)


Servable: serve.Deployment = serve.deployment()(ServableReplica)
