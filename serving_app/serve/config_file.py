"""Watches the file that holds the models to serve, if one is configured."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any

from serving_app.config import ServingConfig, store_options
from serving_app.core.errors import InvalidArgument, ServingError, as_serving_error
from serving_app.serve.editing import Editing
from serving_app.store.filesystem import open_path, translated_errors

logger = logging.getLogger("serving_app.controller")

_REST_S = 0.5
"""For how long new content must not change before it is applied."""

Apply = Callable[[str, str, str], Awaitable[None]]
"""Gets the file's text, its path, and a digest of the text; raises a ServingError if it cannot be applied."""


class FileWatch:
    """Has the model_config_file of the configuration in force watched, by a task that `spawn` begins.

    `tell` gets the sentence about what is wrong with it, or None when nothing is.
    """

    def __init__(
        self,
        spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
        tell: Callable[[str | None], None],
    ) -> None:
        self._spawn = spawn
        self._tell = tell
        self._watched: object = None
        self._task: asyncio.Task[None] | None = None

    def follow(self, config: ServingConfig, editing: Editing) -> None:
        """From now on, watch the file that this configuration names, if it names one, and no other."""
        path, interval_s = config.model_config_file, config.model_config_file_poll_s
        options = store_options(config, path) if path is not None else {}
        if self._task is not None:
            if self._watched == (path, interval_s, options):
                return
            self._task.cancel()
            self._task = None
            self._tell(None)
        if path is not None:
            digest = editing.wanted.file_digest
            self._watched = (path, interval_s, options)
            self._task = self._spawn(
                watch_config_file(path, options, interval_s, digest, editing.apply_file, self._tell)
            )


async def watch_config_file(
    path: str,
    storage_options: Mapping[str, Any],
    interval_s: float,
    digest: str | None,
    apply: Apply,
    tell: Callable[[str | None], None],
) -> None:
    """Apply the file whenever its content differs from the one with this digest, which was applied last.

    New content is applied when it is the same at two looks: the first half of a YAML text may be one as well.
    A text that cannot be applied changes nothing and is tried again at every look: what it lacks, such as a version
    that a label names, may come. `tell` gets the sentence about what is wrong, or None when nothing is.
    """
    told: str | None = None
    seen: str | None = None
    while True:
        problem = None
        try:
            text = await asyncio.to_thread(read_text, path, storage_options)
            found = _digest(text)
            if found not in (digest, seen):
                seen = found
                await asyncio.sleep(min(_REST_S, interval_s or _REST_S))
                continue
            if found != digest:
                await apply(text, path, found)
                digest = found
        except Exception as error:  # whatever a file holds, a controller that dies of it would die of it again
            if not isinstance(error, ServingError):
                logger.exception("applying %s failed", path)
            problem = f"the model configuration file {path} is not in force as it stands: {as_serving_error(error)}"
        if problem != told:
            told = problem
            tell(problem)
            if problem:
                logger.error(problem)
        if interval_s == 0 and problem is None:
            return
        await asyncio.sleep(interval_s or 1.0)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def read_text(path: str, storage_options: Mapping[str, Any]) -> str:
    """The text in a file on any file system that fsspec knows. Raises what serving_app.store.filesystem lists."""
    filesystem, inner = open_path(path, storage_options)
    with translated_errors(path):
        filesystem.invalidate_cache()
        content = bytes(filesystem.cat_file(inner))
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise InvalidArgument(f"{path} is no text in UTF-8: {error}") from error
