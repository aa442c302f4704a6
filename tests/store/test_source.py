"""Which versions of a model are finished, by a clock that the test moves."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given
from hypothesis import strategies as st

from serving_app.core.errors import NotFound, PermissionDenied, Unavailable
from serving_app.core.policies import All, Latest, Specific, VersionPolicy
from serving_app.store.source import GIVE_UP_S, TRUSTED_AGE_S, ModelSource, Poll
from tests.store.servers import ObjectStore
from tests.store.store_contract import Store

WHOLE = {
    "saved_model.pb": b"\x12\x02\x1a\x00",  # a graph with a saver
    "variables/variables.index": b"index",
    "variables/variables.data-00000-of-00002": b"data" * 10,
    "variables/variables.data-00001-of-00002": b"more" * 10,
}
RESTING = "its files have to rest for 1 s"


class TimedStore:
    """A model in a store whose times, and those of the source, are the test's."""

    def __init__(self, **options: Any) -> None:
        self.base = f"memory:///{uuid.uuid4().hex}/m"
        self.filesystem: MemoryFileSystem = fsspec.filesystem("memory")
        self.filesystem.makedirs(self.base)
        self.now = 1e9
        self.source = ModelSource("m", self.base, clock=self.clock, calendar=self.clock, **options)

    def clock(self) -> float:
        return self.now

    def write(self, name: str, content: bytes = b"x", age_s: float = 0.0) -> None:
        path = self.filesystem._strip_protocol(f"{self.base}/{name}")
        self.filesystem.pipe_file(path, content)
        self.filesystem.store[path].created = datetime.fromtimestamp(self.now - age_s, UTC)

    def put(self, version: int, age_s: float = 0.0, without: str = "") -> None:
        """A version that is whole but for one file."""
        for name, content in WHOLE.items():
            if name != without:
                self.write(f"{version}/{name}", content, age_s)

    def remove(self, name: str) -> None:
        self.filesystem.rm(f"{self.base}/{name}", recursive=True)

    def poll(self, after_s: float = 0.0) -> Poll:
        self.now += after_s
        return self.source.poll()

    def found(self, *versions: int) -> Mapping[int, str]:
        return {version: f"{self.base}/{version}" for version in versions}


def test_versions_that_were_there_before_do_not_wait() -> None:
    """What the store says has rested for a minute is finished at the first look, with its size."""
    store = TimedStore(version_policy=Latest(2))
    store.put(1, age_s=3600)
    store.put(2, age_s=3600)
    store.put(3, age_s=TRUSTED_AGE_S)
    size = sum(map(len, WHOLE.values()))
    assert store.poll() == Poll(store.found(2, 3), sizes={2: size, 3: size}, found=frozenset({1, 2, 3}))


def test_a_new_version_waits_until_it_rests() -> None:
    """A version that is new to the store is finished at the second of two equal looks a settle time apart."""
    store = TimedStore()
    store.put(1)
    poll = store.poll()
    assert (poll.versions, poll.waiting, poll.again_in) == ({}, {1: RESTING}, 1.0)
    poll = store.poll(after_s=0.4)
    assert (poll.versions, poll.waiting, poll.again_in) == ({}, {1: RESTING}, pytest.approx(0.6))
    poll = store.poll(after_s=0.6)
    assert (poll.versions, poll.waiting, poll.again_in) == (store.found(1), {}, None)


@pytest.mark.parametrize(
    "change",
    [
        lambda store: store.write("1/assets/words.txt"),
        lambda store: store.write("1/saved_model.pb", b"\x12\x03\x1a\x00\x08"),
        lambda store: store.write("1/saved_model.pb", WHOLE["saved_model.pb"]),
        lambda store: store.remove("1/fingerprint.pb"),
    ],
    ids=["another file", "another size", "another time", "a file less"],
)
def test_any_change_starts_the_wait_anew(change: Callable[[TimedStore], None]) -> None:
    """A name, a size or a time that differs from the look before means that somebody still writes."""
    store = TimedStore()
    store.put(1)
    store.write("1/fingerprint.pb")
    store.poll()
    store.now += 0.9
    change(store)
    assert store.poll().waiting == {1: RESTING}
    assert store.poll(after_s=0.9).waiting == {1: RESTING}
    assert store.poll(after_s=0.1).versions == store.found(1)


def test_the_time_that_a_look_takes_does_not_count() -> None:
    """The settle time lies between the end of one look and the beginning of another one."""
    store = TimedStore()
    store.put(1)
    listing_s = 5.0
    times = iter([1e9, 1e9 + listing_s])
    store.source._clock = lambda: next(times, store.now)
    store.poll()
    assert store.poll(after_s=listing_s + 0.5).waiting == {1: RESTING}
    assert store.poll(after_s=0.5).versions == store.found(1)


