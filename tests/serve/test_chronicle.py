"""The history that outlives the controller."""

from __future__ import annotations

import asyncio
import logging
from functools import partial

import pytest

from serving_app.core.history import Happening, History
from serving_app.serve import chronicle
from serving_app.serve.chronicle import Chronicle
from tests.serve.kept import keep_here
from tests.stepping import until

HAPPENINGS = [
    Happening(1.0, "m", 1, "loading"),
    Happening(2.0, "n/ü", None, "configured"),
    Happening(3.0, "m", 1, "ready"),
]


def save(told: Chronicle, kept: dict[str, bytes], count: int) -> None:
    async def run() -> None:
        saving = asyncio.create_task(told.save_behind())
        await until(lambda: len(kept) == count)
        saving.cancel()
        await asyncio.gather(saving, return_exceptions=True)

    asyncio.run(run())


def test_a_new_controller_remembers(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """What happened is logged in a line each, kept a little later, and known to the next controller in its order."""
    kept = keep_here(monkeypatch)
    monkeypatch.setattr(chronicle, "_SAVE_EVERY_S", 0.0)
    first = Chronicle("app")
    with caplog.at_level(logging.INFO, "serving_app.controller"):
        first.tell(HAPPENINGS)
    assert caplog.messages == ["m@1: loading", "n/ü: configured", "m@1: ready"]
    save(first, kept, 2)
    second = Chronicle("app")
    asyncio.run(second.restore())
    assert second.find(None, None, 10) == tuple(HAPPENINGS)
    assert second.find("m", 1, 1) == (HAPPENINGS[2],)
    second.tell([Happening(4.0, "m", 2, "loading")])
    assert len(second.find("m", None, 10)) == 3


def test_a_deleted_app_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what is kept of this app is forgotten."""
    kept = keep_here(monkeypatch)
    monkeypatch.setattr(chronicle, "_SAVE_EVERY_S", 0.0)
    for name in ("app", "app2"):
        told = Chronicle(name)
        told.tell(HAPPENINGS)
        save(told, kept, len(kept) + 2)
    Chronicle("app").forget()
    assert sorted(kept) == ["history:app2:m", "history:app2:n%2F%C3%BC"]


def test_what_is_forgotten_is_not_kept_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """Models that come and go do not fill the cluster's store, nor does what an earlier controller kept of them."""
    kept = keep_here(monkeypatch)
    monkeypatch.setattr(chronicle, "_SAVE_EVERY_S", 0.0)
    monkeypatch.setattr(chronicle, "History", partial(History, 1, 2))
    first = Chronicle("app")
    first.tell([Happening(1.0, "a", None, "configured"), Happening(2.0, "b", None, "configured")])
    save(first, kept, 2)
    second = Chronicle("app")
    asyncio.run(second.restore())
    second.tell([Happening(3.0, "c", None, "configured")])

    async def run() -> None:
        saving = asyncio.create_task(second.save_behind())
        await until(lambda: sorted(kept) == ["history:app:b", "history:app:c"])
        saving.cancel()
        await asyncio.gather(saving, return_exceptions=True)

    asyncio.run(run())
