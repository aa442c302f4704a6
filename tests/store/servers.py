"""Object stores behind real APIs: an S3 and a GCS server in this process, on free ports, for the whole session."""

from __future__ import annotations

import asyncio
import logging
import threading
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import fsspec
import pytest
from fsspec import AbstractFileSystem
from gcp_storage_emulator.server import create_server
from gcsfs.core import GCSFileSystem
from moto.server import ThreadedMotoServer
from s3fs import S3FileSystem

from tests.stepping import PATIENCE_S

HOST = "127.0.0.1"


@dataclass(frozen=True)
class ObjectStore:
    """A server that runs: where it is, and what fsspec needs to reach it."""

    scheme: str
    endpoint: str
    options: Mapping[str, Any]
    filesystem: AbstractFileSystem
    """The tests' own way to it, which keeps no listings."""

    def new_bucket(self) -> str:
        """The URI of an empty bucket that nobody else uses."""
        name = f"tests-{uuid.uuid4().hex[:20]}"
        self.filesystem.mkdir(name)
        return f"{self.scheme}://{name}"

    def through(self, endpoint: str) -> dict[str, Any]:
        """The options for reaching this store at another address, such as a proxy's."""
        return {**self.options, "endpoint_url": endpoint}


@pytest.fixture(scope="session")
def s3_server() -> Iterator[ObjectStore]:
    """An S3 API."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # else a line per request
    server = ThreadedMotoServer(HOST, port=0, verbose=False)
    server.start()
    endpoint = "http://{}:{}".format(*server.get_host_and_port())
    options = {"endpoint_url": endpoint, "key": "testing", "secret": "testing"}
    yield ObjectStore("s3", endpoint, options, S3FileSystem(**options, use_listings_cache=False))
    _close_sessions(S3FileSystem)
    server.stop()
    server._server.server_close()


@pytest.fixture(scope="session")
def gcs_server() -> Iterator[ObjectStore]:
    """A GCS API."""
    logging.getLogger("gcp_storage_emulator").setLevel(logging.ERROR)
    server = create_server(HOST, 0, in_memory=True)
    server.start()
    # It answers one request after the other, and of the default of 5 that wait the rest would be turned away.
    server._api._httpd.socket.listen(128)
    endpoint = f"http://{HOST}:{server._api._httpd.server_address[1]}"
    options = {"endpoint_url": endpoint, "token": "anon", "project": "testing"}
    yield ObjectStore("gs", endpoint, options, GCSFileSystem(**options, use_listings_cache=False))
    _close_sessions(GCSFileSystem)
    server.stop()
    threading.Thread.join(server._api)  # its own `join` only asks it to end


def _close_sessions(kind: type[Any]) -> None:
    """Close the connections of every file system of a kind; fsspec keeps the file systems until the process ends."""
    for filesystem in list(kind._cache.values()):
        session = getattr(filesystem, "_s3", None) or getattr(filesystem, "_session", None)
        if session is not None:
            closing = session.close()
            asyncio.run_coroutine_threadsafe(closing, fsspec.asyn.get_loop()).result(PATIENCE_S)
    kind.clear_instance_cache()
