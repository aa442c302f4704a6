"""Polls of model stores: each on its own, and only changes are told."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from serving_app.config import ServingConfig
from serving_app.core.errors import Code, PermissionDenied
from serving_app.core.events import Event, ListingFailed, VersionsListed
from serving_app.serve.polling import Polling, _find_pause
from serving_app.serve.spare_threads import SpareThreads
from serving_app.store import Poll
from tests.stepping import PATIENCE_S, until

QUICK_S = 0.001

NO_VARIABLES = b"\x12\x00"
"""A SavedModel with one graph, which is empty."""


class Store:
    """Base paths and what listing each of them does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.behaviour: dict[str, Callable[[], Poll]] = {}
        self.listings: Counter[str] = Counter()
        self.sources: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
        monkeypatch.setattr("serving_app.serve.polling.ModelSource", self._open)

    def _open(self, name: str, base_path: str, *arguments: Any, **options: Any) -> Source:
        self.sources.append(((name, base_path, *arguments), options))
        return Source(self, base_path)

    def holds(self, base_path: str, *versions: int, **more: Any) -> None:
        poll = Poll({version: f"{base_path}/{version}" for version in versions}, **more)
        self.behaviour[base_path] = lambda: poll

    def fails(self, base_path: str, error: Exception) -> None:
        def fail() -> Poll:
            raise error

        self.behaviour[base_path] = fail


@dataclass
class Source:
    """What stands for a ModelSource."""

    store: Store
    base_path: str

    def poll(self) -> Poll:
        try:
            return self.store.behaviour[self.base_path]()
        finally:
            self.store.listings[self.base_path] += 1


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Store:
    return Store(monkeypatch)


def config(interval_s: float = QUICK_S, **models: object) -> ServingConfig:
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

        def wait() -> Poll:
            assert answer.wait(PATIENCE_S)
            return Poll({7: "/slow/7"})

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


def test_an_interval_of_zero_looks_until_all_is_decided(store: Store) -> None:
    """With no interval a model is looked at until that has worked and nothing waits; what comes later is not seen."""

    async def scenario() -> None:
        with polling() as (polls, events):
            store.fails("/m", PermissionDenied("no key"))
            store.holds("/n", 1)
            polls.watch(config(0, m="/m", n="/n"))
            await until(lambda: len(events) == 2)
            store.holds("/m", 1, waiting={2: "saved_model.pb is missing"}, again_in=0.0)
            await until(lambda: len(events) == 3)
            store.holds("/m", 1, 2)
            await until(lambda: len(events) == 4)
            store.holds("/m", 3)
            polls.watch(config(0, m="/m", n="/n"))
            await asyncio.gather(*(watch.task for watch in polls._watches.values() if watch.task))
            assert store.listings["/n"] == 1
            assert events[3] == listed("m", 1, 2)

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


def test_what_is_known_to_be_finished_need_not_rest_again(store: Store) -> None:
    """What was finished when it was loaded is so for the first look, and what a look found finished for the next."""

    async def scenario() -> None:
        with polling() as (polls, events):
            for path in ("/m", "/n"):
                store.holds(path, 1)
            polls.watch(config(3600, m="/m", n="/n"), {"m": {1: "/m/1"}, "gone": {2: "/gone/2"}})
            await until(lambda: len(events) == 2)
            polls.watch(config(1800, m="/m", n="/n"))
            await until(lambda: len(events) == 4)

    asyncio.run(scenario())
    assert [(names[0], options["finished"]) for names, options in store.sources] == [
        ("m", {1: "/m/1"}), ("n", {}), ("m", {1: "/m/1"}), ("n", {1: "/n/1"})
    ]  # fmt: skip


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

        def wait() -> Poll:
            asked.set()
            assert answer.wait(PATIENCE_S)
            return Poll({7: "/slow/7"})

        with polling() as (polls, events):
            store.behaviour["/slow"] = wait
            polls.watch(config(slow="/slow"))
            await until(asked.is_set)
            polls.watch(config())
            answer.set()
            await until(lambda: store.listings["/slow"] == 1)
            assert events == []

    asyncio.run(scenario())


def test_all_that_a_poll_found_is_told(store: Store) -> None:
    """What waits, the sizes and the warnings are part of the news, and a change of any of them is news."""

    async def scenario() -> None:
        with polling() as (polls, events):
            found = [
                {"waiting": {2: "saved_model.pb is missing"}},
                {"waiting": {2: "its files have to rest for 1 s"}},
                {"sizes": {1: 10}},
                {"sizes": {1: 11}},
                {"sizes": {1: 11}, "warnings": ("two names for one version",)},
            ]
            for number, more in enumerate(found):
                store.holds("/m", 1, **more)
                polls.watch(config(m="/m"))
                await looked(store, "/m")
                assert events[number:] == [VersionsListed("m", {1: "/m/1"}, **more)]

    asyncio.run(scenario())


