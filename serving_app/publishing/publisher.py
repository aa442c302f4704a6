"""`publish`: what a training job calls when a model is good enough."""

from __future__ import annotations

import operator
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from serving_app.client.warmup_file import Inputs, encode_warmup
from serving_app.core.errors import InvalidArgument, ServingError
from serving_app.protocol.call_options import seconds_of
from serving_app.protocol.prediction_log import WARMUP_FILE
from serving_app.publishing.claims import Claim, claim_number
from serving_app.publishing.destination import Destination, Settings, find_destination, unserved
from serving_app.publishing.export import exported
from serving_app.publishing.place import Place
from serving_app.publishing.provenance import FILE, encode_provenance
from serving_app.publishing.server import Server, find_server
from serving_app.publishing.soundness import check_version, check_warmup, list_version
from serving_app.publishing.upload import Content, size_of, upload
from serving_app.store import Progress
from serving_app.store.listing import MAX_VERSION


@dataclass(frozen=True, slots=True)
class Published:
    """A version that is there, and how far it got."""

    version: int
    path: str
    """The path or URI of its directory."""
    size: int
    """The bytes of its files."""
    labels: tuple[str, ...] = ()
    """The labels that name it now."""
    is_served: bool = False
    """Whether every gateway routes to it; False where nobody waited for that."""


def publish(
    model: Any,
    name: str | None = None,
    base_path: str | os.PathLike[str] | None = None,
    *,
    version: int | None = None,
    labels: str | Sequence[str] = (),
    wait: bool = False,
    timeout: float | None = 600.0,
    signatures: Any = None,
    warmup: Iterable[Inputs | tuple[str, Inputs]] = (),
    metadata: Mapping[str, Any] | None = None,
    storage_options: Mapping[str, Any] | None = None,
    done_marker: str | None = None,
    add: bool | Settings = False,
    progress: Progress | None = None,
    app: str = "default",
    address: str | None = None,
) -> Published:
    """Put a new version of a model where it is served from. Blocks until all of it is there, or until it is served.

    `model` is the directory of a SavedModel, a Keras model or a tf.Module. By `name` the serving app `app` on the Ray
    cluster at `address` is asked where the model's versions lie; by `base_path` alone nobody is asked. The version gets
    the next number, unless one is given. Nothing is written of a model that could not be loaded.

    With `labels` or `wait` it returns when every gateway routes to the version, and by the labels; `timeout` is in
    seconds after the upload. Raises FailedPrecondition with the loader's own words if the version fails to load, and
    DeadlineExceeded; the version stays where it is then. Whatever fails before leaves no version.
    """
    labels = (labels,) if isinstance(labels, str) else tuple(labels)
    where = None if base_path is None else _to_text(base_path)
    _check_arguments(name, where, labels, wait, add)
    _check_contents(warmup, metadata, done_marker)
    number = None if version is None else _to_number(version)
    seconds = seconds_of(timeout)
    server = None if name is None else find_server(app, address, name)
    destination = _find_destination(server, name, where, storage_options, add, done_marker)
    published = _write(
        model, signatures, list(warmup), metadata or {}, name, number, destination, progress or _be_silent,
        server if wait or labels else None,
    )
    if server is None:
        return published
    with _told_what_is_there(published):
        if destination.new_model is not None:
            server.add(destination.new_model)
        if not (wait or labels):
            return published
        server.wait(published.version, labels, seconds)
    return replace(published, labels=labels, is_served=True)


def _check_arguments(
    name: str | None,
    base_path: str | None,
    labels: Sequence[str],
    wait: bool,
    add: bool | Settings,
) -> None:
    if name == "" or (name is None and not base_path):
        raise InvalidArgument("say where the version is to go: the name of a model that is served, or a base_path")
    if name is None and (labels or wait or add is not False):
        raise InvalidArgument("labels, wait and add are for a model that is served; give its name, too")
    if not all(isinstance(label, str) and label for label in labels):
        raise InvalidArgument(f"labels are texts that are not empty, got {list(labels)!r}")


