"""Edits of the configuration in force: what each would change, whether it may, and the small ones that have a name.

An edit is nothing but another ServingConfig: all functions here are pure, and a configuration never changes in place.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

from serving_app.config.model import ModelConfig
from serving_app.config.parsing import parse, revise
from serving_app.config.secrets import redact
from serving_app.config.serving import ServingConfig
from serving_app.config.settings import Settings
from serving_app.core.errors import FailedPrecondition, InvalidArgument, NotFound
from serving_app.core.plan import Change, Plan

AT_ONCE = "at once"
SCALED = "scaled in place"
MOVED = "moved without a gap"
NEW_LOADS = "for versions loaded from now on"
LISTINGS_AND_NEW_LOADS = "for listings at once, for versions loaded from now on"
NEW_ROLLOUTS = "for rollouts started from now on"
REDEPLOYMENT = "only by a new deployment"
FOR_NEW_MODELS = "for models added from now on"

EFFECTS: Mapping[str, str] = {
    "model_defaults": FOR_NEW_MODELS,
    "gateway": REDEPLOYMENT,
    "load": AT_ONCE,
    "poll_interval_s": AT_ONCE,
    "poll_timeout_s": AT_ONCE,
    "rollout_strategies": NEW_ROLLOUTS,
    "stores": LISTINGS_AND_NEW_LOADS,
    "state_uri": REDEPLOYMENT,
    "model_config_file": REDEPLOYMENT,
    "model_config_file_poll_s": REDEPLOYMENT,
    "allow_version_labels_for_unavailable_models": AT_ONCE,
    "cache_max_bytes": NEW_LOADS,
    "cache_dir": NEW_LOADS,
}
"""When a change of each setting of the whole takes effect."""

MODEL_EFFECTS: Mapping[str, str] = {
    "base_path": LISTINGS_AND_NEW_LOADS,
    "platform": "never: a model keeps its platform",
    "version_policy": AT_ONCE,
    "aspired_version_policy": AT_ONCE,
    "labels": AT_ONCE,
    "traffic": AT_ONCE,
    "rollout": AT_ONCE,
    "placement": MOVED,
    "replicas": SCALED,
    "autoscaling": SCALED,
    "max_ongoing_requests": SCALED,
    "num_cpus": NEW_LOADS,
    "num_gpus": NEW_LOADS,
    "memory": NEW_LOADS,
    "memory_factor": NEW_LOADS,
    "session": NEW_LOADS,
    "tags": NEW_LOADS,
    "custom_op_libraries": NEW_LOADS,
    "prefer_tflite": LISTINGS_AND_NEW_LOADS,
    "tflite": NEW_LOADS,
    "batching": AT_ONCE,
    "warmup": NEW_LOADS,
    "poll_interval_s": AT_ONCE,
    "settle_s": AT_ONCE,
    "give_up_s": AT_ONCE,
    "done_marker": AT_ONCE,
    "storage_options": LISTINGS_AND_NEW_LOADS,
    "load_timeout_s": NEW_LOADS,
    "drain_timeout_s": NEW_LOADS,
}
"""When a change of each setting of a model takes effect."""


# --- plans -----------------------------------------------------------------------------------------------------------


def make_plan(before: ServingConfig, after: ServingConfig) -> Plan:
    """What would change, setting by setting, and when each change would take effect. Secrets are not shown."""
    before, after = _without_common_models(before, after)
    changes = list(_compare_groups(None, before, after, redact(before), redact(after), EFFECTS))
    old, old_shown = _models(before), _models(redact(before))
    new, new_shown = _models(after), _models(redact(after))
    for name, model in new.items():
        if name in old:
            changes += _compare_groups(name, old[name], model, old_shown[name], new_shown[name], MODEL_EFFECTS)
        else:
            changes.append(Change(name, "add", "", "", new_shown[name].base_path, "its versions are loaded"))
    for name in [name for name in old if name not in new]:
        changes.append(Change(name, "remove", "", old_shown[name].base_path, "", "its versions are unloaded"))
    return Plan(tuple(changes))


def _without_common_models(*configs: ServingConfig) -> Iterator[ServingConfig]:
    """Both configurations without the models that are the same in them, which mostly are nearly all."""
    old, new = map(_models, configs)
    same = {name for name, model in new.items() if model is old.get(name) or model == old.get(name)}
    for config in configs:
        yield config.model_copy(update={"models": tuple(each for each in config.models if each.name not in same)})


def _models(config: ServingConfig) -> dict[str, ModelConfig]:
    return {model.name: model for model in config.models}


def _compare_groups(
    model: str | None,
    before: Settings,
    after: Settings,
    shown_before: Settings,
    shown_after: Settings,
    effects: Mapping[str, str],
) -> Iterator[Change]:
    """The changes of the settings that `effects` names; values are compared as they are, and told as they are shown."""
    old, new, old_shown, new_shown = (
        group.model_dump(mode="json", include=set(effects)) for group in (before, after, shown_before, shown_after)
    )
    for name, effect in effects.items():
        yield from _compare(model, name, (old[name], new[name]), (old_shown[name], new_shown[name]), effect)


class _Absent:
    """Stands where a mapping has no such key."""


_ABSENT = _Absent()


def _compare(
    model: str | None, setting: str, values: tuple[Any, Any], shown: tuple[Any, Any], effect: str
) -> Iterator[Change]:
    before, after = values
    if before == after:
        return
    # A mapping that is shown as *** is hidden with all its keys.
    if setting != "version_policy" and all(isinstance(value, dict) for value in (*values, *shown)):
        for key in [*before, *(key for key in after if key not in before)]:
            inner = f"{setting}.{_text(key)}"
            yield from _compare(model, inner, _at(values, key), _at(shown, key), effect)
        return
    kind: Literal["add", "remove", "change"] = "change"
    if isinstance(before, _Absent):
        kind = "add"
    elif isinstance(after, _Absent):
        kind = "remove"
    yield Change(model, kind, setting, _text(shown[0]), _text(shown[1]), effect)


def _at(mappings: tuple[Any, Any], key: str) -> tuple[Any, Any]:
    return mappings[0].get(key, _ABSENT), mappings[1].get(key, _ABSENT)


def _text(value: Any) -> str:
    """The value on one line; empty for one that is absent."""
    if isinstance(value, _Absent):
        return ""
    is_plain = isinstance(value, str) and value != "" and value.isprintable()
    return str(value) if is_plain else json.dumps(value, ensure_ascii=False)


# --- checks ----------------------------------------------------------------------------------------------------------


def check_edit(before: ServingConfig, after: ServingConfig) -> None:
    """Raise the error of an edit that cannot be made at run time.

    InvalidArgument where a model would get another platform, FailedPrecondition where a setting needs a new deployment;
    the latter names all of them.
    """
    old = _models(before)
    for model in after.models:
        if model.name in old:
            check_platform(model.name, old[model.name].platform, model.platform)
    fixed = [change.setting for change in make_plan(before, after).changes if change.effect == REDEPLOYMENT]
    if fixed:
        raise FailedPrecondition(
            f"Only a new deployment can change {', '.join(fixed)}. Deploy the application again with the new "
            "configuration (serving-app up, serve run or serve deploy), or leave as they are what it names here"
        )


def check_platform(model: str, before: str, after: str) -> None:
    """Raise TensorFlow Serving's error if the model would get another platform."""
    # server_core.cc, ValidateNoModelsChangePlatforms
    if before != after:
        raise InvalidArgument(
            f"Illegal to change a model's platform. For model {model} platform was {before} and new platform "
            f"requested is {after}"
        )


