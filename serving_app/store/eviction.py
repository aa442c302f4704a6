"""Room in a node's cache: what is there, and which copies go when another one is to come.

Each copy has three names in the cache directory: `NAME` once it is complete, `NAME.part` while it is received, and
`NAME.lock`, the file that is held by whoever uses the copy (shared) or works on it (alone). The lock file also tells
what the copy takes, in decimal digits, from the moment that its download begins, and its time is that of the last use.
`NAME.gone` is a copy on its way out. Nothing else in the directory is touched.

One process of the node makes room at a time, so that two of them do not remove copies for the same bytes; while it
does, the others' downloads are counted at their full size. It never waits for a copy: one that is held stays.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from serving_app.core.errors import ResourceExhausted
from serving_app.store.locks import lock, try_lock
from serving_app.store.remote import RemoteVersion

logger = logging.getLogger(__name__)

_NAME = re.compile(r"(.+-[0-9a-f]{32})(\.lock|\.part|\.gone)?")


@dataclass(frozen=True, slots=True)
class Place:
    """Where one copy lies in the cache."""

    cache: Path
    name: str

    @property
    def copy(self) -> Path:
        return self.cache / self.name

    @property
    def part(self) -> Path:
        return self.cache / f"{self.name}.part"

    @property
    def gone(self) -> Path:
        return self.cache / f"{self.name}.gone"

    @property
    def lock(self) -> Path:
        return self.cache / f"{self.name}.lock"


@dataclass(frozen=True, slots=True)
class Resident:
    """What one copy takes of the cache, complete or not."""

    place: Place
    size: int
    """Its bytes when it is complete, if somebody works on it; else those that are there."""
    on_disk: int
    used_at: float


def room_lock(cache: Path) -> BinaryIO:
    """The hold of the one process that removes copies now, or that sees to it that nobody does."""
    return lock(cache / "room")


def make_room(place: Place, version: RemoteVersion, hold: BinaryIO, max_bytes: int | None) -> None:
    """Remove what was not used for the longest time, until the version fits into the bound and on the disk.

    `hold` is the caller's hold on the lock file of `place`; None as the bound is half of the disk. A version for which
    the bound is too small is let in all the same: serving goes before tidiness. One for which the disk is too small
    is ResourceExhausted, and nothing is removed for it.
    """
    with closing(room_lock(place.cache)), ExitStack() as stack:
        write_size(hold, version.size)
        busy, idle = [], {}
        for other in _places(place.cache) - {place}:
            held = try_lock(other.lock)
            if held is None:
                busy.append(_measure(other, promised=True))
            else:
                idle[_measure(other, promised=False)] = stack.enter_context(held)
        for resident in _choose(place, version, busy, idle, max_bytes):
            _remove(resident.place)


def _choose(
    place: Place, version: RemoteVersion, busy: Iterable[Resident], idle: Iterable[Resident], max_bytes: int | None
) -> Sequence[Resident]:
    """Which of the idle are to go."""
    disk = shutil.disk_usage(place.cache)
    bound = disk.total // 2 if max_bytes is None else max_bytes
    used = sum(resident.size for resident in (*busy, *idle))
    missing = version.size - _bytes_below(place.part)
    promised = sum(resident.size - resident.on_disk for resident in busy)
    over_disk = missing + promised - disk.free
    if over_disk > sum(resident.on_disk for resident in idle):
        raise ResourceExhausted(
            f"{version.path} does not fit on the node's disk: it needs {missing} bytes more below {place.cache}, where "
            f"{disk.free} are free"
            + (f" and {promised} of them are promised to other copies" if promised else "")
            + "; free some space or move cache_dir"
        )
    over_bound = used + version.size - bound
    victims = choose_victims(idle, max(over_bound, over_disk))
    kept = used - sum(victim.size for victim in victims)
    if kept + version.size > bound:
        logger.warning(
            "%s takes %d bytes, and %d are in use: more than the %d that the cache %s may hold; raise cache_max_bytes",
            *(version.path, version.size, kept, bound, place.cache),
        )
    return victims


def choose_victims(idle: Iterable[Resident], excess: int) -> Sequence[Resident]:
    """Those that were used longest ago, until they make up for the excess; with them goes whatever takes nothing."""
    victims = []
    for resident in sorted(idle, key=lambda resident: resident.used_at):
        if excess > 0 or not resident.size:
            victims.append(resident)
            excess -= resident.size
    return victims


def write_size(hold: BinaryIO, size: int) -> None:
    """Tell the other processes what the copy takes that is held."""
    hold.seek(0)
    hold.truncate()
    hold.write(b"%d" % size)


def touch(hold: BinaryIO) -> None:
    """The copy that is held is in use now."""
    os.utime(hold.fileno())


def _places(cache: Path) -> set[Place]:
    matches = (_NAME.fullmatch(entry.name) for entry in cache.iterdir())
    return {Place(cache, match[1]) for match in matches if match}


def _measure(place: Place, promised: bool) -> Resident:
    on_disk = _bytes_below(place.copy) + _bytes_below(place.part)
    size = max(_read_size(place.lock), on_disk) if promised else on_disk
    return Resident(place, size, on_disk, _used_at(place.lock))


def _read_size(path: Path) -> int:
    """What the lock file says; 0 if it is new, or gone by now."""
    try:
        return int(path.read_bytes() or 0)
    except FileNotFoundError:
        return 0


def _used_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _bytes_below(directory: Path) -> int:
    """The bytes of all files below a directory, which others may be changing; 0 if there is none."""
    size = 0
    for folder, _, names in os.walk(directory):
        for name in names:
            with suppress(FileNotFoundError):
                size += os.lstat(os.path.join(folder, name)).st_size
    return size


def _remove(place: Place) -> None:
    """Remove a copy that the caller holds alone, its lock file last."""
    logger.info("removing %s from the cache %s to make room", place.name, place.cache)
    # First out of its name: a process that dies while it removes must not leave half a copy there.
    shutil.rmtree(place.gone, ignore_errors=True)
    for path in (place.copy, place.part):
        if path.exists():
            path.rename(place.gone)
            shutil.rmtree(place.gone)
    place.lock.unlink(missing_ok=True)
