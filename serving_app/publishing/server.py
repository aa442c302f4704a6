"""The serving app that a version is published for: what it wants of one, and what becomes of it there."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

from serving_app.client.control import Control, join_cluster
from serving_app.config import parse_yaml
from serving_app.core.views import VersionView
from serving_app.publishing.arrival import find_earlier, give_labels, wait_until_served
from serving_app.publishing.claims import Claim
from serving_app.publishing.destination import Settings, check_prospects

T = TypeVar("T")


class Server:
    """One model of a serving app, which need not have it yet. Methods block, and may be called where a loop runs."""

    def __init__(self, control: Control, name: str) -> None:
        self._control = control
        self._name = name
        self._earlier: VersionView | None = None
        # With the credentials, which are needed to write where the app reads.
        self.config = parse_yaml(complete(control.config(secrets=True)), "The configuration in force")

    def add(self, settings: Settings, *, dry_run: bool = False) -> None:
        """Have a model with these settings served; with `dry_run` only learn whether that would be refused."""
        complete(self._control.add_model(settings, dry_run=dry_run))

    def foresee(self, claim: Claim) -> None:
        """Raise FailedPrecondition if a version would not be served that is about to be written."""
        others = frozenset(claim.place.versions())
        check_prospects(self.config, self._name, claim.number, others)
        self._earlier = find_earlier(complete(self._control.view()), self._name, claim.number)

    def wait(self, number: int, labels: Sequence[str], timeout_s: float | None) -> None:
        """Returns when every gateway routes to a version that was foreseen, and by these labels."""
        complete(self._wait(number, labels, timeout_s))

    async def _wait(self, number: int, labels: Sequence[str], timeout_s: float | None) -> None:
        await wait_until_served(self._control, self._name, number, self._earlier, timeout_s)
        await give_labels(self._control, self._name, number, labels)


def find_server(app: str, address: str | None, name: str) -> Server:
    """The serving app `app`, on the Ray cluster at `address` or the one that Ray finds. Raises Unreachable."""
    join_cluster(address)
    return Server(Control(app), name)


def complete(work: Coroutine[Any, Any, T]) -> T:
    """What a coroutine returns, on a loop in a thread of its own: the caller's may be running, as in a notebook.

    Ctrl-C ends it.
    """
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="publish", daemon=True)
    thread.start()
    future = asyncio.run_coroutine_threadsafe(work, loop)
    try:
        return future.result()
    finally:
        future.cancel()
        asyncio.run_coroutine_threadsafe(_settle(loop), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _settle(loop: asyncio.AbstractEventLoop) -> None:
    """Wait for what was cancelled."""
    await asyncio.gather(*(asyncio.all_tasks(loop) - {asyncio.current_task()}), return_exceptions=True)
    await loop.shutdown_default_executor()
