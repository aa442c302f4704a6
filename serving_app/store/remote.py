"""What a remote store says about a version: its files, their sizes, and what tells one content from another."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from fsspec import AbstractFileSystem

from serving_app.core.errors import FailedPrecondition, InvalidArgument, NotFound
from serving_app.store.files import stamp_of
from serving_app.store.filesystem import open_path, translated_errors


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """One file of a version. `name` is its path below the version's directory, `key` the one on the file system."""

    name: str
    key: str
    size: int
    stamp: tuple[str, ...]
    md5: bytes | None = None
    """None where the store does not tell it for certain."""


@dataclass(frozen=True, slots=True)
class RemoteVersion:
    """A version as it was when it was looked into."""

    path: str
    files: tuple[RemoteFile, ...]
    filesystem: AbstractFileSystem = field(repr=False, compare=False)
    source: str = field(repr=False, compare=False)

    @property
    def size(self) -> int:
        """The bytes of all its files."""
        return sum(file.size for file in self.files)


def look_into(path: str, storage_options: Mapping[str, Any] | None = None) -> RemoteVersion:
    """The version at `path` as the store has it now; raises what serving_app.store.filesystem lists."""
    filesystem, source = open_path(path, storage_options)
    return RemoteVersion(path, _list_files(filesystem, source, path), filesystem, source)


def look_again(version: RemoteVersion) -> RemoteVersion:
    """The same version at this moment; it equals the earlier look if nothing about its files has changed."""
    files = _list_files(version.filesystem, version.source, version.path)
    return RemoteVersion(version.path, files, version.filesystem, version.source)


def _list_files(filesystem: AbstractFileSystem, source: str, path: str) -> tuple[RemoteFile, ...]:
    with translated_errors(path, filesystem):
        # Everything, because some drivers keep a listing for each directory below, too.
        filesystem.invalidate_cache()
        found = filesystem.find(source, detail=True)
    if not found:
        raise NotFound(f"{path} does not exist, or holds no files")
    if source in found:
        raise FailedPrecondition(f"{path} is a file; a version is a directory that holds a SavedModel")
    # Object stores know directories only as empty objects whose name ends so.
    keys = [key for key in sorted(found) if not key.endswith("/")]
    files = tuple(_describe(key, source, found[key]) for key in keys)
    _refuse_files_that_are_directories(files, path)
    return files


def _describe(key: str, source: str, info: Mapping[str, Any]) -> RemoteFile:
    size = info.get("size")
    if size is None:
        raise FailedPrecondition(f"{key}: the store does not tell its size; copy the model to one that does")
    # Google's store and gcsfs hand such an object out unpacked, and so with another size than the store tells.
    if (encoding := info.get("contentEncoding")) not in {None, "", "identity"}:
        raise FailedPrecondition(
            f"{key} is stored with Content-Encoding {encoding}, so that its size is not that of its content; upload it "
            "as it is (gcloud storage cp without --gzip-local)"
        )
    return RemoteFile(relative_name(key, source), key, int(size), stamp_of(info), _md5(info))


def relative_name(key: str, source: str) -> str:
    """The path of a file below its version's directory; refuses those that would not stay there."""
    name = key.removeprefix(source + "/")
    # Keys of an object store may hold anything, and must not lead out of the copy.
    if ".." in PurePosixPath(name).parts or name.startswith("/"):
        raise InvalidArgument(f"{key} has a name that leads out of its directory; rename it in the store")
    if str(PurePosixPath(name)) != name or "\0" in name:
        raise InvalidArgument(f"{key} has a name that no file on a disk can have; rename it in the store")
    return name


def _refuse_files_that_are_directories(files: tuple[RemoteFile, ...], path: str) -> None:
    """An object store lets `a` and `a/b` be, no disk does."""
    directories = {str(parent) for file in files for parent in PurePosixPath(file.name).parents}
    for file in files:
        if file.name in directories:
            raise InvalidArgument(
                f"{path}/{file.name} is a file, and other files lie below it; rename one of them in the store"
            )


def _md5(info: Mapping[str, Any]) -> bytes | None:
    """The MD5 of the content where the store keeps it under a name of its own, as Google's does.

    S3's ETag looks like one and often is, but not for objects encrypted with keys of KMS or of the caller, nor in
    directory buckets, and a listing does not tell which: to check by it would refuse sound files.
    """
    try:
        return base64.b64decode(info["md5Hash"], validate=True) if info.get("md5Hash") else None
    except (binascii.Error, TypeError, ValueError):
        return None
