"""The file with what was changed at run time, on a disk and on object stores behind real APIs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from serving_app.core.errors import NotFound
from serving_app.store.filesystem import open_path
from serving_app.store.state_file import StateFile

APP = "app/1 ü"


@pytest.fixture(params=["disk", "s3_server", "gcs_server"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Mapping[str, Any]]:
    """A directory, and what its store is to be told."""
    if request.param == "disk":
        return str(tmp_path / "state"), {}
    store = request.getfixturevalue(request.param)
    return f"{store.new_bucket()}/clusters/one/", store.options


def test_what_is_written_is_read(place: tuple[str, Mapping[str, Any]]) -> None:
    """The file is there once it is written, holds what was written last, and belongs to one app."""
    file = StateFile(place[0], APP, place[1])
    assert file.read() is None
    for content in (b"one", b"another" * 10_000, b""):
        file.write(content)
        assert StateFile(place[0], APP, place[1]).read() == content
    assert StateFile(place[0], "app", place[1]).read() is None


def test_a_file_is_kept_aside(place: tuple[str, Mapping[str, Any]]) -> None:
    """Under another name it has the same content, and the app has none."""
    file = StateFile(place[0], APP, place[1])
    file.write(b"damaged")
    aside = file.keep_aside("20300101T000000Z")
    assert file.read() is None
    filesystem, path = open_path(aside, place[1])
    assert filesystem.cat_file(path) == b"damaged"


def test_what_is_kept_aside_is_nobody_elses_business(tmp_path: Path) -> None:
    """A file that is damaged may hold credentials as well: it can be read by its owner alone, as before."""
    file = StateFile(str(tmp_path), APP, {})
    file.write(b"damaged")
    assert Path(file.keep_aside("20300101T000000Z")).stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("server", ["s3_server", "gcs_server"])
def test_a_bucket_that_is_missing_is_no_empty_one(request: pytest.FixtureRequest, server: str) -> None:
    """It may come back with what was changed at run time: that nothing was ever kept is not to be concluded."""
    store = request.getfixturevalue(server)
    file = StateFile(f"{store.scheme}://no-such-bucket-here/state", "app", store.options)
    with pytest.raises(NotFound, match="there is no bucket no-such-bucket-here; create it, or correct"):
        file.read()
