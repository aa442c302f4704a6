"""Rollouts that begin by themselves, of models that have the setting `rollout`: when, and to which version."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from serving_app.config import ModelConfig, ServingConfig
from serving_app.config.plan import find_model, set_traffic
from serving_app.config.rollout_traffic import find_owner
from serving_app.core.rollout import Rollout
from serving_app.core.traffic import DEFAULT_TARGET, WHOLE


def hold(config: ServingConfig, model: str, version: int) -> ServingConfig:
    """The configuration in which the requests that name nothing stay with this version, unless they are shared."""
    if DEFAULT_TARGET in find_model(config, model).traffic:
        return config
    return set_traffic(config, model, DEFAULT_TARGET, {"weights": {version: WHOLE}})


def find_next(model: ModelConfig, ready: Collection[int], past: Iterable[Rollout]) -> int | None:
    """The version that is to be rolled out now, if one is: the newest, if it is newer than all that there were.

    A version that was in a rollout has had its chance: it was turned away, or has the requests, or somebody has moved
    them back from it. So has one that the traffic names, be it with the weight 0. Raises FailedPrecondition if several
    versions share the requests.
    """
    mine = [each for each in past if each.target == DEFAULT_TARGET]
    if not ready or any(each.is_active for each in mine):
        return None
    newest = max(ready)
    had = {version for each in mine for version in (each.from_version, each.to_version)}
    if newest <= max(had | set(model.traffic[DEFAULT_TARGET].weights)):
        return None
    find_owner(model, DEFAULT_TARGET, newest)
    return newest
