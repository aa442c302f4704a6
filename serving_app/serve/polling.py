"""Polls of model stores: each model on its own, paced, spread, and told only when there is news.

A store that is slow or hangs delays no other model's polls (see `spare_threads`). A model never has two polls under
way, unless its settings change while one is stuck. A poll that takes longer than `poll_timeout_s` counts as failed; it
is left to itself, and the next one waits until it came back.

A model that is new is looked at at once, or, when there are many, a few milliseconds after the one before. After that
each model has a random place of its own in the interval. Failures make the pauses longer, though not by much: a
store that is back should be noticed.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from serving_app.config import ModelConfig, ServingConfig, store_options, traffic_of
from serving_app.core.errors import Code, ServingError
from serving_app.core.events import Event, ListingFailed, VersionsListed
from serving_app.core.policies import VersionPolicy
from serving_app.core.traffic import versions_of
from serving_app.serve.spare_threads import Call, SpareThreads
from serving_app.store import ModelSource, Poll

_SPREAD_S = 0.002
"""The time, on average, between the first looks at models that come at once."""

_BACKOFF = (1.0, 2.0, 4.0)
"""How many intervals lie between two looks, by the number of failures in a row; the last holds for more."""

_BACKOFF_MAX_S = 30.0
"""What failures prolong a pause to at most; an interval that is longer stays as it is."""

_UNDECIDED_S = 1.0
"""The pause while a model that is to be looked at only once has no answer yet, or versions that are not finished."""

_BREATH = 0.1
"""The part of a pause that is kept however long the look before it took."""


class _Watched(NamedTuple):
    """What polling a model depends on: as long as it is the same, a new configuration changes nothing."""

    name: str
    base_path: str
    version_policy: VersionPolicy
    named: frozenset[int]
    platform: str
    prefer_tflite: bool
    options: Mapping[str, Any]
    settle_s: float
    give_up_s: float | None
    done_marker: str | None
    interval_s: float
    timeout_s: float


class _Watch:
    """One model that is polled."""

    def __init__(self, watched: _Watched, before: Mapping[int, str]) -> None:
        self.watched = watched
        self.finished = before
        self.told: VersionsListed | ListingFailed | None = None
        self.failures = 0
        self.task: asyncio.Task[None] | None = None
        self.source = ModelSource(
            watched.name,
            watched.base_path,
            watched.version_policy,
            named=watched.named,
            platform=watched.platform,
            prefer_tflite=watched.prefer_tflite,
            options=watched.options,
            settle_s=watched.settle_s,
            give_up_s=watched.give_up_s,
            done_marker=watched.done_marker,
            finished=before,
        )


class Polling:
    """Watches the base paths of a configuration's models; tells `emit` what changed. For one event loop."""

    def __init__(self, emit: Callable[[Event], None]) -> None:
        self._emit = emit
        self._threads = SpareThreads()
        self._watches: dict[str, _Watch] = {}

    def watch(self, config: ServingConfig, finished: Mapping[str, Mapping[int, str]] | None = None) -> None:
        """Poll exactly these models from now on. A model whose polling does not change is left to its running poll.

        `finished` has the paths of versions, by model, that are known to be finished before the first look.
        """
        wanted = {model.name: _watched(config, model) for model in config.models}
        known = self._watches
        self._watches = {name: watch for name, watch in known.items() if wanted.get(name) == watch.watched}
        for name, watch in known.items():
            if name not in self._watches and watch.task is not None:
                watch.task.cancel()
        new = [name for name in wanted if name not in self._watches]
        for name in new:
            # What was finished under the same path is so still: a new policy or interval is no reason to wait again.
            before = known[name].finished if name in known else (finished or {}).get(name, {})
            self._watches[name] = watch = _Watch(wanted[name], before)
            delay = random.uniform(0, _SPREAD_S * (len(new) - 1))
            watch.task = asyncio.get_running_loop().create_task(self._poll(watch, delay))
            watch.task.add_done_callback(_report_failure)

    def stop(self) -> None:
        """Poll nothing any more. Returns at once, also when polls are stuck."""
        for watch in self._watches.values():
            if watch.task is not None:
                watch.task.cancel()
        self._watches.clear()
        self._threads.stop()

    async def _poll(self, watch: _Watch, delay: float) -> None:
        loop = asyncio.get_running_loop()
        interval_s = watch.watched.interval_s
        place = random.uniform(0, 1)
        while True:
            await asyncio.sleep(delay)
            began = loop.time()
            outcome, again_in = await self._look(watch)
            self._tell(watch, outcome)
            if isinstance(outcome, ListingFailed):
                watch.failures += 1
            elif interval_s == 0 and not outcome.waiting:
                return
            else:
                watch.failures = 0
            # The first pause leads to the model's place in the interval. Later ones vary a little, or models with
            # equal pauses that meet once would meet for ever.
            delay = _find_pause(interval_s, watch.failures) * place
            place = random.uniform(0.9, 1.0)
            delay = max(delay - (loop.time() - began), delay * _BREATH)
            if again_in is not None:
                delay = min(delay, again_in)

    async def _look(self, watch: _Watch) -> tuple[VersionsListed | ListingFailed, float | None]:
        """What one poll found, and when to look again at the latest."""
        name = watch.watched.name
        call = self._threads.call(watch.source.poll)
        try:
            if not await _is_done(call, watch.watched.timeout_s):
                self._tell_timeout(watch)
            poll: Poll = await call.done
        except ServingError as error:
            return ListingFailed(name, error.code, error.message), None
        except Exception as error:  # a store may raise anything; it is this model's problem alone
            return ListingFailed(name, Code.UNKNOWN, f"{type(error).__name__}: {error}"), None
        finally:
            call.done.cancel()  # Nothing, if it is done; else this task is cancelled, and nobody waits any more.
        watch.finished = poll.versions
        return VersionsListed(name, poll.versions, poll.waiting, poll.sizes, poll.warnings, poll.found), poll.again_in

    def _tell_timeout(self, watch: _Watch) -> None:
        if isinstance(watch.told, ListingFailed):
            return  # That it failed is known, and the error before says more of the reason.
        message = (
            f"{watch.watched.base_path} has not been listed after {watch.watched.timeout_s:g} s; it is asked again "
            "when this call has come back. Check the store and the way to it, or raise poll_timeout_s"
        )
        self._tell(watch, ListingFailed(watch.watched.name, Code.DEADLINE_EXCEEDED, message))

    def _tell(self, watch: _Watch, outcome: VersionsListed | ListingFailed) -> None:
        if outcome != watch.told:
            watch.told = outcome
            self._emit(outcome)


