"""The rollouts of one app: lets them go on as time passes and evidence comes, and does what people want of them.

What a rollout is, and what it does by which evidence, is `core.rollout`; this gives it time and evidence. A rollout is
kept with the configuration that follows from it, in one piece (`editing`), so a controller that starts again finds both
as they belong together. What was measured lately is not kept: windows begin anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping
from dataclasses import replace
from typing import Any

from serving_app.config import ServingConfig
from serving_app.config.plan import find_model
from serving_app.config.rollout_traffic import find_owner, has_target, settle, settle_target, traffic_before
from serving_app.config.rollouts import read_strategy, to_strategy
from serving_app.core.errors import FailedPrecondition, InvalidArgument, NotFound, ServingError
from serving_app.core.evidence import FAMILIES, Series, read_evidence
from serving_app.core.history import Happening
from serving_app.core.metrics import Snapshot
from serving_app.core.rollout import Phase, Rollout, Transition
from serving_app.core.rollout_course import Sight, advance
from serving_app.core.rollout_orders import ORDERS, mark, release
from serving_app.core.servable import ServableId
from serving_app.core.strategy import Strategy
from serving_app.core.traffic import DEFAULT_TARGET
from serving_app.core.views import ModelView
from serving_app.serve.automatic_rollouts import find_next, hold
from serving_app.serve.editing import Editing
from serving_app.serve.kept_rollouts import find_rollout, forget_oldest, new_transitions, newest_moment, with_rollout
from serving_app.serve.rollout_versions import RolloutVersions
from serving_app.serve.steady_clock import steady_clock
from serving_app.serve.told_metrics import ToldMetrics

logger = logging.getLogger("serving_app.controller")

_TICK_S = 0.5
_LOOK_S = 0.1
_REPORTED_S = 1.0
"""How old counts are, at most, when they are known here: what is told right after a change happened before it."""
_LOOKS = 60
"""How many looks at what was counted are kept of a window."""
_APPEAR_S = 5.0
"""How long a version that nobody has found yet may take to be: it may have been brought a moment ago."""


class Rollouts:
    """Lives on one event loop.

    `look` gives what is known of a model, `is_found` whether a version lies where versions of its model do, `count`
    what was counted in some families of some models. `tell` gets what happened; `tell_problem` what went wrong with
    something, or None when it does no more.
    """

    def __init__(
        self,
        editing: Editing,
        look: Callable[[str], ModelView | None],
        is_found: Callable[[ServableId], bool],
        count: Callable[[Collection[str], Collection[str]], Snapshot],
        tell: Callable[[Iterable[Happening]], None],
        tell_problem: Callable[[str, str | None], None],
        *,
        told: ToldMetrics | None = None,
        appear_s: float = _APPEAR_S,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._editing = editing
        self._versions = RolloutVersions(look, is_found)
        self._count = count
        self._tell = tell
        self._tell_problem = tell_problem
        self._appear_s = appear_s
        self._clock = clock or steady_clock(newest_moment(editing.wanted.rollouts))
        self._told = told or ToldMetrics(self._clock)
        self._series: dict[int, Series] = {}
        self._problems: dict[str, str] = {}

    # Questions.

    def find(self, model: str | None = None) -> tuple[Rollout, ...]:
        """All that is known, of one model or of every one; the newest comes last."""
        return tuple(each for each in self._editing.wanted.rollouts if model in (None, each.model))

    def get(self, number: int) -> Rollout:
        """One of them. Raises NotFound."""
        return find_rollout(self._editing.wanted.rollouts, number)

    # Orders.

    async def start(
        self,
        model: str,
        to_version: int,
        target: str = DEFAULT_TARGET,
        strategy: str | Mapping[str, Any] = "",
        *,
        is_automatic: bool = False,
        order: str = "",
    ) -> Rollout:
        """Begin to move a target's requests to a version. `strategy` is the name of one, or its settings.

        An `order` that comes again, as its answer was lost, is answered by the rollout that it began.
        """
        number = 0

        def begin(config: ServingConfig, rollouts: tuple[Rollout, ...]) -> tuple[ServingConfig, tuple[Rollout, ...]]:
            nonlocal number
            if order and (mine := [each.id for each in rollouts if order in each.orders]):
                number = mine[0]
                return config, rollouts
            chosen = _choose(config, strategy)
            find_model(config, model)  # first of all it is told that there is none
            config, rollouts = settle_target(config, rollouts, model, target, self._versions.latest(model))
            found = find_model(config, model)
            from_version = find_owner(found, target, self._versions.latest(model))
            self._versions.check_candidate(target, from_version, ServableId(model, to_version))
            now = self._clock()
            number = max((each.id for each in rollouts), default=0) + 1
            what = f"started by strategy {chosen.name}, from version {from_version} to version {to_version}"
            begun = Rollout(
                number, model, target, from_version, to_version, chosen, begun=now, since=now, changed=now,
                before=traffic_before(found, target), is_automatic=is_automatic,
                transitions=(Transition(now, what, Phase.WAITING, 0.0),),
            )
            return config, forget_oldest((*rollouts, mark(begun, order)), model)

        await self._wait_for(ServableId(model, to_version))
        await self._roll(begin)
        return self.get(number)

    async def move(self, number: int, action: str, order: str = "") -> Rollout:
        """Do with a rollout what people want: promote, promote_full, pause, resume, abort, retry or undo.

        An `order` that comes again, as its answer was lost, is carried out once.
        """
        if action not in ORDERS:
            raise InvalidArgument(f"{action!r} cannot be done with a rollout; what can: {', '.join(ORDERS)}")

        def do(config: ServingConfig, rollouts: tuple[Rollout, ...]) -> tuple[ServingConfig, tuple[Rollout, ...]]:
            rollout = find_rollout(rollouts, number)
            if order in rollout.orders:
                return config, rollouts
            moved = ORDERS[action](rollout, self._clock())
            self._versions.check_order(rollout, action)
            if action == "retry" and rollout.settled:
                latest = self._versions.latest(rollout.model)
                config, rollouts = settle_target(config, rollouts, rollout.model, rollout.target, latest)
                found = find_model(config, rollout.model)
                owner = find_owner(found, rollout.target, latest)
                if owner != rollout.from_version:
                    raise FailedPrecondition(
                        f"rollout {number} began at version {rollout.from_version}, and version {owner} gets the "
                        "requests now; start a new rollout"
                    )
                moved = replace(moved, before=traffic_before(found, rollout.target))
            return config, with_rollout(rollouts, mark(moved, order))

        await self._roll(do)
        return self.get(number)

    def report_value(self, number: int, name: str, value: float | str, version: int | None = None) -> None:
        """A metric has this value now, for the candidate unless another version is named; a text in its place says why
        there is none."""
        rollout = self.get(number)
        gates = {gate.name for gate in rollout.strategy.told_gates}
        if name not in gates:
            known = ", ".join(sorted(gates)) or "none"
            raise NotFound(f"no gate of rollout {number} is called {name} and waits to be told; those are: {known}")
        versions = (rollout.to_version, rollout.from_version)
        if version is not None and version not in versions:
            raise NotFound(f"rollout {number} compares versions {versions[0]} and {versions[1]}, and not {version}")
        self._told.report(number, name, rollout.to_version if version is None else version, value)

    # A life.

    async def run(self) -> None:
        """Let them go on, for ever."""
        while True:
            await self.tick()
            await asyncio.sleep(_TICK_S)

    async def tick(self) -> None:
        """Let them go on by what is seen now. A fault with one is told, and stops no other."""
        by_themselves = [(each.name, each.rollout) for each in self._editing.config.models if each.rollout is not None]
        for model, strategy in by_themselves:
            await self._try(f"rollouts of {model}", self._follow_versions(model, strategy))
        unsettled = [each for each in self.find() if not each.settled]
        self._series = {each.id: self._series.get(each.id, Series()) for each in unsettled if each.is_active}
        self._told.keep_only(self._series)
        counted = self._count(FAMILIES, {each.model for each in unsettled if each.is_active}) if self._series else {}
        now = self._clock()
        for each in unsettled:
            await self._try(f"rollout {each.id}", self._go_on(each, counted, now))
        tried = {f"rollouts of {model}" for model, _ in by_themselves} | {f"rollout {each.id}" for each in unsettled}
        for subject in set(self._problems) - tried:  # of what is over nobody needs to hear any more
            del self._problems[subject]
            self._tell_problem(subject, None)

    def _look_at(self, rollout: Rollout, counted: Snapshot, now: float) -> None:
        series = self._series[rollout.id]
        evidence = read_evidence(counted, rollout.model, rollout.to_version, rollout.from_version)
        series.add(now - _REPORTED_S, evidence)
        # Gates look back over the window, or to where an analysis began, weights have changed, or they failed last.
        window_s = rollout.strategy.window_s
        counted_until = [check.failed for check in rollout.checks.values() if check.failed is not None]
        marks = (rollout.since, rollout.changed, *counted_until)
        series.thin(marks, recent=now - window_s, grain=window_s / _LOOKS)

    async def _try(self, subject: str, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception as error:  # also a fault of ours: whoever wants to abort the rollout needs the controller
            problem = str(error) if isinstance(error, ServingError) else f"a fault of the controller: {error!r}"
            if self._problems.get(subject) != problem:
                self._problems[subject] = problem
                logger.warning("%s cannot go on: %s", subject, problem, exc_info=not isinstance(error, ServingError))
                self._tell_problem(subject, f"{subject} cannot go on: {problem}")
        else:
            if self._problems.pop(subject, None) is not None:
                self._tell_problem(subject, None)

    async def _go_on(self, seen: Rollout, counted: Snapshot, now: float) -> None:
        if not has_target(self._editing.config, seen):
            after = release(seen, now, f"model {seen.model} is not configured with this target any more")
        else:
            if seen.is_active:
                self._look_at(seen, counted, now)
                self._told.ask(seen)
            after = advance(seen, now, self._see(seen, now))
        if after is seen:
            return

        def go_on(config: ServingConfig, rollouts: tuple[Rollout, ...]) -> tuple[ServingConfig, tuple[Rollout, ...]]:
            if find_rollout(rollouts, seen.id) is not seen:  # somebody has moved it meanwhile; the next look is soon
                return config, rollouts
            if after.settled and not seen.settled:
                config = settle(config, after, self._versions.latest(seen.model))
            return config, with_rollout(rollouts, after)

        await self._roll(go_on)

    def _see(self, rollout: Rollout, now: float) -> Sight:
        ready = self._versions.ready(rollout.model)
        since = max(rollout.changed, now - rollout.strategy.window_s)
        series = self._series.get(rollout.id, Series())
        return Sight(
            is_ready=rollout.to_version in ready,
            failure=self._versions.find_failure(ServableId(rollout.model, rollout.to_version)),
            series=series,
            told=self._told.since(rollout.id, since),
            has_way_back=rollout.from_version in ready,
        )

    async def _follow_versions(self, model: str, strategy: str) -> None:
        """Have requests that name nothing stay with the version that gets them, and the newest one rolled out."""
        ready = self._versions.ready(model)
        found = find_model(self._editing.config, model)
        if ready and DEFAULT_TARGET not in found.traffic:
            await self._roll(lambda config, rollouts: (hold(config, model, max(ready)), rollouts))
        elif (newest := find_next(found, ready, self.find(model))) is not None:
            await self.start(model, newest, DEFAULT_TARGET, strategy, is_automatic=True)

    # Small things.

    async def _roll(
        self, roll: Callable[[ServingConfig, tuple[Rollout, ...]], tuple[ServingConfig, tuple[Rollout, ...]]]
    ) -> None:
        """Have it done, and told what the rollouts did."""
        before: dict[int, Rollout] = {}

        def remember(config: ServingConfig, rollouts: tuple[Rollout, ...]) -> tuple[ServingConfig, tuple[Rollout, ...]]:
            before.update({each.id: each for each in rollouts})  # as they are when it is this one's turn
            return roll(config, rollouts)

        await self._editing.roll(remember)
        self._tell(
            Happening(news.at, each.model, each.to_version, f"rollout {each.id}, {each.target}: {news.what}")
            for each in self._editing.wanted.rollouts
            for news in new_transitions(before.get(each.id), each)
        )

    async def _wait_for(self, servable: ServableId) -> None:
        """Returns when a version is found, or is not found for long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._appear_s):
                while self._versions.may_appear(servable):  # noqa: ASYNC110 - no event tells
                    await asyncio.sleep(_LOOK_S)


def _choose(config: ServingConfig, strategy: str | Mapping[str, Any]) -> Strategy:
    if not isinstance(strategy, str):
        return read_strategy("of its own", strategy)
    if strategy in config.rollout_strategies:
        return to_strategy(strategy, config.rollout_strategies[strategy])
    known = ", ".join(sorted(config.rollout_strategies)) or "none; write some in the configuration, or hand one over"
    raise NotFound(f"There is no rollout strategy {strategy or 'without a name'}; those are: {known}")