@pytest.mark.parametrize("missing", WHOLE)
def test_a_version_that_lacks_a_file_waits_for_it(missing: str) -> None:
    """However long a version rests, up to half a minute, it is not finished while a file is missing, and says which."""
    store = TimedStore()
    store.put(1, without=missing)
    for _ in range(5):
        poll = store.poll(after_s=GIVE_UP_S / 6)
        assert (poll.versions, poll.waiting, poll.again_in) == ({}, {1: f"{missing} is missing"}, None)
    store.write(f"1/{missing}", WHOLE[missing])
    assert store.poll(after_s=GIVE_UP_S).waiting == {1: RESTING}
    assert store.poll(after_s=1.0).versions == store.found(1)


def test_a_version_that_nobody_completes_is_handed_on() -> None:
    """After half a minute without a change a version is taken as it is, with a warning; its load tells the rest."""
    store = TimedStore()
    store.put(1, without="saved_model.pb")
    store.poll()
    store.now += GIVE_UP_S - 1
    store.write("1/assets/words.txt")
    assert store.poll().waiting
    assert store.poll(after_s=GIVE_UP_S - 1).waiting
    poll = store.poll(after_s=1)
    assert poll.versions == store.found(1)
    assert poll.warnings == (
        "version 1 does not change any more and is taken as it is, but saved_model.pb is missing",
    )


def test_a_version_that_is_completed_late_is_not_warned_of_any_more() -> None:
    """The warning of what a version lacks ends when it is there, although the version was handed on before."""
    store = TimedStore()
    store.put(1, without="saved_model.pb")
    store.poll()
    assert store.poll(after_s=GIVE_UP_S).warnings
    store.write("1/saved_model.pb", WHOLE["saved_model.pb"])
    poll = store.poll(after_s=GIVE_UP_S)
    assert (poll.versions, poll.warnings) == (store.found(1), ())


def test_an_old_version_that_lacks_files_is_handed_on_at_once() -> None:
    """What has lain there for long will not be completed while anybody waits."""
    store = TimedStore()
    store.put(1, age_s=3600, without="saved_model.pb")
    assert store.poll().versions == store.found(1)


def test_what_comes_before_our_eyes_is_not_old() -> None:
    """A store may date a file at the beginning of its upload, long before it is seen: what was not there at the first
    look, has changed since, or went and came back, rests by our clock all the same."""
    store = TimedStore(version_policy=All())
    store.put(1, age_s=3600, without="variables/variables.index")
    store.put(2, age_s=3600)
    store.filesystem.rm(f"{store.base}/1/saved_model.pb")
    store.write("1/saved_model.pb", WHOLE["saved_model.pb"])
    assert store.poll().waiting == {1: "variables/variables.index is missing"}
    store.write("1/variables/variables.index", b"index", age_s=3600)
    store.write("1/saved_model.pb", WHOLE["saved_model.pb"], age_s=3600)
    store.put(3, age_s=3600, without="saved_model.pb")
    poll = store.poll()
    assert (poll.versions, poll.waiting) == (store.found(2), {1: RESTING, 3: "saved_model.pb is missing"})
    store.remove("2")
    store.poll()
    store.put(2, age_s=3600)
    assert store.poll().waiting.keys() == {1, 2, 3}
    assert store.poll(after_s=1).versions == store.found(1, 2)


def test_patience_with_unfinished_versions_is_what_is_said() -> None:
    """A version that lacks files is given up when it has rested for as long as configured, by our clock or its own."""
    store = TimedStore(version_policy=All(), give_up_s=600)
    store.put(1, age_s=500, without="saved_model.pb")
    store.put(2, age_s=600, without="saved_model.pb")
    assert store.poll().versions == store.found(2)
    assert store.poll(after_s=99).versions == store.found(2)
    assert store.poll(after_s=1).versions == store.found(1, 2)


def test_a_large_file_has_time_to_come() -> None:
    """Unless told otherwise, ten minutes in which nothing of a shard is seen do not make a version finished."""
    store = TimedStore()
    store.put(1, without="variables/variables.data-00001-of-00002")
    assert store.poll(after_s=0).waiting == {1: "variables/variables.data-00001-of-00002 is missing"}
    assert store.poll(after_s=600).waiting
    store.put(1)
    store.poll()
    assert store.poll(after_s=1) == Poll(store.found(1), sizes={1: sum(map(len, WHOLE.values()))}, found=frozenset({1}))


