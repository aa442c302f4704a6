"""Object stores in trouble: what a listing says, what comes back by itself, and what happens to polls that hang."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from google.oauth2.credentials import Credentials

from serving_app.config import ServingConfig
from serving_app.core.errors import Code, InvalidArgument, NotFound, PermissionDenied, Unavailable
from serving_app.core.events import Event, ListingFailed, VersionsListed
from serving_app.core.policies import All
from serving_app.serve.polling import Polling
from serving_app.store import ModelSource, list_versions
from serving_app.store.filesystem import open_path
from tests.stepping import PATIENCE_S, until
from tests.store.proxy import Proxy, proxy_to
from tests.store.servers import ObjectStore
from tests.store.store_contract import Store

NO_RETRIES = {"config_kwargs": {"retries": {"max_attempts": 0}}}


def s3_error(status: int, code: str) -> tuple[int, bytes]:
    return status, f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{code} it is</Message></Error>".encode()


def gcs_error(status: int, message: str) -> tuple[int, bytes]:
    return status, json.dumps({"error": {"code": status, "message": message}}).encode()


@dataclass
class Troubled:
    """A base path that is reached through a proxy, and the answers that its kind of store gives when in trouble."""

    store: Store
    proxy: Proxy
    options: dict[str, Any]
    throttled: tuple[int, bytes]
    expired: tuple[int, bytes]
    denied: tuple[int, bytes]
    failing: tuple[int, bytes] = field(default=(500, b""))

    def source(self) -> ModelSource:
        return ModelSource("m", self.store.url, All(), options=self.options, settle_s=0)

    def poll(self) -> list[int]:
        return list(self.source().poll().versions)


async def no_pause(_: float) -> None:
    await asyncio.sleep(0)


@pytest.fixture(params=["s3", "gs"])
def troubled(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Troubled]:
    """Each kind of store with one version. Its driver tries again as ever, but without the pauses in between."""
    kind = request.param
    server: ObjectStore = request.getfixturevalue("s3_server" if kind == "s3" else "gcs_server")
    store = Store(f"{server.new_bucket()}/m", server.options, server.filesystem)
    store.write("1/saved_model.pb", b"\x12\x00")
    driver = "s3fs.core" if kind == "s3" else "gcsfs.retry"
    monkeypatch.setattr(f"{driver}.asyncio", SimpleNamespace(**{**vars(asyncio), "sleep": no_pause}))
    with proxy_to(server.endpoint) as proxy:
        options = server.through(proxy.url)
        if kind == "s3":
            errors = s3_error(503, "SlowDown"), s3_error(403, "ExpiredToken"), s3_error(403, "AccessDenied")
            yield Troubled(store, proxy, {**options, **NO_RETRIES}, *errors)
        else:
            errors = gcs_error(429, "rate limit"), gcs_error(401, "Invalid Credentials"), gcs_error(403, "no access")
            yield Troubled(store, proxy, options, *errors)


def times(count: int, answer: tuple[int, bytes]) -> Callable[[str], tuple[int, bytes] | None]:
    """The first requests get this answer."""
    left = iter(range(count))
    return lambda path: None if next(left, None) is None else answer


def test_a_little_throttling_is_not_noticed(troubled: Troubled) -> None:
    """A store that asks for a pause gets it from its driver, and the listing succeeds."""
    troubled.proxy.instead = times(2, troubled.throttled)
    assert troubled.poll() == [1]


def test_throttling_that_lasts_passes(troubled: Troubled) -> None:
    """A store that goes on refusing for its load's sake is Unavailable, and is read again when it lets us."""
    troubled.proxy.instead = lambda path: troubled.throttled
    with pytest.raises(Unavailable, match=r"cannot be read at the moment"):
        troubled.poll()
    troubled.proxy.instead = times(0, troubled.throttled)
    assert troubled.poll() == [1]


def test_expired_credentials_are_told_and_read_anew(troubled: Troubled) -> None:
    """Expired credentials say so, and what to do; the next poll takes those that are there by then."""
    before, _ = open_path(troubled.store.url, troubled.options)
    troubled.proxy.instead = lambda path: troubled.expired
    with pytest.raises(PermissionDenied, match=r"credentials in use have expired; put new ones where they come from"):
        troubled.poll()
    troubled.proxy.instead = times(0, troubled.expired)
    assert open_path(troubled.store.url, troubled.options)[0] is not before
    assert troubled.poll() == [1]


def test_denied_access_is_told(troubled: Troubled) -> None:
    """Credentials without the right to list are PermissionDenied, and not called expired."""
    troubled.proxy.instead = lambda path: troubled.denied
    with pytest.raises(PermissionDenied, match=r"may not be read with the rights or credentials in use"):
        troubled.poll()


def test_a_store_that_fails_passes(troubled: Troubled) -> None:
    """An error of the store's own, and a connection that breaks, are Unavailable."""
    troubled.proxy.instead = lambda path: troubled.failing
    with pytest.raises(Unavailable):
        troubled.poll()
    troubled.proxy.instead = times(0, troubled.failing)

    def break_off(_: str) -> None:
        raise ConnectionError

    troubled.proxy.before = break_off
    with pytest.raises(Unavailable):
        troubled.poll()


def test_a_bucket_that_disappears_returns(troubled: Troubled) -> None:
    """One source finds its versions, then no bucket, then its versions again."""
    source = troubled.source()
    assert list(source.poll().versions) == [1]
    bucket = urlsplit(troubled.store.url).netloc
    filesystem = troubled.store._filesystem
    filesystem.rm(f"{bucket}/m", recursive=True)
    filesystem.rmdir(bucket)
    with pytest.raises(NotFound, match=f"{troubled.store.url} does not exist"):
        source.poll()
    filesystem.mkdir(bucket)
    troubled.store.write("1/saved_model.pb", b"\x12\x00")
    assert list(source.poll().versions) == [1]


