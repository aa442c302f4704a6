"""The contract of publishing, kept in each kind of store."""

from __future__ import annotations

import uuid
from pathlib import Path

import fsspec
import pytest

from serving_app.publishing.place import Place
from tests.publishing.publishing_contract import PublishingContract
from tests.store.servers import ObjectStore
from tests.store.shared import SharedFileSystem


class TestDisk(PublishingContract):
    @pytest.fixture
    def place(self, tmp_path: Path) -> Place:
        return Place(str(tmp_path / "m"))


class TestFileUri(PublishingContract):
    @pytest.fixture
    def place(self, tmp_path: Path) -> Place:
        return Place(f"file://{tmp_path}/m")


class TestMemory(PublishingContract):
    @pytest.fixture
    def place(self) -> Place:
        return Place(f"memory://{uuid.uuid4().hex}/m")


class TestRemoteDirectory(PublishingContract):
    """A store that has directories, and is not made for many calls at once."""

    @pytest.fixture
    def place(self, tmp_path: Path) -> Place:
        fsspec.register_implementation("shared", SharedFileSystem, clobber=True)
        (tmp_path / "store").mkdir()
        return Place("shared://m", {"root": str(tmp_path / "store")})


class TestS3(PublishingContract):
    @pytest.fixture
    def place(self, s3_server: ObjectStore) -> Place:
        return Place(f"{s3_server.new_bucket()}/models/m", s3_server.options)


class TestGcs(PublishingContract):
    @pytest.fixture
    def place(self, gcs_server: ObjectStore) -> Place:
        return Place(f"{gcs_server.new_bucket()}/models/m", gcs_server.options)