# --- edits -----------------------------------------------------------------------------------------------------------


def set_label(config: ServingConfig, model: str, label: str, version: int) -> ServingConfig:
    """The configuration in which `label` of `model` means `version`, whatever it meant before."""
    found = find_model(config, model)
    return _with_model(config, revise(found, f"Model {model}", labels={**found.labels, label: version}))


def delete_label(config: ServingConfig, model: str, label: str) -> ServingConfig:
    """The configuration in which `model` has no `label`."""
    found = find_model(config, model)
    if label not in found.labels:
        raise NotFound(f"Model {model} has no label {label}; {_known('its labels are', found.labels)}")
    labels = {name: version for name, version in found.labels.items() if name != label}
    return _with_model(config, revise(found, f"Model {model}", labels=labels))


def add_model(config: ServingConfig, settings: Mapping[str, Any]) -> ServingConfig:
    """The configuration with one more model. Raises FailedPrecondition if there is one of its name."""
    (model,) = parse({"models": [settings]}, "The new model").models
    if model.name in _models(config):
        raise FailedPrecondition(f"there is a model {model.name} already")
    return replace_models(config, (*config.models, model))


def set_traffic(config: ServingConfig, model: str, target: str, traffic: Mapping[str, Any]) -> ServingConfig:
    """The configuration in which the requests for `target` of `model` are shared like that, whatever it was before."""
    found = find_model(config, model)
    return _with_model(config, revise(found, f"Model {model}", traffic={**found.traffic, target: traffic}))


def delete_traffic(config: ServingConfig, model: str, target: str) -> ServingConfig:
    """The configuration in which the requests for `target` of `model` are not shared."""
    found = find_model(config, model)
    if target not in found.traffic:
        known = _known("those shared are", found.traffic)
        raise NotFound(f"The requests for {target} of model {model} are not shared; {known}")
    traffic = {name: each for name, each in found.traffic.items() if name != target}
    return _with_model(config, revise(found, f"Model {model}", traffic=traffic))


def replace_models(config: ServingConfig, models: Iterable[ModelConfig]) -> ServingConfig:
    """The configuration with these models instead of its own."""
    return revise(config, "The configuration", models=tuple(models))


def find_model(config: ServingConfig, name: str) -> ModelConfig:
    """The model of that name. Raises NotFound, which tells the names that there are."""
    models = _models(config)
    if name not in models:
        raise NotFound(f"There is no model {name}; {_known('the models are', models)}")
    return models[name]


def _known(words: str, names: Iterable[str]) -> str:
    listed = ", ".join(sorted(names))
    return f"{words}: {listed}" if listed else "there are none"


def _with_model(config: ServingConfig, model: ModelConfig) -> ServingConfig:
    return config.model_copy(
        update={"models": tuple(model if other.name == model.name else other for other in config.models)}
    )
