"""Which copies go when there is no room for a new one."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest

from serving_app.core.errors import ResourceExhausted
from serving_app.store import Copy
from serving_app.store.eviction import Place, Resident, choose_victims
from tests.store.shared import PROCESSES, fetch_and_release, fetch_shared, make_version

KB = 1000


def resident(name: str, size: int, used_at: float) -> Resident:
    return Resident(Place(Path("/cache"), name), size, size, used_at)


@pytest.mark.parametrize(
    ("excess", "expected"),
    [
        (-50, "empty"),
        (0, "empty"),
        (1, "empty oldest"),
        (10, "empty oldest"),
        (11, "empty oldest middle"),
        (61, "empty oldest middle newest"),
        (1000, "empty oldest middle newest"),
    ],
)
def test_goes_by_last_use(excess: int, expected: str) -> None:
    """What was used longest ago goes first, no more than is needed, and what takes nothing goes anyway."""
    idle = [resident("newest", 40, 3), resident("oldest", 10, 1), resident("empty", 0, 9), resident("middle", 50, 2)]
    victims = sorted(choose_victims(idle, excess), key=lambda victim: (victim.size > 0, victim.used_at))
    assert " ".join(victim.place.name for victim in victims) == expected


# --- with real copies ------------------------------------------------------------------------------------------------


class Cache:
    """A cache that may hold 3,000 bytes, and versions of 1,000 bytes each to fill it with."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.clock = 0

    def fetch(self, number: int, size: int = KB, max_bytes: int | None = 3 * KB) -> Copy:
        make_version(self.directory, {"saved_model.pb": b"x" * size}, number)
        return fetch_shared(self.directory, number, max_bytes=max_bytes)

    def use(self, *numbers: int, max_bytes: int = 3 * KB) -> None:
        """Fetch versions and let go of them, each a second after the one before."""
        for number in numbers:
            self.fetch(number, max_bytes=max_bytes).release()
            self.clock += 1
            os.utime(self.lock(number), (self.clock, self.clock))

    def lock(self, number: int) -> Path:
        [path] = (self.directory / "cache").glob(f"m-{number}-*.lock")
        return path

    def copies(self) -> list[Path]:
        """The directories of all copies, also of those that are on their way in or out."""
        return [path for path in (self.directory / "cache").iterdir() if path.is_dir()]

    def copy(self, number: int) -> Path:
        [path] = (self.directory / "cache").glob(f"m-{number}-{'?' * 32}")
        return path

    def numbers(self) -> list[int]:
        """The versions of which there are copies; nothing else may be left of others."""
        left = {path.name for path in (self.directory / "cache").iterdir()} - {"room"}
        names = [path.name for path in self.copies()]
        assert left == {*names, *(f"{name}.lock" for name in names)}
        return sorted(int(name.split("-")[1]) for name in names)


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path)


def test_the_copy_used_longest_ago_makes_room(cache: Cache) -> None:
    """A use puts a copy at the end of the queue, also one that was there already."""
    cache.use(1, 2, 3, 1)
    cache.use(4)
    assert cache.numbers() == [1, 3, 4]


def test_a_copy_in_use_stays(cache: Cache) -> None:
    """Of copies in use none is removed, whatever the bound; when they are released they are like others."""
    with cache.fetch(1), cache.fetch(2):
        cache.use(3, 4)
        assert cache.numbers() == [1, 2, 4]
    cache.use(5, 6)
    assert 6 in cache.numbers()
    assert len(cache.numbers()) == 3


def test_serving_goes_before_tidiness(cache: Cache, caplog: pytest.LogCaptureFixture) -> None:
    """A version above the bound is let in with a warning that names the setting; what nobody uses went for it."""
    cache.use(1)
    with cache.fetch(2), caplog.at_level(logging.WARNING):
        cache.fetch(3, size=5 * KB).release()
    assert cache.numbers() == [2, 3]
    assert "takes 5000 bytes, and 1000 are in use: more than the 3000" in caplog.text
    assert "raise cache_max_bytes" in caplog.text


