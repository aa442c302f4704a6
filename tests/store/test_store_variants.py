"""The contract of stores, kept by each kind of file system."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import fsspec
import pytest
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.utils import infer_storage_options

from serving_app.store import fetch, list_versions
from serving_app.store.listing import child_path
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
        assert list_versions(store.url).versions == {1: f"{store.url}/1"}


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


class HostedFileSystem(DirFileSystem):
    """Has its host in its URIs and not in its paths, as HDFS, SFTP and their like; here a host is a folder."""

    protocol = "hosted"
    root_marker = "/"

    def __init__(self, host: str, **_: object) -> None:
        super().__init__(path=f"/tmp/{host}", fs=fsspec.filesystem("file"))

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return infer_storage_options(path)["path"]

    @staticmethod
    def _get_kwargs_from_urls(path: str) -> dict[str, str]:
        return {"host": infer_storage_options(path)["host"]}


class TestStoreOnAHost(StoreContract):
    @pytest.fixture
    def store(self) -> Iterator[Store]:
        fsspec.register_implementation("hosted", HostedFileSystem, clobber=True)
        with TemporaryDirectory(dir="/tmp") as host:
            yield Store(f"hosted://{Path(host).name}/models")


@pytest.mark.parametrize(
    ("base_path", "version"),
    [
        ("memory://b/m", "memory://b/m/1"),
        ("memory://b/m//", "memory://b/m/1"),
        ("memory:///", "memory:///1"),
        ("dir://m::memory://b", "dir://m/1::memory://b"),
    ],
)
def test_names_versions_by_the_base_path(base_path: str, version: str) -> None:
    """A version's URI is the base path with a name, in front of the URI of what the base path lies in."""
    assert child_path(base_path, "1") == version


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
