"""What a Host does to the copies of remote versions that it loads."""

from __future__ import annotations

import uuid
from pathlib import Path

import fsspec
import pytest

from serving_app.core.errors import Internal
from serving_app.core.servable import ServableId
from serving_app.host import Assignment, Host
from serving_app.runtime.loader import LoadOptions
from tests.host.scripted import SCRIPTED_PLATFORM, Scripted, ScriptedLoader


@pytest.fixture
def model() -> str:
    """The base path of two remote versions, of 10 bytes each."""
    base = f"memory:///{uuid.uuid4().hex}/m"
    fsspec.filesystem("memory").pipe({f"{base}/{version}/saved_model.pb": b"0123456789" for version in (1, 2)})
    return base


def assignment(model: str, version: int, cache: Path) -> Assignment:
    """A version of a cache that has room for one."""
    return Assignment(
        ServableId("m", version), f"{model}/{version}", SCRIPTED_PLATFORM, cache_dir=str(cache), cache_max_bytes=10
    )


def copies(cache: Path) -> set[str]:
    return {path.name.rsplit("-", 1)[0] for path in cache.iterdir() if path.is_dir()}


def test_what_is_held_keeps_its_files(model: str, tmp_path: Path) -> None:
    """The copy of a loaded version stays, whatever the cache may hold, until the version is unloaded and closed."""
    host, other = Host(), Host()
    host.load(assignment(model, 1, tmp_path))
    other.load(assignment(model, 2, tmp_path))
    other.unload(ServableId("m", 2))
    assert copies(tmp_path) == {"m-1", "m-2"}
    host.unload(ServableId("m", 1))
    assert [ScriptedLoader.ready.pop().closed for _ in range(2)] == [1, 1]
    fsspec.filesystem("memory").pipe(f"{model}/3/saved_model.pb", b"0123456789")
    host.load(assignment(model, 3, tmp_path))
    assert copies(tmp_path) == {"m-3"}
    host.unload(ServableId("m", 3))
    ScriptedLoader.ready.pop()


def test_a_failed_load_keeps_nothing(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The copy of a version that could not be loaded stays for the next try, and may go for another version."""

    def fail(self: ScriptedLoader, path: str, options: LoadOptions) -> Scripted:
        raise Internal("broken")

    with monkeypatch.context() as patch:
        patch.setattr(ScriptedLoader, "load", fail)
        with pytest.raises(Internal, match="broken"):
            Host().load(assignment(model, 1, tmp_path))
    assert copies(tmp_path) == {"m-1"}
    host = Host()
    host.load(assignment(model, 2, tmp_path))
    assert copies(tmp_path) == {"m-2"}
    host.unload(ServableId("m", 2))
    ScriptedLoader.ready.pop()
