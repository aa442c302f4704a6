"""What publishing keeps, wherever versions lie: inherit, and provide the fixture `place`."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from serving_app import publish
from serving_app.core.errors import FailedPrecondition, Internal
from serving_app.core.policies import All
from serving_app.publishing.claims import SHELF, claim_number
from serving_app.publishing.place import Place
from serving_app.publishing.upload import Content, upload
from serving_app.store import ModelSource
from tests.zoo import Zoo

FILES: dict[str, Content] = {
    "saved_model.pb": b"\x12\x02\x1a\x00",  # a SavedModel with variables, as far as anybody looks who lists it
    "variables/variables.index": b"i" * 100,
    "variables/variables.data-00000-of-00001": b"d" * 1000,
    "assets/words": b"",
    "fingerprint.pb": b"f",
}


def finished(place: Place, **settings: Any) -> set[int]:
    """The versions that a server would take at this moment, one that waits for nothing but files."""
    source = ModelSource("m", place.base_path, All(), options=place.options, settle_s=0, give_up_s=None, **settings)
    return set(source.poll().versions)


class Watched(dict[str, Content]):
    """The files of a version; somebody looks each time before one of them is read."""

    def __init__(self, files: dict[str, Content], look: Callable[[], None]) -> None:
        super().__init__(files)
        self._look = look

    def __getitem__(self, name: str) -> Content:
        self._look()
        return super().__getitem__(name)

    def items(self) -> Iterable[tuple[str, Content]]:  # type: ignore[override]  # whoever goes through them
        for name in self:
            yield name, self[name]


def ignore(_done: int, _total: int) -> None:
    pass


class PublishingContract:
    """The behaviour of claims and uploads in one kind of store."""

    def test_versions_are_numbered_one_by_one(self, place: Place, zoo: Zoo) -> None:
        """The next number is above all that are there or ever were, and one that is asked for is had if it is free."""

        def put(version: int | None = None) -> int:
            return publish(
                zoo.path("half_plus_two"), base_path=place.base_path, storage_options=place.options, version=version
            ).version

        assert [put(), put()] == [1, 2]
        for name in place.files("2"):
            place.remove(f"2/{name}")
        place.remove("2")
        assert put() == 3  # 2 may be what a label names
        assert put(2) == 2  # unless it is asked for
        assert [put(7), put()] == [7, 8]
        with pytest.raises(FailedPrecondition, match=r"version 7 exists at .*/7; leave the version out"):
            put(7)
        assert finished(place) == {1, 2, 3, 7, 8}
        assert set(place.files(SHELF)) == {"8.done"}

    def test_what_is_published_is_what_was_given(self, place: Place, zoo: Zoo) -> None:
        """All files are there as they were, and one beside them that says where the version comes from."""
        source = Path(zoo.path("half_plus_two"))
        done = publish(
            source, base_path=place.base_path, storage_options=place.options, metadata={"loss": 0.25, "commit": "abc"}
        )
        assert done.path == place.path("1")
        files = {str(path.relative_to(source)): path.read_bytes() for path in source.rglob("*") if path.is_file()}
        told = "assets.extra/serving_app.json"
        assert set(place.files("1")) == {*files, told}
        assert {name: place.read(f"1/{name}") for name in files} == files
        document = json.loads(place.read(f"1/{told}"))
        assert (document["version"], document["metadata"]) == (1, {"loss": 0.25, "commit": "abc"})
        assert done.size == sum(file.size for file in place.files("1").values())

    def test_a_version_is_whole_when_it_is_found(self, place: Place) -> None:
        """However often a server looks while a version is written, it takes nothing or all of it."""
        seen: list[bool] = []

        def look() -> None:
            seen.append(1 in finished(place))
            assert not seen[-1] or set(place.files("1")) == set(FILES)

        upload(place, claim_number(place).number, Watched(FILES, look), ignore)
        look()
        assert len(seen) > len(FILES)
        assert seen[-1]

    def test_the_marker_is_written_last(self, place: Place) -> None:
        """Where a marker says that a version is finished, all of it is there before the marker."""

        def look() -> None:
            assert 1 not in finished(place, done_marker="DONE") or set(place.files("1")) == {*FILES, "DONE"}

        upload(place, claim_number(place).number, Watched(FILES, look), ignore, "DONE")
        assert finished(place, done_marker="DONE") == {1}
        look()

    def test_a_failed_upload_leaves_nothing(self, place: Place) -> None:
        """When something goes wrong halfway, no part of the version stays, and the number is free again."""

        def fail_late() -> None:
            if len(looks := [*place.files("1"), *place.files(SHELF)]) > 2:
                raise Internal(f"the disk is broken, after {len(looks)} files")

        claim = claim_number(place)
        with pytest.raises(Internal, match="the disk is broken"):
            upload(place, claim.number, Watched(FILES, fail_late), ignore)
        claim.withdraw()
        assert (place.files("1"), place.files(SHELF), dict(place.versions())) == ({}, {}, {})
        assert claim_number(place).number == 1

    def test_each_publisher_gets_a_number_of_its_own(self, place: Place) -> None:
        """Many claim at the same moment, some are done soon, and no two of them have the same number."""
        count = 6
        together = threading.Barrier(count)

        def claim(which: int) -> int:
            together.wait()
            claim = claim_number(place)
            if which % 2:
                upload(place, claim.number, FILES, ignore)
                claim.fulfil()
            return claim.number

        with ThreadPoolExecutor(count) as pool:
            numbers = list(pool.map(claim, range(count)))
        assert len(set(numbers)) == count
        assert finished(place) == set(numbers[1::2])
        assert claim_number(place).number > max(numbers)

    def test_a_claim_that_was_left_behind_blocks_nobody(self, place: Place) -> None:
        """After a publisher that died, others go on with higher numbers; who wants its number learns whose it was."""
        left = claim_number(place)
        assert claim_number(place).number == left.number + 1
        with pytest.raises(FailedPrecondition, match=r"published by \S+@\S+ \(process \d+, since .*remove .*claim"):
            claim_number(place, left.number)
        left.withdraw()
        assert claim_number(place, left.number).number == left.number
