"""Copies of remote versions on a node."""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from serving_app.core.errors import FailedPrecondition, InvalidArgument, NotFound, PermissionDenied, Unavailable
from serving_app.store import cache, fetch
from serving_app.store.remote import relative_name
from tests.store.shared import PROCESSES, contents, make_version, path_of_shared, pieces_read


@pytest.fixture
def memory() -> MemoryFileSystem:
    return fsspec.filesystem("memory")


@pytest.fixture
def version() -> str:
    return f"memory:///{uuid.uuid4().hex}/m/1"


def entries(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir() if path.suffix != ".lock" and path.name != "room")


def fetched(path: str, cache_dir: Path | str | None = None, options: Mapping[str, Any] | None = None) -> Path:
    """Where the copy lies, once nobody uses it any more."""
    with fetch(path, None if cache_dir is None else str(cache_dir), options) as copy:
        return Path(copy.path)


def test_copies_once(memory: MemoryFileSystem, version: str, tmp_path: Path) -> None:
    """A version that did not change is copied at the first fetch only, and its copy says whose it is."""
    memory.pipe(f"{version}/saved_model.pb", b"graph")
    copy = fetched(version, tmp_path)
    (copy / "mark").touch()
    assert fetched(version, tmp_path) == copy
    assert (copy / "mark").exists()
    assert copy.name.startswith("m-1-")


def test_copies_a_replaced_version_anew(memory: MemoryFileSystem, version: str, tmp_path: Path) -> None:
    """Files that were replaced under the same version number are another copy; the earlier one stays whole."""
    memory.pipe(f"{version}/saved_model.pb", b"old!")
    old = fetched(version, tmp_path)
    memory.pipe(f"{version}/saved_model.pb", b"new!")
    new = fetched(version, tmp_path)
    assert [(path / "saved_model.pb").read_bytes() for path in (old, new)] == [b"old!", b"new!"]


def test_threads_take_turns(memory: MemoryFileSystem, version: str, tmp_path: Path) -> None:
    """Threads that fetch one version at once get one and the same whole copy, and leave nothing else behind."""
    for number in range(20):
        memory.pipe(f"{version}/variables/{number}", os.urandom(1000))
    with ThreadPoolExecutor(8) as pool:
        copies = set(pool.map(lambda _: fetched(version, tmp_path), range(16)))
    assert entries(tmp_path) == [copy.name for copy in copies]
    assert len(entries(copies.pop() / "variables")) == 20


def test_processes_take_turns(tmp_path: Path) -> None:
    """Processes that fetch one version at once get one and the same whole copy, and read each byte once."""
    files = {str(number): os.urandom(1000) for number in range(30)}
    make_version(tmp_path, files)
    with PROCESSES.Pool(10) as pool:
        copies = set(pool.map(path_of_shared, [tmp_path] * 10, chunksize=1))
    assert entries(tmp_path / "cache") == [copy.name for copy in copies]
    assert {path.name: path.read_bytes() for path in copies.pop().iterdir()} == files
    assert sorted(pieces_read(tmp_path)) == sorted(f"m/1/{name} 0 1000" for name in files)


def test_strange_leftovers_do_not_get_into_a_copy(memory: MemoryFileSystem, version: str, tmp_path: Path) -> None:
    """What lies in a part and belongs to no file of the version, or is longer than the file, is not taken over."""
    memory.pipe({f"{version}/saved_model.pb": b"graph", f"{version}/variables/index": b"index"})
    copy = fetched(version, tmp_path)
    part = copy.rename(copy.with_name(copy.name + ".part"))
    (part / "half").touch()
    (part / "saved_model.pb").write_bytes(b"graph and more")
    (part / "variables" / "index").unlink()
    (part / "variables" / "index").symlink_to(part / "nowhere")
    assert fetched(version, tmp_path) == copy
    assert contents(copy) == {"saved_model.pb": b"graph", "variables/index": b"index"}
    assert entries(tmp_path) == [copy.name]


class UploadingFileSystem(MemoryFileSystem):
    """Gets another file of a version while the first is read."""

    protocol = "uploading"

    def cat_file(self, path: str, **kwargs: object) -> bytes:
        content = super().cat_file(path, **kwargs)
        late = path.replace("saved_model.pb", "variables")
        if not self.exists(late):
            self.pipe_file(late, b"more")
        return content

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return MemoryFileSystem._strip_protocol(path.replace("uploading://", "memory://", 1))


def test_refuses_a_version_that_changes_under_the_copy(memory: MemoryFileSystem, version: str, tmp_path: Path) -> None:
    """A version that is being uploaded is no copy yet: the fetch says to try again and leaves nothing."""
    fsspec.register_implementation("uploading", UploadingFileSystem, clobber=True)
    memory.pipe(f"{version}/saved_model.pb", b"graph")
    path = version.replace("memory://", "uploading://")
    with pytest.raises(Unavailable, match=r"changed while it was copied"):
        fetch(path, str(tmp_path))
    assert entries(tmp_path) == []
    assert entries(fetched(path, tmp_path)) == ["saved_model.pb", "variables"]


def test_refuses_names_that_lead_out(tmp_path: Path) -> None:
    """A key of the store that would be written outside the copy is refused, and nothing is written."""
    with pytest.raises(InvalidArgument, match=r"leads out of its directory"):
        relative_name("/m/1/../../../etc/passwd", "/m/1")


@pytest.mark.parametrize(
    ("name", "expected"), [("/2", NotFound), ("/1/saved_model.pb", FailedPrecondition)], ids=["missing", "file"]
)
def test_refuses_what_is_no_version(
    memory: MemoryFileSystem, version: str, tmp_path: Path, name: str, expected: type
) -> None:
    """A version that is gone, or is a file, has its own error, which names it."""
    memory.pipe(f"{version}/saved_model.pb", b"graph")
    path = version.removesuffix("/1") + name
    with pytest.raises(expected, match=f"^{path} "):
        fetch(path, str(tmp_path))


def test_refuses_a_cache_that_cannot_be_made(memory: MemoryFileSystem, version: str, tmp_path: Path) -> None:
    """A cache directory that cannot be made is named, with the setting to change."""
    memory.pipe(f"{version}/saved_model.pb", b"graph")
    (tmp_path / "file").touch()
    with pytest.raises(FailedPrecondition, match=r"cannot be made: .*; set another cache_dir"):
        fetch(version, str(tmp_path / "file" / "cache"))


def test_refuses_a_default_cache_of_another_user(
    memory: MemoryFileSystem, version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The default cache directory lies in public: one that somebody else made there is not used."""
    memory.pipe(f"{version}/saved_model.pb", b"graph")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert fetched(version).parent == Path(cache.default_cache_dir())
    somebody_else = os.getuid() + 1
    monkeypatch.setattr(os, "getuid", lambda: somebody_else)
    Path(cache.default_cache_dir()).mkdir()
    with pytest.raises(PermissionDenied, match=r"belongs to another user"):
        fetch(version)
