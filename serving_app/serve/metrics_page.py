"""The page that Prometheus reads, of a whole serving app at any of its gateways."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from serving_app.core.errors import ServingError
from serving_app.core.families import FAMILIES
from serving_app.core.metrics import Snapshot
from serving_app.protocol.prometheus import encode_page

Scrape = Callable[[], Awaitable[Snapshot]]
"""Collects what all processes of the app have counted. Raises a ServingError where that is not known now."""


class MetricsPage:
    """What REST answers at one path, to whatever method (http_server.cc)."""

    def __init__(self, path: str, scrape: Scrape) -> None:
        self._path = path
        self._scrape = scrape

    def is_at(self, target: str) -> bool:
        """Whether a request's target, path and query, is this page's affair. It goes before the API."""
        return target.startswith(self._path) and target.partition("?")[0] == self._path

    async def answer(self, target: str) -> tuple[int, bytes]:
        """Status and plain text. Without an exact answer there is none: counters that fall would be worse."""
        if target != self._path:
            return 400, f"Unexpected path: {target}. Should be {self._path}".encode("utf-8", "replace")
        try:
            # In a thread: with a thousand models there are megabytes to write.
            return 200, await asyncio.to_thread(encode_page, FAMILIES, await self._scrape())
        except ServingError as error:
            return 503, f"{error.message}\n".encode("utf-8", "replace")
