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

from serving_app import ray_private
from serving_app.config import ServingConfig, store_options
from serving_app.core.errors import DataLoss, ServingError
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

    async def restore(self, applied: Applied) -> Wanted:
        """What is wanted now that this is deployed.

        Waits for a state file that cannot be read at the moment: without it nobody knows what was changed at run time,
        and serving the wrong version is worse than serving late.
        """
        kept = self._read_cluster()
        if kept is None:
            kept = await self._read_file(applied.config)
        wanted = redeploy(kept, applied)
        try:
            await self.keep(wanted)
        except ServingError as error:
            # Nothing that a user changed is lost by this, and the next change that cannot be kept is refused.
            self._tell(f"what is changed at run time cannot be kept: {error}")
            logger.error("the state file cannot be written: %s", error)
        return wanted

    async def keep(self, wanted: Wanted) -> None:
        """Write both copies. Raises a ServingError if the file cannot be written; then neither is changed."""
        encoded = encode_wanted(self._app, wanted)
        file = self._file(wanted.base)
        if file is not None:
            await asyncio.to_thread(file.write, encoded)
        await asyncio.to_thread(ray_private.put_state, self._key, encoded)

    def forget(self) -> None:
        """The app is deleted: the cluster forgets it. The file stays, for the day that it is deployed again."""
        ray_private.delete_state(self._key)

    def _file(self, config: ServingConfig) -> StateFile | None:
        if config.state_uri is None:
            return None
        return StateFile(config.state_uri, self._app, store_options(config, config.state_uri))

    def _read_cluster(self) -> Wanted | None:
        encoded = ray_private.get_state(self._key)
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
        told = ""
        while True:
            try:
                encoded = await asyncio.to_thread(file.read)
                break
            except ServingError as error:
                if str(error) != told:
                    told = str(error)
                    logger.error("nothing is served before the state file can be read: %s", error)
                    self._tell(f"nothing is served before the state file can be read: {error}")
                await asyncio.sleep(_RETRY_S)
        if told:
            self._tell(None)
        return None if encoded is None else await self._decode_file(file, encoded)

    async def _decode_file(self, file: StateFile, encoded: bytes) -> Wanted | None:
        try:
            return decode_wanted(encoded)
        except DataLoss as error:
            aside = await asyncio.to_thread(file.keep_aside, time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()))
            sentence = (
                f"the state file {file.uri} is unreadable ({error}); it is kept as {aside}, and what was changed at "
                "run time is lost: the deployed configuration is in force"
            )
            logger.error(sentence)
            self._tell(sentence)
            return None
