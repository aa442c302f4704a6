"""The configuration in force, and every way to change it: one change at a time, kept before it takes effect.

A change is planned against what is in force, checked, kept (`keeping`), put in force, and only then acknowledged. One
that is refused at any of these steps changes nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import replace
from typing import Any

from serving_app.config import (
    ServingConfig,
    add_model,
    check_edit,
    delete_label,
    delete_traffic,
    make_plan,
    read_edit,
    read_model_file,
    read_reload_config,
    replace_models,
    set_label,
    set_traffic,
    to_models,
    traffic_of,
)
from serving_app.config.rollout_traffic import impose, settle_target
from serving_app.core.errors import FailedPrecondition, ServingError
from serving_app.core.labels import check_labels
from serving_app.core.plan import Plan
from serving_app.core.rollout import Phase, Rollout, is_news
from serving_app.core.traffic import DEFAULT_TARGET, check_traffic
from serving_app.serve.keeping import Keeping
from serving_app.serve.wanted import Applied, Wanted, redeploy

logger = logging.getLogger("serving_app.controller")

Edit = Callable[[ServingConfig], ServingConfig]

Roll = Callable[[ServingConfig, tuple[Rollout, ...]], tuple[ServingConfig, tuple[Rollout, ...]]]
"""From what is in force and the rollouts to what is to be in force, and the rollouts as they are then."""

Enforce = Callable[[ServingConfig, ServingConfig], Awaitable[None]]
"""Puts the second configuration in force in place of the first; returns when it is."""


_BACK = (Phase.FAILED, Phase.ABORTED, Phase.UNDONE)


class Editing:
    """What is wanted of one app. `available` gives a model's versions that are ready."""

    def __init__(
        self, wanted: Wanted, keeping: Keeping, available: Callable[[str], Collection[int]], enforce: Enforce
    ) -> None:
        self.wanted = wanted
        self._keeping = keeping
        self._available = available
        self._enforce = enforce
        self._turn = asyncio.Lock()

    @property
    def config(self) -> ServingConfig:
        """What is in force."""
        return self.wanted.config

    async def deploy(self, applied: Applied) -> None:
        """The app was deployed with this configuration; an older one than the one that is known changes nothing."""
        # Not in turn: a gateway that starts again must not wait for a change that hangs at the state's store.
        if applied.generation <= self.wanted.generation:
            if applied.generation < self.wanted.generation and applied.config != self.wanted.base:
                logger.warning("a deployment that was built before the present one is ignored; is a clock wrong?")
            return
        async with self._turn:
            wanted = redeploy(self.wanted, applied)
            if wanted is not self.wanted:
                plan = await asyncio.to_thread(make_plan, self.config, wanted.config)
                await self._change(wanted)
                logger.info("deployed anew: %s", _in_one_line(plan))

    async def apply(self, text: str, source: str, dry_run: bool) -> Plan:
        """Put a configuration in YAML, or the models of one in TensorFlow Serving's text form, in force."""
        return await self._edit(lambda config: read_edit(text, source, config), source, dry_run=dry_run)

    async def apply_file(self, text: str, source: str, digest: str) -> None:
        """Put the models of the model_config_file in force. At the first time it counts as deployed: labels may name
        versions that are not there yet."""
        is_first = self.wanted.file_digest is None

        await self._edit(
            lambda config: read_model_file(text, source, config), source, digest=digest, may_labels_wait=is_first
        )

    async def reload(self, serialized: bytes) -> frozenset[str]:
        """Serve the models of a ModelServerConfig in place of those served now; returns the names of the new ones."""
        message = read_reload_config(serialized)
        plan = await self._edit(
            lambda config: replace_models(config, to_models(message, config)), "HandleReloadConfigRequest"
        )
        return frozenset(each.model for each in plan.changes if each.model and each.kind == "add" and not each.setting)

    async def add_model(self, settings: Mapping[str, Any], dry_run: bool) -> Plan:
        """Serve one more model, beside those that there are when it is this change's turn."""
        return await self._edit(lambda config: add_model(config, settings), "one more model", dry_run=dry_run)

    async def roll(self, roll: Roll) -> None:
        """Let rollouts go on. What must not be forgotten is kept together with what follows for the configuration."""
        async with self._turn:
            before, rollouts_before = self.config, self.wanted.rollouts
            edited, rollouts = roll(before, rollouts_before)
            if edited is before and not _have_news(rollouts_before, rollouts):
                self.wanted = replace(self.wanted, rollouts=rollouts)  # what was measured meanwhile may be forgotten
                return
            after = impose(before, edited, rollouts)
            # The way back is always open: also while the state's store is down, and if nobody is there to go back to.
            is_back = _goes_back(rollouts_before, rollouts)
            if after is before:
                await self._keep(self.wanted.edit(after, rollouts=rollouts), may_lag=is_back)
                return
            check_edit(before, after)
            self._check_labels(after)
            if not is_back:
                self._check_traffic(after)
            await self._change(self.wanted.edit(after, rollouts=rollouts), may_lag=is_back)

    async def set_label(self, model: str, label: str, version: int) -> None:
        """Have a label name a version."""
        await self._edit(
            lambda config: set_label(config, model, label, version), f"label {label} of {model}", target=(model, label)
        )

    async def delete_label(self, model: str, label: str) -> None:
        """Take a label away."""
        await self._edit(
            lambda config: delete_label(config, model, label), f"label {label} of {model}", target=(model, label)
        )

    async def set_traffic(self, model: str, target: str, traffic: Mapping[str, Any]) -> None:
        """Have the requests for a target shared among versions."""
        await self._edit(
            lambda config: set_traffic(config, model, target, traffic), f"traffic of {model}, {target}",
            target=(model, target),
        )

    async def delete_traffic(self, model: str, target: str) -> None:
        """Have the requests for a target shared no more."""
        self._check_not_held(model, target)

        def delete(config: ServingConfig) -> ServingConfig:
            if target in _shared(self.config, model) and target not in _shared(config, model):
                return config  # the rollout that was decided has left nothing to delete
            return delete_traffic(config, model, target)

        await self._edit(delete, f"traffic of {model}, {target}", target=(model, target))

    def _check_not_held(self, model: str, target: str) -> None:
        by_rollouts = any(each.name == model and each.rollout is not None for each in self.config.models)
        if target == DEFAULT_TARGET and by_rollouts:
            raise FailedPrecondition(
                f"New versions of model {model} get requests by rollouts, so these stay shared, or the newest version "
                "had them all at once; set its `rollout` to null first"
            )

    async def _edit(
        self,
        edit: Edit,
        source: str,
        *,
        dry_run: bool = False,
        digest: str | None = None,
        may_labels_wait: bool = False,
        target: tuple[str, str] | None = None,
    ) -> Plan:
        """Whoever changes a `target`, of a model, by hand ends what a rollout that is decided still does there."""
        async with self._turn:
            before, rollouts = self.config, self.wanted.rollouts
            if target is not None:
                latest = max(self._available(target[0]), default=None)
                before, rollouts = settle_target(before, rollouts, *target, latest)
            # In a thread: of a thousand models this takes a second, in which nobody else must wait.
            after, plan = await asyncio.to_thread(_prepare, edit, self.config, before, rollouts)
            if not may_labels_wait:
                self._check_labels(after)
                self._check_traffic(after)
            is_news = not plan.is_empty or rollouts != self.wanted.rollouts
            if not dry_run and (is_news or digest not in (None, self.wanted.file_digest)):
                await self._change(self.wanted.edit(after, digest, rollouts))
                logger.info("%s: %s", source, _in_one_line(plan))
            return plan

    async def _change(self, wanted: Wanted, *, may_lag: bool = False) -> None:
        before = self.config
        await self._keep(wanted, may_lag=may_lag)
        await self._enforce(before, wanted.config)

    async def _keep(self, wanted: Wanted, *, may_lag: bool = False) -> None:
        try:
            await self._keeping.keep(wanted, may_lag=may_lag)
        except ServingError as error:
            raise type(error)(f"Nothing is changed, because it could not be kept: {error.message}") from error
        self.wanted = wanted

    def _check_labels(self, after: ServingConfig) -> None:
        """TensorFlow Serving's rule, for labels that are new or moved. It holds it against the others as well, so that
        one label whose version went away makes every reload fail; nobody is helped by that."""
        labels_before = {model.name: model.labels for model in self.config.models}
        for model in after.models:
            before = labels_before.get(model.name, {})
            news = {label: version for label, version in model.labels.items() if before.get(label) != version}
            allow = after.allow_version_labels_for_unavailable_models
            check_labels(model.name, news, before, self._available(model.name), allow)

    def _check_traffic(self, after: ServingConfig) -> None:
        shared_before = {model.name: traffic_of(model) for model in self.config.models if model.traffic}
        for model in after.models:
            if model.traffic:
                before = shared_before.get(model.name, {})
                check_traffic(model.name, traffic_of(model), before, self._available(model.name))


def _prepare(
    edit: Edit, in_force: ServingConfig, before: ServingConfig, rollouts: tuple[Rollout, ...]
) -> tuple[ServingConfig, Plan]:
    """What comes after the edit of `before`, and by what that differs from what is in force."""
    after = impose(in_force, edit(before), rollouts)
    check_edit(in_force, after)
    return after, make_plan(in_force, after)


def _shared(config: ServingConfig, model: str) -> Collection[str]:
    return next((each.traffic for each in config.models if each.name == model), {})


def _have_news(before: tuple[Rollout, ...], after: tuple[Rollout, ...]) -> bool:
    return len(before) != len(after) or any(map(is_news, before, after))


def _goes_back(before: tuple[Rollout, ...], after: tuple[Rollout, ...]) -> bool:
    """Whether some requests go back to the version that had them before their rollout."""
    phases = {each.id: each.phase for each in before}
    return any(each.phase in _BACK and phases.get(each.id) is not each.phase for each in after)


def _in_one_line(plan: Plan) -> str:
    return "; ".join(str(plan).splitlines())
