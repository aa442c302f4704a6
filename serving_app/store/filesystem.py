"""fsspec at arm's length: opening a file system, and its many errors as the few of the core.

Every failure below is one of these, so that who polls a store can tell what to do about it:

    NotFound              nothing is at the path (or its parent is not a directory)
    PermissionDenied      the credentials in use may not read it
    FailedPrecondition    the path is there and of the wrong kind, or a package for its file system is missing
    InvalidArgument       the path or its storage options make no sense
    Unavailable           the store did not answer, or not in time: the same call may succeed later
    ResourceExhausted     the disk of the node, or a quota on it, is full
    Internal              anything that the driver of a store invents
"""

from __future__ import annotations

import errno
import importlib
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from fsspec import AbstractFileSystem
from fsspec.core import url_to_fs
from fsspec.registry import get_filesystem_class
from fsspec.utils import get_protocol

from serving_app.core.errors import (
    FailedPrecondition,
    Internal,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    ServingError,
    Unavailable,
)

_PACKAGES = {
    "s3": "s3fs",
    "s3a": "s3fs",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "abfs": "adlfs",
    "abfss": "adlfs",
    "az": "adlfs",
}
"""The package that brings a file system, where fsspec's own hint does not name the one to install."""


def open_path(url: str, storage_options: Mapping[str, Any] | None = None) -> tuple[AbstractFileSystem, str]:
    """The file system of a path or URI, and the path on it, without a trailing slash."""
    options = dict(storage_options or {})
    if get_protocol(url) in _PACKAGES and "::" not in url:
        # What is asked for here is what is there now; and their drivers keep each listing for as long as they live.
        options.setdefault("use_listings_cache", False)
    with translated_errors(url):
        _require_package(url)
        # gcsfs logs a stack for each error that it raises, at every poll; ours say the same to those who need it.
        if (chatty := logging.getLogger("gcsfs")).level == logging.NOTSET:
            chatty.setLevel(logging.CRITICAL)
        filesystem, path = _open_gcs_elsewhere(url, options) or url_to_fs(url, **options)
        _renew_credentials(filesystem)
        return filesystem, path.rstrip("/") or path


def _open_gcs_elsewhere(url: str, options: dict[str, Any]) -> tuple[AbstractFileSystem, str] | None:
    """The file system for an API like Google's that somebody else runs; None if the URL means anything else.

    gcsfs asks by gRPC of which kind a bucket is, before every listing until it knows. Google's own endpoints answer at
    once, and for some kinds gcsfs needs to know. No emulator speaks gRPC: there the question ends after a minute.
    gcsfs's plain file system, which the other one is made from, does not ask.
    """
    if get_protocol(url) not in {"gs", "gcs"} or "::" in url:
        return None
    # The variable is the one that gcsfs, and Google's own clients, obey where no endpoint is given.
    host = urlsplit(options.get("endpoint_url") or os.environ.get("STORAGE_EMULATOR_HOST", "")).hostname
    if host is None or host.endswith(".googleapis.com"):
        return None
    plain = importlib.import_module("gcsfs.core").GCSFileSystem
    return plain(**options), plain._strip_protocol(url)


def _renew_credentials(filesystem: AbstractFileSystem) -> None:
    """Have Google's credentials renewed in the thread that asks.

    gcsfs would do it in the one thread in which fsspec talks to all object stores, and wait there for the answer.
    """
    if (renew := getattr(getattr(filesystem, "credentials", None), "maybe_refresh", None)) is not None:
        renew()


def is_local(url: str) -> bool:
    """Whether a path or URI lies on the node itself, so that it can be opened by its path."""
    return get_protocol(url) in {"file", "local"}


def _require_package(url: str) -> None:
    protocol = get_protocol(url)
    try:
        get_filesystem_class(protocol)
    except ImportError as error:
        package = _PACKAGES.get(protocol)
        fix = f"pip install {package}" if package else str(error)
        raise FailedPrecondition(f"{protocol}:// needs a package that is not installed: {fix}") from error
    except ValueError as error:
        raise InvalidArgument(
            f"{protocol}:// is no file system that fsspec knows; use a plain path, file://, s3://, gs:// or another of "
            "those that python -c 'import fsspec; print(fsspec.available_protocols())' lists"
        ) from error


