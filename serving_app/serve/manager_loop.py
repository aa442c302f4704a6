"""The loop around the Manager: gathers events, hands them over, has the actions performed that come back.

Whoever has news emits it, and need not know what becomes of it. All that came in by then is handed over in one go, so
that the manager decides once and not once per event. When the manager wants to be asked again at a certain time, the
loop does so.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterable

from serving_app.core import events
from serving_app.core.actions import Action, PublishRoutes, StartLoad
from serving_app.core.history import Happening
from serving_app.core.manager import Manager
from serving_app.serve.changes import Changes
from serving_app.serve.fleet import Order


class ManagerLoop:
    """The manager of one app at work. Lives on one event loop.

    `remember` gets every event before the manager does; `perform` begins an action, and returns at once; `tell` gets
    what happened, for people. Each turn of the loop is noted as a change.
    """

    def __init__(
        self,
        changes: Changes,
        *,
        remember: Callable[[events.Event], None],
        perform: Callable[[Order | PublishRoutes], None],
        tell: Callable[[Iterable[Happening]], None],
    ) -> None:
        # Readers compare revisions across restarts of the controller, which the number of changes is made for.
        self.manager = Manager(revision=changes.number, jitter=_jitter)
        """To be asked what it knows, and given limits; events go to `emit`."""
        self._changes = changes
        self._remember = remember
        self._perform = perform
        self._tell = tell
        self._inbox: asyncio.Queue[events.Event] = asyncio.Queue()
        self._marks: list[asyncio.Future[None]] = []
        self._is_stopped = False

    def emit(self, event: events.Event) -> None:
        """This has happened."""
        self._inbox.put_nowait(event)

    def take_in(self) -> None:
        """Have the manager know what came in so far. For what is told before the loop begins: it decides nothing."""
        for event in self._take_inbox():
            self._remember(event)
            self.manager.handle(event, now=time.time())

    async def run(self, config: events.ConfigApplied) -> None:
        """Decide again and again, from this configuration on."""
        # Together: by a first tick without the configuration nothing would be wanted that was adopted.
        pending: list[events.Event] = [config, *self._take_inbox(), events.Tick()]
        while not self._is_stopped:
            marks, self._marks = self._marks, []
            now = time.time()
            for event in pending:
                self._remember(event)
            for action in _grouped(self.manager.handle(*pending, now=now)):
                self._perform(action)
            self._tell(self.manager.take_happenings())
            self._changes.note()
            for mark in marks:
                mark.set_result(None)
            pending = await self._next_events(now)

    def stop(self) -> None:
        """Decide nothing any more."""
        self._is_stopped = True

    async def handled(self) -> None:
        """Returns when everything that came in before has been handled, and what followed from it is begun."""
        mark: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._marks.append(mark)
        self.emit(events.Tick())
        await asyncio.shield(mark)

    async def _next_events(self, now: float) -> list[events.Event]:
        wakeup = self.manager.next_wakeup()
        timeout = None if wakeup is None else max(0.0, wakeup - now)
        first: events.Event
        try:
            first = await asyncio.wait_for(self._inbox.get(), timeout)
        except TimeoutError:
            first = events.Tick()
        # All of it, also after a timeout: whoever waits to be handled has the mark set after these.
        return [first, *self._take_inbox()]

    def _take_inbox(self) -> list[events.Event]:
        taken = []
        while not self._inbox.empty():
            taken.append(self._inbox.get_nowait())
        return taken


def _jitter(delay: float) -> float:
    """Versions that failed together, as when a store was away, are not all tried again at the same moment."""
    return delay * random.uniform(0.8, 1.2)


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
