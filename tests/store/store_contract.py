"""What every store keeps, whatever holds the files: inherit, and provide the fixture `store`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from fsspec import AbstractFileSystem
from fsspec.core import url_to_fs

from serving_app.core.errors import FailedPrecondition, NotFound
from serving_app.store import Listing, fetch, list_versions


class Store:
    """A base path that does not exist yet, and means to write below it that know nothing of the code under test."""

    def __init__(
        self, url: str, options: Mapping[str, Any] | None = None, filesystem: AbstractFileSystem | None = None
    ) -> None:
        self.url = url
        self.options = options or {}
        self._filesystem = filesystem or url_to_fs(url)[0]
        self._root = self._filesystem._strip_protocol(url)

    def list(self, servable: str = "") -> Listing:
        return list_versions(self.url, self.options, servable=servable)

    def fetch(self, version: int, cache_dir: Path) -> Path:
        with fetch(self.list().versions[version], str(cache_dir), self.options) as copy:
            return Path(copy.path)

    def numbers(self) -> list[int]:
        return [*self.list().versions]

    def write(self, name: str, content: bytes = b"x") -> None:
        path = f"{self._root}/{name}"
        self._filesystem.makedirs(path.rsplit("/", 1)[0], exist_ok=True)
        self._filesystem.pipe_file(path, content)

    def remove(self, name: str) -> None:
        self._filesystem.rm(f"{self._root}/{name}", recursive=True)

    def move(self, name: str, new_name: str) -> None:
        source = f"{self._root}/{name}"
        # One by one: what fsspec calls a move of a directory asks object stores for a directory's own object.
        for path in self._filesystem.find(source):
            self.write(new_name + path.removeprefix(source), self._filesystem.cat_file(path))
        self.remove(name)


class StoreContract:
    """The behaviour of listing and fetching, for one kind of store."""

    def test_lists_numbered_directories(self, store: Store) -> None:
        """Children named by a number are versions, in ascending order; other children and deeper files are not."""
        for name in ["10/saved_model.pb", "9/saved_model.pb", "9/variables/4", "notes/1/x", "1.0/x", "v3/x", "readme"]:
            store.write(name)
        assert store.numbers() == [9, 10]

    def test_counts_files_as_children(self, store: Store) -> None:
        """A file named by a number is a version as well, as in TensorFlow Serving; its load is what fails."""
        store.write("1/saved_model.pb")
        store.write("2")
        assert store.numbers() == [1, 2]

    def test_lists_what_is_there_now(self, store: Store) -> None:
        """Each listing sees versions that came, went and were renamed since the one before."""
        store.write("1/saved_model.pb")
        assert store.numbers() == [1]
        store.write("2/saved_model.pb")
        assert store.numbers() == [1, 2]
        store.move("2", "3")
        assert store.numbers() == [1, 3]
        store.remove("1")
        assert store.numbers() == [3]

    def test_lists_in_a_base_path_with_a_trailing_slash(self, store: Store) -> None:
        """A slash at the end of the base path changes nothing, not even the paths."""
        store.write("1/saved_model.pb")
        assert list_versions(store.url + "/", store.options) == store.list()

    def test_warns_of_two_names_for_one_version(self, store: Store) -> None:
        """Of two names for one number the lexicographically greatest is taken, and the listing says so."""
        store.write("7/saved_model.pb")
        store.write("007/saved_model.pb")
        listing = store.list()
        assert listing.versions[7].endswith("/7")
        assert listing.warnings == ("'007' and '7' both name version 7; '7' is taken. Remove one of them",)

    def test_keeps_the_name_in_the_path(self, store: Store, tmp_path: Path) -> None:
        """A version named with leading zeros is found under the path that is given back."""
        store.write("0012/saved_model.pb", b"graph")
        assert (store.fetch(12, tmp_path / "cache") / "saved_model.pb").read_bytes() == b"graph"

    def test_refuses_a_missing_base_path(self, store: Store) -> None:
        """A base path that does not exist is NotFound, in TensorFlow Serving's words."""
        message = f"Could not find base path {store.url} for servable m with error NOT_FOUND: "
        with pytest.raises(NotFound, match=f"^{message}"):
            store.list("m")

    def test_warns_of_a_base_path_without_versions(self, store: Store) -> None:
        """A base path without versions is an empty listing with a hint, not an error: its owner may have emptied it."""
        store.write("readme")
        listing = store.list("m")
        assert listing.versions == {}
        assert listing.warnings == (
            f"No versions of servable m found under base path {store.url}. Did you forget to name your leaf directory "
            "as a number (eg. '/1/')?",
        )

    def test_refuses_a_file_as_base_path(self, store: Store) -> None:
        """A base path that is a file is FailedPrecondition, and is named."""
        store.write("model")
        with pytest.raises(FailedPrecondition, match=r"/model is a file; give the directory"):
            list_versions(store.url + "/model", store.options, servable="m")

    def test_fetches_a_whole_version(self, store: Store, tmp_path: Path) -> None:
        """The path that fetch gives back holds every file of the version, at every depth, and can be opened."""
        files = {"saved_model.pb": b"graph", "variables/variables.index": b"index", "assets/deep/words.txt": b""}
        for name, content in files.items():
            store.write(f"1/{name}", content)
        copy = store.fetch(1, tmp_path / "cache")
        assert {str(path.relative_to(copy)): path.read_bytes() for path in copy.rglob("*") if path.is_file()} == files
