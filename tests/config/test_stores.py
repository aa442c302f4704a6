"""Where files lie, and what fsspec is told about it."""

from __future__ import annotations

from typing import Any

import pytest

from serving_app.config import parse, store_options
from serving_app.config.locations import is_absolute, is_web, scheme_of


@pytest.mark.parametrize(
    ("location", "scheme"),
    [
        ("/models/m", "file"),
        ("/", "file"),
        ("/a://b", "file"),
        ("file:///models", "file"),
        ("local:///models", "file"),
        ("s3://bucket", "s3"),
        ("s3a://bucket/m", "s3"),
        ("gs://bucket", "gs"),
        ("gcs://bucket", "gs"),
        ("abfss://box@account.dfs.core.windows.net/m", "abfs"),
        ("memory://m", "memory"),
        ("https://host/m", "https"),
    ],
)
def test_schemes(location: str, scheme: str) -> None:
    """Absolute paths and URIs name one kind of store each, whichever of its names is written."""
    assert is_absolute(location)
    assert scheme_of(location) == scheme
    assert is_web(location) is scheme.startswith("http")


@pytest.mark.parametrize("location", ["", "m", "./m", "~/m", "s3:", "s3://", "s3:/m", "://m", "3s://m"])
def test_relative_locations(location: str) -> None:
    """What means another place for every process is no location."""
    assert not is_absolute(location)


@pytest.mark.parametrize(
    ("stores", "own", "uri", "expected"),
    [
        ({}, {}, "s3://b", {}),
        ({"s3": {"key": "k"}}, {}, "s3://b", {"key": "k"}),
        ({"s3": {"key": "k"}}, {}, "gs://b", {}),
        ({"s3a": {"key": "k"}}, {}, "s3://b", {"key": "k"}),
        ({"gs": {"token": "t"}}, {}, "gcs://b", {"token": "t"}),
        ({"file": {"auto_mkdir": True}}, {}, "/m", {"auto_mkdir": True}),
        ({"s3": {"key": "k", "anon": False}}, {"key": "own"}, "s3://b", {"key": "own", "anon": False}),
        ({"s3": {"client_kwargs": {"a": 1}}}, {"client_kwargs": {"b": 2}}, "s3://b", {"client_kwargs": {"b": 2}}),
    ],
)
def test_options(stores: dict[str, Any], own: dict[str, Any], uri: str, expected: dict[str, Any]) -> None:
    """A store is told the options of its kind, then the model's own, each of which goes before as a whole."""
    config = parse({"models": {"m": {"base_path": uri, "storage_options": own}}, "stores": stores})
    assert store_options(config, uri, config.models[0]) == expected
    if not own:
        assert store_options(config, uri) == expected
