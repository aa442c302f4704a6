"""A CPU profile of all processes of a serving app: how each is asked for its own, and how they come together.

Every gateway and every replica has a call open at the controller (serving_app.serve.reporting). The wish for a profile
goes out with its answer, and the profile comes in with a later report, again and again until it is known to have come.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
import uuid
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import NamedTuple

from serving_app.core.errors import FailedPrecondition, InvalidArgument
from serving_app.core.stacks import MOST_S, AppProfile, ProcessProfile
from serving_app.serve.sampler import take_profile

logger = logging.getLogger("serving_app.controller")

_GRACE_S = 5.0
"""How much later than asked for a profile may come: two reports of a process lie a second apart, or some in large apps.
"""

_CONTROLLER = "controller"


class ProfileWish(NamedTuple):
    """For how long a process is to watch itself. Each wish has an id of its own."""

    id: str
    seconds: float


class Profiled(NamedTuple):
    """The profile that a wish was for."""

    id: str
    profile: ProcessProfile


class Profiler:
    """Profiles this process, when that is wished. Lives on one event loop."""

    def __init__(self, name: str, tell: Callable[[], None] = lambda: None) -> None:
        """`name` is that of the profiles; `tell` is called when there is one."""
        self._name = name
        self._tell = tell
        self._wish: ProfileWish | None = None
        self._ended = threading.Event()
        self._taken: Profiled | None = None

    @property
    def taken(self) -> Profiled | None:
        """What is to be told, if anything is."""
        return self._taken

    def follow(self, wish: ProfileWish | None) -> None:
        """This is wished now, or still; or nothing is."""
        if wish == self._wish:
            return
        self._wish = wish
        self._taken = None
        self._ended.set()
        if wish is not None:
            self._ended = threading.Event()
            loop = asyncio.get_running_loop()
            threading.Thread(
                target=self._take, args=(loop, wish, self._ended), name="profile", daemon=True
            ).start()

    def _take(self, loop: asyncio.AbstractEventLoop, wish: ProfileWish, ended: threading.Event) -> None:
        profile = take_profile(self._name, wish.seconds, ended)
        if not ended.is_set():
            with suppress(RuntimeError):  # the loop has ended, and with it whoever wanted this
                loop.call_soon_threadsafe(self._note, Profiled(wish.id, profile))

    def _note(self, taken: Profiled) -> None:
        if self._wish is not None and self._wish.id == taken.id:
            self._taken = taken
            self._tell()


class Profiling:
    """The controller's part. Lives on one event loop."""

    def __init__(
        self, present: Callable[[], Collection[str]], wake: Callable[[], None], *, grace_s: float = _GRACE_S
    ) -> None:
        """`present` are the processes that report now; `wake` has each of them hear what is wished."""
        self._present = present
        self._wake = wake
        self._grace_s = grace_s
        self._wish: ProfileWish | None = None
        self._until = 0.0
        self._missing: set[str] = set()
        self._profiles: list[ProcessProfile] = []
        self._progress = asyncio.Event()

    async def profile(self, seconds: float) -> AppProfile:
        """What all processes do with their CPU time for so long. One such question is answered at a time."""
        if not 0 < seconds <= MOST_S:
            raise InvalidArgument(f"a profile takes more than 0 and at most {MOST_S:g} seconds, and not {seconds:g}")
        if self._wish is not None:
            left = max(1.0, self._until - time.monotonic())
            raise FailedPrecondition(
                f"somebody else takes a profile of this app; try again in {left:.0f} seconds"
            )
        self._until = time.monotonic() + seconds + self._grace_s
        self._profiles = []
        self._missing = {_CONTROLLER, *self._present()}
        self._wish = ProfileWish(uuid.uuid4().hex, seconds)
        own = Profiler(_CONTROLLER, lambda: self.take(_CONTROLLER, own.taken))
        try:
            own.follow(self._wish)
            self._wake()
            await self._wait_for_all(seconds)
            return AppProfile(tuple(self._profiles), tuple(sorted(self._missing)))
        finally:
            own.follow(None)
            self._wish = None

    def wish_for(self, process: str) -> ProfileWish | None:
        """What a process is to do."""
        return self._wish if process in self._missing else None

    def take(self, process: str, told: Profiled | None) -> None:
        """What a process has told with a report."""
        if told is None or self._wish is None or told.id != self._wish.id or process not in self._missing:
            return
        self._missing.discard(process)
        self._profiles.append(told.profile)
        self._progress.set()

    async def _wait_for_all(self, seconds: float) -> None:
        """Returns when all have answered, and after a while anyway."""
        await asyncio.sleep(seconds)
        try:
            async with asyncio.timeout(self._grace_s):
                while self._missing:
                    self._progress.clear()
                    await self._progress.wait()
        except TimeoutError:
            logger.warning("these gave no profile: %s", ", ".join(sorted(self._missing)))
