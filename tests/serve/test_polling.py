"""Polls of model stores: each on its own, and only changes are told."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from serving_app.config import ServingConfig
from serving_app.core.errors import Code, PermissionDenied
from serving_app.core.events import Event, ListingFailed, VersionsListed
from serving_app.serve.polling import Polling
from serving_app.store.listing import Listing
from tests.stepping import PATIENCE_S, until

QUICK_S = 0.001


class Store:
    """Base paths and what listing each of them does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.behaviour: dict[str, Callable[[], Listing]] = {}
        self.listings: Counter[str] = Counter()
        monkeypatch.setattr("serving_app.serve.polling.list_versions", self._list)

    def _list(self, base_path: str, storage_options: Mapping[str, Any], *, servable: str) -> Listing:
        try:
            return self.behaviour[base_path]()
        finally:
            self.listings[base_path] += 1

    def holds(self, base_path: str, *versions: int, warnings: tuple[str, ...] = ()) -> None:
        listing = Listing({version: f"{base_path}/{version}" for version in versions}, warnings)
        self.behaviour[base_path] = lambda: listing

    def fails(self, base_path: str, error: Exception) -> None:
        def fail() -> Listing:
            raise error

        self.behaviour[base_path] = fail


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Store:
    return Store(monkeypatch)


def config(interval_s: float = QUICK_S, **models: str) -> ServingConfig:
    return ServingConfig.model_validate({"models": models, "poll_interval_s": interval_s})


@contextmanager
def polling() -> Iterator[tuple[Polling, list[Event]]]:
    events: list[Event] = []
    polls = Polling(events.append)
    try:
        yield polls, events
    finally:
        polls.stop()


async def looked(store: Store, base_path: str, times: int = 3) -> None:
    """Wait until so many more listings of a path have ended."""
    seen = store.listings[base_path]
    await until(lambda: store.listings[base_path] >= seen + times)


def listed(model: str, *versions: int) -> VersionsListed:
    return VersionsListed(model, {version: f"/{model}/{version}" for version in versions})


def test_only_changes_are_told(store: Store) -> None:
    """However often a store is looked at, what it holds is told when it is first seen and when it differs."""

    async def scenario() -> None:
        with polling() as (polls, events):
            store.holds("/m", 1)
            polls.watch(config(m="/m"))
            await looked(store, "/m")
            assert events == [listed("m", 1)]
            store.holds("/m", 1, 2)
            await looked(store, "/m")
            store.holds("/m")
            await looked(store, "/m")
            assert events == [listed("m", 1), listed("m", 1, 2), listed("m")]

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (PermissionDenied("no key"), Code.PERMISSION_DENIED, "no key"),
        (ValueError("odd"), Code.UNKNOWN, "ValueError: odd"),
        (TimeoutError(), Code.UNKNOWN, "TimeoutError: "),
    ],
)
def test_whatever_a_store_raises_is_told_once(store: Store, error: Exception, code: Code, message: str) -> None:
    """A listing that fails is an event about its model, told once while it stays the same, and polling goes on."""

    async def scenario() -> None:
        with polling() as (polls, events):
            store.fails("/m", error)
            polls.watch(config(m="/m"))
            await looked(store, "/m")
            assert events == [ListingFailed("m", code, message)]
            store.holds("/m", 1)
            await looked(store, "/m")
            store.fails("/m", error)
            await looked(store, "/m")
            assert events[1:] == [listed("m", 1), ListingFailed("m", code, message)]

    asyncio.run(scenario())


def test_a_slow_store_delays_nobody_else(store: Store) -> None:
    """While one store does not answer, the others are looked at as ever; it is not asked twice at a time."""

    async def scenario() -> None:
        answer = threading.Event()

        def wait() -> Listing:
            assert answer.wait(PATIENCE_S)
            return Listing({7: "/slow/7"})

        with polling() as (polls, events):
            store.behaviour["/slow"] = wait
            store.holds("/m", 1)
            polls.watch(config(slow="/slow", m="/m"))
            await looked(store, "/m", 5)
            assert events == [listed("m", 1)]
            assert store.listings["/slow"] == 0
            answer.set()
            await until(lambda: listed("slow", 7) in events)

    asyncio.run(scenario())


