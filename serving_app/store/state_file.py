"""The file in which a serving app keeps what was changed at run time, in a directory on any file system of fsspec.

A file is replaced as a whole: on a disk by renaming a finished one over it, on an object store by one upload, which
shows nothing until it is complete. So whoever reads sees the old content or the new one.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from fsspec import AbstractFileSystem

from serving_app.config.locations import scheme_of
from serving_app.core.errors import NotFound, PermissionDenied
from serving_app.store.filesystem import is_local, open_path, translated_errors

_BUCKET_STORES = {"s3", "gs", "abfs"}
"""The stores in whose paths the first name is one that they do not make by themselves."""


class StateFile:
    """One app's file under `directory`. Every method blocks, and raises what serving_app.store.filesystem lists."""

    def __init__(self, directory: str, app: str, storage_options: Mapping[str, Any]) -> None:
        self.uri = f"{directory.rstrip('/')}/{quote(app, safe='')}.json"
        self._options = storage_options

    def read(self) -> bytes | None:
        """What was written last; None if nothing ever was.

        Of a bucket that does not exist it cannot be said that nothing was written: it may have been taken away, or its
        name may be wrong. That is NotFound.
        """
        filesystem, path = open_path(self.uri, self._options)
        try:
            with translated_errors(self.uri):
                filesystem.invalidate_cache()
                return bytes(filesystem.cat_file(path))
        except NotFound as error:
            bucket = path.partition("/")[0]
            if scheme_of(self.uri) in _BUCKET_STORES and _is_missing(filesystem, bucket):
                raise NotFound(f"there is no bucket {bucket}; create it, or correct {self.uri}") from error
            return None

    def write(self, content: bytes) -> None:
        """Have this in the file; when it returns, the content is kept for good."""
        filesystem, path = open_path(self.uri, self._options)
        with translated_errors(self.uri):
            if is_local(self.uri):
                _replace(Path(path), content)
            else:
                filesystem.pipe_file(path, content)

    def keep_aside(self, stamp: str) -> str:
        """Move the file out of the way under a name that tells why; returns that name."""
        aside = f"{self.uri}.unreadable-{stamp}"
        filesystem, path = open_path(self.uri, self._options)
        with translated_errors(self.uri):
            if is_local(self.uri):
                os.replace(path, open_path(aside, self._options)[1])  # which keeps what others may not read from them
            else:
                # Not `mv`, which asks for more than a copy and a removal, and not all object stores can do it.
                filesystem.cp_file(path, open_path(aside, self._options)[1])
                filesystem.rm_file(path)
        return aside


def _is_missing(filesystem: AbstractFileSystem, bucket: str) -> bool:
    """Whether the store says that there is no such bucket; that it may not be looked at says nothing."""
    try:
        with translated_errors(bucket):
            filesystem.info(bucket)
    except NotFound:
        return True
    except PermissionDenied:
        return False
    return False


def _replace(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Made with mkstemp, which lets nobody else read it: store options may hold credentials.
    descriptor, part = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except BaseException:
        Path(part).unlink(missing_ok=True)
        raise
