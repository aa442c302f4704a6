"""Where a version goes, and what is known of who will serve it: said by the caller, or by the configuration in force.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from serving_app.config import ServingConfig, parse, store_options
from serving_app.core.errors import FailedPrecondition, InvalidArgument, NotFound
from serving_app.core.policies import Latest, Specific, aspired_versions, describe_policy
from serving_app.store.filesystem import is_local

Settings = Mapping[str, Any]
"""Settings of a model, as a configuration names them."""


@dataclass(frozen=True, slots=True)
class Destination:
    """A base path, and what its model wants of a version. What nobody has said is as it is by default."""

    base_path: str
    storage_options: Mapping[str, Any] = field(default_factory=dict)
    platform: str = "tensorflow"
    prefer_tflite: bool | None = None
    tags: tuple[str, ...] = ("serve",)
    done_marker: str | None = None
    new_model: Settings | None = None
    """The settings of the model that is to be added to the configuration, if it is."""


def unserved(
    base_path: str, storage_options: Mapping[str, Any] | None = None, done_marker: str | None = None
) -> Destination:
    """A base path of which no serving app is asked."""
    return Destination(_absolute(base_path), storage_options or {}, done_marker=done_marker)


def find_destination(
    config: ServingConfig,
    name: str,
    base_path: str | None = None,
    storage_options: Mapping[str, Any] | None = None,
    add: bool | Settings = False,
) -> Destination:
    """Where a serving app with this configuration looks for versions of the model.

    `add` has the settings of a model that it does not know yet, True for none but the base path. Raises NotFound for
    one that is unknown otherwise, and InvalidArgument where the base path is not the model's.
    """
    model = next((each for each in config.models if each.name == name), None)
    new_model = None
    if model is None:
        new_model = _settings_of_new(config, name, base_path, storage_options, add)
        (model,) = parse({"models": [new_model]}, "The new model").models
    elif base_path is not None and _comparable(base_path) != _comparable(model.base_path):
        raise InvalidArgument(
            f"model {name} is served from {model.base_path}, not from {base_path}; leave the base path out, or publish "
            "under another name"
        )
    return Destination(
        model.base_path,
        {**store_options(config, model.base_path, model), **(storage_options or {})},
        model.platform,
        model.prefer_tflite,
        tuple(model.tags),
        model.done_marker,
        new_model,
    )


def _settings_of_new(
    config: ServingConfig,
    name: str,
    base_path: str | None,
    storage_options: Mapping[str, Any] | None,
    add: bool | Settings,
) -> dict[str, Any]:
    if add is False:
        known = ", ".join(sorted(model.name for model in config.models)) or "none"
        raise NotFound(
            f"the serving app has no model {name} (it has: {known}); give add=True and a base path to have it served, "
            "or a base path without a name to have it written only"
        )
    if base_path is None:
        raise InvalidArgument(f"model {name} is new; say by base_path where its versions are to lie")
    settings: dict[str, Any] = dict(add) if isinstance(add, Mapping) else {}
    if not {"name", "base_path", "storage_options"}.isdisjoint(settings):
        raise InvalidArgument("name, base_path and storage_options are arguments of their own; leave them out of add")
    if storage_options:
        settings["storage_options"] = dict(storage_options)
    return {"name": name, "base_path": _absolute(base_path), **settings}


def check_prospects(config: ServingConfig, name: str, number: int, others: frozenset[int]) -> None:
    """Raise FailedPrecondition if the model's settings keep a version from being served that lies beside others."""
    model = next((each for each in config.models if each.name == name), None)
    if model is None:
        return  # it is about to be added
    interval_s = config.poll_interval_s if model.poll_interval_s is None else model.poll_interval_s
    if interval_s == 0:
        raise FailedPrecondition(
            f"model {name} is looked at only once (poll_interval_s is 0), so version {number} would not be found; set "
            "an interval, or publish without waiting and labels"
        )
    policy = model.version_policy
    if number in aspired_versions(policy, others | {number}):
        return
    fix = "change the policy"
    if isinstance(policy, Latest):
        fix = "take a higher number, or let the policy have more versions"
    elif isinstance(policy, Specific):
        fix = f"add {number} to the policy"
    raise FailedPrecondition(
        f"version {number} of {name} would not be served, because the version policy wants {describe_policy(policy)}; "
        f"{fix}, or publish without waiting and labels"
    )


def _absolute(base_path: str) -> str:
    return os.path.abspath(base_path) if is_local(base_path) and "://" not in base_path else base_path


def _comparable(base_path: str) -> str:
    if is_local(base_path):
        return os.path.abspath(base_path.partition("://")[2] if "://" in base_path else base_path)
    return base_path.rstrip("/")
