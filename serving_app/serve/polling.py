"""One poll per model: a slow or failing store delays nobody else's."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from serving_app.config import ModelConfig, ServingConfig
from serving_app.core.errors import Code, ServingError
from serving_app.core.events import Event, ListingFailed, VersionsListed
from serving_app.store import list_versions

logger = logging.getLogger("serving_app.controller")

_THREADS = 16


class Polling:
    """Watches the base paths of a configuration's models; tells `emit` what changed."""

    def __init__(self, emit: Callable[[Event], None]) -> None:
        self._emit = emit
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="poll")
        self._watched: dict[str, tuple[tuple[ModelConfig, float], asyncio.Task[None]]] = {}

    def watch(self, config: ServingConfig) -> None:
        """Poll exactly these models from now on. A model that did not change is left to its running poll."""
        wanted = {model.name: (model, config.poll_interval_s) for model in config.models}
        for name, (watched, task) in list(self._watched.items()):
            if wanted.get(name) != watched:
                task.cancel()
                del self._watched[name]
        for name, watch in wanted.items():
            if name not in self._watched:
                self._watched[name] = (watch, asyncio.get_running_loop().create_task(self._poll(*watch)))

    def stop(self) -> None:
        """Poll nothing any more."""
        for _, task in self._watched.values():
            task.cancel()
        self._watched.clear()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _poll(self, model: ModelConfig, interval_s: float) -> None:
        loop = asyncio.get_running_loop()
        last: tuple[Event, tuple[str, ...]] | None = None
        while True:
            outcome, warnings = await loop.run_in_executor(self._threads, _list, model)
            if (outcome, warnings) != last:
                _tell(outcome, warnings)
                self._emit(outcome)
                last = (outcome, warnings)
            if interval_s == 0:
                return
            # A little unevenness keeps the polls of many models from marching in step.
            await asyncio.sleep(interval_s * random.uniform(0.9, 1.0))


def _list(model: ModelConfig) -> tuple[VersionsListed | ListingFailed, tuple[str, ...]]:
    try:
        listing = list_versions(model.base_path, model.storage_options, servable=model.name)
    except ServingError as error:
        return ListingFailed(model.name, error.code, error.message), ()
    except Exception as error:  # a store may raise anything; it is this model's problem alone
        return ListingFailed(model.name, Code.UNKNOWN, f"{type(error).__name__}: {error}"), ()
    return VersionsListed(model.name, listing.versions), listing.warnings


def _tell(outcome: VersionsListed | ListingFailed, warnings: tuple[str, ...]) -> None:
    for warning in warnings:
        logger.warning("%s: %s", outcome.model, warning)
    if isinstance(outcome, ListingFailed):
        logger.warning("%s: %s", outcome.model, outcome.message)
    elif outcome.versions:  # that there is none is among the warnings
        logger.info("%s: versions found: %s", outcome.model, ", ".join(map(str, sorted(outcome.versions))))
