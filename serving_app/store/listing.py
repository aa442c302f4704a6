"""Which versions a base path holds.

A version is a child of the base path whose whole name is a decimal number. Its files are not looked at here, so one
listing call is all that this costs; whether a version is finished is another question (serving_app.store.source).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from fsspec import AbstractFileSystem
from fsspec.utils import get_protocol

from serving_app.core.errors import FailedPrecondition, InvalidArgument, ServingError
from serving_app.store.filesystem import is_local, open_path, translated_errors

MAX_VERSION = 2**63 - 1
"""Version numbers are int64 on the wire."""

# What TensorFlow's parser of int64 takes: blanks around, a sign, ASCII digits.
_NUMBER = re.compile(r"[ \t\n\v\f\r]*([+-]?[0-9]+)[ \t\n\v\f\r]*")


@dataclass(frozen=True, slots=True)
class Listing:
    """What a base path holds now: each version's number with its path, and what its owner should be told.

    A path is one that `fetch` takes; for a store on the node's own disk it can be opened as it is. Warnings are the
    same from poll to poll while the store does not change: who logs them should do so once.
    """

    versions: Mapping[int, str]
    warnings: tuple[str, ...] = ()


def list_versions(base_path: str, storage_options: Mapping[str, Any] | None = None, *, servable: str = "") -> Listing:
    """The versions under `base_path` at this moment, never from a cache; `servable` is the model's name in messages.

    Raises one of the errors that serving_app.store.filesystem lists; a base path that exists and is empty is no error.
    """
    try:
        _require_listings(base_path)
        filesystem, base = open_path(base_path, storage_options)
        names = _child_names(filesystem, base, base_path)
    except ServingError as error:
        # TensorFlow Serving's text (file_system_storage_path_source.cc, PollFileSystemForServable).
        raise type(error)(
            f"Could not find base path {base_path} for servable {servable} with error {error.code.name}: "
            f"{error.message}"
        ) from error
    chosen, warnings = choose_versions(names)
    if not chosen:
        warnings.append(
            f"No versions of servable {servable} found under base path {base_path}. Did you forget to name your leaf "
            "directory as a number (eg. '/1/')?"
        )
    parent = base if is_local(base_path) else base_path
    return Listing({version: child_path(parent, name) for version, name in sorted(chosen.items())}, tuple(warnings))


def choose_versions(names: Iterable[str]) -> tuple[dict[int, str], list[str]]:
    """The name that stands for each version number, and a warning for each name that comes off badly.

    Of several names for one number (`7` and `007`) the lexicographically greatest wins, as in TensorFlow Serving,
    where a policy of `all` leaves it open; here it wins under every policy.
    """
    chosen: dict[int, str] = {}
    warnings = []
    for name in sorted(names):
        version = parse_version(name)
        if version is None:
            continue
        if version < 0:
            warnings.append(f"{name!r} is a negative number and no version; it is ignored. Name it 0 or above")
            continue
        if version in chosen:
            warnings.append(
                f"{chosen[version]!r} and {name!r} both name version {version}; {name!r} is taken. Remove one of them"
            )
        chosen[version] = name
    return chosen, warnings


def parse_version(name: str) -> int | None:
    """The number that a name is as a whole, None if it is not one or is too large for int64."""
    match = _NUMBER.fullmatch(name)
    # No int64 in any spelling worth the name is longer; int() itself refuses thousands of digits.
    if match is None or len(match[1]) > 1000:
        return None
    version = int(match[1])
    return version if -MAX_VERSION - 1 <= version <= MAX_VERSION else None


def _require_listings(base_path: str) -> None:
    protocol = get_protocol(base_path)
    if protocol in {"http", "https"}:
        raise InvalidArgument(
            f"{protocol}:// has no listings, so nobody could tell which versions there are; put the model where they "
            "can be listed, such as a directory, s3:// or gs://"
        )


def _child_names(filesystem: AbstractFileSystem, base: str, base_path: str) -> set[str]:
    """The names of the immediate children of a directory, read anew."""
    with translated_errors(base_path, filesystem):
        if is_local(base_path):
            return _local_names(base, base_path)
        # Drivers of object stores keep listings, some for ever; a poll must see what is there.
        filesystem.invalidate_cache(base)
        entries = filesystem.ls(base, detail=True)
    if [_is_file_at(entry, base) for entry in entries] == [True]:
        raise _refuse_file(base_path)
    prefix = base.rstrip("/") + "/"
    # Some object stores list descendants and the directory's own marker too: the first step below it is what counts.
    below = (_path_of(entry).removeprefix(prefix) for entry in entries if _path_of(entry).startswith(prefix))
    return {name for path in below if (name := path.split("/", 1)[0])}


def _local_names(base: str, base_path: str) -> set[str]:
    """By the system's own call: fsspec asks for the size and time of each child as well."""
    try:
        return set(os.listdir(base))
    except NotADirectoryError:
        if os.path.lexists(base):
            raise _refuse_file(base_path) from None
        raise


def _refuse_file(base_path: str) -> FailedPrecondition:
    return FailedPrecondition(f"{base_path} is a file; give the directory that holds the versions' directories")


def _is_file_at(entry: Mapping[str, Any], path: str) -> bool:
    return bool(entry["name"] == path and entry["type"] != "directory")


def _path_of(entry: Mapping[str, Any]) -> str:
    return str(entry["name"])


def child_path(base_path: str, name: str) -> str:
    """The path or URI of a child, made from the base path as it was given: drivers that make one lose its host."""
    if "://" not in base_path:
        return os.path.join(base_path, name)
    location, chain, rest = base_path.partition("::")
    parent = location.rstrip("/")
    return f"{location if parent.endswith(':') else f'{parent}/'}{name}{chain}{rest}"