def _check_contents(warmup: Any, metadata: Any, done_marker: str | None) -> None:
    if isinstance(warmup, str | bytes | Mapping):
        raise InvalidArgument("warmup takes a list of requests; put the one request into a list")
    if not isinstance(metadata, Mapping | None):
        raise InvalidArgument(f"metadata is a mapping from names to values, got {metadata!r}")
    if done_marker is not None and (not done_marker or "/" in done_marker or done_marker in {".", ".."}):
        raise InvalidArgument(f"done_marker is the name of a file in a version's directory, got {done_marker!r}")


def _to_number(version: Any) -> int:
    number = -1 if isinstance(version, bool) or not hasattr(version, "__index__") else operator.index(version)
    if not 0 <= number <= MAX_VERSION:
        raise InvalidArgument(f"a version is a number from 0 to 2^63 - 1, got {version!r}")
    return number


def _to_text(base_path: str | os.PathLike[str]) -> str:
    path = os.fspath(base_path)
    if not isinstance(base_path, str) and (lost := re.match(r"(\w[\w+.-]+):/", path)):
        raise InvalidArgument(f"a Path takes slashes from a URI; give it as a text that begins with {lost[1]}://")
    return path


def _find_destination(
    server: Server | None,
    name: str | None,
    base_path: str | None,
    storage_options: Mapping[str, Any] | None,
    add: bool | Settings,
    done_marker: str | None,
) -> Destination:
    if server is None or name is None:
        return unserved(base_path or "", storage_options, done_marker)
    destination = find_destination(server.config, name, base_path, storage_options, add)
    if done_marker not in (None, destination.done_marker):
        raise InvalidArgument(
            f"model {name} has the done_marker {destination.done_marker!r}, not {done_marker!r}; leave it out, and the "
            "model's own is written"
        )
    if destination.new_model is not None:
        server.add(destination.new_model, dry_run=True)
    return destination


def _write(
    model: Any,
    signatures: Any,
    warmup: Sequence[Inputs | tuple[str, Inputs]],
    metadata: Mapping[str, Any],
    name: str | None,
    version: int | None,
    destination: Destination,
    progress: Progress,
    waiting: Server | None,
) -> Published:
    """Export, check, claim, upload. `waiting` is the server that is to be waited for afterwards."""
    encode_provenance(name, 0, metadata)  # what cannot be written is refused before anything is
    with exported(model, signatures) as directory:
        files = _gather(directory, destination, warmup)
        place = Place(destination.base_path, destination.storage_options)
        claim = claim_number(place, version)
        with _withdrawn_on_failure(claim):
            if waiting is not None:
                waiting.foresee(claim)
            files[FILE] = encode_provenance(name, claim.number, metadata)
            upload(place, claim.number, files, progress, destination.done_marker)
        claim.fulfil()
        size = sum(map(size_of, files.values()))
    return Published(claim.number, place.path(str(claim.number)), size)


def _gather(
    directory: Path, destination: Destination, warmup: Sequence[Inputs | tuple[str, Inputs]]
) -> dict[str, Content]:
    """The files of a version that could be loaded, as far as that can be told from here."""
    files: dict[str, Content] = {**list_version(directory)}
    signatures = check_version(
        directory, files.keys(), platform=destination.platform, prefer_tflite=destination.prefer_tflite,
        tags=destination.tags,
    )
    if warmup:
        files[WARMUP_FILE] = encode_warmup(directory, warmup)
    elif WARMUP_FILE in files and signatures:
        check_warmup((directory / WARMUP_FILE).read_bytes(), signatures, str(directory))
    return files


@contextmanager
def _withdrawn_on_failure(claim: Claim) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        try:
            claim.withdraw()
        except ServingError as left:
            error.add_note(f"the claim to version {claim.number} could not be removed: {left}")
        raise


@contextmanager
def _told_what_is_there(published: Published) -> Iterator[None]:
    """Adds to what goes wrong after the upload that the version is there."""
    try:
        yield
    except ServingError as error:
        error.message += f". The version is at {published.path}"
        raise


def _be_silent(_done: int, _total: int) -> None:
    """Nobody wants to know how far it is."""