def test_an_endpoint_that_is_down_passes(troubled: Troubled) -> None:
    """Nobody listening at the endpoint is Unavailable."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nobody accepts
        troubled.options["endpoint_url"] = "http://{}:{}".format(*taken.getsockname())
        with pytest.raises(Unavailable, match=r"cannot be read at the moment"):
            troubled.poll()


def page_of_gcs(proxy: Proxy, path: str) -> tuple[int, bytes] | None:
    """What GCS does with a long listing, which the emulator does not: pages, here of seven entries."""
    query = parse_qs(urlsplit(path).query)
    if not urlsplit(path).path.endswith("/o"):
        return None
    with urllib.request.urlopen(f"http://{proxy.target}{path}") as answer:
        listing = json.load(answer)
    begin = int(query.get("pageToken", ["0"])[0])
    page = {**listing, "items": [], "prefixes": []}
    entries = [("prefixes", each) for each in listing.get("prefixes", [])]
    entries += [("items", each) for each in listing.get("items", [])]
    for kind, entry in entries[begin : begin + 7]:
        page[kind].append(entry)
    if begin + 7 < len(entries):
        page["nextPageToken"] = str(begin + 7)
    return 200, json.dumps(page).encode()


def test_long_listings_come_in_pages(troubled: Troubled, monkeypatch: pytest.MonkeyPatch) -> None:
    """All versions of a base path and all files of a version are found, on however many pages the store lists them."""
    pages = []

    def page(path: str) -> tuple[int, bytes] | None:
        pages.append(path)
        return page_of_gcs(troubled.proxy, path) if troubled.store.url.startswith("gs:") else None

    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "7")
    troubled.proxy.instead = page
    for version in range(2, 30):
        troubled.store.write(f"{version}/saved_model.pb", b"\x12\x00")
    for number in range(20):
        troubled.store.write(f"29/assets/{number}", b"x" * number)
    assert list(list_versions(troubled.store.url, troubled.options).versions) == list(range(1, 30))
    assert len(pages) >= 5
    assert ModelSource("m", troubled.store.url, options=troubled.options, settle_s=0).poll().sizes == {29: 2 + 190}


def test_listings_are_not_kept(troubled: Troubled) -> None:
    """However many versions come and go, nothing of their listings stays in memory."""
    source = troubled.source()
    for version in (2, 3):
        troubled.store.write(f"{version}/saved_model.pb", b"\x12\x00")
        assert version in source.poll().versions
    filesystem, _ = open_path(troubled.store.url, troubled.options)
    assert not list(filesystem.dircache)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_web_servers_are_refused(scheme: str) -> None:
    """A web server has no listings: it is refused before anybody asks it."""
    with pytest.raises(InvalidArgument, match=f"{scheme}:// has no listings, so nobody could tell .*; put the model"):
        list_versions(f"{scheme}://example.com/models/m")


@contextmanager
def silent_endpoint() -> Iterator[str]:
    """Accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield "http://{}:{}".format(*listener.getsockname())


def test_a_store_that_never_answers_does_not_hold_up_its_model(troubled: Troubled) -> None:
    """Within the timeout the model's listing has failed, while another store is polled as ever."""
    told: dict[str, list[Event]] = {"silent": [], "sound": []}

    def tell(event: Event) -> None:
        assert isinstance(event, VersionsListed | ListingFailed)
        told[event.model].append(event)

    async def scenario(endpoint: str) -> None:
        settings = {
            "models": [
                {"name": "silent", "base_path": troubled.store.url},
                {"name": "sound", "base_path": troubled.store.url, "storage_options": troubled.options, "settle_s": 0},
            ],
            "stores": {urlsplit(troubled.store.url).scheme: {**troubled.options, "endpoint_url": endpoint}},
            "poll_timeout_s": 0.3,
        }
        polling = Polling(tell)
        polling.watch(ServingConfig.model_validate(settings))
        await until(lambda: bool(told["silent"]) and any(isinstance(event, VersionsListed) for event in told["sound"]))
        polling.stop()

    with silent_endpoint() as endpoint:
        asyncio.run(scenario(endpoint))
    failure = told["silent"][0]
    assert isinstance(failure, ListingFailed)
    assert failure.code is Code.DEADLINE_EXCEEDED


def test_credentials_that_are_never_renewed_hold_up_no_other_store(s3_server: ObjectStore) -> None:
    """Who gives out Google's tokens may be silent: the models in other stores are listed all the same."""
    sound = Store(f"{s3_server.new_bucket()}/m", s3_server.options, s3_server.filesystem)
    sound.write("1/saved_model.pb", b"\x12\x00")
    with silent_endpoint() as endpoint:
        token = Credentials(None, refresh_token="r", client_id="c", client_secret="s", token_uri=endpoint)
        options = {"token": token, "project": "testing", "endpoint_url": endpoint}
        asked = threading.Event()

        def ask() -> None:
            asked.set()
            with pytest.raises(Unavailable, match="gs://bucket/m cannot be read at the moment"):
                list_versions("gs://bucket/m", options)

        stuck = threading.Thread(target=ask)
        stuck.start()
        assert asked.wait(PATIENCE_S)
        with ThreadPoolExecutor(1) as other:
            assert list(other.submit(sound.numbers).result(PATIENCE_S)) == [1]
        assert stuck.is_alive()
    stuck.join()