def test_a_store_that_hangs_counts_as_failed_and_is_not_asked_again(store: Store) -> None:
    """After poll_timeout_s the model's listing has failed; it is asked again when the call that is stuck came back."""

    async def scenario() -> None:
        answer = threading.Event()

        def wait() -> Poll:
            assert answer.wait(PATIENCE_S)
            return Poll({7: "/slow/7"})

        with polling() as (polls, events):
            store.behaviour["/slow"] = wait
            polls.watch(config(slow="/slow").model_copy(update={"poll_timeout_s": 0.01}))
            await until(lambda: len(events) == 1)
            assert isinstance(events[0], ListingFailed)
            assert events[0].code is Code.DEADLINE_EXCEEDED
            assert events[0].message.startswith("/slow has not been listed after 0.01 s")
            assert len(polls._threads) == 1
            answer.set()
            await looked(store, "/slow")
            assert events[1:] == [listed("slow", 7)]

    asyncio.run(scenario())


def test_any_number_of_hanging_stores_delays_nobody_else(store: Store) -> None:
    """While the stores of a hundred models hang, another model that comes later is looked at again and again."""

    async def scenario() -> None:
        answer = threading.Event()

        def wait() -> Poll:
            assert answer.wait(PATIENCE_S)
            return Poll({})

        hanging = {f"slow-{number}": f"/slow/{number}" for number in range(100)}
        with polling() as (polls, events):
            for path in hanging.values():
                store.behaviour[path] = wait
            store.holds("/m", 1)
            polls.watch(config(**hanging))
            await asyncio.sleep(0)
            polls.watch(config(**hanging, m="/m"))
            await looked(store, "/m", 20)
            assert events == [listed("m", 1)]
            answer.set()
            await until(lambda: len(events) == 101)

    asyncio.run(scenario())


def test_threads_that_were_needed_for_stuck_calls_end() -> None:
    """Calls that are stuck do not keep others from their thread; when all is done only a few threads stay."""

    async def scenario() -> None:
        release = threading.Event()
        threads = SpareThreads()
        stuck = [threads.call(release.wait) for _ in range(50)]
        assert await threads.call(lambda: "quick").done == "quick"
        assert len(threads) > 50
        release.set()
        assert all([await call.done for call in stuck])
        await until(lambda: len(threads) <= 8)
        threads.stop()
        await until(lambda: len(threads) == 0)

    asyncio.run(scenario())


def test_what_was_finished_is_not_waited_for_again(store: Store) -> None:
    """A change of how a model is polled starts with the versions that were finished before; labels start nothing."""

    async def scenario() -> None:
        with polling() as (polls, events):
            store.holds("/m", 1)
            polls.watch(config(3600, m="/m"))
            await until(lambda: len(events) == 1)
            before = config(3600, m="/m")
            labelled = before.models[0].model_copy(update={"labels": {"stable": 1}})
            polls.watch(before.model_copy(update={"models": (labelled,)}))
            assert len(store.sources) == 1
            patient = labelled.model_copy(update={"settle_s": 5.0})
            polls.watch(before.model_copy(update={"models": (patient,)}))
            arguments, options = store.sources[1]
            assert arguments[:2] == ("m", "/m")
            assert options["finished"] == {1: "/m/1"}
            assert options["settle_s"] == 5.0

    asyncio.run(scenario())


def test_a_model_is_reached_by_the_options_of_its_kind_of_store(store: Store) -> None:
    """What `stores` says of a scheme and what the model says of itself go to the model's source together."""

    async def scenario() -> None:
        with polling() as (polls, _):
            settings = {
                "models": [{"name": "m", "base_path": "s3://b/m", "storage_options": {"key": "own"}}],
                "stores": {"s3": {"key": "all", "endpoint_url": "http://s3"}},
            }
            store.holds("s3://b/m", 1)
            polls.watch(ServingConfig.model_validate(settings))
            assert store.sources[0][1]["options"] == {"key": "own", "endpoint_url": "http://s3"}

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("interval_s", "failures", "pause_s"),
    [(1, 0, 1), (1, 1, 2), (1, 2, 4), (1, 9, 4), (10, 1, 20), (10, 2, 30), (60, 5, 60), (0, 0, 1)],
)
def test_failures_prolong_the_pause(interval_s: float, failures: int, pause_s: float) -> None:
    """Each failure in a row doubles the pause, up to four intervals and half a minute."""
    assert _find_pause(interval_s, failures) == pause_s


def test_a_folder_is_seen_to_change(tmp_path: Path) -> None:
    """On a real directory: missing, then empty, then with a version, each told with what to do about it."""

    async def scenario() -> None:
        base = tmp_path / "m"
        with polling() as (polls, events):
            polls.watch(config(m={"base_path": str(base), "settle_s": 0.2}))
            await until(lambda: len(events) == 1)
            base.mkdir()
            await until(lambda: len(events) == 2)
            (base / "3").mkdir()
            await until(lambda: len(events) == 3)
            (base / "3" / "saved_model.pb").write_bytes(NO_VARIABLES)
            await until(lambda: len(events) == 5)
        assert isinstance(events[0], ListingFailed)
        assert str(base) in events[0].message
        assert events[1] == VersionsListed("m", {}, warnings=events[1].warnings)
        there = frozenset({3})
        assert events[2] == VersionsListed("m", {}, {3: "saved_model.pb is missing"}, found=there)
        assert events[3] == VersionsListed("m", {}, {3: "its files have to rest for 0.2 s"}, found=there)
        assert events[4] == VersionsListed("m", {3: str(base / "3")}, sizes={3: len(NO_VARIABLES)}, found=there)

    asyncio.run(scenario())
