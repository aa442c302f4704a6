"""Uploads that something happens to: the publisher dies, the store is in trouble, somebody is in the way."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import fsspec
import pytest

from serving_app import publish
from serving_app.core.errors import DataLoss, FailedPrecondition, NotFound, PermissionDenied, ServingError
from serving_app.publishing import upload as uploading
from serving_app.publishing.claims import SHELF, claim_number
from serving_app.publishing.place import Place
from serving_app.publishing.upload import stages, upload
from tests.publishing.halting import publish_halfway
from tests.publishing.publishing_contract import FILES, finished, ignore
from tests.store.servers import ObjectStore
from tests.store.shared import PROCESSES, SharedFileSystem
from tests.zoo import Zoo


@pytest.mark.parametrize(
    ("names", "marker", "order"),
    [
        (["saved_model.pb", "a", "b"], None, [["a", "b"], ["saved_model.pb"]]),
        (["saved_model.pb"], None, [["saved_model.pb"]]),
        (["model.tflite", "saved_model.pb", "a"], None, [["a"], ["model.tflite"], ["saved_model.pb"]]),
        (["saved_model.pbtxt", "saved_model.pb"], None, [["saved_model.pbtxt"], ["saved_model.pb"]]),
        (["weights", "DONE"], "DONE", [["weights"], ["DONE"]]),
        (["DONE", "saved_model.pb"], "DONE", [["saved_model.pb"], ["DONE"]]),
        (["assets/saved_model.pb", "saved_model.pb"], None, [["assets/saved_model.pb"], ["saved_model.pb"]]),
    ],
)
def test_what_a_version_is_known_by_comes_last(names: list[str], marker: str | None, order: list[list[str]]) -> None:
    """Everything else is there before the model's own file, and that before the marker."""
    assert stages(names, marker) == order


# --- a publisher that dies -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("halt_at", ["variables.index", "saved_model.pb"])
@pytest.mark.parametrize("is_local", [True, False])
def test_a_publisher_that_is_killed_leaves_no_version(zoo: Zoo, tmp_path: Path, is_local: bool, halt_at: str) -> None:
    """What lies there of a publisher's work that was killed is never taken for a version, and others go on."""
    fsspec.register_implementation("shared", SharedFileSystem, clobber=True)
    base_path, options = (str(tmp_path / "m"), {}) if is_local else ("shared://m", {"root": str(tmp_path)})
    heard, told = PROCESSES.Pipe(duplex=False)
    publisher = PROCESSES.Process(
        target=publish_halfway, args=(zoo.path("half_plus_two"), base_path, options, halt_at, told)
    )
    publisher.start()
    told.close()
    with heard:
        assert heard.recv() == "about to write it"  # an EOFError, if it ended before
    place = Place(base_path, options)
    assert finished(place) == set()
    publisher.kill()
    publisher.join()
    assert finished(place) == set()
    assert publish(zoo.path("half_plus_two", 2), base_path=base_path, storage_options=options).version == 2
    assert finished(place) == {2}


@pytest.mark.parametrize(("number", "is_error"), [(errno.EINVAL, False), (errno.EIO, True)])
def test_a_disk_that_cannot_force_directories(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, is_error: bool
) -> None:
    """Some network file systems force files onto the disk and refuse that for directories, which is no failure."""
    force = os.fsync

    def force_files_only(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, os.strerror(number))
        force(descriptor)

    monkeypatch.setattr(os, "fsync", force_files_only)
    place = Place(str(tmp_path))
    claim = claim_number(place)
    with pytest.raises(ServingError) if is_error else nullcontext():
        upload(place, claim.number, FILES, ignore)
    assert finished(place) == (set() if is_error else {1})


# --- a store in trouble ----------------------------------------------------------------------------------------------


class TroubledFileSystem(SharedFileSystem):
    """Fails as it is told to, before it writes or removes a file."""

    cachable = False
    trouble: dict[str, list[Exception]]

    def put_file(self, lpath: str, rpath: str, **more: Any) -> None:
        self.fail("put", rpath)
        super().put_file(lpath, rpath, **more)

    def pipe_file(self, path: str, value: bytes, **more: Any) -> None:
        self.fail("put", path)
        super().pipe_file(path, value, **more)

    def rm_file(self, path: str) -> None:
        self.fail("remove", path)
        super().rm_file(path)

    def rm(self, path: str, **more: Any) -> None:
        self.fail("remove", path)
        super().rm(path, **more)

    def fail(self, what: str, path: str) -> None:
        """Raise what is next for this file, if anything is."""
        for name, errors in self.trouble.items():
            if errors and (name == what or (what == "put" and path.endswith(name))):
                raise errors.pop(0)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A base path in a store that gets into trouble."""
    fsspec.register_implementation("shared", TroubledFileSystem, clobber=True)
    TroubledFileSystem.trouble = {}
    return Place("shared://m", {"root": str(tmp_path)})


def put(zoo: Zoo, place: Place) -> int:
    """Publish; the number of the version."""
    model = zoo.path("half_plus_two")
    return publish(model, base_path=place.base_path, storage_options=place.options).version


def test_a_file_is_tried_again(zoo: Zoo, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that the store does not take is sent again, and the version is whole in the end."""
    monkeypatch.setattr(uploading, "PAUSES_S", (0.0, 0.0))
    TroubledFileSystem.trouble = {"variables.index": [OSError("slower"), TimeoutError("late")]}
    assert put(zoo, place) == 1
    assert finished(place) == {1}


