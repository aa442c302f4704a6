"""A new deployment on top of what was changed at run time."""

from __future__ import annotations

from serving_app.config.model import ModelConfig
from serving_app.config.serving import ServingConfig


def rebase(old_base: ServingConfig, in_force: ServingConfig, new_base: ServingConfig) -> ServingConfig:
    """What is in force after a deployment of `new_base`, where `old_base` was deployed before.

    What differs between the two deployments is news and counts. What does not is left as it is in force, with every
    change that was made at run time:

    - a model whose entry is the same in both stays as it is in force, also if that means removed;
    - a model whose entry came, went or changed is what the new deployment says;
    - a model that neither knows was added at run time and stays;
    - of the settings outside `models`, each that differs is taken from the new deployment.

    Where the new deployment takes its models from a file, those in force stay until the file is read, which replaces
    them all; where it no longer does, those of the file go.
    """
    kept = {
        name: getattr(in_force, name)
        for name in ServingConfig.model_fields
        if name != "models" and getattr(new_base, name) == getattr(old_base, name)
    }
    models = _rebase_models(old_base, in_force, new_base)
    return new_base.model_copy(update={**kept, "models": models})


def _rebase_models(
    old_base: ServingConfig, in_force: ServingConfig, new_base: ServingConfig
) -> tuple[ModelConfig, ...]:
    if new_base.model_config_file:
        return in_force.models
    if old_base.model_config_file:
        return new_base.models
    old, current, new = (_by_name(config) for config in (old_base, in_force, new_base))
    # Which order counts follows the same rule: the one of the deployment if that is news, else the one in force.
    names = [*current, *new] if list(old) == list(new) else [*new, *current]
    chosen: dict[str, ModelConfig] = {}
    for name in names:
        is_news = old.get(name) != new.get(name)
        model = new.get(name) if is_news else current.get(name)
        if model is not None:
            chosen[name] = model
    return tuple(chosen.values())


def _by_name(config: ServingConfig) -> dict[str, ModelConfig]:
    return {model.name: model for model in config.models}
