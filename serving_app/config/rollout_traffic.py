"""What rollouts make of a configuration: the traffic and the labels of their targets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from serving_app.config.model import ModelConfig
from serving_app.config.plan import delete_traffic, find_model, set_label, set_traffic
from serving_app.config.serving import ServingConfig
from serving_app.config.traffic import TrafficConfig
from serving_app.core.errors import FailedPrecondition, NotFound
from serving_app.core.rollout import Rollout, is_mine
from serving_app.core.rollout_outcome import final_traffic, traffic_for, winner
from serving_app.core.traffic import DEFAULT_TARGET, WHOLE


def impose(before: ServingConfig, after: ServingConfig, rollouts: Iterable[Rollout]) -> ServingConfig:
    """The configuration with what rollouts and their rules want of it, whoever edited it; the very same if it has that.

    A target that is in a rollout is as the rollout says. Of a model whose new versions come by rollouts, the requests
    that name nothing stay where they were before the edit: without that the newest version would get them at once, also
    one that a rollout has turned away.
    """
    for model in [model for model in after.models if model.rollout and DEFAULT_TARGET not in model.traffic]:
        held = next((each.traffic.get(DEFAULT_TARGET) for each in before.models if each.name == model.name), None)
        if held is not None:
            after = set_traffic(after, model.name, DEFAULT_TARGET, held.model_dump())
    for rollout in rollouts:
        if not rollout.settled and has_target(after, rollout):
            after = _share(after, rollout, traffic_for(rollout))
            after = _label(after, rollout)
    return after


def settle(config: ServingConfig, rollout: Rollout, latest: int | None) -> ServingConfig:
    """The configuration in which a rollout's target is what it is to be in the end. `latest` is the newest version that
    is ready."""
    if not has_target(config, rollout):
        return config
    is_held = find_model(config, rollout.model).rollout is not None
    final = final_traffic(rollout, is_latest=winner(rollout) == latest, is_held=is_held)
    return _share(_label(config, rollout), rollout, final)


def settle_target(
    config: ServingConfig, rollouts: tuple[Rollout, ...], model: str, target: str, latest: int | None
) -> tuple[ServingConfig, tuple[Rollout, ...]]:
    """The configuration and the rollouts when none of these shares the target's requests any more: what one that is
    decided still does there ends. Raises FailedPrecondition if one is not decided. `latest` as of `settle`."""
    check_free(rollouts, model, target)
    mine = [each for each in rollouts if is_mine(each, model, target)]
    for each in mine:
        config = settle(config, each, latest)
    return config, tuple(replace(each, settled=True) if each in mine else each for each in rollouts)


def has_target(config: ServingConfig, rollout: Rollout) -> bool:
    """Whether the model is configured, and has the label that is meant."""
    for model in config.models:
        if model.name == rollout.model:
            return rollout.target == DEFAULT_TARGET or rollout.target in model.labels
    return False


def check_free(rollouts: Iterable[Rollout], model: str, target: str) -> None:
    """Raise FailedPrecondition if a rollout that is not decided shares these requests."""
    for rollout in rollouts:
        if rollout.is_active and is_mine(rollout, model, target):
            raise FailedPrecondition(
                f"{rollout}, moves the requests for {target} of model {model}; abort it, or wait for its end"
            )


def find_owner(model: ModelConfig, target: str, latest: int | None) -> int:
    """The version that gets all of a target's requests. `latest` is the newest that is ready.

    Raises FailedPrecondition if there is none, and NotFound if there is no such target.
    """
    if target != DEFAULT_TARGET and target not in model.labels:
        known = ", ".join(sorted([DEFAULT_TARGET, *model.labels]))
        raise NotFound(f"Model {model.name} has no label {target}; a rollout can move the requests for: {known}")
    if target in model.traffic:
        weights = {number: weight for number, weight in model.traffic[target].weights.items() if weight}
        if len(weights) > 1:
            shares = ", ".join(f"version {number} {weight:g} %" for number, weight in weights.items())
            raise FailedPrecondition(
                f"The requests for {target} of model {model.name} are shared ({shares}), and a rollout moves them from "
                f"one version to another; give all to one of them first (serving-app traffic {model.name} set {target} "
                f"{next(iter(weights))}={WHOLE})"
            )
        return next(iter(weights))
    owner = latest if target == DEFAULT_TARGET else model.labels[target]
    if owner is None:
        raise FailedPrecondition(f"No version of model {model.name} is ready that requests could be moved from")
    return owner


def traffic_before(model: ModelConfig, target: str) -> Mapping[str, Any] | None:
    """How a target's requests are shared, as plain data."""
    traffic = model.traffic.get(target)
    return None if traffic is None else traffic.model_dump(mode="json")


def _share(config: ServingConfig, rollout: Rollout, traffic: Mapping[str, Any] | None) -> ServingConfig:
    present = find_model(config, rollout.model).traffic.get(rollout.target)
    if traffic is None:
        return config if present is None else delete_traffic(config, rollout.model, rollout.target)
    if present is not None and present == TrafficConfig.model_validate(traffic):
        return config
    return set_traffic(config, rollout.model, rollout.target, traffic)


def _label(config: ServingConfig, rollout: Rollout) -> ServingConfig:
    if rollout.target == DEFAULT_TARGET:
        return config
    if find_model(config, rollout.model).labels[rollout.target] == winner(rollout):
        return config
    return set_label(config, rollout.model, rollout.target, winner(rollout))
