"""A directory of this machine that passes for a remote store, so that several processes see it."""

from __future__ import annotations

import multiprocessing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.dirfs import DirFileSystem

from serving_app.store import Copy, download, fetch

PROCESSES = multiprocessing.get_context("forkserver")
"""Makes processes that have this module, and little else, when they begin."""
PROCESSES.set_forkserver_preload(["tests.store.shared"])


class SharedFileSystem(DirFileSystem):
    """Writes down each piece that is read of a file, in `root/../read`."""

    protocol = "shared"
    async_impl = False
    """One read at a time, in order, so that a test knows what has been read at which moment."""

    def __init__(self, root: str, **_: object) -> None:
        super().__init__(path=root, fs=fsspec.filesystem("file"))
        self.log = Path(root).parent / "read"

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **_: object) -> bytes:
        with self.log.open("a") as log:
            log.write(f"{path} {start} {end}\n")
        return super().cat_file(path, start=start, end=end)

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return path.removeprefix("shared://")

    def unstrip_protocol(self, name: str) -> str:
        return "shared://" + name


def make_version(directory: Path, files: Mapping[str, bytes], number: int = 1) -> dict[str, Any]:
    """Write a version below `directory`; returns the storage options for `shared://m/NUMBER`."""
    fsspec.register_implementation("shared", SharedFileSystem, clobber=True)
    for name, content in files.items():
        path = directory / "store" / "m" / str(number) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return {"root": str(directory / "store")}


def pieces_read(directory: Path) -> list[str]:
    """What was read of the store's files, in order: a line per piece."""
    log = directory / "read"
    return log.read_text().splitlines() if log.exists() else []


def contents(directory: Path) -> dict[str, bytes]:
    """Every file below a directory."""
    files = [path for path in directory.rglob("*") if path.is_file()]
    return {str(path.relative_to(directory)): path.read_bytes() for path in files}


def fetch_shared(directory: Path, number: int = 1, **options: Any) -> Copy:
    """A copy of a version made by `make_version`."""
    fsspec.register_implementation("shared", SharedFileSystem, clobber=True)
    storage_options = {"root": str(directory / "store")}
    return fetch(f"shared://m/{number}", str(directory / "cache"), storage_options, **options)


# --- what other processes do -----------------------------------------------------------------------------------------


def path_of_shared(directory: Path) -> Path:
    """Where the copy of a version lies, which nobody uses any more."""
    with fetch_shared(directory) as copy:
        return Path(copy.path)


def fetch_and_release(directory: Path, number: int, max_bytes: int) -> None:
    """Fetch a version into a cache that may hold so much."""
    fetch_shared(directory, number, max_bytes=max_bytes).release()


def fetch_and_wait(directory: Path, told: Any, may_go: Any) -> None:
    """Use a copy until one may go."""
    with fetch_shared(directory):
        told.set()
        may_go.wait()


def fetch_in_pieces(size: int, path: str, cache_dir: str, storage_options: Mapping[str, Any]) -> None:
    """Fetch in pieces of this size, no more than two of them at a time."""
    download.PIECE_BYTES, download.WINDOW_BYTES = size, 2 * size
    fetch(path, cache_dir, storage_options)
