"""The files of one version, and what its store says about each: how much there is, and whether it changes."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from fsspec import AbstractFileSystem

from serving_app.store.filesystem import is_local, open_path, translated_errors

_STAMPS = ("ETag", "etag", "md5Hash", "crc32c", "generation", "LastModified", "updated", "mtime", "created")
"""What stores say about a file that changes with its content; each store offers some of them."""

_TIMES = ("LastModified", "last_modified", "updated", "mtime", "created", "timeCreated")
"""When a file got its content, by whatever name a store calls it. The newest of them counts."""

_NOTHING_THERE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}
"""What the system says where no directory is; the last of a link that leads to itself."""


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file as its store describes it. Two equal descriptions mean: it did not change in between."""

    size: int
    stamp: tuple[str, ...]
    changed_at: float | None
    """Seconds since the epoch by the store's clock; None where it tells no time."""


def list_files(path: str, storage_options: Mapping[str, Any] | None = None) -> dict[str, StoredFile]:
    """The files at every depth below a directory, by their paths relative to it, read anew.

    Empty if there are none, or if `path` is a file. Raises one of the errors that serving_app.store.filesystem lists.
    """
    filesystem, root = open_path(path, storage_options)
    with translated_errors(path, filesystem):
        return dict(_walk(root, "", set()) if is_local(path) else _find(filesystem, root))


def read_file(path: str, storage_options: Mapping[str, Any] | None = None) -> bytes:
    """The content of a file. Raises as `list_files`."""
    filesystem, name = open_path(path, storage_options)
    with translated_errors(path, filesystem):
        return bytes(filesystem.cat_file(name))


def stamp_of(info: Mapping[str, Any]) -> tuple[str, ...]:
    """What tells one content of a file from another, in what a driver says about it."""
    return tuple(f"{key}={info[key]}" for key in _STAMPS if key in info)


def _find(filesystem: AbstractFileSystem, root: str) -> Iterator[tuple[str, StoredFile]]:
    filesystem.invalidate_cache(root)
    for name, info in filesystem.find(root, detail=True).items():
        # Object stores know directories only as empty objects whose name ends so.
        if name.startswith(root + "/") and not name.endswith("/"):
            yield name.removeprefix(root + "/"), StoredFile(info.get("size") or 0, stamp_of(info), _find_time(info))


def _find_time(info: Mapping[str, Any]) -> float | None:
    times = [_parse_time(info[key]) for key in _TIMES if key in info]
    return max((time for time in times if time is not None), default=None)


def _parse_time(value: object) -> float | None:
    """A time in any of the forms that drivers use; None if it is in none of them."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    return float(value) if isinstance(value, int | float) else None


def _walk(directory: str, prefix: str, above: set[tuple[int, int]]) -> Iterator[tuple[str, StoredFile]]:
    """As `_find`, by the system's own calls, which cost a tenth; links are followed, but not in circles."""
    try:
        here = os.stat(directory)
        identity = (here.st_dev, here.st_ino)
        entries = list(os.scandir(directory))
    except OSError as error:
        if error.errno in _NOTHING_THERE and (prefix or os.path.lexists(directory)):
            return  # it went while the one above was read, or is a file, or a link to nowhere
        raise
    if identity in above:
        return
    for entry in entries:
        name = prefix + entry.name
        try:
            if entry.is_dir():
                yield from _walk(entry.path, name + "/", above | {identity})
                continue
            found = entry.stat()
        except OSError as error:
            if error.errno in _NOTHING_THERE:
                continue  # it went while the directory was read, or is a link to nowhere
            raise
        # A file that was copied with its old time (cp -p, rsync) has a new change time all the same.
        changed_at = max(found.st_mtime, found.st_ctime)
        stamp = (str(found.st_ino), str(found.st_mtime_ns), str(found.st_ctime_ns))
        yield name, StoredFile(found.st_size, stamp, changed_at)