@pytest.mark.parametrize("name", ["variables.index", "saved_model.pb", "serving_app.json"])
def test_what_a_store_refuses_leaves_nothing(zoo: Zoo, place: Place, tmp_path: Path, name: str) -> None:
    """When a file is refused for good, the error names it, and neither files nor the claim stay."""
    TroubledFileSystem.trouble = {name: [PermissionError("no")]}
    with pytest.raises(PermissionDenied, match=rf"{name} cannot be written: the rights or credentials in use do not"):
        put(zoo, place)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    assert put(zoo, place) == 1


def test_what_cannot_be_removed_is_told(zoo: Zoo, place: Place) -> None:
    """Where the store takes nothing any more, the error tells what was left, which is no version."""
    TroubledFileSystem.trouble = {"saved_model.pb": [PermissionError("no")], "remove": [PermissionError("no")] * 9}
    with pytest.raises(PermissionDenied, match=r"saved_model.pb cannot be written") as caught:
        put(zoo, place)
    notes = "\n".join(caught.value.__notes__)
    assert "m/1/saved_model.pb could not be removed" in notes
    assert "the claim to version 1 could not be removed" in notes
    TroubledFileSystem.trouble = {}
    assert finished(place) == set()
    assert put(zoo, place) == 2


def test_what_arrived_otherwise_is_refused(gcs_server: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that the store has otherwise than it was sent is found by its size or its sum, and is no version."""
    place = Place(f"{gcs_server.new_bucket()}/m", gcs_server.options)
    claim = claim_number(place)

    files = {**FILES, "assets/words": b"words"}
    send = uploading._put

    def put_otherwise(place: Place, number: int, name: str, content: Any, counter: Any) -> None:
        send(place, number, name, content[::-1] if name == "assets/words" else content, counter)

    monkeypatch.setattr(uploading, "_put", put_otherwise)
    with pytest.raises(DataLoss, match="words has 5 bytes of 5, or others after"):
        upload(place, claim.number, files, ignore)
    assert finished(place) == set()


# --- somebody in the way ---------------------------------------------------------------------------------------------


def test_a_directory_that_appears_meanwhile_stays(tmp_path: Path) -> None:
    """Whoever puts a version there without a claim is not overwritten, not even on a disk where that is a rename."""
    place = Place(str(tmp_path))
    claim = claim_number(place)
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "saved_model.pb").write_bytes(b"theirs")
    with pytest.raises(FailedPrecondition, match="has appeared meanwhile, from somebody who claims no numbers"):
        upload(place, claim.number, FILES, ignore)
    assert (tmp_path / "1" / "saved_model.pb").read_bytes() == b"theirs"
    assert {path.name for path in (tmp_path / SHELF).iterdir()} == {"1.claim"}


@pytest.mark.parametrize(
    ("base_path", "error", "words"),
    [
        ("nowhere/m", NotFound, "cannot be written: the directory or bucket above it is not there"),
        ("file", FailedPrecondition, "is a file, or lies below one"),
        ("file/m", ServingError, "file"),
    ],
)
def test_places_that_cannot_be(tmp_path: Path, base_path: str, error: type[ServingError], words: str) -> None:
    """A base path in a directory that is not there, or that is no directory, is refused and nothing is made."""
    (tmp_path / "file").write_text("")
    with pytest.raises(error, match=words):
        claim_number(Place(str(tmp_path / base_path)))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_progress_reaches_the_end(zoo: Zoo, tmp_path: Path) -> None:
    """The caller is told the bytes of the whole, and at last that all of them are written."""
    told: list[tuple[int, int]] = []
    done = publish(zoo.path("half_plus_two"), base_path=str(tmp_path / "m"), progress=lambda *both: told.append(both))
    assert told[-1] == (done.size, done.size)
    assert told == sorted(told)
