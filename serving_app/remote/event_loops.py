"""Clients for asyncio belong to one event loop, as their connections do."""

from __future__ import annotations

import asyncio

from serving_app.core.errors import FailedPrecondition


def own_loop(loop: asyncio.AbstractEventLoop | None) -> asyncio.AbstractEventLoop:
    """The running loop, which must be the one that a client was first used on; FailedPrecondition if it is not."""
    running = asyncio.get_running_loop()
    if loop is not None and loop is not running:
        raise FailedPrecondition(
            "this client belongs to the event loop on which it was first used; make one for each loop"
        )
    return running