def test_an_interval_of_zero_looks_once(store: Store) -> None:
    """With no interval each model is listed once, and what comes later is not seen."""

    async def scenario() -> None:
        with polling() as (polls, events):
            store.holds("/m", 1)
            store.holds("/n", 1)
            polls.watch(config(0, m="/m", n="/n"))
            await until(lambda: len(events) == 2)
            store.holds("/m", 2)
            polls.watch(config(0, m="/m", n="/n"))
            await asyncio.gather(*(task for _, task in polls._watched.values()))
            assert store.listings == {"/m": 1, "/n": 1}

    asyncio.run(scenario())


def test_a_new_configuration_is_followed(store: Store) -> None:
    """Models that are new or changed are looked at anew, those that are gone no more, others are left alone."""

    async def scenario() -> None:
        with polling() as (polls, events):
            for path in ("/kept", "/moved", "/there", "/gone", "/new"):
                store.holds(path, 1)
            polls.watch(config(kept="/kept", moved="/moved", gone="/gone"))
            await until(lambda: len(events) == 3)
            polls.watch(config(kept="/kept", moved="/there", new="/new"))
            await until(lambda: len(events) == 5)
            assert VersionsListed("moved", {1: "/there/1"}) in events[3:]
            assert listed("new", 1) in events[3:]
            await looked(store, "/kept")
            before = store.listings["/gone"], store.listings["/moved"]
            await looked(store, "/kept")
            assert (store.listings["/gone"], store.listings["/moved"]) == before
            assert len(events) == 5

    asyncio.run(scenario())


def test_a_new_interval_is_followed(store: Store) -> None:
    """Who shortens the interval does not wait for the old one to pass."""

    async def scenario() -> None:
        with polling() as (polls, events):
            store.holds("/m", 1)
            polls.watch(config(3600, m="/m"))
            await until(lambda: len(events) == 1)
            polls.watch(config(m="/m"))
            await looked(store, "/m")

    asyncio.run(scenario())


def test_a_listing_under_way_is_nobodys_news_once_its_model_is_gone(store: Store) -> None:
    """What a store answers after its model was taken out of the configuration is not told."""

    async def scenario() -> None:
        answer, asked = threading.Event(), threading.Event()

        def wait() -> Listing:
            asked.set()
            assert answer.wait(PATIENCE_S)
            return Listing({7: "/slow/7"})

        with polling() as (polls, events):
            store.behaviour["/slow"] = wait
            polls.watch(config(slow="/slow"))
            await until(asked.is_set)
            polls.watch(config())
            answer.set()
            await until(lambda: store.listings["/slow"] == 1)
            assert events == []

    asyncio.run(scenario())


def test_people_are_told_in_the_log(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    """Warnings and failures are logged once each, with the model's name."""

    async def scenario() -> None:
        with polling() as (polls, _):
            store.holds("/m", 1, warnings=("two names for one version",))
            store.fails("/n", PermissionDenied("no key"))
            polls.watch(config(m="/m", n="/n"))
            await looked(store, "/m")
            await looked(store, "/n")

    caplog.set_level("INFO", "serving_app.controller")
    asyncio.run(scenario())
    assert sorted(record.getMessage() for record in caplog.records) == [
        "m: two names for one version",
        "m: versions found: 1",
        "n: no key",
    ]


def test_a_folder_is_seen_to_change(tmp_path: Path) -> None:
    """On a real directory: missing, then empty, then with a version, each told with what to do about it."""

    async def scenario() -> None:
        base = tmp_path / "m"
        with polling() as (polls, events):
            polls.watch(config(m=str(base)))
            await until(lambda: len(events) == 1)
            base.mkdir()
            await until(lambda: len(events) == 2)
            (base / "3").mkdir()
            await until(lambda: len(events) == 3)
        assert isinstance(events[0], ListingFailed)
        assert str(base) in events[0].message
        assert events[1:] == [VersionsListed("m", {}), VersionsListed("m", {3: str(base / "3")})]

    asyncio.run(scenario())