def test_a_broken_file_need_not_be_waited_for_that_long() -> None:
    """A file that is there and broken is given up after half a minute without a change, or earlier if so configured."""
    stores = {30.0: TimedStore(), 10.0: TimedStore(give_up_s=10)}
    for patience_s, store in stores.items():
        store.write("1/saved_model.pb", b"no protobuf")
        assert store.poll().waiting == {1: "saved_model.pb is cut off or broken"}
        assert store.poll(after_s=patience_s - 1).waiting
        assert store.poll(after_s=1).versions == store.found(1)


@pytest.mark.parametrize("age_s", [0.0, 1e6])
def test_patience_without_an_end(age_s: float) -> None:
    """Where no time is set, a version that lacks files is never handed on, and one that is whole rests as usual."""
    store = TimedStore(version_policy=All(), give_up_s=None)
    store.put(1, age_s=age_s, without="saved_model.pb")
    store.put(2)
    store.poll()
    assert store.poll(after_s=1e6).versions == store.found(2)


def test_a_settle_time_of_zero_asks_only_for_files() -> None:
    """Without a settle time a version is finished when its last file is there, and no earlier."""
    store = TimedStore(settle_s=0)
    store.put(1, without="variables/variables.index")
    assert store.poll().waiting == {1: "variables/variables.index is missing"}
    store.write("1/variables/variables.index")
    assert store.poll().versions == store.found(1)


def test_a_long_settle_time_is_kept() -> None:
    """A settle time beyond the minute holds for versions of any age and for those that lack files."""
    store = TimedStore(settle_s=100, give_up_s=30, version_policy=All())
    store.put(1, age_s=99)
    store.put(2, age_s=100)
    store.put(3, without="saved_model.pb")
    assert store.poll().waiting == {1: "its files have to rest for 100 s", 3: "saved_model.pb is missing"}
    assert store.poll(after_s=99).waiting.keys() == {3}
    assert store.poll(after_s=1).versions == store.found(1, 2, 3)


def test_a_marker_is_all_that_counts() -> None:
    """With a marker configured a version waits for it for ever, and for nothing else."""
    store = TimedStore(done_marker="_DONE")
    store.put(1, age_s=3600)
    store.write("2/weights", b"x")
    for _ in range(3):
        poll = store.poll(after_s=3600)
        assert (poll.versions, poll.again_in) == ({}, None)
        assert poll.waiting == {1: "there is no file _DONE yet", 2: "there is no file _DONE yet"}
    store.write("2/_DONE")
    assert store.poll().versions == store.found(2)


def test_other_platforms_need_some_file() -> None:
    """A version of a platform whose files are not known waits for the first of them, and then until it rests."""
    store = TimedStore(platform="other")
    store.filesystem.makedirs(f"{store.base}/1")
    assert store.poll().waiting == {1: "it has no files yet"}
    store.write("1/weights")
    assert store.poll().waiting == {1: RESTING}
    assert store.poll(after_s=1).versions == store.found(1)


@pytest.mark.parametrize(
    ("policy", "whole", "torn", "versions", "waiting"),
    [
        (Latest(1), [1, 2], [3], [2], [3]),
        (Latest(2), [1, 2, 3], [4, 5], [2, 3], [4, 5]),
        (Latest(1), [], [1, 2], [], [1, 2]),
        (All(), [1, 3], [2], [1, 3], [2]),
        (Specific((1, 2)), [1, 3], [2, 4], [1], [2]),
        (Specific(()), [1], [], [], []),
    ],
)
def test_the_policy_picks_among_what_is_finished(
    policy: VersionPolicy, whole: list[int], torn: list[int], versions: list[int], waiting: list[int]
) -> None:
    """An unfinished version leaves its place to the next one, and only what the policy would pick is looked into."""
    store = TimedStore(version_policy=policy)
    for version in whole:
        store.put(version, age_s=3600)
    for version in torn:
        store.put(version, without="saved_model.pb")
    poll = store.poll()
    assert (list(poll.versions), list(poll.waiting)) == (versions, waiting)


def test_versions_once_finished_stay_so_while_they_are_there() -> None:
    """A version over which somebody uploads anew, or which was taken as it was, is not taken back."""
    store = TimedStore()
    store.put(1, age_s=3600)
    store.poll()
    store.remove("1/saved_model.pb")
    assert store.poll(after_s=100).versions == store.found(1)
    store.remove("1")
    assert store.poll().versions == {}
    store.put(1)
    assert store.poll().waiting == {1: RESTING}


