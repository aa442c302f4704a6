"""Copying from stores that fail, processes that die and copies that are damaged."""

from __future__ import annotations

import errno
import gzip
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread
from typing import Any

import fsspec
import pytest
from fsspec import AbstractFileSystem
from s3fs import S3FileSystem

from serving_app.core.errors import (
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    ServingError,
    Unavailable,
)
from serving_app.store import cache, download, fetch
from tests.stepping import PATIENCE_S
from tests.store.proxy import Proxy, proxy_to
from tests.store.servers import ObjectStore
from tests.store.shared import (
    PROCESSES,
    SharedFileSystem,
    contents,
    fetch_and_wait,
    fetch_in_pieces,
    fetch_shared,
    make_version,
    pieces_read,
)

PIECE = 64 * 1024


def wait_until(condition: Callable[[], bool]) -> None:
    """Give the other processes and threads the time that they need."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small pieces, and no pause before they are asked for again."""
    monkeypatch.setattr(download, "PIECE_BYTES", PIECE)
    monkeypatch.setattr(download, "PAUSES_S", (0.0, 0.0))
    monkeypatch.setattr(cache, "WAIT_STEP_S", 0.01)


@pytest.fixture
def proxy(s3_server: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """The way to the S3 server on which things go wrong; the driver itself tries nothing twice."""
    monkeypatch.setattr(S3FileSystem, "retries", 1)
    with proxy_to(s3_server.endpoint) as running:
        yield running


def upload(store: ObjectStore, files: Mapping[str, bytes]) -> str:
    """A version in a bucket of its own; its URI."""
    path = f"{store.new_bucket()}/m/1"
    for name, content in files.items():
        store.filesystem.pipe_file(f"{store.filesystem._strip_protocol(path)}/{name}", content)
    return path


def options(store: ObjectStore, proxy: Proxy) -> dict[str, Any]:
    """Through the proxy, at which nobody asks twice by himself."""
    return {**store.through(proxy.url), "config_kwargs": {"retries": {"max_attempts": 0}}}


def received(cache_dir: Path) -> int:
    return sum(path.stat().st_size for path in cache_dir.glob("*.part/**/*") if path.is_file())


# --- processes that die ----------------------------------------------------------------------------------------------


def test_goes_on_after_a_process_that_was_killed(s3_server: ObjectStore, proxy: Proxy, tmp_path: Path) -> None:
    """After a kill -9 in the middle of a file the next process asks for those bytes alone that are not there yet."""
    files = {"saved_model.pb": b"graph", "variables/data": os.urandom(10 * PIECE + 7), "words.txt": b""}
    path, killed = upload(s3_server, files), Event()

    def stall_in_the_middle(name: str, start: int) -> None:
        # By the place of a piece, and not by how many were asked for: several are at a time, in no order.
        if name == "data" and start >= 5 * PIECE and not killed.wait(PATIENCE_S):
            raise AssertionError("never killed")

    proxy.before_bytes = stall_in_the_middle
    victim = PROCESSES.Process(target=fetch_in_pieces, args=(PIECE, path, str(tmp_path), options(s3_server, proxy)))
    victim.start()
    wait_until(lambda: received(tmp_path) >= 5 * PIECE)
    victim.kill()
    victim.join()
    killed.set()
    there = received(tmp_path)
    assert 5 * PIECE <= there < 10 * PIECE
    # On a way of its own: on the other one may still pass what the dead one had asked for.
    with proxy_to(s3_server.endpoint) as way, fetch(path, str(tmp_path), options(s3_server, way)) as copy:
        assert contents(Path(copy.path)) == files
        assert way.read["data"] + way.read.get("saved_model.pb", 0) == sum(map(len, files.values())) - there


def test_a_process_that_dies_lets_go(tmp_path: Path) -> None:
    """A copy that another process uses stays, and is free when that process is killed."""
    told, may_go = PROCESSES.Event(), PROCESSES.Event()
    make_version(tmp_path, {"data": b"x" * 1000})
    make_version(tmp_path, {"data": b"y" * 1000}, number=2)
    user = PROCESSES.Process(target=fetch_and_wait, args=(tmp_path, told, may_go))
    user.start()
    assert told.wait(PATIENCE_S)
    fetch_shared(tmp_path, 2, max_bytes=1500).release()
    assert len(list((tmp_path / "cache").glob("m-1-*"))) == 2  # the copy and its lock file
    user.kill()
    user.join()
    make_version(tmp_path, {"data": b"z" * 1000}, number=3)
    fetch_shared(tmp_path, 3, max_bytes=1500).release()
    assert {path.name[:4] for path in (tmp_path / "cache").iterdir()} == {"m-3-", "room"}


# --- stores that fail ------------------------------------------------------------------------------------------------


def test_asks_again_for_what_was_torn_off(s3_server: ObjectStore, proxy: Proxy, tmp_path: Path) -> None:
    """An answer that ends too early, or a connection that breaks, costs one more question and nothing else."""
    files = {"data": os.urandom(3 * PIECE), "saved_model.pb": b"graph"}
    path, torn, broken = upload(s3_server, files), [], []

    def tear(name: str, body: bytes) -> bytes:
        if name == "data" and not torn:
            torn.append(name)
            return body[:-1]
        return body

    def break_off(name: str) -> None:
        if name == "saved_model.pb" and not broken:
            broken.append(name)
            raise ConnectionError

    proxy.cut, proxy.before = tear, break_off
    with fetch(path, str(tmp_path), options(s3_server, proxy)) as copy:
        assert contents(Path(copy.path)) == files
    assert torn
    assert broken


def test_a_store_that_goes_on_failing(s3_server: ObjectStore, proxy: Proxy, tmp_path: Path) -> None:
    """A store that never sends the whole is Unavailable in the end; what arrived stays, and the rest follows later."""
    files = {"a": os.urandom(PIECE), "b": b"content"}
    path = upload(s3_server, files)
    proxy.cut = lambda name, body: body[:-1] if name == "b" else body
    with pytest.raises(Unavailable, match="/m/1/b"):
        fetch(path, str(tmp_path), options(s3_server, proxy))
    proxy.cut = lambda name, body: body
    proxy.read.clear()
    with fetch(path, str(tmp_path), options(s3_server, proxy)) as copy:
        assert contents(Path(copy.path)) == files
    assert "a" not in proxy.read


def test_notices_damage_on_the_way(gcs_server: ObjectStore, tmp_path: Path) -> None:
    """Where the store tells a file's MD5, bytes that were changed on the way are not accepted."""
    path = upload(gcs_server, {"data": b"0123456789"})
    with proxy_to(gcs_server.endpoint) as proxy:
        proxy.cut = lambda name, body: body.replace(b"0123456789", b"0123456780")
        with pytest.raises(Unavailable, match="/m/1/data arrived damaged"):
            fetch(path, str(tmp_path), gcs_server.through(proxy.url))
        proxy.cut = lambda name, body: body
        with fetch(path, str(tmp_path), gcs_server.through(proxy.url)) as copy:
            assert contents(Path(copy.path)) == {"data": b"0123456789"}


class ScriptedFileSystem(SharedFileSystem):
    """Does what a test says when a file is read."""

    protocol = "scripted"
    on_read: Callable[[ScriptedFileSystem, str, bytes], bytes] = staticmethod(lambda store, path, content: content)

    def cat_file(self, path: str, **options: Any) -> bytes:
        return type(self).on_read(self, path, super().cat_file(path, **options))

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return path.removeprefix("scripted://")


@pytest.fixture
def scripted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Sets what happens at a read, and returns a fetch of `scripted://m/1`."""
    fsspec.register_implementation("scripted", ScriptedFileSystem, clobber=True)

    def script(on_read: Callable[[ScriptedFileSystem, str, bytes], bytes], **more: Any) -> Any:
        monkeypatch.setattr(ScriptedFileSystem, "on_read", staticmethod(on_read))
        return fetch("scripted://m/1", str(tmp_path / "cache"), {"root": str(tmp_path / "store")}, **more)

    return script


@pytest.mark.parametrize(
    ("error", "expected", "times"),
    [
        (OSError(errno.ECONNRESET, "reset"), Unavailable, 3),
        (TimeoutError("too slow"), Unavailable, 3),
        (PermissionError("denied"), PermissionDenied, 1),
        (FileNotFoundError("gone"), NotFound, 1),
        (ValueError("bad options"), InvalidArgument, 1),
    ],
    ids=lambda value: getattr(value, "__name__", None) or type(value).__name__,
)
def test_asks_again_where_it_helps(
    scripted: Callable[..., Any], tmp_path: Path, error: Exception, expected: type[ServingError], times: int
) -> None:
    """What may pass is tried again, a few times; what would only be said again is not."""
    make_version(tmp_path, {"data": b"x"})

    def fail(*_: object) -> bytes:
        raise error

    with pytest.raises(expected, match="scripted://m/1/data"):
        scripted(fail)
    assert len(pieces_read(tmp_path)) == times


def test_files_that_are_stored_packed(gcs_server: ObjectStore, tmp_path: Path) -> None:
    """What a store hands out unpacked, with another size than it tells, is refused with the way to upload it."""
    path = upload(gcs_server, {"saved_model.pb": b"graph"})
    key = gcs_server.filesystem._strip_protocol(f"{path}/words.txt")
    gcs_server.filesystem.pipe_file(key, gzip.compress(b"words"), fixed_key_metadata={"content_encoding": "gzip"})
    with pytest.raises(FailedPrecondition, match=r"/m/1/words.txt is stored with Content-Encoding gzip, .*; upload it"):
        fetch(path, str(tmp_path), gcs_server.options)


def test_more_than_was_asked_for(scripted: Callable[..., Any], tmp_path: Path) -> None:
    """A store that does not know ranges is not believed."""
    make_version(tmp_path, {"data": b"x" * 10})
    with pytest.raises(Unavailable, match="the store sent 20 bytes where 10 were asked for"):
        scripted(lambda store, path, content: content * 2)


@pytest.mark.parametrize("late", [b"other", b"longer than it was", None], ids=["replaced", "grown", "removed"])
def test_a_version_that_changes_while_it_is_copied(
    scripted: Callable[..., Any], tmp_path: Path, late: bytes | None
) -> None:
    """Such a copy never appears; the next try copies what is there then, and nothing of the first is left."""
    make_version(tmp_path, {"a": b"first", "b": b"first"})

    def change(store: AbstractFileSystem, path: str, content: bytes) -> bytes:
        if path.endswith("/b") and late is None:
            store.rm_file("m/1/b")
            raise FileNotFoundError(path)
        if path.endswith("/a"):
            make_version(tmp_path, {"b": late or b"first"})
            os.utime(tmp_path / "store" / "m" / "1" / "b", (5, 5))
        return content

    with pytest.raises(Unavailable, match="scripted://m/1 changed while it was copied"):
        scripted(change)
    assert [path.suffix for path in (tmp_path / "cache").iterdir() if path.name != "room"] == [".lock"]
    with scripted(lambda store, path, content: content) as copy:
        assert contents(Path(copy.path)) == contents(tmp_path / "store" / "m" / "1")


def test_a_disk_that_fills_up(scripted: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is full in the middle of a copy is told with what was needed, and gets its room back."""
    make_version(tmp_path, {"a": b"first", "b": b"second"})

    def fail(path: Path, content: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(download, "_append", fail)
    with pytest.raises(ResourceExhausted, match=r"scripted://m/1 does not fit .*: it needs 11 bytes below .*/cache;"):
        scripted(lambda store, path, content: content)
    assert not list((tmp_path / "cache").glob("*.part"))


# --- names -----------------------------------------------------------------------------------------------------------

ODD = ["we ird", "a#b", "what?", "st*r", "[x]", "100%41", "ümläut", "日本", "a+b&c=d", "-dash", ".hidden", "q'\"q"]


@pytest.mark.parametrize("server", ["s3_server", "gcs_server"])
def test_odd_names(server: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """Any name that a file on a disk can have comes through, empty files too, and the empty objects that stand for
    directories do not disturb."""
    store: ObjectStore = request.getfixturevalue(server)
    files = {f"sub dir/{name}": name.encode() for name in [*ODD, "x" * 255]} | {"empty": b""}
    path = upload(store, {**files, "sub dir/": b"", "": b""} if store.scheme == "s3" else files)
    with fetch(path, str(tmp_path), store.options) as copy:
        assert contents(Path(copy.path)) == files


@pytest.mark.parametrize("name", ["../up", "a/../../b", "a//b", "./a", "/a", "a/./b", "n\0l"])
def test_names_that_no_copy_can_have(name: str, s3_server: ObjectStore, tmp_path: Path) -> None:
    """Names that lead out of the copy, or that a disk would take for others, are refused before anything is copied."""
    bucket = s3_server.new_bucket()
    for key in ("m/1/saved_model.pb", f"m/1/{name}"):
        s3_server.filesystem.call_s3("put_object", Bucket=bucket.removeprefix("s3://"), Key=key, Body=b"x")
    with pytest.raises(InvalidArgument, match="rename it in the store"):
        fetch(f"{bucket}/m/1", str(tmp_path), s3_server.options)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_a_directory(s3_server: ObjectStore, tmp_path: Path) -> None:
    """An object store lets a file have others below it; that no disk can hold it is said, with both names' place."""
    path = upload(s3_server, {"variables": b"x", "variables/index": b"x"})
    with pytest.raises(InvalidArgument, match=r"/m/1/variables is a file, and other files lie below it"):
        fetch(path, str(tmp_path), s3_server.options)


def test_a_name_that_is_too_long(s3_server: ObjectStore, tmp_path: Path) -> None:
    """A name longer than the disk takes is refused as such, not as trouble with the cache."""
    path = upload(s3_server, {"x" * 256: b"x"})
    with pytest.raises(InvalidArgument, match="name too long for the node's disk; rename it in the store"):
        fetch(path, str(tmp_path), s3_server.options)


# --- copies that are damaged -----------------------------------------------------------------------------------------


def test_mends_a_copy_that_lost_files(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A copy from which files are gone, or shorter than they were, gets those files again, and only those."""
    files = {"a": b"x" * 10, "b": b"y" * 10, "c": b"z" * 10}
    make_version(tmp_path, files)
    with fetch_shared(tmp_path) as copy:
        path = Path(copy.path)
    (path / "a").unlink()
    (path / "b").write_bytes(b"yyy")
    (tmp_path / "read").unlink()
    with fetch_shared(tmp_path) as copy:
        assert contents(Path(copy.path)) == files
    assert sorted(pieces_read(tmp_path)) == ["m/1/a 0 10", "m/1/b 0 10"]
    assert "has lost files; they are copied again" in caplog.text


def test_does_not_mend_under_somebodys_feet(tmp_path: Path) -> None:
    """A damaged copy is not taken to pieces while it is in use; who comes later is told why there is no copy."""
    make_version(tmp_path, {"a": b"x", "b": b"y"})
    with fetch_shared(tmp_path) as copy:
        (Path(copy.path) / "a").unlink()
        with pytest.raises(Unavailable, match="has lost files while it is in use"):
            fetch_shared(tmp_path)
        assert (Path(copy.path) / "b").exists()
    fetch_shared(tmp_path).release()


def test_a_cache_that_cannot_be_written(tmp_path: Path) -> None:
    """Trouble with the cache directory names it, and the setting to change."""
    make_version(tmp_path, {"a": b"x"})
    (tmp_path / "cache" / "room").mkdir(parents=True)
    with pytest.raises(FailedPrecondition, match=r"The cache directory .*/cache cannot be written: .*; set another"):
        fetch_shared(tmp_path)


# --- progress --------------------------------------------------------------------------------------------------------


def test_tells_how_far_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Progress begins with what is there, never falls, and ends with the last byte; a copy that is there tells none."""
    monkeypatch.setattr(download, "PROGRESS_STEP_S", 0.0)
    make_version(tmp_path, {"a": b"x" * PIECE * 3, "b": b""})
    told: list[tuple[int, int]] = []
    fetch_shared(tmp_path, progress=lambda *figures: told.append(figures)).release()
    fetch_shared(tmp_path, progress=lambda *figures: told.append(figures)).release()
    assert told == [(count * PIECE, 3 * PIECE) for count in range(4)]


def test_tells_it_a_few_times_per_second(tmp_path: Path) -> None:
    """Many small pieces are not as many calls: only the beginning and the end are always told."""
    make_version(tmp_path, {str(number): b"x" for number in range(100)})
    told: list[tuple[int, int]] = []
    started = time.monotonic()
    fetch_shared(tmp_path, progress=lambda *figures: told.append(figures)).release()
    assert told[0] == (0, 100)
    assert told[-1] == (100, 100)
    assert len(told) <= 2 + (time.monotonic() - started) / download.PROGRESS_STEP_S


def test_who_waits_sees_it_too(scripted: Callable[..., Any], tmp_path: Path) -> None:
    """Who waits for a copy that another one makes is told how far that is, and gets the same copy."""
    make_version(tmp_path, {"a": b"x" * PIECE * 3})
    seen, waiters_told, paths = Event(), [], []

    def slowly(store: AbstractFileSystem, path: str, content: bytes) -> bytes:
        if len(pieces_read(tmp_path)) == 3:
            assert seen.wait(PATIENCE_S)
        return content

    def wait() -> None:
        wait_until(lambda: received(tmp_path / "cache") > 0)
        with scripted(slowly, progress=lambda *figures: (waiters_told.append(figures), seen.set())) as copy:
            paths.append(copy.path)

    waiter = Thread(target=wait)
    waiter.start()
    with scripted(slowly) as copy:
        waiter.join()
        assert paths == [copy.path]
    assert {total for _, total in waiters_told} == {3 * PIECE}
    assert all(0 < done <= 3 * PIECE for done, _ in waiters_told)
    assert len(pieces_read(tmp_path)) == 3


# --- size ------------------------------------------------------------------------------------------------------------


def test_a_version_of_many_files(tmp_path: Path) -> None:
    """Three thousand small files are copied, and no more descriptors are open for them than a few."""
    files = {f"assets/{number}": b"%d" % number for number in range(3000)}
    make_version(tmp_path, files)
    with fetch_shared(tmp_path) as copy:
        assert len(open_below(tmp_path)) <= 1
        assert contents(Path(copy.path)) == files
    assert not open_below(tmp_path)


def open_below(folder: Path) -> list[str]:
    """What of this folder is open in this process."""
    paths = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # closed meanwhile, by whomever
            paths.append(os.readlink(descriptor))
    return [path for path in paths if path.startswith(str(folder))]
