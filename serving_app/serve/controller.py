"""The controller actor: Source and Manager of one serving app.

A loop that gathers events, hands them to `core.Manager`, and performs the actions that come back. Four tasks feed it:
one poll per model, the reports of replicas and followers (actor calls), an observer of Serve's applications, and one
worker that carries out orders to Serve strictly in order.

The actor is detached and restarts by itself within a second (`max_restarts=-1`), so gateways hardly notice that it
was gone: they serve on with their last table. It lives as long as the Serve application that owns it, which it watches:
when that is deleted, or Serve is shut down, it removes every version it has deployed and then itself. What was
applied last is kept in the cluster's key-value store; running versions are adopted, not reloaded.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import pickle
import time
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from typing import Any

import ray

from serving_app import ray_private
from serving_app.config import ModelConfig, ServingConfig, to_intents
from serving_app.core import events
from serving_app.core.actions import Action, PublishRoutes, StartLoad, StartUnload
from serving_app.core.errors import Code, Internal, NotFound, Unavailable
from serving_app.core.manager import Manager, ManagerOptions
from serving_app.core.names import NAMESPACE, controller_name, parse_servable_app
from serving_app.core.routing import RouteTable
from serving_app.core.servable import ServableId
from serving_app.core.signatures import Signature
from serving_app.host import Assignment
from serving_app.serve import apps
from serving_app.serve.apps import AppState
from serving_app.serve.assignments import assignment_for
from serving_app.serve.fleet import Fleet, Order
from serving_app.serve.followers import Followers
from serving_app.serve.polling import Polling

logger = logging.getLogger("serving_app.controller")

_BUSY_OBSERVE_S = 0.05
_LOADING_OBSERVE_S = 0.5
_IDLE_OBSERVE_S = 1.0
_TEARDOWN_S = 120.0
"""How long the removal of everything may take, besides the time that is given to requests under way."""


@dataclass(frozen=True)
class Applied:
    """A configuration and when its application was built: the newest one wins."""

    generation: int
    config: ServingConfig


class Controller:
    """One per serving app. All public methods are called by other processes; none of them blocks."""

    async def __init__(self, app: str, applied: Applied) -> None:  # type: ignore[misc]  # Ray awaits it
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
        self._app = app
        self._state_key = f"applied:{app}"
        self._applied = self._newest(applied)
        # Readers compare revisions across restarts of the controller, so a new one starts above all earlier ones.
        self._manager = Manager(_manager_options(self._applied.config), revision=time.time_ns() // 1_000_000)
        self._inbox: asyncio.Queue[events.Event] = asyncio.Queue()
        self._followers = Followers(self._inbox.put_nowait)
        self._polling = Polling(self._inbox.put_nowait)
        self._fleet = Fleet(app, self._model, self._memory, self._inbox.put_nowait)
        self._paths: dict[ServableId, str] = {}
        self._sizes: dict[ServableId, int] = {}
        self._gateways: dict[str, dict[str, str]] = {}
        self._closing = False
        self._tasks: list[asyncio.Task[None]] = []
        # Here, and not at somebody's call: after a crash Ray constructs the actor anew, and nobody else notices.
        self._spawn(self._run())

    # Calls of gateways and handle clients.

    async def register(self, applied: Applied, gateway: str, addresses: dict[str, str]) -> None:
        """A gateway introduces itself: the configuration it was built with, and where it listens, if it does yet."""
        self._refuse_when_closing()
        if addresses:
            self._gateways[gateway] = addresses
        if applied.generation > self._applied.generation:
            self._applied = applied
            self._keep_applied()
            self._apply()
            logger.info("configuration applied: %d models", len(applied.config.models))

    async def poll_routes(self, follower: str, have: int, acknowledged: int) -> RouteTable | None:
        """Long poll: a table newer than revision `have`, or None when there is none for a while."""
        self._refuse_when_closing()
        return await self._followers.poll(follower, have, acknowledged)

    async def acknowledge(self, follower: str, revision: int) -> None:
        """The follower follows no table older than `revision` any more."""
        self._followers.acknowledge(follower, revision)

    async def leave(self, follower: str) -> None:
        """The follower is going away."""
        self._gateways.pop(follower, None)
        self._followers.leave(follower)

    # Calls of replicas.

    async def assignment(self, app: str) -> Assignment:
        """What the replica of this application is to hold. Waits while a restarted controller still looks around."""
        servable = self._servable_of(app)
        deadline = time.monotonic() + 30.0
        while (path := self._paths.get(servable)) is None:
            if time.monotonic() > deadline:
                raise NotFound(f"nothing is known of {servable} that {app} should hold")
            await asyncio.sleep(0.1)
        return assignment_for(servable, path, self._model(servable.name), self._applied.config.cache_dir)

    async def replica_loaded(self, app: str, ticket: str, signatures: Mapping[str, Signature]) -> None:
        """A replica has loaded its version."""
        self._fleet.report_loaded(self._servable_of(app), ticket, signatures)

    async def replica_progress(self, app: str, ticket: str, message: str) -> None:
        """A replica tells how far its load is."""
        self._fleet.report_progress(self._servable_of(app), ticket, message)

    async def replica_failed(self, app: str, ticket: str, code: Code, message: str) -> None:
        """A replica could not load its version."""
        self._fleet.report_failed(self._servable_of(app), ticket, code, message)

    # Calls of people and tools.

    async def status(self) -> dict[str, Any]:
        """What is in force and where things stand."""
        return {
            "app": self._app,
            "config": self._applied.config,
            "table": self._followers.table,
            "gateways": self._live_gateways(),
            "models": self._manager.snapshot(),
        }

    # The loop.

    async def _run(self) -> None:
        await self._adopt()
        self._apply()
        self._spawn(self._fleet.carry_out_orders())
        self._spawn(self._observe())
        pending: list[events.Event] = [events.Tick()]
        while not self._closing:
            now = time.time()
            for event in pending:
                self._remember(event)
            for action in _grouped(self._manager.handle(*pending, now=now)):
                self._perform(action)
            pending = await self._next_events(now)

    async def _next_events(self, now: float) -> list[events.Event]:
        wakeup = self._manager.next_wakeup()
        timeout = None if wakeup is None else max(0.0, wakeup - now)
        try:
            gathered = [await asyncio.wait_for(self._inbox.get(), timeout)]
        except TimeoutError:
            return [events.Tick()]
        while not self._inbox.empty():
            gathered.append(self._inbox.get_nowait())
        return gathered

    def _remember(self, event: events.Event) -> None:
        """Keep what carrying out orders needs of an event: paths by version."""
        if isinstance(event, events.VersionsListed):
            for version, path in event.versions.items():
                self._paths[ServableId(event.model, version)] = path
            for version, size in event.sizes.items():
                self._sizes[ServableId(event.model, version)] = size

    def _perform(self, action: Order | PublishRoutes) -> None:
        if isinstance(action, PublishRoutes):
            self._followers.publish(action.table)
            return
        if isinstance(action, StartUnload):
            logger.info("%s: unloading", action.servable)
        else:
            for load in action:
                self._paths[load.servable] = load.path
                logger.info("%s: loading from %s (attempt %d)", load.servable, load.path, load.attempt)
        self._fleet.order(action)

    async def _observe(self) -> None:
        """Look at Serve again and again, until the application that owns this controller is gone."""
        absences = 0
        while not self._closing:
            self._followers.expire()
            seen = await asyncio.to_thread(apps.observe, self._app)
            if seen is not None:
                await self._fleet.look(seen)
                absences = absences + 1 if seen.owner is None else 0
                if (seen.owner and seen.owner.state is AppState.DELETING) or absences > 1 or not seen.serve_running:
                    await self._close(seen.serve_running)
                    return
            self._fleet.stirred.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._fleet.stirred.wait(), self._patience(absences))

    def _patience(self, absences: int) -> float:
        """How long until the next look: short where Serve is about to be done with something."""
        if absences or self._fleet.is_about_to_change:
            return _BUSY_OBSERVE_S
        return _LOADING_OBSERVE_S if self._fleet.is_waiting else _IDLE_OBSERVE_S

    # Beginning and end.

    async def _adopt(self) -> None:
        """Take over the versions that an earlier life of this actor deployed."""
        seen = None
        while seen is None:
            await asyncio.sleep(_BUSY_OBSERVE_S)
            seen = await asyncio.to_thread(apps.observe, self._app)
        if seen.servables:
            logger.info("adopting %d running versions", len(seen.servables))
            # Whoever followed the old tables may still do so; nobody acknowledged anything to us.
            self._followers.acknowledge("followers-before-restart", 0)
        await self._fleet.adopt(seen)
        while not self._inbox.empty():
            self._manager.handle(self._inbox.get_nowait(), now=time.time())

    async def _close(self, serve_running: bool) -> None:
        """The owner is gone: remove every version, then this actor. Gateways that still drain are waited for."""
        self._closing = True
        self._polling.stop()
        logger.info("the application %s is being deleted; removing its versions", self._app)
        config = self._applied.config
        drains_s = config.gateway.drain_timeout_s + max([model.drain_timeout_s for model in config.models], default=0.0)
        deadline = time.monotonic() + _TEARDOWN_S + drains_s
        while serve_running and time.monotonic() < deadline:
            self._followers.expire()
            seen = await asyncio.to_thread(apps.observe, self._app)
            if seen is not None:
                if not seen.serve_running or (seen.owner is None and not seen.servables):
                    break
                if seen.owner is None or not self._live_gateways():
                    for servable, app in seen.servables.items():
                        if app.state is not AppState.DELETING:
                            await self._fleet.remove(servable)
            await asyncio.sleep(0.1)
        ray_private.delete_state(self._state_key)
        ray.kill(ray.get_runtime_context().current_actor, no_restart=True)

    # Small things.

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        task.add_done_callback(_stop_process_on_failure)
        self._tasks.append(task)

    def _newest(self, applied: Applied) -> Applied:
        """What was applied last, also if that was in an earlier life of this actor."""
        kept = ray_private.get_state(self._state_key)
        earlier: Applied | None = pickle.loads(kept) if kept else None
        return earlier if earlier and earlier.generation > applied.generation else applied

    def _keep_applied(self) -> None:
        ray_private.put_state(self._state_key, pickle.dumps(self._applied))

    def _apply(self) -> None:
        config = self._applied.config
        self._keep_applied()
        self._manager.limit(_manager_options(config))
        self._inbox.put_nowait(events.ConfigApplied(to_intents(config)))
        self._polling.watch(config)

    def _model(self, name: str) -> ModelConfig:
        for model in self._applied.config.models:
            if model.name == name:
                return model
        raise NotFound(f"the model {name} is not configured any more")

    def _memory(self, servable: ServableId) -> int | None:
        """What a replica of this version reserves."""
        model = self._model(servable.name)
        if model.memory != "estimate":
            return model.memory
        size = self._sizes.get(servable)
        return None if size is None else int(size * model.memory_factor)

    def _servable_of(self, app: str) -> ServableId:
        servable = parse_servable_app(self._app, app)
        if servable is None:
            raise Internal(f"{app} is no application of {self._app}")
        return servable

    def _live_gateways(self) -> dict[str, dict[str, str]]:
        """Where each gateway listens that still follows our tables."""
        return {name: addresses for name, addresses in self._gateways.items() if name in self._followers}

    def _refuse_when_closing(self) -> None:
        if self._closing:
            raise Unavailable(f"the serving app {self._app} is being deleted")


def _manager_options(config: ServingConfig) -> ManagerOptions:
    load = config.load
    return ManagerOptions(
        max_concurrent_loads=load.max_concurrent_loads, retry_base_s=load.retry_base_s, retry_max_s=load.retry_max_s
    )


def _grouped(actions: list[Action]) -> list[Order | PublishRoutes]:
    """The same orders, with neighbouring loads as one: Serve deploys many applications in one go."""
    grouped: list[Order | PublishRoutes] = []
    for action in actions:
        if not isinstance(action, StartLoad):
            grouped.append(action)
        elif grouped and isinstance(grouped[-1], list):
            grouped[-1].append(action)
        else:
            grouped.append([action])
    return grouped


def _stop_process_on_failure(task: asyncio.Task[None]) -> None:
    """A task that dies of a fault of ours takes the process along; Ray starts a new one, which adopts what runs."""
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.critical("the controller failed and restarts", exc_info=error)
        logging.shutdown()
        os._exit(1)


ControllerActor = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(Controller)


def open_controller(app: str, applied: Applied) -> Any:
    """The controller actor of a serving app; made if there is none yet."""
    return ControllerActor.options(
        name=controller_name(app), namespace=NAMESPACE, lifetime="detached", get_if_exists=True, max_concurrency=10_000
    ).remote(app, applied)


def find_controller(app: str) -> Any:
    """The controller actor of a serving app that runs. Raises ValueError if there is none."""
    return ray.get_actor(controller_name(app), namespace=NAMESPACE)
