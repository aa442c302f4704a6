"""A base path to write below: on a disk by the system's own calls, anywhere else by fsspec."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from serving_app.core.errors import Code, FailedPrecondition, NotFound, ServingError
from serving_app.store.files import StoredFile, list_files, read_file
from serving_app.store.filesystem import is_local, open_path, translated_errors
from serving_app.store.listing import child_path, list_versions

_HINTS: Mapping[Code, str] = {
    Code.NOT_FOUND: "the directory or bucket above it is not there; create that first",
    Code.PERMISSION_DENIED: "the rights or credentials in use do not allow it",
    Code.RESOURCE_EXHAUSTED: "there is no room left; free some, or ask for more",
    Code.FAILED_PRECONDITION: "something else than a directory is in its way",
    Code.UNAVAILABLE: "the store did not take it; try again later",
}


class Place:
    """The base path of a model, where versions are written. Any thread may use it.

    Every method raises one of the errors that serving_app.store.filesystem lists.
    """

    def __init__(self, base_path: str, storage_options: Mapping[str, Any] | None = None) -> None:
        self.is_local = is_local(base_path)
        """Whether it is a disk of this machine, or looks like one."""
        self.options = storage_options or {}
        self.filesystem, self._root = open_path(base_path, self.options)
        self.has_directories = self.is_local or not self.filesystem.async_impl
        """Whether there are directories, as object stores have none: the drivers of those are the asynchronous ones."""
        self.base_path = self._root if self.is_local else base_path

    def path(self, name: str) -> str:
        """The path or URI of what is called so below the base path."""
        return child_path(self.base_path, name)

    def key(self, name: str) -> str:
        """The same as the file system calls it."""
        return f"{self._root.rstrip('/')}/{name}"

    def versions(self) -> Mapping[int, str]:
        """The paths of the versions that are there, whole or not; none where the base path is not there yet."""
        try:
            return list_versions(self.base_path, self.options).versions
        except NotFound:
            return {}

    def files(self, name: str) -> dict[str, StoredFile]:
        """The files at every depth below a directory, by their paths relative to it."""
        try:
            return list_files(self.path(name), self.options)
        except NotFound:
            return {}

    def read(self, name: str) -> bytes:
        """The content of a file."""
        return read_file(self.path(name), self.options)

    def create(self, name: str, content: bytes) -> bool:
        """Write a small file of a disk that must not be there yet; returns whether it was not."""
        with self.writing(name):
            try:
                descriptor = os.open(self.key(name), os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o666)
            except FileExistsError:
                return False
            with open(descriptor, "wb") as file:
                file.write(content)
        return True

    def write(self, name: str, content: bytes) -> None:
        """Write a small file."""
        with self.writing(name):
            self.make_parent(name)
            self.filesystem.pipe_file(self.key(name), content)

    def make_parent(self, name: str) -> None:
        """Make the directories above a file, where the file system has any; the base path is made, nothing above it."""
        if self.is_local:
            self._make_base()
            os.makedirs(os.path.dirname(self.key(name)), exist_ok=True)
        elif self.has_directories:  # else the driver would make the bucket
            self.filesystem.makedirs(self.key(name).rpartition("/")[0], exist_ok=True)

    def _make_base(self) -> None:
        try:
            os.mkdir(self._root)
        except FileExistsError:
            if not os.path.isdir(self._root):
                raise FailedPrecondition(f"{self._root} is a file; give the directory of the versions") from None

    def remove(self, name: str) -> None:
        """Remove a file, or a directory with all that is in it; what is not there is no error."""
        key = self.key(name)
        with self.writing(name), suppress(FileNotFoundError):
            if self.has_directories and self.filesystem.isdir(key):
                self.filesystem.rm(key, recursive=True)
            else:
                self.filesystem.rm_file(key)

    @contextmanager
    def writing(self, name: str) -> Iterator[None]:
        """Turns whatever goes wrong while something is written into an error that says so."""
        path = self.path(name)
        ours: ServingError | None = None
        try:
            with translated_errors(path, self.filesystem):
                try:
                    yield
                except ServingError as error:
                    ours = error
                    raise
        except ServingError as error:
            if error is ours:
                raise
            hint = _HINTS.get(error.code, "check the base path and its storage_options")
            cause = str(error.__cause__) or type(error.__cause__).__name__
            raise type(error)(f"{path} cannot be written: {hint} ({cause})") from error.__cause__