def test_a_version_under_another_name_is_another_version() -> None:
    """When `01` appears beside `1` and wins, its own files count."""
    store = TimedStore()
    store.put(1, age_s=3600)
    assert store.poll().versions == store.found(1)
    store.write("1 /saved_model.pb")  # sorts behind, and so goes before
    poll = store.poll()
    assert poll.versions == {}
    assert poll.waiting == {1: "saved_model.pb is cut off or broken"}


def test_an_upload_over_a_version_changes_its_size() -> None:
    """Sizes are read again now and then: every ten seconds at first, rarer with time, at least once a minute."""
    store = TimedStore()
    store.put(1, age_s=3600)
    before = store.poll().sizes[1]
    store.write("1/assets/words.txt", b"x" * 100)
    assert store.poll(after_s=9).sizes == {1: before}
    assert store.poll(after_s=1).sizes == {1: before + 100}
    store.poll(after_s=3600)
    store.write("1/assets/words.txt", b"x" * 200)
    assert store.poll(after_s=59).sizes == {1: before + 100}
    assert store.poll(after_s=1).sizes == {1: before + 200}


def test_what_was_finished_before_is_so_at_once() -> None:
    """A source that is told which versions are finished believes it for those whose path is the same."""
    store = TimedStore(version_policy=All())
    store.put(1)
    store.put(2)
    finished = {1: f"{store.base}/1", 2: "memory:///elsewhere/2"}
    store.source = ModelSource("m", store.base, All(), finished=finished, clock=store.clock, calendar=store.clock)
    poll = store.poll()
    assert (poll.versions, poll.waiting) == (store.found(1), {2: RESTING})


def test_missing_specific_versions_are_warned_of() -> None:
    """Versions asked for and not there are named, in TensorFlow Serving's words; leading zeros do not matter."""
    store = TimedStore(version_policy=Specific((7, 8)))
    store.put(7, age_s=3600)
    store.filesystem.mv(f"{store.base}/7", f"{store.base}/007", recursive=True)
    for path in store.filesystem.find(f"{store.base}/007"):
        store.filesystem.store[path].created = datetime.fromtimestamp(store.now - 3600, UTC)
    poll = store.poll()
    assert poll.versions == {7: f"{store.base}/007"}
    assert poll.warnings == (
        "Version 8 of servable m, which was requested to be served as a 'specific' version in the servable's version "
        "policy, was not found in the file system",
    )


def test_named_versions_are_found_besides_the_policys() -> None:
    """A version that is named for another reason than the policy is looked into as well, and waits by itself."""
    store = TimedStore(named=frozenset({1, 9}))
    for version in (1, 2, 3):
        store.put(version, age_s=3600)
    assert sorted(store.poll().versions) == [1, 3]


