"""Where files lie: absolute paths and URIs, and the kind of store that each of them names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated

from pydantic import AfterValidator

from serving_app.config.settings import Form

_URI = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://.")

LOCAL = "file"

ALIASES: Mapping[str, str] = {
    "s3a": "s3",
    "gcs": "gs",
    "local": LOCAL,
    "az": "abfs",
    "abfss": "abfs",
}
"""Schemes that mean the same kind of store as another one, which stands for both here."""


def is_absolute(location: str) -> bool:
    """Whether it is an absolute path or a URI, and so means the same for every process."""
    return location.startswith("/") or _URI.match(location) is not None


def scheme_of(location: str) -> str:
    """The kind of store of an absolute path or URI: one name for each kind, `file` for plain paths."""
    match = _URI.match(location)
    return kind_of(match[1]) if match else LOCAL


def kind_of(scheme: str) -> str:
    """The one name for all schemes that mean the same kind of store."""
    return ALIASES.get(scheme.lower(), scheme.lower())


def is_web(location: str) -> bool:
    """Whether it is on a web server: readable by name, but without a listing and not writable."""
    return scheme_of(location) in {"http", "https"}


def _check_absolute(value: str) -> str:
    if is_absolute(value):
        return value
    raise ValueError(
        f"{value!r} is neither an absolute path nor a URI; write the whole path, such as /var/serving, or a URI, such "
        "as s3://bucket/serving"
    )


Location = Annotated[str, AfterValidator(_check_absolute), Form("absolute path or URI")]
"""An absolute path or a URI."""
