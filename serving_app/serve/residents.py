"""The versions that live in a gateway's own process: loaded and unloaded as the controller orders, asked by a call.

The controller's colony knows what every gateway is to hold; this is the gateway's side of that. Loads and unloads
happen on threads, those of one version one after the other. What a version does with calls is
`serving_app.host.resident`.

A gateway takes traffic when it has been admitted: it then holds all that the others hold. From then on it routes by no
table before it holds what that names.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, NamedTuple

from serving_app.core.batching import Batching, BatchingChoice
from serving_app.core.errors import FailedPrecondition, ServingError, Unavailable, as_serving_error
from serving_app.core.families import LOAD_SECONDS, LOADS, REPLICAS, RUNNING
from serving_app.core.metrics import Labels, Registry
from serving_app.core.placement import Placement
from serving_app.core.routing import RouteTable
from serving_app.core.servable import ServableId
from serving_app.core.stages import Traveller
from serving_app.core.views import Failure
from serving_app.host import Assignment, Host
from serving_app.host.resident import Resident
from serving_app.protocol.calls import Answer, Call, Outputs
from serving_app.runtime.loader import loader_for
from serving_app.serve.holdings import Admission, Holding, Orders

logger = logging.getLogger("ray.serve")

_RETRY_S = 0.2
_LOST_S = 60.0
"""How long a gateway that wants to be admitted waits for a controller that gives no answer."""
_PREPARE_S = 15.0
"""How long a table may wait for what it names. Whoever loads longer than that is about to be told to let it be."""
_LOADS = 4
"""Versions that are loaded at one time at most: a gateway that comes is told to hold many at once. A load that the
controller has given up counts no more, and an unload, which may wait for a run that never ends, counts not at all."""
_MOST_THREADS = 1000

Connect = Callable[[], Awaitable[Any]]
"""Finds the controller (an actor handle)."""


class _Ticket(NamedTuple):
    """An order to hold a version, and how it is to be batched now."""

    name: str
    assignment: Assignment
    batching: BatchingChoice


class Residents:
    """What one gateway holds. Used on one event loop."""

    def __init__(self, gateway: str, registry: Registry, connect: Connect) -> None:
        """`connect` is called again whenever the controller was lost."""
        self._gateway = gateway
        self._registry = registry
        self._connect = connect
        self._controller: Any = None
        self._host = Host(registry)
        self._threads = ThreadPoolExecutor(_MOST_THREADS, thread_name_prefix="load")
        self._slots = asyncio.Semaphore(_LOADS)
        self._loading: set[str] = set()  # tickets that have a slot
        self._residents: dict[ServableId, Resident] = {}
        self._holdings: dict[str, Holding] = {}  # by ticket, of everything that is not gone
        self._to_hold: dict[ServableId, _Ticket] = {}
        self._present: dict[ServableId, _Ticket] = {}  # of what the Host holds, and as it is batched
        self._workers: dict[ServableId, asyncio.Task[None]] = {}
        self._untold: dict[str, Holding] = {}
        self._is_known = False
        self._is_member = False
        self._telling = asyncio.Lock()
        self._news = asyncio.Event()
        self._changed = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._fault: Exception | None = None
        registry.watch(RUNNING, lambda: self._measure(lambda resident: resident.in_hand))
        registry.watch(REPLICAS, lambda: self._measure(lambda resident: 1))

    # Answering.

    def begin(
        self, servable: ServableId, call: Call, traveller: Traveller | None = None
    ) -> Outputs | asyncio.Future[Outputs]:
        """The outputs of one call, or what will be that; see Resident.begin."""
        resident = self._residents.get(servable)
        if resident is None:
            raise _absent(servable)
        return resident.begin(call, traveller)

    async def answer(self, servable: ServableId, calls: Sequence[Call]) -> Answer:
        """The replies to calls that came from another process. They are refused one by one where the version is not:
        a hop that fails as a whole may have been run, and would not be asked again."""
        resident = self._residents.get(servable)
        if resident is None:
            return Answer([_absent(servable) for _ in calls], 0.0, tuple(call.requests for call in calls))
        return await resident.answer(calls)

    # A life.

    async def start(self, platforms: Sequence[str] = ()) -> None:
        """Follow the controller's orders from now on. `platforms` are those of which there will be versions: opening
        what runs them takes a moment in which nothing else happens here, so it is done before there is anything."""
        for platform in platforms:
            with suppress(ServingError):  # each load of such a version will say it
                await self._on_thread(loader_for, platform)
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._follow()), loop.create_task(self._tell_for_ever())]

    async def admit(self) -> None:
        """Returns when this gateway may take traffic. Raises FailedPrecondition if it cannot hold what others hold."""
        heard = time.monotonic()
        while True:
            try:
                controller = self._controller or await self._connect()
                admission: Admission = await controller.admit.remote(self._gateway)
            except Exception as error:
                if time.monotonic() - heard > _LOST_S:
                    raise Unavailable(f"the controller does not answer: {error}") from error
                await asyncio.sleep(_RETRY_S)
                continue
            heard = time.monotonic()
            if admission.is_admitted:
                self._is_member = True
                return
            if admission.failure is not None:
                raise FailedPrecondition(
                    f"this gateway cannot load a version that others hold, and takes no traffic: {admission.failure}"
                )
            if not admission.is_known:
                await asyncio.sleep(_RETRY_S / 10)

    async def prepare(self, table: RouteTable) -> None:
        """Returns when everything that this table names can be asked here, or surely never will be."""
        if not self._is_member:
            return
        named = {
            route.servable
            for model in table.models.values()
            for route in model.routes.values()
            if route.placement is Placement.COLOCATED
        }
        try:
            async with asyncio.timeout(_PREPARE_S):
                while not named <= self._residents.keys():
                    await self._changed.wait()
        except TimeoutError:
            missing = ", ".join(map(str, sorted(named - self._residents.keys())))
            logger.error("the route table names %s, which this gateway does not hold", missing)

    def batched(self) -> Mapping[ServableId, Batching]:
        """The versions here that are batched, and by which limits."""
        return self._host.batched()

    def check(self) -> None:
        """Raise what went so wrong that this process has to be replaced."""
        if self._fault is not None:
            raise RuntimeError("a version can be neither loaded nor unloaded") from self._fault

    def stop(self) -> None:
        """Follow no more orders. What is held goes with the process."""
        for task in (*self._tasks, *self._workers.values()):
            task.cancel()
        for resident in self._residents.values():
            resident.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    # Talking with the controller.

    async def _follow(self) -> None:
        have = -1
        is_lost = False
        while True:
            try:
                self._controller = self._controller or await self._connect()
                if not self._is_known:
                    await self._tell(everything=True)
                    have = -1
                orders: Orders | None = await self._controller.poll_holdings.remote(self._gateway, have)
                is_lost = False
            except Exception as error:
                # Once, and not five times a second.
                logger.log(logging.DEBUG if is_lost else logging.WARNING, "no news of what to hold: %r", error)
                is_lost = True
                self._controller, self._is_known = None, False
                await asyncio.sleep(_RETRY_S)
                continue
            if orders is not None and orders.number < 0:
                self._is_known = False
            elif orders is not None:
                self._take(orders)
                have = orders.number

    async def _tell_for_ever(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            if self._untold and self._is_known:
                try:
                    await self._tell(everything=False)
                except Exception as error:  # the next that is told is everything
                    logger.debug("the controller could not be told: %r", error)
                    self._is_known = False

    async def _tell(self, everything: bool) -> None:
        async with self._telling:
            told = list((self._holdings if everything else self._untold).values())
            self._untold = {}
            known = await self._controller.tell_holdings.remote(self._gateway, told, everything, self._is_member)
            self._is_known = known if everything else self._is_known and known
            if self._untold:  # has come up meanwhile, when it could not be told
                self._news.set()

    def _note(self, holding: Holding) -> None:
        """This has become of a ticket."""
        if holding.is_gone:
            self._holdings.pop(holding.ticket, None)
        else:
            self._holdings[holding.ticket] = holding
        self._untold[holding.ticket] = holding
        self._news.set()
        self._changed.set()
        self._changed = asyncio.Event()

    # Holding.

    def _take(self, orders: Orders) -> None:
        dropped = set(orders.drop)
        if orders.is_all:
            dropped |= self._holdings.keys() - orders.hold.keys()
        for ticket in dropped:
            holding = self._holdings.get(ticket)
            if holding is None:
                self._note(Holding(ticket, _NOBODY, is_gone=True))
                continue
            kept = self._to_hold.get(holding.servable)
            if kept is not None and kept.name == ticket:
                del self._to_hold[holding.servable]
            self._free_slot(ticket)
            self._work_on(holding.servable)
        for ticket, assignment in orders.hold.items():
            if ticket not in self._holdings:
                self._note(Holding(ticket, assignment.servable))
                batching = BatchingChoice(assignment.batching, assignment.batching_from_version)
                self._to_hold[assignment.servable] = _Ticket(ticket, assignment, batching)
                self._work_on(assignment.servable)
        for servable, kept in list(self._to_hold.items()):
            choice = orders.batching.get(kept.name, kept.batching)
            if choice != kept.batching:
                self._to_hold[servable] = kept._replace(batching=choice)
                self._work_on(servable)

    def _work_on(self, servable: ServableId) -> None:
        """Bring a version to where it is to be, unless somebody is at it, who will see for himself."""
        if servable not in self._workers:
            self._workers[servable] = asyncio.get_running_loop().create_task(self._work(servable))

    async def _work(self, servable: ServableId) -> None:
        try:
            while await self._take_a_step(servable):
                pass
        except Exception as error:
            logger.exception("%s cannot be loaded or unloaded", servable)
            self._fault = error
        finally:
            del self._workers[servable]

    async def _take_a_step(self, servable: ServableId) -> bool:
        """Whether anything was to be done."""
        wanted, present = self._to_hold.get(servable), self._present.get(servable)
        names = [each.name for each in (wanted, present) if each is not None]
        # What failed, or was not begun, and is wanted no more.
        for holding in [each for each in self._holdings.values() if each.servable == servable]:
            if holding.ticket not in names:
                self._note(holding._replace(signatures=None, failure=None, is_gone=True))
        if present is not None and (wanted is None or wanted.name != present.name):
            await self._unload(present)
        elif wanted is None or self._holdings[wanted.name].failure is not None or wanted == present:
            return False
        elif present is None:
            await self._load(wanted)
        else:
            await self._follow_batching(wanted)
        return True

    async def _load(self, ticket: _Ticket) -> None:
        assignment = ticket.assignment
        servable, model = assignment.servable, assignment.servable.name
        await self._slots.acquire()
        if self._to_hold.get(servable) != ticket:
            self._slots.release()
            return  # wanted no more, or otherwise
        self._loading.add(ticket.name)
        started = time.monotonic()
        loop = asyncio.get_running_loop()

        def tell(message: str) -> None:
            loop.call_soon_threadsafe(self._tell_progress, ticket.name, message)

        try:
            signatures = await self._on_thread(self._host.load, assignment, tell)
        except Exception as error:
            failure = as_serving_error(error)
            self._registry.count(LOADS, (model, failure.code.name))
            self._note(Holding(ticket.name, servable, failure=Failure(failure.code, failure.message)))
            return
        finally:
            self._free_slot(ticket.name)
        seconds = time.monotonic() - started
        logger.info("loaded %s from %s in %.2f s", servable, assignment.path, seconds)
        self._registry.count(LOADS, (model, "OK"))
        self._registry.observe(LOAD_SECONDS, (model,), seconds)
        self._residents[servable] = Resident(self._host, servable, self._registry)
        self._present[servable] = ticket._replace(
            batching=BatchingChoice(assignment.batching, assignment.batching_from_version)
        )
        self._note(Holding(ticket.name, servable, signatures))

    def _free_slot(self, ticket: str) -> None:
        if ticket in self._loading:
            self._loading.remove(ticket)
            self._slots.release()

    async def _unload(self, ticket: _Ticket) -> None:
        servable = ticket.assignment.servable
        self._residents.pop(servable).close()
        await self._on_thread(self._host.unload, servable)
        del self._present[servable]
        logger.info("unloaded %s", servable)
        self._note(Holding(ticket.name, servable, is_gone=True))

    async def _follow_batching(self, ticket: _Ticket) -> None:
        servable = ticket.assignment.servable
        self._present[servable] = ticket
        try:
            await self._on_thread(self._host.set_batching, servable, *ticket.batching)
        except ServingError as error:
            logger.warning("%s is batched as before, since what is wanted cannot be done: %s", servable, error)
            return
        self._residents[servable].follow_limits()
        logger.info("%s is batched by %s from now on", servable, self._host.batching(servable))

    def _tell_progress(self, ticket: str, message: str) -> None:
        if self._controller is not None:
            self._controller.tell_holding_progress.remote(ticket, message)

    async def _on_thread(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)

    def _measure(self, value: Callable[[Resident], float]) -> Mapping[Labels, float]:
        return {(each.name, str(each.version)): value(resident) for each, resident in self._residents.items()}


_NOBODY = ServableId("", 0)


def _absent(servable: ServableId) -> ServingError:
    return Unavailable(f"this gateway does not hold {servable} now; try again")
