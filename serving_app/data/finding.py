"""Which version of a model rows are to be run in, decided once: by its number, where its files are, what it takes.

Whoever starts the work asks here, and tells the workers what came out. A label that moves meanwhile, or a version that
appears, changes nothing for them.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from threading import Thread
from typing import Any, Literal, TypeVar
from urllib.parse import urlsplit

from google.protobuf.message import DecodeError

from serving_app.client.control import Control
from serving_app.config import ModelConfig, ServingConfig, parse, parse_yaml
from serving_app.config.locations import is_absolute
from serving_app.core.errors import DataLoss, FailedPrecondition, InvalidArgument, NotFound, ServingError
from serving_app.core.policies import Latest, Specific
from serving_app.core.routing import RouteTable, resolve
from serving_app.core.servable import ModelSpec, ServableId
from serving_app.core.signatures import Signature
from serving_app.host import Assignment
from serving_app.protocol import messages
from serving_app.protocol.signature_proto import decode_signature
from serving_app.serve.assignments import assignment_for
from serving_app.store import ModelSource, Poll, list_versions
from serving_app.store.files import list_files, read_file
from serving_app.store.listing import parse_version

How = Literal["local", "live"]

_MODEL_FILES = frozenset({"saved_model.pb", "saved_model.pbtxt", "model.tflite"})

T = TypeVar("T")


@dataclass(frozen=True)
class Found:
    """A version, and how to get hold of it. Workers are told this; store options may hold credentials."""

    servable: ServableId
    assignment: Assignment | None = field(repr=False)
    """What a process that loads it itself has to know; None for one that asks the serving app."""
    signatures: Mapping[str, Signature] | None = field(default=None, repr=False)
    """What it takes and gives, where that is known without loading it."""
    num_gpus: float = 0.0
    """What a replica of it has."""


def find_served(control: Control, spec: ModelSpec, how: How) -> Found:
    """The version that a serving app means. Blocks. Raises what a request of that kind would, and Unreachable.

    To be loaded locally, a version that is named by its number need not be served: it is looked for where the model's
    versions lie.
    """
    table = _wait(control.routes())
    try:
        route = resolve(spec, table)
    except ServingError:
        if how == "local" and spec.version is not None and spec.name in table.models:
            model, config = _configured(control, spec.name)
            return _find_stored(model, config, spec.version)
        raise
    if how == "live":
        return Found(route.servable, None, route.signatures)
    model, config = _configured(control, spec.name)
    path = _find_path(control, route.servable, table)
    return Found(
        route.servable, assignment_for(route.servable, path, model, config), route.signatures, model.num_gpus
    )


def find_stored(
    model: str | None, base_path: str, version: int | None, storage_options: Mapping[str, Any] | None = None
) -> Found:
    """A version without a serving app: the newest finished one under a base path, or the one of this number, or the one
    whose own directory is named. Blocks, for a version that still has to rest for as long as that takes."""
    if not is_absolute(base_path):
        base_path = os.path.abspath(base_path)
    options = dict(storage_options or {})
    *_, parent, name = ["model", *PurePosixPath(urlsplit(base_path).path).parts[-2:]]
    is_base = bool(list_versions(base_path, options, servable=model or name).versions)
    files = set() if is_base else _top_files(base_path, options)
    if files & _MODEL_FILES:
        number = parse_version(name)
        if number is None:
            model, number = model or name, 0
        if version not in (None, number):
            raise InvalidArgument(f"{base_path} is a version itself, and not the base path of version {version}")
        config, settings = _plain_config(model or parent, base_path, options, "saved_model.pb" not in files)
        return _with_signatures(ServableId(settings.name, number), base_path, settings, config)
    config, settings = _plain_config(model or name, base_path, options, False)
    return _find_stored(settings, config, version)


def _plain_config(
    name: str, base_path: str, options: dict[str, Any], prefer_tflite: bool
) -> tuple[ServingConfig, ModelConfig]:
    """The configuration that serves this model and says nothing else."""
    model = {"name": name, "base_path": base_path, "storage_options": options, "prefer_tflite": prefer_tflite}
    config = parse({"models": {name: {key: value for key, value in model.items() if key != "name"}}}, "The model")
    return config, config.models[0]


def _find_stored(model: ModelConfig, config: ServingConfig, version: int | None) -> Found:
    source = ModelSource(
        model.name,
        model.base_path,
        Latest() if version is None else Specific((version,)),
        platform=model.platform,
        prefer_tflite=model.prefer_tflite,
        options=assignment_for(ServableId(model.name, 0), model.base_path, model, config).storage_options,
        settle_s=model.settle_s,
        give_up_s=None,
        done_marker=model.done_marker,
    )
    poll = _poll_until_rested(source)
    if version is None and poll.versions:
        version = max(poll.versions)
    if version is None or version not in poll.versions:
        raise _why_not(model, version, poll)
    return _with_signatures(ServableId(model.name, version), poll.versions[version], model, config)


def _poll_until_rested(source: ModelSource) -> Poll:
    while (poll := source.poll()).again_in is not None:
        time.sleep(max(0.05, poll.again_in))
    return poll


def _why_not(model: ModelConfig, version: int | None, poll: Poll) -> ServingError:
    if version in poll.waiting or (version is None and poll.waiting):
        number = version if version is not None else max(poll.waiting)
        return FailedPrecondition(f"version {number} under {model.base_path} is not complete: {poll.waiting[number]}")
    if version is None:
        return NotFound(
            f"there is no version under {model.base_path}; versions are directories named by a number, such as 1"
        )
    return NotFound(f"there is no version {version} under {model.base_path}")


def _with_signatures(servable: ServableId, path: str, model: ModelConfig, config: ServingConfig) -> Found:
    assignment = assignment_for(servable, path, model, config)
    signatures = None if model.prefer_tflite else _read_signatures(path, assignment.storage_options)
    return Found(servable, assignment, signatures, model.num_gpus)


def _read_signatures(path: str, options: Mapping[str, Any]) -> dict[str, Signature] | None:
    """What a SavedModel says of itself; None of versions in other forms, which only their runtime knows."""
    try:
        encoded = read_file(f"{path}/saved_model.pb", options)
    except NotFound:
        return None
    try:
        graphs = messages.SavedModel.FromString(encoded).meta_graphs
    except DecodeError as error:
        raise DataLoss(f"{path}/saved_model.pb cannot be read ({error}); export the model again") from error
    serving = [graph.signature_def for graph in graphs if "serve" in graph.meta_info_def.tags]
    return {name: decode_signature(graph[name]) for graph in serving[:1] for name in graph} or None


def _top_files(path: str, options: Mapping[str, Any]) -> set[str]:
    return {name for name in list_files(path, options) if "/" not in name}


def _configured(control: Control, name: str) -> tuple[ModelConfig, ServingConfig]:
    """A model's settings as they are in force, with the credentials for its store."""
    config = parse_yaml(_wait(control.config(secrets=True)))
    for model in config.models:
        if model.name == name:
            return model, config
    raise NotFound(f"the model {name} is being removed from the serving app {control.app!r}")


def _find_path(control: Control, servable: ServableId, table: RouteTable) -> str:
    model = _wait(control.view()).models.get(servable.name)
    for version in model.versions if model else ():
        if version.servable == servable and version.path is not None:
            return version.path
    raise NotFound(f"{servable} is being removed from the serving app {control.app!r}; ask for another version")


def _wait(work: Coroutine[Any, Any, T]) -> T:
    """What a coroutine returns; in a thread of its own, since whoever calls may be on a loop, as in a notebook."""
    outcome: list[T] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            outcome.append(asyncio.run(work))
        except BaseException as error:
            failure.append(error)

    thread = Thread(target=run, name="find")
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return outcome[0]
