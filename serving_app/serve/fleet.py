"""The versions of one serving app as Serve applications: orders carried out, and what became of them.

Orders are carried out strictly in turn, each in a thread, because Serve's calls block. What becomes of a version is not
taken from the call but from looking: `look` compares what Serve shows with what is expected of each version, and tells
the difference as events. So nothing depends on a callback that might get lost, and a controller that was restarted
continues from what it sees.

Each load has a ticket, which its replicas show when they report. What a replica of an earlier load of the same
version says, and may say late, is not taken for news of the present one.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

from serving_app.config import ModelConfig
from serving_app.core import events
from serving_app.core.actions import StartLoad, StartUnload
from serving_app.core.errors import Code, Internal, ServingError
from serving_app.core.names import controller_name, servable_app
from serving_app.core.servable import ServableId
from serving_app.core.signatures import Signature
from serving_app.serve import apps
from serving_app.serve.apps import AppSeen, AppState, Observation
from serving_app.serve.roster import Entry, Roster

logger = logging.getLogger("serving_app.controller")

Order = Sequence[StartLoad] | StartUnload
"""Loads that were ordered together are deployed together: Serve brings many applications up in one go."""


@dataclass
class _Load:
    """A load under way. An adopted one has no order and no ticket: it was begun in an earlier life."""

    deadline: float
    order: int = 0
    path: str = ""
    ticket: str | None = None
    model: ModelConfig | None = None
    memory: int | None = None
    signatures: Mapping[str, Signature] | None = None
    told: str = ""


class _Serving(NamedTuple):
    """A version that serves, and the order that loaded it, 0 if adopted."""

    order: int
    entry: Entry


class Fleet:
    """What is expected of each version, and the orders about them. Lives on one event loop; events go to `emit`."""

    def __init__(
        self,
        app: str,
        find_model: Callable[[str], ModelConfig],
        find_memory: Callable[[ServableId], int | None],
        emit: Callable[[events.Event], None],
    ) -> None:
        """`find_model` gives a model's settings, or raises a ServingError; `find_memory` what a replica of a version
        reserves."""
        self._app = app
        self._find_model = find_model
        self._find_memory = find_memory
        self._emit = emit
        self._orders: asyncio.Queue[Order | ServableId] = asyncio.Queue()
        self._serve_thread = ThreadPoolExecutor(1, thread_name_prefix="serve")
        self._roster = Roster(app)
        # One thread, so that what is entered before it is struck off is also written in this order.
        self._roster_thread = ThreadPoolExecutor(1, thread_name_prefix="roster")
        self._loading: dict[ServableId, _Load] = {}
        self._serving: dict[ServableId, _Serving] = {}
        self._unloading: dict[ServableId, int] = {}  # and the order that removes each
        self.stirred = asyncio.Event()
        """Set when something has happened that a look would show."""

    @property
    def is_waiting(self) -> bool:
        """Whether something is expected of Serve."""
        return bool(self._loading or self._unloading)

    @property
    def is_about_to_change(self) -> bool:
        """Whether something is expected of Serve at any moment."""
        return bool(self._unloading) or any(load.signatures is not None for load in self._loading.values())

    # Orders.

    def order(self, order: Order) -> None:
        """Have this done, after everything that was ordered before."""
        self._orders.put_nowait(order)

    async def carry_out_orders(self) -> None:
        """For ever; an order that fails is told to whom it was about."""
        while True:
            order = await self._orders.get()
            if isinstance(order, StartUnload):
                await self._unload(order)
            elif isinstance(order, ServableId):
                await self._rescale(order)
            else:
                await self._load(order)
            self.stirred.set()

    def rescale(self, model: str) -> None:
        """Have the versions of this model follow its present number and limits of replicas."""
        for servable in (*self._loading, *self._serving):
            if servable.name == model:
                self._orders.put_nowait(servable)

    def forget(self) -> None:
        """The app is deleted: nothing is kept of what served. Blocks."""
        self._roster.forget()

    async def remove(self, servable: ServableId) -> None:
        """Have a version removed now, whatever is expected of it."""
        await self._on_serve_thread(apps.delete, servable_app(self._app, servable))

    async def _load(self, order: Sequence[StartLoad]) -> None:
        """Deploy these together; if that is refused, one by one, so that the one to blame hears of it and no other."""
        for load in order:
            self._loading[load.servable] = _Load(
                self._deadline(load.servable), load.order, load.path, uuid.uuid4().hex
            )
        try:
            targets = []
            for servable in [load.servable for load in order]:
                begun = self._loading[servable]
                begun.model, begun.memory = self._find_model(servable.name), self._find_memory(servable)
                targets.append(self._target(servable, begun.model, begun.ticket or "", begun.memory))
            await self._deploy(targets)
        except Exception as error:
            if len(order) > 1:
                for load in order:
                    await self._load([load])
                return
            [load] = order
            logger.exception("deploying %s failed", load.servable)
            failure = error if isinstance(error, ServingError) else Internal(f"{type(error).__name__}: {error}")
            self._fail(load.servable, failure.code, failure.message)

    def _target(self, servable: ServableId, model: ModelConfig, ticket: str, memory: int | None) -> apps.Target:
        return apps.Target(servable_app(self._app, servable), model, ticket, memory)

    async def _deploy(self, targets: Sequence[apps.Target]) -> None:
        await self._on_serve_thread(apps.deploy, controller_name(self._app), targets)

    async def _rescale(self, servable: ServableId) -> None:
        serving = self._serving.get(servable)
        begun = serving.entry if serving else self._loading.get(servable)
        if begun is None or begun.ticket is None:
            return  # on its way out by now, or not known well enough to be deployed again
        try:
            now = self._find_model(servable.name)
            # Whatever else has changed since is for versions that are loaded from now on: it would restart replicas.
            scale = {"replicas": now.replicas, "autoscaling": now.autoscaling,
                     "max_ongoing_requests": now.max_ongoing_requests}
            model = (begun.model or now).model_copy(update=scale)
            memory = begun.memory if begun.model else self._find_memory(servable)
            await self._deploy([self._target(servable, model, begun.ticket, memory)])
        except Exception:  # it serves on as it is; the next change of its settings tries again
            logger.exception("%s: changing its replicas failed", servable)

    async def _unload(self, order: StartUnload) -> None:
        self._loading.pop(order.servable, None)
        self._serving.pop(order.servable, None)
        await self._on_roster_thread(self._roster.strike, order.servable)
        await self._try_to_remove(order.servable)
        self._unloading[order.servable] = order.order

    async def _try_to_remove(self, servable: ServableId) -> None:
        try:
            await self.remove(servable)
        except Exception:  # the next look shows whether it is gone, and tries again if not
            logger.exception("%s: ordering its removal failed", servable)

    async def _on_serve_thread(self, function: Any, *args: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._serve_thread, function, *args)

    async def _on_roster_thread(self, function: Any, *args: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._roster_thread, function, *args)

    # Reports of replicas.

    def report_loaded(self, servable: ServableId, ticket: str | None, signatures: Mapping[str, Signature]) -> None:
        """A replica has loaded the version, which is ready once Serve routes to it."""
        load = self._loading.get(servable)
        if load is not None and load.ticket in (None, ticket):
            load.signatures = signatures
            self.stirred.set()

    def report_failed(self, servable: ServableId, ticket: str | None, code: Code, message: str) -> None:
        """A replica could not load the version. Matters while it is loading, not while others serve it."""
        logger.warning("%s: a replica could not load it: %s: %s", servable, Code(code).name, message)
        load = self._loading.get(servable)
        if load is not None and load.ticket in (None, ticket):
            self._fail(servable, Code(code), message)

    def report_progress(self, servable: ServableId, ticket: str, message: str) -> None:
        """A replica tells how far its load is."""
        load = self._loading.get(servable)
        if load is not None and load.ticket in (None, ticket) and load.told != message:
            load.told = message
            self._emit(events.LoadProgressed(servable, message, load.order))

    # Looking.

    async def look(self, seen: Observation) -> None:
        """Turn what Serve shows into events about the versions that something is expected of."""
        for servable in list(self._loading):
            await self._look_at_load(servable, seen.servables.get(servable))
        for servable, order in list(self._unloading.items()):
            app = seen.servables.get(servable)
            if app is None:
                del self._unloading[servable]
                self._emit(events.ServableGone(servable, order))
            elif app.state is not AppState.DELETING:
                # Not as an order in the queue: that might be carried out when the version is being loaded again.
                await self._try_to_remove(servable)
        vanished = self._serving.keys() - seen.servables.keys()
        for servable in vanished:
            logger.warning("%s: its application has vanished", servable)
            self._emit(events.ServableGone(servable, self._serving.pop(servable).order))
        for servable in vanished:
            await self._on_roster_thread(self._roster.strike, servable)

    async def adopt(self, seen: Observation) -> None:
        """Take over what an earlier life of the controller has ordered: what answers serves, whatever Serve says of it.

        A version that lost one of its replicas is broken in Serve's eyes until there is another, and answers all the
        same; to load it again would take the others away as well.
        """
        known = await self._on_roster_thread(self._roster.read)
        for servable in known.keys() - seen.servables.keys():
            await self._on_roster_thread(self._roster.strike, servable)
        entries = {servable: known[servable] for servable, app in seen.servables.items()
                   if servable in known and app.state is not AppState.DELETING}
        unknown = [servable for servable, app in seen.servables.items()
                   if servable not in entries and app.state in (AppState.RUNNING, AppState.BROKEN)]
        for servable, entry in zip(unknown, await asyncio.gather(*map(self._ask, unknown)), strict=True):
            if entry is not None:
                await self._on_roster_thread(self._roster.enter, servable, entry)
                entries[servable] = entry
        for servable in seen.servables:
            if servable in entries:
                entry = entries[servable]
                self._serving[servable] = _Serving(0, entry)
                name = servable_app(self._app, servable)
                self._emit(events.ServableAdopted(servable, name, entry.signatures, entry.path))
            else:
                # One that is being deleted, too: its load will be seen to fail, and what is left of it is removed.
                self._loading[servable] = _Load(self._deadline(servable))
                self._emit(events.LoadAdopted(servable))

    async def _look_at_load(self, servable: ServableId, app: AppSeen | None) -> None:
        load = self._loading[servable]
        if app is not None and app.state is AppState.RUNNING:
            if load.signatures is None or load.ticket is None:  # a report that was lost with an earlier controller
                entry = await self._ask(servable)
            else:
                entry = Entry(load.signatures, load.path, load.ticket, load.model, load.memory)
            # While it was asked, an unload may have been ordered.
            if entry is None or self._loading.get(servable) is not load:
                return
            await self._on_roster_thread(self._roster.enter, servable, entry)
            if self._loading.get(servable) is load:
                del self._loading[servable]
                self._serving[servable] = _Serving(load.order, entry)
                name = servable_app(self._app, servable)
                self._emit(events.ServableLoaded(servable, name, entry.signatures, load.order))
        elif app is not None and app.state is not AppState.STARTING:
            self._fail(servable, Code.UNAVAILABLE, _explain(app.message or "its application was deleted", load))
        elif time.monotonic() > load.deadline:
            self._fail(servable, Code.DEADLINE_EXCEEDED, _explain("not loaded within load_timeout_s", load, app))

    def _fail(self, servable: ServableId, code: Code, message: str) -> None:
        load = self._loading.pop(servable, None)
        if load is not None:
            self._emit(events.LoadFailed(servable, code, message, load.order))

    async def _ask(self, servable: ServableId) -> Entry | None:
        """What a running version is; None when it does not answer now. It is asked again at the next look."""
        try:
            description = await asyncio.to_thread(apps.describe, servable_app(self._app, servable))
        except Exception as error:
            logger.warning("%s runs but does not tell what it is: %r", servable, error)
            return None
        return Entry(description.signatures, description.path, description.ticket)

    def _deadline(self, servable: ServableId) -> float:
        try:
            return time.monotonic() + self._find_model(servable.name).load_timeout_s
        except ServingError:  # dropped from the configuration meanwhile; its removal is about to be ordered
            return time.monotonic()


def _explain(what: str, load: _Load, app: AppSeen | None = None) -> str:
    """What became of a load, what was last heard of its replica, and what Serve says."""
    told = f"the last that was heard of it: {load.told}" if load.told else ""
    return "; ".join(filter(None, (what, told, app.message if app else "")))
