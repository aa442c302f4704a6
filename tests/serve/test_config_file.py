"""The file that holds the models: applied when it changes, and tried again while it cannot be applied."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from serving_app.config import ServingConfig, parse
from serving_app.core.errors import FailedPrecondition
from serving_app.serve import config_file
from serving_app.serve.config_file import FileWatch, watch_config_file
from serving_app.serve.wanted import Applied, redeploy
from tests.stepping import until


class Reader:
    """Whoever applies the file, and what was told of problems."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.applied: list[str] = []
        self.tries = 0
        self.told: list[str | None] = []
        self.refusal = ""
        self.fault: Exception | None = None

    async def apply(self, text: str, source: str, digest: str) -> None:
        assert source == str(self.path)
        self.tries += 1
        if self.fault:
            raise self.fault
        if self.refusal:
            raise FailedPrecondition(self.refusal)
        self.applied.append(text)
        self.digest = digest

    def watch(self, digest: str | None = None, interval_s: float = 0.001) -> Awaitable[None]:
        return watch_config_file(str(self.path), {}, interval_s, digest, self.apply, self.told.append)

    def play(self, scenario: Callable[[], Awaitable[None]], digest: str | None = None) -> None:
        async def run() -> None:
            task = asyncio.ensure_future(self.watch(digest))
            await scenario()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        asyncio.run(run())


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    path = tmp_path / "models.config"
    path.write_text("first")
    return Reader(path)


def test_only_changes_are_applied(reader: Reader) -> None:
    """The file is applied when it is first seen and when it differs, and a text that was applied by an earlier
    controller is no change."""

    async def scenario() -> None:
        await until(lambda: reader.applied == ["first"])
        reader.path.write_text("second")
        await until(lambda: reader.applied[-1] == "second")

    reader.play(scenario)
    reader.applied.clear()

    async def continued() -> None:
        reader.path.write_text("third")
        await until(lambda: bool(reader.applied))

    reader.play(continued, digest=reader.digest)
    assert reader.applied == ["third"]
    assert not reader.told


def test_a_file_that_cannot_be_applied_is_tried_again(reader: Reader) -> None:
    """What it lacks may come: the reason is told once, and taken back when it is applied."""

    async def scenario() -> None:
        reader.refusal = "a label names a version that is not there"
        await until(lambda: reader.tries > 3)
        assert len(reader.told) == 1
        assert reader.refusal in str(reader.told[0])
        reader.refusal = ""
        await until(lambda: reader.told[-1] is None)
        assert reader.applied == ["first"]

    reader.play(scenario)


def test_a_fault_in_applying_a_file_is_told(reader: Reader) -> None:
    """It does not end the watch, and with it the controller, which would read the same file again when it is back."""

    async def scenario() -> None:
        reader.fault = RecursionError("too deep")
        await until(lambda: reader.tries > 1)
        assert "RecursionError: too deep" in str(reader.told[0])
        reader.fault = None
        await until(lambda: reader.applied == ["first"])

    reader.play(scenario)


def test_a_file_that_vanishes_and_returns(reader: Reader) -> None:
    """A missing file changes nothing and is told; what comes back is applied."""

    async def scenario() -> None:
        await until(lambda: reader.applied == ["first"])
        reader.path.unlink()
        await until(lambda: "does not exist" in str(reader.told[-1:]))
        reader.path.write_bytes(b"\xff")
        await until(lambda: "UTF-8" in str(reader.told[-1:]))
        reader.path.write_text("again")
        await until(lambda: reader.applied[-1] == "again")
        assert reader.told[-1] is None

    reader.play(scenario)


def test_a_text_that_is_still_being_written_is_not_applied(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    """Content that differs from look to look is left alone until it rests."""
    looks = iter(["fi", "firs", "first", "first", "first", "firs", "first and second", "first and second"])
    monkeypatch.setattr(config_file, "read_text", lambda *_: next(looks, "first and second"))

    async def scenario() -> None:
        await until(lambda: reader.applied == ["first", "first and second"])

    reader.play(scenario)
    assert reader.tries == 2


def test_a_file_may_be_read_only_once(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    """With an interval of 0 the watch ends when the file is in force."""
    asyncio.run(asyncio.wait_for(reader.watch(interval_s=0), 10))
    assert reader.applied == ["first"]
    assert config_file.read_text(str(reader.path), {}) == "first"


def test_one_file_is_watched_at_a_time(tmp_path: Path) -> None:
    """A configuration that names the same file goes on watching it; one that names another, or none, stops that."""
    told: list[str | None] = []
    spawned: list[asyncio.Task[None]] = []
    applied: list[str] = []

    class Edits:
        wanted = redeploy(None, Applied(1, parse({"models": {}})))

        async def apply_file(self, text: str, source: str, digest: str) -> None:
            applied.append(text)

    def config(name: str | None) -> ServingConfig:
        return parse({"model_config_file": name and str(tmp_path / name), "model_config_file_poll_s": 0.001})

    def spawn(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        spawned.append(asyncio.ensure_future(work))
        return spawned[-1]

    async def scenario() -> None:
        watch = FileWatch(spawn, told.append)
        for name in ("a", "a", "b"):
            (tmp_path / name).write_text(name)
            watch.follow(config(name), Edits())  # type: ignore[arg-type]
            await until(lambda name=name: name in applied)  # type: ignore[misc]
        watch.follow(config(None), Edits())  # type: ignore[arg-type]
        await asyncio.gather(*spawned, return_exceptions=True)

    asyncio.run(scenario())
    assert (applied, len(spawned), told) == (["a", "b"], 2, [None, None])
