"""The contract of stores, kept by each kind of file system."""

from __future__ import annotations

import uuid
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from serving_app.store import fetch, list_versions
from tests.store.servers import ObjectStore
from tests.store.store_contract import Store, StoreContract


class TestLocalPath(StoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        return Store(str(tmp_path / "models"))

    def test_gives_back_plain_paths(self, store: Store) -> None:
        """The path of a local version is the one to open, and fetching it copies nothing."""
        store.write("1/saved_model.pb")
        path = list_versions(store.url).versions[1]
        assert path == f"{store.url}/1"
        assert fetch(path).path == path

    def test_lists_beside_broken_links(self, store: Store) -> None:
        """A link to a version counts, and a link to nowhere does not disturb the listing."""
        store.write("1/saved_model.pb")
        (Path(store.url) / "2").symlink_to(Path(store.url) / "1")
        (Path(store.url) / "broken").symlink_to("/nowhere")
        assert list(list_versions(store.url).versions) == [1, 2]


class TestFileUri(StoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        return Store(f"file://{tmp_path}/models")

    def test_gives_back_plain_paths(self, store: Store) -> None:
        """A runtime that knows no URIs can open a version of a file:// store."""
        store.write("1/saved_model.pb")
        assert list_versions(store.url).versions == {1: store.url.removeprefix("file://") + "/1"}


class TestMemory(StoreContract):
    @pytest.fixture
    def store(self) -> Store:
        return Store(f"memory://{uuid.uuid4().hex}/models")

    def test_gives_back_uris(self, store: Store) -> None:
        """A version of a remote store is named by its whole URI, so that any node can fetch it."""
        store.write("1/saved_model.pb")
        assert list_versions(store.url).versions == {1: store.url.replace("memory://", "memory:///") + "/1"}


class ForgetfulFileSystem(MemoryFileSystem):
    """Keeps every listing until it is told to forget it, as the drivers of object stores do."""

    protocol = "forgetful"
    cachable = True

    def ls(self, path: str, detail: bool = True, **kwargs: object) -> list:
        path = self._strip_protocol(path)
        if path not in self.dircache:
            self.dircache[path] = super().ls(path, detail=True)
        entries = self.dircache[path]
        return entries if detail else [entry["name"] for entry in entries]

    def invalidate_cache(self, path: str | None = None) -> None:
        self.dircache.clear()

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return MemoryFileSystem._strip_protocol(path.replace("forgetful://", "memory://", 1))

    def unstrip_protocol(self, name: str) -> str:
        return "forgetful://" + name


class TestStoreThatKeepsListings(StoreContract):
    @pytest.fixture
    def store(self) -> Store:
        fsspec.register_implementation("forgetful", ForgetfulFileSystem, clobber=True)
        return Store(f"forgetful://{uuid.uuid4().hex}/models")


class TestS3(StoreContract):
    @pytest.fixture
    def store(self, s3_server: ObjectStore) -> Store:
        return Store(f"{s3_server.new_bucket()}/models", s3_server.options, s3_server.filesystem)

    def test_gives_back_uris(self, store: Store) -> None:
        """A version is named by its whole URI, so that any node can fetch it."""
        store.write("1/saved_model.pb")
        assert store.list().versions == {1: f"{store.url}/1"}


class TestGcs(StoreContract):
    @pytest.fixture
    def store(self, gcs_server: ObjectStore) -> Store:
        return Store(f"{gcs_server.new_bucket()}/models", gcs_server.options, gcs_server.filesystem)

    def test_gives_back_uris(self, store: Store) -> None:
        """A version is named by its whole URI, so that any node can fetch it."""
        store.write("1/saved_model.pb")
        assert store.list().versions == {1: f"{store.url}/1"}
