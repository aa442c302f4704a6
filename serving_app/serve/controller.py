"""The controller actor: Source and Manager of one serving app.

Here is what gateways, replicas and people can ask of it, and how its parts are put together. These feed the loop
around the manager (`manager_loop`): one poll per model (`polling`), the reports of replicas (`fleet`) or of gateways
about colocated versions (`colony`), of followers (`followers`), and looks at Serve's applications (`lookout`). What the
manager orders is carried out by the fleet or the colony; `sites` knows by which, and has versions move between them.

The actor is detached and restarts by itself within a second (`max_restarts=-1`), so gateways hardly notice that it
was gone: they serve on with their last table. It lives as long as the Serve application that owns it, which it watches:
when that is deleted, or Serve is shut down, it removes every version it has deployed and then itself. What is wanted is
kept where it outlives the actor (`keeping`); running versions are adopted, not reloaded.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Collection, Coroutine, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import ray

from serving_app.client.courier import Parcel, Receipt
from serving_app.config import ModelConfig, ServingConfig, redact, to_intents, to_yaml, write_model_server_config
from serving_app.core import events
from serving_app.core.actions import PublishRoutes, StartUnload
from serving_app.core.batching import BatchingChoice
from serving_app.core.errors import (
    Code,
    DeadlineExceeded,
    Internal,
    InvalidArgument,
    NotFound,
    ServingError,
    Unavailable,
)
from serving_app.core.history import Happening
from serving_app.core.manager import ManagerOptions
from serving_app.core.metrics import Snapshot
from serving_app.core.names import NAMESPACE, controller_name, parse_servable_app
from serving_app.core.placement import Placement
from serving_app.core.plan import Plan
from serving_app.core.rollout import Rollout
from serving_app.core.routing import RouteTable
from serving_app.core.servable import ServableId
from serving_app.core.signatures import Signature
from serving_app.core.stacks import AppProfile
from serving_app.core.views import AppView, ModelView, with_batching
from serving_app.host import Assignment
from serving_app.serve import opening
from serving_app.serve.apps import Observation
from serving_app.serve.assignments import assignment_for, batching_of
from serving_app.serve.changes import Changes
from serving_app.serve.chronicle import Chronicle
from serving_app.serve.colony import Colony
from serving_app.serve.config_file import FileWatch
from serving_app.serve.doors import Doors
from serving_app.serve.editing import Editing
from serving_app.serve.fleet import Fleet, Order
from serving_app.serve.followers import Followers
from serving_app.serve.holdings import Admission, Holding, Orders
from serving_app.serve.keeping import Keeping
from serving_app.serve.lookout import Lookout
from serving_app.serve.manager_loop import ManagerLoop
from serving_app.serve.metering import Metering
from serving_app.serve.places import Places
from serving_app.serve.polling import Polling
from serving_app.serve.profiling import Profiling
from serving_app.serve.reloads import find_outcome
from serving_app.serve.reporting import Report, Wish
from serving_app.serve.rollouts import Rollouts
from serving_app.serve.sites import Sites
from serving_app.serve.wanted import Applied, Wanted

logger = logging.getLogger("serving_app.controller")

_HELD_S = 5.0
"""How long a change that users make waits until every gateway routes by it; one that is lost must not hold it up."""
_EARLIER_FOLLOWERS = "followers-before-restart"
"""Stands for all who followed the tables of an earlier life, until they would count as gone."""
_TEARDOWN_S = 120.0
"""How long the removal of everything may take, besides the time that is given to requests under way."""


class Controller:
    """One per serving app. All public methods are called by other processes; none of them blocks."""

    async def __init__(self, app: str, applied: Applied) -> None:  # type: ignore[misc]  # Ray awaits it
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
        self._app = app
        self._deployed = applied
        self._changes = Changes()
        self._problems: dict[str, str] = {}
        self._chronicle = Chronicle(app)
        self._places = Places()
        self._loop = ManagerLoop(
            self._changes, remember=self._places.take_in, perform=self._perform, tell=self._chronicle.tell
        )
        self._metering = Metering(app, lambda: self._followers.table, doors=Doors(self._loop.emit))
        self._profiling = Profiling(lambda: self._metering.present, self._metering.wake)
        self._keeping = Keeping(app, lambda problem: self._tell_problem("state", problem))
        self._editing: Editing | None = None
        self._rolling: Rollouts | None = None
        self._restored = asyncio.Event()
        self._followers = Followers(self._loop.emit)
        self._polling = Polling(self._loop.emit)
        self._sites = Sites(
            self._placement, self._places.find_path, self._loop.emit,
            wait_for_readers=self._wait_for_readers, spawn=self._spawn, tell_problem=self._tell_problem,
        )
        self._fleet = Fleet(app, self._model, self._memory, partial(self._sites.take, Placement.DEDICATED))
        self._colony = Colony(
            app, self._model, self._assign, partial(self._sites.take, Placement.COLOCATED),
            is_settled=lambda: _EARLIER_FOLLOWERS not in self._followers,
        )
        self._sites.open({Placement.DEDICATED: self._fleet, Placement.COLOCATED: self._colony})
        self._lookout = Lookout(app, self._fleet, self._loop.emit)
        self._file_watch = FileWatch(self._spawn, lambda problem: self._tell_problem("file", problem))
        self._gateways: dict[str, dict[str, str]] = {}
        self._closing = False
        self._tasks: set[asyncio.Task[None]] = set()
        # Here, and not at somebody's call: after a crash Ray constructs the actor anew, and nobody else notices.
        self._spawn(self._run())

    # Calls of gateways and handle clients.

    async def register(self, applied: Applied, gateway: str, addresses: dict[str, str]) -> None:
        """A gateway introduces itself: the configuration it was built with, and where it listens, if it does yet."""
        self._refuse_when_closing()
        await self._restored.wait()
        if addresses:
            self._gateways[gateway] = addresses
        await self._edits.deploy(applied)

    async def poll_routes(
        self, follower: str, have: int, acknowledged: int, addresses: Mapping[str, str] | None = None
    ) -> RouteTable | None:
        """Long poll: a table newer than revision `have`, or None when there is none for a while.

        A gateway tells each time where it listens: after a crash of this actor it is not registered anew.
        """
        self._refuse_when_closing()
        if addresses:
            self._gateways[follower] = dict(addresses)
        return await self._followers.poll(follower, have, acknowledged)

    async def acknowledge(self, follower: str, revision: int) -> None:
        """The follower follows no table older than `revision` any more."""
        self._followers.acknowledge(follower, revision)

    async def leave(self, follower: str) -> None:
        """The follower is going away."""
        self._gateways.pop(follower, None)
        self._followers.leave(follower)
        self._colony.leave(follower)

    # Calls of gateways about the versions that they hold.

    async def poll_holdings(self, gateway: str, have: int) -> Orders | None:
        """Long poll: what the gateway is to hold besides what it was told before; see Colony.poll."""
        self._refuse_when_closing()
        await self._restored.wait()
        return await self._colony.poll(gateway, have)

    async def tell_holdings(self, gateway: str, told: Sequence[Holding], is_all: bool, is_member: bool) -> bool:
        """A gateway tells what became of its orders; False if it is not known here."""
        await self._restored.wait()
        return await self._colony.tell(gateway, told, is_all=is_all, is_member=is_member)

    async def tell_holding_progress(self, ticket: str, message: str) -> None:
        """A gateway tells how far a load is."""
        await self._colony.tell_progress(ticket, message)

    async def admit(self, gateway: str) -> Admission:
        """Long poll: the gateway wants to take traffic; see Colony.admit."""
        self._refuse_when_closing()
        await self._restored.wait()
        return await self._colony.admit(gateway)

    # Calls of replicas.

    async def assignment(self, app: str) -> Assignment:
        """What the replica of this application is to hold. Waits while a restarted controller still looks around."""
        servable = self._servable_of(app)
        deadline = time.monotonic() + 30.0
        while (path := self._places.find_path(servable)) is None:
            if time.monotonic() > deadline:
                raise NotFound(f"nothing is known of {servable} that {app} should hold")
            await asyncio.sleep(0.1)
        return assignment_for(servable, path, self._model(servable.name), self._edits.config)

    async def replica_progress(self, app: str, ticket: str, message: str) -> None:
        """A replica tells how far its load is."""
        self._fleet.report_progress(self._servable_of(app), ticket, message)

    async def replica_loaded(self, app: str, ticket: str, signatures: Mapping[str, Signature]) -> None:
        """A replica has loaded its version."""
        self._fleet.report_loaded(self._servable_of(app), ticket, signatures)

    async def replica_failed(self, app: str, ticket: str, code: Code, message: str) -> None:
        """A replica could not load its version."""
        self._fleet.report_failed(self._servable_of(app), ticket, code, message)

    # Calls of all of them about what they count.

    async def report_metrics(self, process: str, report: Report) -> Wish:
        """Long poll: take a report in; returns when the next one is wanted.

        A replica is told each time how its version is to be batched, so that no change can get lost.
        """
        self._profiling.take(process, report.profile)
        wish = await self._metering.report(process, report)
        return wish._replace(batching=self._batching_in(process), profile=self._profiling.wish_for(process))

    async def bid_farewell(self, process: str, report: Report) -> None:
        """The last report of a process that goes."""
        await self._metering.bid_farewell(process, report)

    async def take_counts(self, caller: str, safe: int, parcels: Sequence[Parcel]) -> Receipt:
        """How much more a Python caller has counted; see Metering.take_in."""
        return await self._metering.take_in(caller, safe, parcels, len(self._followers))

    async def collect_metrics(self, asker: str | None = None) -> Snapshot:
        """What all processes have counted until now; `asker` is the one of them that asks, if one does."""
        return await self._metering.collect(asker)

    async def profile(self, seconds: float) -> AppProfile:
        """What all processes do with their CPU time for so long."""
        self._refuse_when_closing()
        return await self._profiling.profile(seconds)

    # Calls of people and tools: what is.

    async def view(self) -> AppView:
        """Where things stand."""
        seen = self._loop.manager.snapshot()
        return AppView(
            app=self._app,
            revision=seen.revision,
            readers=seen.readers,
            gateways=self._live_gateways(),
            models=with_batching(seen.models, self._metering.find_batching()),
            problems=tuple(self._problems.values()),
        )

    async def routes(self) -> RouteTable | None:
        """The table that gateways and clients are given; None while there is none."""
        return self._followers.table

    async def config_text(self, form: str = "yaml", secrets: bool = False) -> str:
        """The configuration in force, in our YAML (`yaml`), or its models in TensorFlow Serving's text form (`tfs`)."""
        await self._wait_until_restored()
        if form not in ("yaml", "tfs"):
            raise InvalidArgument(f"{form!r} is no form of a configuration; use yaml or tfs")
        # In a thread: of a thousand models this takes a second, in which nobody else must wait.
        return await asyncio.to_thread(_write_config, self._edits.config, form, secrets)

    async def history(
        self, model: str | None = None, version: int | None = None, limit: int = 100
    ) -> tuple[Happening, ...]:
        """What happened last, of everything or of one model or version; the newest comes last."""
        return self._chronicle.find(model, version, limit)

    async def wait_for_change(self, seen: int, timeout_s: float) -> int:
        """Long poll for watchers: a number that grows with every change, as soon as it differs from `seen`, else after
        this time."""
        return await self._changes.wait_for_news(seen, timeout_s)

    # Calls of people and tools: what is to be.

    async def apply(self, text: str, source: str, dry_run: bool = False) -> Plan:
        """Put a configuration in force; with `dry_run` only say what that would change."""
        self._refuse_when_closing()
        await self._wait_until_restored()
        return await self._edits.apply(text, source, dry_run)

    async def reload(self, serialized_model_server_config: bytes, wait_s: float | None) -> None:
        """HandleReloadConfigRequest: serve these models; returns when each new one has a version that is ready."""
        self._refuse_when_closing()
        await self._wait_until_restored()
        new = await self._edits.reload(serialized_model_server_config)
        try:
            async with asyncio.timeout(wait_s):
                while (outcome := find_outcome(new, self._views(new))) is None:
                    await self._changes.wait()
        except TimeoutError:
            raise DeadlineExceeded(
                f"the configuration is in force, but of {', '.join(sorted(new))} not every one has a version that is "
                f"ready after {wait_s:.1f} s; GetModelStatus tells more"
            ) from None
        if outcome:
            raise ServingError(outcome)
        await self._followers.wait_until_held(self._loop.manager.table.revision, _HELD_S)

    async def add_model(self, settings: dict[str, Any], dry_run: bool = False) -> Plan:
        """Serve one more model; with `dry_run` only say what that would change."""
        self._refuse_when_closing()
        await self._wait_until_restored()
        return await self._edits.add_model(settings, dry_run)

    async def set_label(self, model: str, label: str, version: int) -> None:
        """Have a label name a version; returns when every gateway routes by it."""
        self._refuse_when_closing()
        await self._wait_until_restored()
        await self._edits.set_label(model, label, version)

    async def delete_label(self, model: str, label: str) -> None:
        """Take a label away; returns when no gateway routes by it."""
        self._refuse_when_closing()
        await self._wait_until_restored()
        await self._edits.delete_label(model, label)

    async def set_traffic(self, model: str, target: str, traffic: Mapping[str, Any]) -> None:
        """Have the requests for a target shared among versions; returns when every gateway routes so."""
        self._refuse_when_closing()
        await self._wait_until_restored()
        await self._edits.set_traffic(model, target, traffic)

    async def delete_traffic(self, model: str, target: str) -> None:
        """Have them shared no more; returns when no gateway does."""
        self._refuse_when_closing()
        await self._wait_until_restored()
        await self._edits.delete_traffic(model, target)

    # Calls of people and tools about rollouts.

    async def rollouts(self, model: str | None = None) -> tuple[Rollout, ...]:
        """Those that go on and the last that did, of one model or of all; the newest comes last."""
        await self._wait_until_restored()
        return self._rolls.find(model)

    async def rollout(self, number: int) -> Rollout:
        """One of them."""
        await self._wait_until_restored()
        return self._rolls.get(number)

    async def start_rollout(
        self, model: str, to_version: int, target: str, strategy: str | Mapping[str, Any], order: str = ""
    ) -> Rollout:
        """Begin to move the requests for a target to a version, by a strategy's name or settings. An order of which no
        answer came may be given again, with the same mark (`order`)."""
        self._refuse_when_closing()
        await self._wait_until_restored()
        return await self._rolls.start(model, to_version, target, strategy, order=order)

    async def move_rollout(self, number: int, action: str, order: str = "") -> Rollout:
        """Do with a rollout what people can do; returns when every gateway routes so. `order` as of start_rollout."""
        self._refuse_when_closing()
        await self._wait_until_restored()
        return await self._rolls.move(number, action, order)

    async def report_rollout_value(self, number: int, name: str, value: float | str, version: int | None) -> None:
        """A metric that a gate of a rollout wants has this value now, or in words why it has none."""
        await self._wait_until_restored()
        self._rolls.report_value(number, name, value, version)

    # A life.

    async def _run(self) -> None:
        await self._metering.restore()
        await self._chronicle.restore()
        wanted = await self._restore()
        if wanted is None:
            return
        logger.info("%s", self._keeping.describe(wanted))
        self._editing = Editing(wanted, self._keeping, self._available, self._enforce)
        self._rolling = self._make_rollouts(self._editing)
        await self._adopt()
        self._loop.manager.limit(_manager_options(wanted.config))
        await self._lookout.look_at_nodes()
        # What was adopted was finished when it was loaded, and need not rest again for that to be known.
        self._polling.watch(wanted.config, self._places.loaded_from)
        self._file_watch.follow(wanted.config, self._editing)
        self._restored.set()
        self._spawn(self._fleet.carry_out_orders())
        self._spawn(self._colony.work())
        # Settings may have changed since what was adopted was loaded.
        self._sites.follow()
        self._colony.follow_batching()
        self._spawn(self._watch())
        self._spawn(self._chronicle.save_behind())
        self._spawn(self._metering.keep_behind())
        self._spawn(self._metering.export())
        self._spawn(self._rolling.run())
        await self._loop.run(events.ConfigApplied(to_intents(wanted.config)))

    async def _restore(self) -> Wanted | None:
        """What is wanted; None if the application was deleted while that could not be found out."""
        restoring = asyncio.ensure_future(self._keeping.restore(self._deployed))
        left = await self._lookout.watch_while(restoring)
        if left is not None:
            await self._close(left)
            return None
        return restoring.result()

    async def _adopt(self) -> None:
        """Take over the versions that an earlier life of this actor deployed."""
        seen = await self._lookout.look()
        self._sites.begin_adoption()
        await self._fleet.adopt(seen)
        adopted = len(seen.servables) + await self._colony.adopt()
        self._sites.end_adoption()
        if adopted:
            logger.info("adopting %d running versions", adopted)
            # Whoever followed the old tables may still do so; nobody acknowledged anything to us.
            self._followers.acknowledge(_EARLIER_FOLLOWERS, 0)
        self._loop.take_in()

    async def _watch(self) -> None:
        await self._close(await self._lookout.watch(self._expire))

    def _expire(self) -> None:
        """Nobody waits any more for those who are silent for too long."""
        self._followers.expire()
        self._colony.keep_only(self._followers.__contains__)
        self._colony.stir()

    async def _wait_for_readers(self) -> None:
        """Returns when nobody follows a table that is older than what has happened until now."""
        await self._loop.handled()
        await self._followers.wait_until_acknowledged(self._loop.manager.table.revision)

    async def _close(self, left: Observation) -> None:
        """The owner is gone: remove every version, then this actor. Gateways that still drain are waited for."""
        self._closing = True
        self._loop.stop()
        self._polling.stop()
        logger.info("the application %s is being deleted; removing its versions", self._app)
        if left.serve_running:
            config = self._editing.config if self._editing else self._deployed.config
            drains_s = max([model.drain_timeout_s for model in config.models], default=0.0)
            limit_s = _TEARDOWN_S + config.gateway.drain_timeout_s + drains_s
            await self._lookout.remove_all(limit_s, self._followers.expire, lambda: bool(self._live_gateways()))
        self._keeping.forget()
        self._chronicle.forget()
        self._fleet.forget()
        self._colony.forget()
        self._metering.forget()
        opening.forget(self._app)
        ray.kill(ray.get_runtime_context().current_actor, no_restart=True)

    def _perform(self, action: Order | PublishRoutes) -> None:
        """Begin what the manager orders."""
        if isinstance(action, PublishRoutes):
            self._followers.publish(action.table)
            return
        if not isinstance(action, StartUnload):
            for load in action:
                self._places.note_load(load)
        self._sites.order(action)

    async def _enforce(self, before: ServingConfig, after: ServingConfig) -> None:
        """Have the loop and everything around it follow this configuration; returns when gateways route by it."""
        self._loop.manager.limit(_manager_options(after))
        self._loop.emit(events.ConfigApplied(to_intents(after)))
        self._polling.watch(after)
        self._file_watch.follow(after, self._edits)
        for model in _rescaled(before, after):
            self._fleet.rescale(model)
        self._sites.follow()
        self._colony.follow_batching()
        await self._loop.handled()
        self._metering.wake()
        self._places.keep_only({model.name for model in after.models})
        await self._followers.wait_until_held(self._loop.manager.table.revision, _HELD_S)

    # Small things.

    @property
    def _edits(self) -> Editing:
        if self._editing is None:
            reason = "; ".join(self._problems.values()) or "it looks around after a start"
            raise Unavailable(f"the controller of {self._app} is not ready yet: {reason}")
        return self._editing

    @property
    def _rolls(self) -> Rollouts:
        _ = self._edits  # raises where nothing is known yet
        assert self._rolling is not None
        return self._rolling

    def _make_rollouts(self, editing: Editing) -> Rollouts:
        return Rollouts(
            editing,
            look=self._loop.manager.view,
            is_found=self._places.is_found,
            count=self._metering.find_counts,
            tell=self._tell_happenings,
            tell_problem=self._tell_problem,
        )

    def _tell_happenings(self, happenings: Iterable[Happening]) -> None:
        self._chronicle.tell(happenings)
        self._changes.note()

    async def _wait_until_restored(self) -> None:
        """Give a controller that has just started the moment it needs; one that cannot start says why."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._restored.wait(), _HELD_S)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        task.add_done_callback(_stop_process_on_failure)
        task.add_done_callback(self._tasks.discard)
        self._tasks.add(task)
        return task

    def _tell_problem(self, subject: str, problem: str | None) -> None:
        """Have a problem shown to whoever looks, in place of the one about the same subject before; None is none."""
        self._problems.pop(subject, None)
        if problem is not None:
            self._problems[subject] = problem
        self._changes.note()

    def _views(self, models: Iterable[str]) -> dict[str, ModelView]:
        return {name: view for name in models if (view := self._loop.manager.view(name)) is not None}

    def _available(self, model: str) -> Collection[int]:
        routes = self._loop.manager.table.models.get(model)
        return routes.routes.keys() if routes else ()

    def _model(self, name: str) -> ModelConfig:
        for model in self._edits.config.models:
            if model.name == name:
                return model
        raise NotFound(f"the model {name} is not configured any more")

    def _batching_in(self, process: str) -> BatchingChoice | None:
        """How the version in a replica is to be batched; None for other processes, and while nobody knows."""
        servable = parse_servable_app(self._app, process.rpartition("#")[0])
        if servable is None or self._editing is None:
            return None
        model = next((each for each in self._editing.config.models if each.name == servable.name), None)
        return None if model is None else batching_of(model)

    def _placement(self, model: str) -> Placement | None:
        with contextlib.suppress(NotFound):
            return Placement(self._model(model).placement)
        return None

    def _assign(self, servable: ServableId, path: str, model: ModelConfig) -> Assignment:
        return assignment_for(servable, path, model, self._edits.config)

    def _memory(self, servable: ServableId) -> int | None:
        """What a replica of this version reserves."""
        model = self._model(servable.name)
        if model.memory != "estimate":
            return model.memory
        size = self._places.find_size(servable)
        return None if size is None else int(size * model.memory_factor)

    def _servable_of(self, app: str) -> ServableId:
        servable = parse_servable_app(self._app, app)
        if servable is None:
            raise Internal(f"{app} is no application of {self._app}")
        return servable

    def _live_gateways(self) -> dict[str, dict[str, str]]:
        """Where each gateway listens that still follows our tables; the others are forgotten."""
        self._gateways = {name: where for name, where in self._gateways.items() if name in self._followers}
        return dict(self._gateways)

    def _refuse_when_closing(self) -> None:
        if self._closing:
            raise Unavailable(f"the serving app {self._app} is being deleted")


def _write_config(config: ServingConfig, form: str, secrets: bool) -> str:
    shown = config if secrets else redact(config)
    return write_model_server_config(shown) if form == "tfs" else to_yaml(shown, secrets=secrets)


def _manager_options(config: ServingConfig) -> ManagerOptions:
    load = config.load
    return ManagerOptions(
        max_concurrent_loads=load.max_concurrent_loads,
        retry_base_s=load.retry_base_s,
        retry_max_s=load.retry_max_s,
        quick_retries=load.quick_retries,
        slow_retry_s=load.slow_retry_s,
    )


def _rescaled(before: ServingConfig, after: ServingConfig) -> Iterable[str]:
    """The models whose number or limits of replicas differ."""

    def scales(config: ServingConfig) -> dict[str, object]:
        return {each.name: (each.replicas, each.autoscaling, each.max_ongoing_requests) for each in config.models}

    old = scales(before)
    return [name for name, scale in scales(after).items() if name in old and old[name] != scale]


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