def test_the_bound_is_half_of_the_disk(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a bound of one's own a cache takes half of its disk."""
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(total=5 * KB, free=5 * KB))
    for number in (1, 2, 3):
        cache.fetch(number, max_bytes=None).release()
        os.utime(cache.lock(number), (number, number))
    assert cache.numbers() == [2, 3]


@pytest.mark.parametrize(("free", "expected"), [(KB, [1, 2, 3]), (KB - 1, [2, 3])], ids=["fits", "just not"])
def test_a_full_disk_makes_room(
    cache: Cache, monkeypatch: pytest.MonkeyPatch, free: int, expected: Sequence[int]
) -> None:
    """Copies go below the bound, too, when the disk has no room left for the new one."""
    cache.use(1, 2)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(total=100 * KB, free=free))
    cache.fetch(3, max_bytes=10 * KB).release()
    assert cache.numbers() == expected


def test_a_disk_that_is_too_small(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    """A version that would not fit on the disk anyhow is refused with the figures, and drives nobody out."""
    cache.use(1, 2)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(total=100 * KB, free=500))
    with pytest.raises(ResourceExhausted, match=r"shared://m/3 does not fit .* 2501 bytes more .* where 500 are free"):
        cache.fetch(3, size=2501)
    (cache.lock(3)).unlink()
    assert cache.numbers() == [1, 2]


def test_room_that_is_promised_is_not_free(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    """A download under way counts with all that it will take, for the bound and for the disk."""
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(total=100 * KB, free=3 * KB))
    problems = []

    def meanwhile(done: int, total: int) -> None:
        if done < total:
            with pytest.raises(ResourceExhausted, match=r"3000 are free and 2000 of them are promised"):
                cache.fetch(2, size=1001)
            problems.append(done)

    make_version(cache.directory, {"saved_model.pb": b"x" * 2000})
    fetch_shared(cache.directory, progress=meanwhile).release()
    assert problems == [0]


def test_what_was_left_half_done_goes_in_its_turn(cache: Cache) -> None:
    """A part that nobody works on goes like a copy, when its time has come; the leftovers of a removal go at once."""
    cache.use(1, 2, 3)
    part, gone = cache.copy(2), cache.copy(1)
    part.rename(part.with_name(part.name + ".part"))
    gone.rename(gone.with_name(gone.name + ".gone"))
    cache.use(4)
    assert sorted(path.name for path in cache.copies()) == sorted([
        part.name + ".part", cache.copy(3).name, cache.copy(4).name
    ])
    cache.use(5)
    assert cache.numbers() == [3, 4, 5]


def test_many_make_room_at_once(cache: Cache) -> None:
    """Processes that need room at the same moment remove together what one after the other would have removed."""
    cache.use(1, 2, 3, 4, 5, 6, max_bytes=6 * KB)
    for number in (7, 8, 9):
        make_version(cache.directory, {"saved_model.pb": b"x" * KB}, number)
    with PROCESSES.Pool(3) as pool:
        pool.starmap(fetch_and_release, [(cache.directory, number, 6 * KB) for number in (7, 8, 9)], chunksize=1)
    assert cache.numbers() == [4, 5, 6, 7, 8, 9]


def test_foreign_files_stay(cache: Cache) -> None:
    """A cache directory may hold what is no copy; nobody touches it."""
    foreign = cache.directory / "cache" / "models" / "1"
    foreign.mkdir(parents=True)
    (foreign / "saved_model.pb").write_bytes(b"x" * 10 * KB)
    (cache.directory / "cache" / "notes.lock").touch()
    cache.use(1, 2, 3, 4)
    assert (foreign / "saved_model.pb").exists()
    assert (cache.directory / "cache" / "notes.lock").exists()
