"""A node's copies of versions that lie in remote stores.

A version is copied into a directory whose name is made from its address and from what the store says about each of its
files. So a version that was replaced in the store under the same number is another copy, and two models never share
one by mistake. A copy appears under its name only when it is complete (it is made beside it, and renamed). The
processes of a node take turns at a copy: the first one copies, the others wait and find it done. Where a process died
over it, the next one goes on.

Whoever uses a copy holds it until `Copy.release`, or until its process ends, however that ends. Copies that nobody
holds go when there is no room for a new one: see serving_app.store.eviction, which also tells which files there are.

`memory://` lives in one process: what one process writes there no other can list or fetch.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shutil
import tempfile
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any, BinaryIO

from serving_app.core.errors import FailedPrecondition, PermissionDenied, Unavailable
from serving_app.store.download import Progress, bytes_received, download, is_complete, translated_writes
from serving_app.store.eviction import Place, make_room, room_lock, touch
from serving_app.store.filesystem import is_local, open_path
from serving_app.store.locks import share, try_lock
from serving_app.store.remote import RemoteVersion, look_into

logger = logging.getLogger(__name__)

WAIT_STEP_S = 0.25
"""Between two looks at a copy that another process makes; also how often its progress is told."""

BROKEN_LOOKS = 4
"""How often in a row a copy must be seen damaged and in use until nobody is taken to be about to mend it."""


class Copy:
    """A version on this node: `path` can be opened until the copy is released.

    A version that is on the node already is its own copy, and nobody guards it. Releasing twice is nothing to do.
    """

    def __init__(self, path: str, hold: BinaryIO | None = None) -> None:
        self.path = path
        self._hold = hold

    def release(self) -> None:
        """Let the copy be removed when there is need for its room; for now it stays."""
        if self._hold is not None and not self._hold.closed:
            touch(self._hold)
            self._hold.close()

    def __enter__(self) -> Copy:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def __repr__(self) -> str:
        return f"Copy({self.path!r})"


def default_cache_dir() -> str:
    """The directory for copies when none is configured: the user's own, below the system's temporary one."""
    return os.path.join(tempfile.gettempdir(), f"serving-app-versions-{os.getuid()}")


def fetch(
    path: str,
    cache_dir: str | None = None,
    storage_options: Mapping[str, Any] | None = None,
    *,
    max_bytes: int | None = None,
    progress: Progress | None = None,
) -> Copy:
    """A copy on this node of the version at `path`; a version that is on the node already stays where it is.

    `max_bytes` bounds the whole cache, None means half of its disk. While the version is copied, by this process or by
    another one, `progress(done_bytes, total_bytes)` is called in this thread, a few times per second at most.

    Safe to call from several threads and processes at once. Raises one of the errors that serving_app.store.filesystem
    lists; Unavailable also when the version changes under the copy, an upload being under way, and ResourceExhausted
    when the disk has no room. After an error the next call goes on where this one ended.
    """
    if is_local(path):
        return Copy(open_path(path)[1])
    version = look_into(path, storage_options)
    place = Place(_open_cache(cache_dir), _name_copy(version))
    tell = progress or (lambda done, total: None)
    told = broken = 0
    with translated_writes(place.part, version):
        while (hold := _use(place, version) or _make(place, version, max_bytes, tell)) is None:
            if progress is not None and (done := bytes_received(version, place.part)) > told:
                progress(done, version.size)
                told = done
            broken = broken + 1 if _is_broken(place, version) else 0
            if broken == BROKEN_LOOKS:
                raise Unavailable(
                    f"The copy {place.copy} of {path} has lost files while it is in use; it is made anew when it is no "
                    "longer in use. If something cleans that directory, set another cache_dir"
                )
            time.sleep(WAIT_STEP_S)
    return Copy(str(place.copy), hold)


def _use(place: Place, version: RemoteVersion) -> BinaryIO | None:
    """A hold on the complete copy; None if there is none, or if it is about to go."""
    if not place.copy.exists():
        return None
    hold = try_lock(place.lock, shared=True)
    if hold is not None and is_complete(version, place.copy):
        touch(hold)
        return hold
    if hold is not None:
        hold.close()
    return None


def _make(place: Place, version: RemoteVersion, max_bytes: int | None, progress: Progress) -> BinaryIO | None:
    """A hold on the copy, made by this call; None if another process makes it or has made it."""
    hold = try_lock(place.lock)
    if hold is None:
        return None
    try:
        if is_complete(version, place.copy):
            hold.close()
            return None
        _take_up(place)
        make_room(place, version, hold, max_bytes)
        download(version, place.part, progress)
        # Nobody may remove the copy in the moment in which it is there and not yet held as in use.
        with closing(room_lock(place.cache)):
            place.part.rename(place.copy)
            share(hold)
    except BaseException:
        hold.close()
        raise
    return hold


def _is_broken(place: Place, version: RemoteVersion) -> bool:
    """Whether files of the copy are gone, say to a cleaner of temporary directories, and nobody is at work on it."""
    hold = try_lock(place.lock, shared=True)
    if hold is None:
        return False
    with closing(hold):
        return place.copy.exists() and not is_complete(version, place.copy)


def _take_up(place: Place) -> None:
    """Make what is left of a copy the beginning of the new one."""
    if place.copy.exists():
        logger.warning("the copy %s has lost files; they are copied again", place.copy)
        shutil.rmtree(place.part, ignore_errors=True)
        place.copy.rename(place.part)


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


def _name_copy(version: RemoteVersion) -> str:
    """A name that says to a person which version it is, and to a machine which content."""
    *_, model, number = ["", *PurePosixPath(version.path).parts]
    files = [(file.name, file.size, file.stamp) for file in version.files]
    digest = hashlib.sha256(repr((version.path, files)).encode()).hexdigest()
    readable = re.sub(r"[^A-Za-z0-9._-]", "_", f"{model[:80]}-{number[:40]}")
    return f"{readable}-{digest[:32]}"
