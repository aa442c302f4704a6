"""What all processes of a serving app have counted, added up: the controller's part of the metrics.

Every gateway and every replica reports (serving_app.serve.reporting). A scrape begins a *round*, which all of them are
woken for, and ends when each has answered it, or after a second. So what is shown is exact: whatever was counted before
the scrape is in it, wherever it was counted.

Counters must not fall, or whoever computes rates from them sees bursts that never were. So what processes counted that
are gone is kept, and all of it is kept in the cluster's key-value store, a few seconds behind, for the controller that
comes next. That one shows nothing until everybody who was there has reported again, or is known to be gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import pickle
import time
import uuid
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from serving_app.client.courier import Parcel, Receipt
from serving_app.core.batching import Batching
from serving_app.core.errors import Unavailable
from serving_app.core.families import SILENT, VERSIONS
from serving_app.core.metrics import Labels, Registry, Snapshot, add_to, replace_in, total
from serving_app.core.routing import RouteTable
from serving_app.core.servable import ServableId
from serving_app.serve import kept_counts
from serving_app.serve.deliveries import Deliveries
from serving_app.serve.doors import Doors
from serving_app.serve.kept_counts import KeptCounts
from serving_app.serve.ray_metrics import RayExport
from serving_app.serve.reporting import Report, Wish

logger = logging.getLogger("serving_app.controller")

ANSWER_S = 1.0
"""How long a scrape waits for those who report; who is silent is counted as it was."""

LEASE_S = 10.0
"""How long after its last sign of life a process counts as there."""

_RETURN_S = 3.0
"""How long a scrape waits for those whom the controller before knew."""

_PAUSE_S = 1.0
_REPORTS_PER_S = 250
"""How often a process reports without being asked: once a second, and less often when there are many."""

_KEEP_EVERY_S = 5.0
_MOST_LOST = 256
"""Processes that are not there and did not say good-bye, whose counts are kept apart in case they come back."""

_MOST_DEPARTED = 1000


@dataclass
class _Process:
    last_seen: float
    counts: Snapshot = field(default_factory=dict)
    gauges: Snapshot = field(default_factory=dict)
    number: int = -1
    """Of its last report; -1 while that is one to an earlier controller."""
    answered: str | None = None
    batched: Mapping[ServableId, Batching] = field(default_factory=dict)
    is_silent: bool = False
    calls: int = 0

    @property
    def is_back(self) -> bool:
        """Whether it has reported to this controller."""
        return self.number >= 0


class Metering:
    """The counts of one app. Lives on one event loop."""

    def __init__(
        self,
        app: str,
        table: Callable[[], RouteTable | None] = lambda: None,
        *,
        clock: Callable[[], float] = time.monotonic,
        pause_s: float = _PAUSE_S,
        answer_s: float = ANSWER_S,
        return_s: float = _RETURN_S,
        doors: Doors | None = None,
    ) -> None:
        """`table` gives the route table in force, which tells the states of versions. `doors` are told who is there."""
        self._app = app
        self._registry = Registry()
        self._registry.watch(VERSIONS, lambda: count_versions(table()))
        self._clock = clock
        self._pause_s = pause_s
        self._answer_s = answer_s
        self._return_s = return_s
        self._doors = doors or Doors(lambda _: None)
        self._life = uuid.uuid4().hex
        self._restored = asyncio.Event()
        self._processes: dict[str, _Process] = {}
        self._departed: Snapshot = {}
        self._farewells: dict[str, None] = {}
        self._deliveries = Deliveries(self._registry)
        self._rounds = 0
        self._round: str | None = None
        self._woken = asyncio.Event()
        self._answered = asyncio.Event()
        self._one_round = asyncio.Lock()
        self._last_page: Snapshot | None = None
        self._changes = self._kept = 0
        self._forgotten = False
        self._one_keeping = asyncio.Lock()
        self._keeping: asyncio.Future[None] | None = None

    # Calls of those who report.

    async def report(self, name: str, report: Report) -> Wish:
        """Take a report in; returns when the next one is wanted."""
        await self._restored.wait()
        process = self._processes.get(name)
        if process is None:
            if name in self._farewells:  # a call that Ray repeats, or a process that was long taken for lost
                await asyncio.sleep(self._pause_s)
                return Wish()
            process = self._processes[name] = _Process(self._clock())
        process.last_seen = self._clock()
        is_first = not process.is_back
        if not report.is_all and report.number != process.number + 1:
            return Wish(everything=True, scrape=self._round)
        self._take(process, report)
        self._doors.note(name, report.door)
        if self._round is not None and report.answers != self._round:
            return Wish(scrape=self._round)
        if is_first:
            return Wish()
        process.calls += 1
        try:
            async with asyncio.timeout(self._pace(len(self._processes))):
                await self._woken.wait()
        except TimeoutError:
            return Wish()
        finally:
            process.calls -= 1
            process.last_seen = self._clock()
        return Wish(scrape=self._round)

    def _pace(self, processes: int) -> float:
        """How long each of so many is not to come again by itself."""
        return max(self._pause_s, processes / _REPORTS_PER_S)

    def wake(self) -> None:
        """Answer all who report now, as there is news for them."""
        self._woken.set()
        self._woken = asyncio.Event()

    async def bid_farewell(self, name: str, report: Report) -> None:
        """A process goes: its last report. Returns when that is kept, however soon the controller may die."""
        await self._restored.wait()
        if name in self._farewells:
            return
        self._bury(name, report.counts)
        await self._keep()

    async def take_in(self, caller: str, safe: int, parcels: Sequence[Parcel], present: int) -> Receipt:
        """Take in how much more a Python caller has counted, one of so many who are present; see Deliveries.take."""
        await self._restored.wait()
        self._changes += len(parcels)
        return Receipt(*self._deliveries.take(caller, safe, parcels), self._pace(present))

    # Calls of those who want to know.

    @property
    def present(self) -> Collection[str]:
        """The processes that report."""
        return [name for name, process in self._processes.items() if process.is_back and not process.is_silent]

    async def collect(self, asker: str | None) -> Snapshot:
        """Everything that was counted before this was called. Raises Unavailable while that cannot be told.

        An asker who reports is waited for like the others.
        """
        await self._restored.wait()
        arrived = self._rounds
        async with self._one_round:
            # Whoever waited while this one waited, and was first, has begun a round since this one came.
            if self._rounds > arrived and self._last_page is not None:
                return self._last_page
            self._last_page = None
            self._last_page = await self._collect(asker)
            return self._last_page

    async def _collect(self, asker: str | None) -> Snapshot:
        self._rounds += 1
        self._round = f"{self._life}:{self._rounds}"
        self.wake()
        try:
            await self._wait_for_return(asker)
            await self._wait_for_answers(self._round)
        finally:
            self._round = None
        await self._keep_deliveries()
        silent = sum(process.is_silent for process in self._processes.values())
        gauges = [process.gauges for process in self._processes.values()]
        counts = [process.counts for process in self._processes.values()]
        return total([self._departed, *counts, *gauges, self._registry.gauges(), {SILENT.name: {(): silent}}])

    async def _wait_for_return(self, asker: str | None) -> None:
        def missing() -> list[str]:
            self.expire()
            known = [name for name, process in self._processes.items() if not process.is_back and not process.is_silent]
            return known if asker is None or asker in self._processes else [*known, asker]

        try:
            async with asyncio.timeout(self._return_s):
                while missing():
                    await self._wait_for_progress()
        except TimeoutError:
            raise Unavailable(
                f"the controller has started again, and {len(missing())} of the processes that count have not reported "
                f"since; try again in {LEASE_S:g} seconds"
            ) from None

    async def _wait_for_answers(self, scrape: str) -> None:
        def missing() -> list[_Process]:
            return [each for each in self._processes.values() if each.answered != scrape and not each.is_silent]

        try:
            async with asyncio.timeout(self._answer_s):
                while missing():
                    await self._wait_for_progress()
        except TimeoutError:
            # Once is enough: the next scrape does not wait for these, unless they speak again.
            for process in missing():
                process.is_silent = True

    async def _keep_deliveries(self) -> None:
        """What callers have brought until now is kept and shown, unless the cluster's store does not answer. Shown
        before, it might be less again after a restart."""
        if self._deliveries.are_there:
            self._keeping = asyncio.ensure_future(self._keep())
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(self._keeping), self._answer_s)

    async def _wait_for_progress(self) -> None:
        self._answered.clear()
        await self._answered.wait()

    # What is known.

    def find_batching(self) -> Mapping[ServableId, Batching]:
        """The versions that are batched, and by which limits, as those who hold them have said last."""
        batched = [process.batched for process in self._processes.values()]
        return {servable: limits for each in batched for servable, limits in each.items()}

    def find_counts(self, families: Collection[str], models: Collection[str]) -> Snapshot:
        """What was counted in families that have the model as their first label, of these models, as everybody has
        told it last: a second ago, mostly. Nobody is asked."""
        found: Snapshot = {}
        reported = (process.counts for process in self._processes.values())
        for counts in (self._departed, *self._deliveries.counts, *reported):
            for name in families:
                cells = counts.get(name, {})
                add_to(found, {name: {labels: cells[labels] for labels in cells if labels[0] in models}})
        return found

    def expire(self) -> None:
        """Expect nothing more of processes that gave no sign of life for long. Their counts stay."""
        horizon = self._clock() - LEASE_S
        lost = []
        for name, process in self._processes.items():
            if not process.calls and process.last_seen < horizon:
                process.is_silent = True
                process.gauges = {}
                self._doors.drop(name)
                lost.append(name)
        for name in lost[: max(0, len(lost) - _MOST_LOST)]:
            self._bury(name, self._processes[name].counts)

    def _take(self, process: _Process, report: Report) -> None:
        if report.number < process.number:
            return  # of a call that Ray has repeated
        if report.counts:
            self._changes += 1
        if report.is_all:
            process.counts = report.counts
        else:
            replace_in(process.counts, report.counts)
        process.gauges = report.gauges
        process.number = report.number
        process.batched = report.batched or {}
        process.answered = report.answers
        process.is_silent = False
        self._answered.set()

    def _bury(self, name: str, counts: Snapshot) -> None:
        self._processes.pop(name, None)
        self._doors.drop(name)
        add_to(self._departed, counts)
        self._farewells[name] = None
        for oldest in list(self._farewells)[: max(0, len(self._farewells) - _MOST_DEPARTED)]:
            del self._farewells[oldest]
        self._changes += 1
        self._answered.set()

    # What outlives the controller.

    async def restore(self) -> None:
        """Know what the controller before knew. Everybody waits for this."""
        kept = await asyncio.to_thread(kept_counts.read, self._app)
        for counts in (kept.departed, kept.brought):
            add_to(self._departed, counts)
        self._deliveries.restore(kept.parcels)
        self._farewells = dict.fromkeys(kept.farewells)
        now = self._clock()
        self._processes = {name: _Process(now, counts) for name, counts in kept.reported.items()}
        self._restored.set()

    async def keep_behind(self) -> None:
        """Keep what is new, for ever."""
        while True:
            await asyncio.sleep(_KEEP_EVERY_S)
            self.expire()
            if self._changes != self._kept:
                await self._keep()

    async def export(self) -> None:
        """Tell Ray what the controller knows itself, for ever."""
        await RayExport(self._app).export_for_ever(self._registry)

    def forget(self) -> None:
        """The app is deleted: nothing is kept of it any more."""
        self._forgotten = True
        kept_counts.forget(self._app)

    async def _keep(self) -> None:
        """Returns when everything that is known now is kept; several who wait share one write."""
        wanted = self._changes
        async with self._one_keeping:
            if self._kept >= wanted or self._forgotten:
                return
            reached = self._changes
            reported = {name: process.counts for name, process in self._processes.items()}
            # Here, as nothing changes meanwhile.
            pickled = pickle.dumps(
                KeptCounts(self._departed, reported, tuple(self._farewells), *self._deliveries.begin_keeping())
            )
            is_kept = False
            try:
                await asyncio.to_thread(kept_counts.write, self._app, pickled)
                is_kept, self._kept = True, reached
            finally:
                add_to(self._departed, self._deliveries.end_keeping(is_kept))


def count_versions(table: RouteTable | None) -> dict[Labels, float]:
    """How many versions of each model are in which state."""
    models = table.models if table is not None else {}
    states = Counter((name, status.state.name) for name, model in models.items() for status in model.statuses)
    return {(name, state): count for (name, state), count in states.items()}