def test_a_version_that_may_not_be_read_waits_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is wrong with one version keeps that one waiting; what is wrong with the store fails the poll."""
    store = TimedStore()
    for version in (1, 2):
        store.put(version, age_s=3600)
    find = MemoryFileSystem.find

    def refuse(error: Exception) -> None:
        def refusing(self: MemoryFileSystem, path: str, **options: Any) -> Any:
            if path.endswith("/2"):
                raise error
            return find(self, path, **options)

        monkeypatch.setattr(MemoryFileSystem, "find", refusing)

    refuse(PermissionError("not yours"))
    poll = store.poll()
    assert poll.versions == store.found(1)
    assert poll.waiting[2].endswith("may not be read with the rights or credentials in use: not yours")
    refuse(TimeoutError("too busy"))
    with pytest.raises(Unavailable):
        store.poll()
    refuse(FileNotFoundError("gone"))
    assert store.poll() == Poll(store.found(1), sizes={1: sum(map(len, WHOLE.values()))}, found=frozenset({1}))
    monkeypatch.setattr(MemoryFileSystem, "find", find)
    assert store.poll().versions == store.found(1, 2)


@given(
    names=st.permutations([name for name in WHOLE for _ in range(2)]),
    pauses=st.lists(st.floats(0, 0.999), min_size=len(WHOLE) * 2, max_size=len(WHOLE) * 2),
    looks=st.lists(st.floats(0, 2.5), min_size=1, max_size=40),
)
def test_a_version_is_never_told_before_its_last_write(
    names: list[str], pauses: list[float], looks: list[float]
) -> None:
    """Whatever the order of writes, if pauses are shorter than the settle time no look says finished too early."""
    store = TimedStore()
    writes, at = [], store.now
    for name, pause in zip(names, pauses, strict=True):
        at += pause
        writes.append((at, name))
    for number, pause in enumerate(looks):
        store.now += pause
        while writes and writes[0][0] <= store.now:
            when, name = writes.pop(0)
            store.write(f"1/{name}", WHOLE[name][: 2 + number % 7], age_s=store.now - when)
        if writes:
            assert 1 not in (store.poll().versions if store.filesystem.exists(store.base) else {})
    store.put(1)
    store.poll(), store.poll(after_s=1)
    assert store.poll().versions == store.found(1)


def upload() -> Iterator[tuple[str, bytes]]:
    """What a writer writes in the worst order: a file at a time, and each of them twice or more."""
    yield "1/saved_model.pb", WHOLE["saved_model.pb"][:2]
    for name, content in WHOLE.items():
        for length in (1, len(content)):  # object stores have no appending: a longer object takes its place
            yield f"1/{name}", content[:length]
    yield "1/variables/variables.index", b"the whole index"


class SlowUpload:
    """What holds on every store while a version is written in the worst order."""

    def test_is_told_after_its_end(self, store: Store) -> None:
        """The version is told when it has rested after the last write, with all files; before that it waits, with a
        reason."""
        now = 0.0
        reasons: set[str] = set()
        source = ModelSource("m", store.url, options=store.options, settle_s=1.0, clock=lambda: now)

        def look(after_s: float) -> Poll:
            nonlocal now
            now += after_s
            poll = source.poll()
            reasons.update(poll.waiting.values())
            return poll

        store.write("readme")
        for name, content in upload():
            store.write(name, content)
            assert not look(0.4).versions
            assert not look(0.9).versions
        poll = look(0.2)
        assert list(poll.versions) == [1]
        assert poll.sizes[1] == sum(map(len, WHOLE.values())) - len(b"index") + len(b"the whole index")
        assert {"variables/variables.index is missing", RESTING} <= reasons


class TestSlowUploadToDisk(SlowUpload):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        return Store(str(tmp_path / "m"))


class TestSlowUploadToS3(SlowUpload):
    @pytest.fixture
    def store(self, s3_server: ObjectStore) -> Store:
        return Store(f"{s3_server.new_bucket()}/m", s3_server.options, s3_server.filesystem)


class TestSlowUploadToGcs(SlowUpload):
    @pytest.fixture
    def store(self, gcs_server: ObjectStore) -> Store:
        return Store(f"{gcs_server.new_bucket()}/m", gcs_server.options, gcs_server.filesystem)


@pytest.fixture
def local(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "m"))


def test_old_times_of_copied_files_do_not_deceive(local: Store) -> None:
    """A file that was copied to a disk with its old time is new there."""
    for name, content in WHOLE.items():
        local.write(f"1/{name}", content)
        os.utime(Path(local.url) / "1" / name, (0, 0))
    assert ModelSource("m", local.url).poll().waiting == {1: RESTING}


@pytest.mark.parametrize("kind", ["file", "link to nowhere", "link to itself", "empty"])
def test_what_is_no_directory_of_files_waits(local: Store, kind: str) -> None:
    """A version that is a file, a link to nowhere or to itself, or empty, lacks its files like any other."""
    local.write("readme")
    version = Path(local.url) / "1"
    match kind:
        case "file":
            version.touch()
        case "link to nowhere":
            version.symlink_to("/nowhere")
        case "link to itself":
            version.symlink_to("1")
        case "empty":
            version.mkdir()
    assert ModelSource("m", local.url).poll().waiting == {1: "saved_model.pb is missing"}


def test_links_are_followed_and_circles_are_not(local: Store) -> None:
    """A version, or a part of it, may be a link; a directory that contains itself is read once."""
    for name, content in WHOLE.items():
        local.write(f"elsewhere/{name}", content)
    (Path(local.url) / "elsewhere" / "again").symlink_to(".")
    (Path(local.url) / "elsewhere" / "itself").symlink_to("itself")
    (Path(local.url) / "1").symlink_to("elsewhere")
    source = ModelSource("m", local.url, settle_s=0)
    assert source.poll().sizes == {1: sum(map(len, WHOLE.values()))}


def test_a_base_path_that_is_gone_fails_the_poll(local: Store) -> None:
    """A base path that cannot be listed is an error and no news of versions; it may come back as it was."""
    local.write("1/saved_model.pb", b"\x12\x00")
    source = ModelSource("m", local.url, settle_s=0)
    assert list(source.poll().versions) == [1]
    Path(local.url).rename(f"{local.url}-away")
    with pytest.raises(NotFound):
        source.poll()
    Path(f"{local.url}-away").rename(local.url)
    assert list(source.poll().versions) == [1]


def test_is_denied_with_its_own_error(local: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A base path that may not be read is PermissionDenied."""
    monkeypatch.setattr("os.listdir", lambda path: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
    with pytest.raises(PermissionDenied, match=r"may not be read"):
        ModelSource("m", local.url).poll()
