"""A node's copies of versions that lie in remote stores.

A version is copied into a directory whose name is made from its address and from what the store says about each of its
files. So a version that was replaced in the store under the same number is another copy, and two models never share
one by mistake. A copy appears under its name only when it is complete (it is made beside it, and renamed), and a
lock file per copy makes the processes of a node take turns: the first one copies, the others find it done.

`memory://` lives in one process: what one process writes there no other can list or fetch.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from fsspec import AbstractFileSystem

from serving_app.core.errors import FailedPrecondition, InvalidArgument, NotFound, PermissionDenied, Unavailable
from serving_app.store.filesystem import is_local, open_path, translated_errors

_IDENTITY = ("size", "ETag", "etag", "md5Hash", "crc32c", "generation", "LastModified", "updated", "mtime", "created")
"""What stores say about a file that changes with its content; each store offers some of them."""


def default_cache_dir() -> str:
    """The directory for copies when none is configured: the user's own, below the system's temporary one."""
    return os.path.join(tempfile.gettempdir(), f"serving-app-versions-{os.getuid()}")


def fetch(path: str, cache_dir: str | None = None, storage_options: Mapping[str, Any] | None = None) -> str:
    """A path on this node that holds the version at `path`; a version that is on the node already stays where it is.

    Safe to call from several threads and processes at once. Raises one of the errors that serving_app.store.filesystem
    lists; Unavailable also when the version changes under the copy, an upload being under way.
    """
    if is_local(path):
        return open_path(path)[1]
    filesystem, source = open_path(path, storage_options)
    files = _list_files(filesystem, source, path)
    copy = _open_cache(cache_dir) / _name_copy(path, files)
    with _exclusive(copy):
        if not copy.exists():
            _copy(filesystem, source, path, files, copy)
    return str(copy)


def _open_cache(cache_dir: str | None) -> Path:
    """The cache directory, made if need be."""
    cache = Path(cache_dir or default_cache_dir())
    try:
        cache.mkdir(parents=True, exist_ok=True, mode=0o700)
        owner = cache.stat().st_uid
    except OSError as error:
        raise FailedPrecondition(
            f"The cache directory {cache} cannot be made: {error}; set another cache_dir"
        ) from error
    # The default lies where every user of the node may write: somebody else's directory could hold anybody's models.
    if cache_dir is None and owner != os.getuid():
        raise PermissionDenied(f"The cache directory {cache} belongs to another user; set cache_dir to one of your own")
    return cache


def _list_files(filesystem: AbstractFileSystem, source: str, path: str) -> dict[str, tuple[str, ...]]:
    """Each file of a version by its path below it, with what identifies its content."""
    with translated_errors(path):
        filesystem.invalidate_cache(source)
        found = filesystem.find(source, detail=True)
    if not found:
        raise NotFound(f"{path} does not exist, or holds no files")
    if source in found:
        raise FailedPrecondition(f"{path} is a file; a version is a directory that holds a SavedModel")
    return {
        _relative(name, source): tuple(f"{key}={info[key]}" for key in _IDENTITY if key in info)
        for name, info in sorted(found.items())
        # Object stores know directories only as empty objects whose name ends so.
        if not name.endswith("/")
    }


def _relative(name: str, source: str) -> str:
    relative = name.removeprefix(source + "/")
    # Keys of an object store may hold anything, and must not lead out of the copy.
    if ".." in PurePosixPath(relative).parts or relative.startswith("/"):
        raise InvalidArgument(f"{name} has a name that leads out of its directory; rename it in the store")
    return relative


def _name_copy(path: str, files: Mapping[str, tuple[str, ...]]) -> str:
    """A name that says to a person which version it is, and to a machine which content."""
    *_, model, version = ["", *PurePosixPath(path).parts]
    digest = hashlib.sha256(repr((path, sorted(files.items()))).encode()).hexdigest()
    return f"{model}-{version}-{digest[:32]}"


@contextmanager
def _exclusive(copy: Path) -> Iterator[None]:
    """Keeps every other thread and process of the node away from a copy; a process that dies lets go."""
    try:
        lock = os.open(copy.with_name(copy.name + ".lock"), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise FailedPrecondition(
            f"The cache directory {copy.parent} cannot be written: {error}; set another cache_dir"
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _copy(
    filesystem: AbstractFileSystem, source: str, path: str, files: Mapping[str, tuple[str, ...]], copy: Path
) -> None:
    """Copies the files beside `copy`, makes sure that they are still what they were, and moves them in."""
    part = copy.with_name(copy.name + ".part")
    shutil.rmtree(part, ignore_errors=True)  # of a process that died; the lock is ours
    try:
        for name in files:
            with translated_errors(f"{path}/{name}"):
                target = part / name
                target.parent.mkdir(parents=True, exist_ok=True)
                filesystem.get_file(f"{source}/{name}", str(target))
        if _list_files(filesystem, source, path) != files:
            raise Unavailable(f"{path} changed while it was copied; it is copied again at the next try")
        part.rename(copy)
    finally:
        shutil.rmtree(part, ignore_errors=True)
