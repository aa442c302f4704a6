"""Keeps what is wanted of a serving app where it outlives the controller.

There are two places. Ray's key-value store outlives every process of the cluster's workers and is the truth for as long
as the cluster lives. The file under `state_uri` outlives the cluster, and is read only where the key-value store has
nothing: by the first controller on a new cluster. Both are written before a change is acknowledged, the file first.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import replace

from serving_app import ray_private
from serving_app.config import ServingConfig, store_options
from serving_app.core.errors import DataLoss, FailedPrecondition, ServingError
from serving_app.serve.wanted import Applied, Wanted, decode_wanted, encode_wanted, redeploy
from serving_app.store.state_file import StateFile

logger = logging.getLogger("serving_app.controller")

_RETRY_S = 2.0


class Keeping:
    """The two copies of one app. `tell` gets the sentence about a problem that a person should look at, or None."""

    def __init__(self, app: str, tell: Callable[[str | None], None]) -> None:
        self._app = app
        self._tell = tell
        self._key = f"wanted:{app}"
        self._is_behind = False
        """Whether it was told that the file could not be written."""

    async def restore(self, applied: Applied) -> Wanted:
        """What is wanted now that this is deployed.

        Waits for a state file that cannot be read at the moment: without it nobody knows what was changed at run time,
        and serving the wrong version is worse than serving late.
        """
        encoded = await asyncio.to_thread(ray_private.get_state, self._key)
        kept = self._decode_cluster(encoded)
        if kept is None:
            kept = await self._read_file(applied.config)
        if kept is not None and encoded is None:
            # On a new cluster this is the newest deployment, whatever the clock of the machine says that built it.
            kept = replace(kept, generation=min(kept.generation, applied.generation - 1))
        wanted = redeploy(kept, applied)
        try:
            await self.keep(wanted)
        except ServingError as error:
            # Nothing that a user changed is lost by this, and the next change that cannot be kept is refused.
            self._is_behind = True
            self._tell(f"what is changed at run time cannot be kept: {error}")
            logger.error("the state file cannot be written: %s", error)
        return wanted

    def describe(self, wanted: Wanted) -> str:
        """Whether what is in force is what was deployed, and where changes are kept: a sentence for the log."""
        file = self._file(wanted.base)
        where = f"{file.uri} and, as long as it lives, the cluster" if file else "the cluster, as long as it lives"
        if wanted.config == wanted.base:
            return f"the configuration in force is the deployed one; changes at run time will be kept in {where}"
        return (
            "the configuration in force differs from the deployed one by what was changed at run time, which is kept "
            f"in {where}; `serving-app config show` prints it"
        )

    async def keep(self, wanted: Wanted, *, may_lag: bool = False) -> None:
        """Write both copies. Raises a ServingError if the file cannot be written; then neither is changed.

        With `may_lag` a file that cannot be written is left behind, which is told, and the next change catches up.
        """
        problem = await asyncio.to_thread(self._write, wanted, may_lag)
        if problem is not None:
            self._is_behind = True
            self._tell(f"what was changed last is kept in the cluster alone, until the next change: {problem}")
            logger.error("the state file cannot be written and is behind: %s", problem)
        elif self._is_behind:
            self._is_behind = False
            self._tell(None)

    def forget(self) -> None:
        """The app is deleted: the cluster forgets it. The file stays, for the day that it is deployed again."""
        ray_private.delete_state(self._key)

    def _write(self, wanted: Wanted, may_lag: bool) -> ServingError | None:
        """Returns why the file is left behind, if it is."""
        encoded = encode_wanted(self._app, wanted)
        file, problem = self._file(wanted.base), None
        if file is not None:
            try:
                file.write(encoded)
            except ServingError as error:
                if not may_lag:
                    raise
                problem = error
        ray_private.put_state(self._key, encoded)
        return problem

    def _file(self, config: ServingConfig) -> StateFile | None:
        if config.state_uri is None:
            return None
        return StateFile(config.state_uri, self._app, store_options(config, config.state_uri))

    def _decode_cluster(self, encoded: bytes | None) -> Wanted | None:
        if encoded is None:
            return None
        try:
            return decode_wanted(encoded)
        except DataLoss as error:
            logger.error("what the cluster keeps for %s is unusable and ignored: %s", self._app, error)
            return None

    async def _read_file(self, config: ServingConfig) -> Wanted | None:
        file = self._file(config)
        if file is None:
            return None
        told: str | None = None
        while True:
            try:
                wanted, loss = await asyncio.to_thread(_read, file)
                break
            except ServingError as error:
                problem = f"nothing is served before the state file can be read: {error}"
                if problem != told:
                    told = problem
                    logger.error(problem)
                    self._tell(problem)
                await asyncio.sleep(_RETRY_S)
        if loss is not None:
            logger.error(loss)
        if loss != told:
            self._tell(loss)
        return wanted


def _read(file: StateFile) -> tuple[Wanted | None, str | None]:
    """What the file holds; if it is damaged, nothing, and a sentence about what became of it."""
    encoded = file.read()
    if encoded is None:
        return None, None
    try:
        return decode_wanted(encoded), None
    except DataLoss as error:
        damage = f"the state file {file.uri} is unreadable ({error})"
    try:
        aside = file.keep_aside(time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()))
    except ServingError as error:
        raise FailedPrecondition(f"{damage} and cannot be renamed ({error}); move it out of the way") from error
    return None, (
        f"{damage}; it is kept as {aside}, and what was changed at run time is lost: the deployed configuration is in "
        "force"
    )