def _watched(config: ServingConfig, model: ModelConfig) -> _Watched:
    return _Watched(
        name=model.name,
        base_path=model.base_path,
        version_policy=model.version_policy,
        named=versions_of(traffic_of(model).values()),
        platform=model.platform,
        options=store_options(config, model.base_path, model),
        settle_s=model.settle_s,
        give_up_s=model.give_up_s,
        done_marker=model.done_marker,
        prefer_tflite=model.prefer_tflite,
        interval_s=config.poll_interval_s if model.poll_interval_s is None else model.poll_interval_s,
        timeout_s=config.poll_timeout_s,
    )


def _report_failure(task: asyncio.Task[None]) -> None:
    """A fault of ours, since a store's faults are caught: raised here, it is in the log at once."""
    if not task.cancelled():
        task.result()


def _find_pause(interval_s: float, failures: int) -> float:
    interval_s = interval_s or _UNDECIDED_S
    longer = interval_s * _BACKOFF[min(failures, len(_BACKOFF) - 1)]
    return max(interval_s, min(longer, _BACKOFF_MAX_S))


async def _is_done(call: Call[Poll], timeout_s: float) -> bool:
    """Whether a call ends, well or badly, within so many seconds of its beginning. It is not cancelled."""
    patience = timeout_s
    while True:
        done, _ = await asyncio.wait({call.done}, timeout=patience)
        if done:
            return True
        now = asyncio.get_running_loop().time()
        # The time in which it waited for a thread is not the store's fault.
        patience = timeout_s if call.started_at is None else call.started_at + timeout_s - now
        if patience <= 0:
            return False
