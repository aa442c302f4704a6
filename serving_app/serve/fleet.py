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
from typing import Any

from serving_app.config import ModelConfig
from serving_app.core import events
from serving_app.core.actions import StartLoad, StartUnload
from serving_app.core.errors import Code, Internal, ServingError
from serving_app.core.names import controller_name, servable_app
from serving_app.core.servable import ServableId
from serving_app.core.signatures import Signature
from serving_app.serve import apps
from serving_app.serve.apps import AppSeen, AppState, Observation

logger = logging.getLogger("serving_app.controller")

Order = Sequence[StartLoad] | StartUnload
"""Loads that were ordered together are deployed together: Serve brings many applications up in one go."""


@dataclass
class _Load:
    """A load under way. An adopted one has no order and no ticket: it was begun in an earlier life."""

    deadline: float
    order: int = 0
    ticket: str | None = None
    signatures: Mapping[str, Signature] | None = None


class Fleet:
    """What is expected of each version, and the orders about them. Lives on one event loop; events go to `emit`."""

    def __init__(
        self, app: str, find_model: Callable[[str], ModelConfig], emit: Callable[[events.Event], None]
    ) -> None:
        self._app = app
        self._find_model = find_model
        self._emit = emit
        self._orders: asyncio.Queue[Order] = asyncio.Queue()
        self._serve_thread = ThreadPoolExecutor(1, thread_name_prefix="serve")
        self._loading: dict[ServableId, _Load] = {}
        self._serving: dict[ServableId, int] = {}  # and the order that loaded each
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
            else:
                await self._load(order)
            self.stirred.set()

    async def remove(self, servable: ServableId) -> None:
        """Have a version removed now, whatever is expected of it."""
        await self._on_serve_thread(apps.delete, servable_app(self._app, servable))

    async def _load(self, order: Sequence[StartLoad]) -> None:
        """Deploy these together; if that is refused, one by one, so that the one to blame hears of it and no other."""
        for load in order:
            self._loading[load.servable] = _Load(self._deadline(load.servable), load.order, uuid.uuid4().hex)
        try:
            targets = [
                apps.Target(
                    servable_app(self._app, load.servable),
                    self._find_model(load.servable.name),
                    self._loading[load.servable].ticket,
                )
                for load in order
            ]
            await self._on_serve_thread(apps.deploy, controller_name(self._app), targets)
        except Exception as error:
            if len(order) > 1:
                for load in order:
                    await self._load([load])
                return
            [load] = order
            logger.exception("deploying %s failed", load.servable)
            failure = error if isinstance(error, ServingError) else Internal(f"{type(error).__name__}: {error}")
            self._fail(load.servable, failure.code, failure.message)

    async def _unload(self, order: StartUnload) -> None:
        self._loading.pop(order.servable, None)
        self._serving.pop(order.servable, None)
        await self._try_to_remove(order.servable)
        self._unloading[order.servable] = order.order

    async def _try_to_remove(self, servable: ServableId) -> None:
        try:
            await self.remove(servable)
        except Exception:  # the next look shows whether it is gone, and tries again if not
            logger.exception("%s: ordering its removal failed", servable)

    async def _on_serve_thread(self, function: Any, *args: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._serve_thread, function, *args)

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

    # Looking.

    async def look(self, seen: Observation) -> None:
        """Turn what Serve shows into events about the versions that something is expected of."""
        for servable in list(self._loading):
            await self._look_at_load(servable, seen.servables.get(servable))
        for servable, order in list(self._unloading.items()):
            app = seen.servables.get(servable)
            if app is None:
                del self._unloading[servable]
                logger.info("%s: gone", servable)
                self._emit(events.ServableGone(servable, order))
            elif app.state is not AppState.DELETING:
                # Not as an order in the queue: that might be carried out when the version is being loaded again.
                await self._try_to_remove(servable)
        for servable in self._serving.keys() - seen.servables.keys():
            logger.warning("%s: its application has vanished", servable)
            self._emit(events.ServableGone(servable, self._serving.pop(servable)))

    async def adopt(self, seen: Observation) -> None:
        """Take over what an earlier life of the controller has ordered: what answers serves, whatever Serve says of it.

        A version that lost one of its replicas is broken in Serve's eyes until there is another, and answers all the
        same; to load it again would take the others away as well.
        """
        names = {servable: servable_app(self._app, servable) for servable in seen.servables}
        may_answer = [
            servable
            for servable, app in seen.servables.items()
            if app.state in (AppState.RUNNING, AppState.BROKEN)
        ]
        answers = await asyncio.gather(*(self._ask_signatures(names[servable]) for servable in may_answer))
        found = dict(zip(may_answer, answers, strict=True))
        for servable, name in names.items():
            signatures = found.get(servable)
            if signatures is not None:
                self._serving[servable] = 0
                self._emit(events.ServableAdopted(servable, name, signatures))
            else:
                # One that is being deleted, too: its load will be seen to fail, and what is left of it is removed.
                self._loading[servable] = _Load(self._deadline(servable))
                self._emit(events.LoadAdopted(servable))

    async def _look_at_load(self, servable: ServableId, app: AppSeen | None) -> None:
        load = self._loading[servable]
        if app is not None and app.state is AppState.RUNNING:
            name = servable_app(self._app, servable)
            signatures = load.signatures or await self._ask_signatures(name)
            # While the signatures were asked for, an unload may have been ordered.
            if signatures is not None and self._loading.get(servable) is load:
                del self._loading[servable]
                self._serving[servable] = load.order
                logger.info("%s: ready", servable)
                self._emit(events.ServableLoaded(servable, name, signatures, load.order))
        elif app is not None and app.state is not AppState.STARTING:
            self._fail(servable, Code.UNAVAILABLE, app.message or "its application was deleted")
        elif time.monotonic() > load.deadline:
            reason = f"not loaded within load_timeout_s; {app.message if app else ''}".rstrip("; ")
            self._fail(servable, Code.DEADLINE_EXCEEDED, reason)

    def _fail(self, servable: ServableId, code: Code, message: str) -> None:
        load = self._loading.pop(servable, None)
        if load is not None:
            self._emit(events.LoadFailed(servable, code, message, load.order))

    async def _ask_signatures(self, name: str) -> Mapping[str, Signature] | None:
        """A running version's signatures; None when it does not answer now. It is asked again at the next look."""
        try:
            return await asyncio.to_thread(apps.signatures_of, name)
        except Exception as error:
            logger.warning("%s runs but does not tell its signatures: %r", name, error)
            return None

    def _deadline(self, servable: ServableId) -> float:
        try:
            return time.monotonic() + self._find_model(servable.name).load_timeout_s
        except ServingError:  # dropped from the configuration meanwhile; its removal is about to be ordered
            return time.monotonic()
