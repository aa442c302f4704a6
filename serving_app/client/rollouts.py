"""Rollouts from Python: the requests for a label, or a model's default, move from one version to another.

    rollouts = connect().rollouts
    rollout = rollouts.start("digits", 4, target="stable", strategy={"steps": [1, 10, 50], "gates": [...]})
    rollouts.wait(rollout)

Every method takes a rollout or its number, and answers with the rollout as it is then.
"""

from __future__ import annotations

import asyncio
import logging
import math
import operator
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from typing import Any, Protocol, SupportsIndex, TypeVar

from serving_app.client.control import Control
from serving_app.core.errors import DeadlineExceeded, InvalidArgument
from serving_app.core.rollout import ACTIVE, Phase, Rollout, Transition
from serving_app.core.traffic import DEFAULT_TARGET

logger = logging.getLogger("serving_app.rollouts")

T = TypeVar("T")

Which = Rollout | int
"""A rollout, or its number."""

Metric = Callable[[int], float]
"""The value of a metric for this version, now."""

_NEWS_S = 2.0


class Wait(Protocol):
    """Has a coroutine run, and returns what it returns."""

    def __call__(self, work: Coroutine[Any, Any, T], /) -> T: ...


class Rollouts:
    """The rollouts of one serving app."""

    def __init__(self, control: Control, wait: Wait) -> None:
        self._control = control
        self._wait = wait

    def __repr__(self) -> str:
        return f"Rollouts({self._control.app!r})"

    def start(
        self, model: str, to: int, *, target: str = DEFAULT_TARGET, strategy: str | Mapping[str, Any]
    ) -> Rollout:
        """Begin to move the requests for a label, or those that name nothing but the model, to version `to`.

        `strategy` is the name of one of the configuration's, or the settings of one. Returns when it is kept: from then
        on it goes on by itself.
        """
        to = _read_version(to)
        return self._wait(self._control.start_rollout(model, to, target, strategy))

    def get(self, rollout: Which) -> Rollout:
        """A rollout by its number."""
        return self._wait(self._control.rollout(_number(rollout)))

    def list(self, model: str | None = None) -> tuple[Rollout, ...]:
        """Those that go on and the last that did, of one model or of all; the newest comes last."""
        return self._wait(self._control.rollouts(model))

    def history(self, rollout: Which) -> tuple[Transition, ...]:
        """All that it did, and the evidence for it."""
        return self.get(rollout).transitions

    def promote(self, rollout: Which) -> Rollout:
        """On to the next step, whatever gates say."""
        return self._move(rollout, "promote")

    def promote_full(self, rollout: Which) -> Rollout:
        """To the end at once: the new version gets all requests."""
        return self._move(rollout, "promote_full")

    def pause(self, rollout: Which) -> Rollout:
        """Stay at this step until told."""
        return self._move(rollout, "pause")

    def resume(self, rollout: Which) -> Rollout:
        """Go on; what was inconclusive is measured again."""
        return self._move(rollout, "resume")

    def abort(self, rollout: Which) -> Rollout:
        """Back at once: the old version gets all requests when this returns."""
        return self._move(rollout, "abort")

    def retry(self, rollout: Which) -> Rollout:
        """One that failed, or was aborted or undone, once more from its first step."""
        return self._move(rollout, "retry")

    def undo(self, rollout: Which) -> Rollout:
        """Back from one that was promoted, without steps, while the old version is kept."""
        return self._move(rollout, "undo")

    def report_value(self, rollout: Which, name: str, value: float, *, version: int | None = None) -> None:
        """The metric of this name has this value now, for the new version unless the old one is named."""
        self._wait(self._control.report_rollout_value(_number(rollout), name, float(value), version))

    def watch(self, rollout: Which) -> Iterator[Rollout]:
        """The rollout as it is now, and again whenever it has changed, until it is decided."""
        seen, last = -1, None
        while last is None or last.is_active:
            found = self.get(rollout)
            if found != last:
                yield found
            last = found
            if last.is_active:
                seen = self._wait(self._control.wait_for_change(seen, _NEWS_S))

    def wait(
        self,
        rollout: Which,
        *phases: Phase | str,
        timeout: float | None = None,
        metrics: Mapping[str, Metric] | None = None,
    ) -> Rollout:
        """The rollout once it is in one of these phases; without any, once it is decided.

        One that is decided otherwise is returned as well: it will not come to another phase by itself. Meanwhile
        `metrics` are asked about both versions, by the name of the gate that wants them, and what they say is reported.
        One that raises leaves its gate inconclusive, which says why. Raises DeadlineExceeded after `timeout` seconds.
        """
        wanted = {_read_phase(phase) for phase in phases}
        limit = math.inf if timeout is None else timeout
        return self._wait(self._wait_for(_number(rollout), wanted, limit, metrics or {}))

    async def _wait_for(
        self, number: int, wanted: set[Phase], timeout: float, metrics: Mapping[str, Metric]
    ) -> Rollout:
        deadline = time.monotonic() + timeout
        seen, told = -1, -math.inf
        while True:
            rollout = await self._control.rollout(number)
            if rollout.phase in wanted or rollout.phase not in ACTIVE:
                return rollout
            left = deadline - time.monotonic()
            if left <= 0:
                raise DeadlineExceeded(f"after {timeout:g} s, {rollout}")
            pause_s = min(_NEWS_S, rollout.strategy.interval_s)
            if metrics and time.monotonic() - told >= pause_s:  # and not at all that changes meanwhile
                told = time.monotonic()
                await self._tell(rollout, metrics)
            seen = await self._control.wait_for_change(seen, min(left, pause_s))

    async def _tell(self, rollout: Rollout, metrics: Mapping[str, Metric]) -> None:
        for name, metric in metrics.items():
            for version in (rollout.to_version, rollout.from_version):
                value = await asyncio.to_thread(_ask, name, metric, version)
                await self._control.report_rollout_value(rollout.id, name, value, version)

    def _move(self, rollout: Which, action: str) -> Rollout:
        return self._wait(self._control.move_rollout(_number(rollout), action))


def _number(rollout: Which) -> int:
    return rollout.id if isinstance(rollout, Rollout) else rollout


def _read_version(version: SupportsIndex) -> int:
    """The number of a version, also where it comes out of an array."""
    try:
        return operator.index(version)
    except TypeError:
        raise InvalidArgument(f"{version!r} is no version; give its number, such as 4") from None


def _read_phase(phase: Phase | str) -> Phase:
    try:
        return Phase(phase)
    except ValueError:
        phases = ", ".join(each.value for each in Phase)
        raise InvalidArgument(f"{phase!r} is no phase of a rollout; those are: {phases}") from None


def _ask(name: str, metric: Metric, version: int) -> float | str:
    """What a function says, or why it says nothing. Whatever it raises, the rollout is to hear of it, and the next try
    may go better."""
    try:
        value = float(metric(version))
    except Exception as error:
        problem = f"its function raised {error!r} for version {version}"
    else:
        if math.isfinite(value):
            return value
        problem = f"its function said {value} for version {version}"
    logger.warning("the metric %s is not known: %s", name, problem)
    return problem