@contextmanager
def translated_errors(path: str, filesystem: AbstractFileSystem | None = None) -> Iterator[None]:
    """Turns whatever a file system raises about `path` into one of the errors above.

    A file system whose credentials have expired is not used again: the next one opened reads them anew.
    """
    try:
        yield
    except ServingError:
        raise
    except Exception as error:
        if filesystem is not None and _is_expiry(error):
            _forget(filesystem)
        raise translate(error, path) from error


def _forget(filesystem: AbstractFileSystem) -> None:
    """fsspec keeps every file system for the process's life; others of its kind stay as they are."""
    kept = type(filesystem)._cache
    for token in [token for token, each in kept.items() if each is filesystem]:
        kept.pop(token, None)


def translate(error: Exception, path: str) -> ServingError:
    """The core's error for what a file system raised about `path`."""
    text = str(error) or type(error).__name__
    if _is_expiry(error):
        return PermissionDenied(
            f"{path} may not be read because the credentials in use have expired; put new ones where they come from "
            f"(storage_options, stores, the environment or a credentials file): {text}"
        )
    if isinstance(error, FileNotFoundError):
        return NotFound(f"{path} does not exist")
    if isinstance(error, NotADirectoryError):
        return FailedPrecondition(f"{path} is a file, or lies below one; a directory is needed")
    if _is_refusal(error):
        return PermissionDenied(f"{path} may not be read with the rights or credentials in use: {text}")
    if isinstance(error, TypeError | ValueError) or (isinstance(error, OSError) and error.errno == errno.EINVAL):
        return InvalidArgument(f"{path} cannot be opened; check the path and its storage_options: {text}")
    if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return ResourceExhausted(f"{path} does not fit on the node's disk; free some space or move cache_dir: {text}")
    if _is_passing(error):
        return Unavailable(f"{path} cannot be read at the moment: {text}")
    return Internal(f"{path}: its file system failed with {type(error).__name__}: {text}")


# Drivers hand on the errors of the libraries below them. Those are told by their names and fields, not by their
# classes: the libraries are there only if somebody uses such a store.

_EXPIRIES = {"ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired"}
"""S3's codes for credentials that were good once."""

_REFUSALS = {
    *("NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "TokenRetrievalError"),  # botocore
    "GoogleAuthError",
}
_PASSING = {
    *("HTTPClientError", "ConnectionError"),  # botocore
    *("ClientError", "ServerTimeoutError"),  # aiohttp
    *("RequestException", "TransportError"),  # requests, google.auth
}


def _is_expiry(error: Exception) -> bool:
    """Whether the credentials were good once. botocore and google.auth renew those that can be renewed, so it is only
    told of those that somebody has to replace."""
    response = getattr(error.__cause__, "response", None)
    code = response.get("Error", {}).get("Code") if isinstance(response, Mapping) else None
    return code in _EXPIRIES or _status(error) == 401 or "RefreshError" in _names(error)


def _is_refusal(error: Exception) -> bool:
    forbidden = _status(error) == 403 or str(error).startswith("Forbidden: ")  # gcsfs makes an OSError of a 403
    # google.auth's TransportError, that the way to its server is broken, is a GoogleAuthError as well.
    refused = bool(_names(error) & _REFUSALS) and not _names(error) & _PASSING
    return isinstance(error, PermissionError) or forbidden or refused


def _is_passing(error: Exception) -> bool:
    status = _status(error)
    unwell = status is not None and (status in {408, 429} or status >= 500)
    return isinstance(error, OSError | TimeoutError) or unwell or bool(_names(error) & _PASSING)


def _status(error: Exception) -> int | None:
    """The HTTP status that an error of gcsfs or aiohttp carries."""
    for name in ("code", "status"):
        if isinstance(value := getattr(error, name, None), int):
            return value
    return None


def _names(error: Exception) -> set[str]:
    """The names of an error's class and of all that it is made from."""
    return {kind.__name__ for kind in type(error).__mro__}
