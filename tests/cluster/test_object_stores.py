"""Versions that lie in object stores, from the upload to the answer."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import pytest

from serving_app.store.download import PIECE_BYTES
from tests.cluster.asking import ANSWERS, QUESTION, ask_rest, open_rest
from tests.cluster.serving import Serving, kill
from tests.cluster.waiting import PATIENCE_S, wait_for
from tests.store.proxy import Proxy, proxy_to
from tests.store.servers import ObjectStore, gcs_server, s3_server  # noqa: F401 - fixtures
from tests.zoo import Zoo

pytestmark = pytest.mark.cluster

BALLAST = [f"ballast-{number:02}" for number in range(10)]
"""Files of one piece each, in order; so many that the model's own are not asked for before the first have come."""


def upload(source: str, store: ObjectStore, base: str, more: dict[str, bytes]) -> None:
    """Version 1 below the base path: the files of a model and some more."""
    root = Path(source)
    files = {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}
    for name, content in {**files, **more}.items():
        store.filesystem.pipe_file(store.filesystem._strip_protocol(f"{base}/1/{name}"), content)


@pytest.fixture
def way(s3_server: ObjectStore) -> Iterator[Proxy]:  # noqa: F811 - the fixture
    """The way to the S3 server."""
    with proxy_to(s3_server.endpoint) as running:
        yield running


def find_users(file: Path) -> list[int]:
    """The processes of this machine that have a file open."""
    users = []
    for descriptor in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if os.readlink(descriptor) == str(file):
                users.append(int(descriptor.parts[2]))
        except OSError:
            continue  # it ended, or was closed, while we looked
    return users


def test_serves_from_object_stores(
    app: Serving, way: Proxy, s3_server: ObjectStore, gcs_server: ObjectStore, zoo: Zoo, tmp_path: Path  # noqa: F811
) -> None:
    """What `stores` and a model's own options say reaches whoever lists, reads and copies; a model in one store does
    not wait for another one's download, whose progress is told; and when the process that copies is killed, the other
    replica of the node goes on where it was, and both use that copy."""
    source, cache = zoo.path("half_plus_two", 1), tmp_path / "cache"
    slow, quick = f"{s3_server.new_bucket()}/half_plus_two", f"{gcs_server.new_bucket()}/quick"
    upload(source, s3_server, slow, {f"assets.extra/{name}": bytes(PIECE_BYTES) for name in BALLAST})
    upload(source, gcs_server, quick, {})
    was_killed = Event()

    def stall_after_two(name: str) -> None:
        # What was asked for before the kill is the dead one's, or is asked for again.
        if name in BALLAST[2:] and not was_killed.is_set():
            was_killed.wait(PATIENCE_S)
            raise ConnectionError

    way.before = stall_after_two
    app.deploy(
        {
            "half_plus_two": {"base_path": slow, "replicas": 2},
            "quick": {"base_path": quick, "storage_options": {**gcs_server.options}},
        },
        stores={"s3": s3_server.through(way.url), "gs": {"endpoint_url": "http://127.0.0.1:1"}},
        cache_dir=str(cache),
    )
    app.wait_for_version("quick", 1)

    def is_told() -> bool:
        [version] = app.view().models["half_plus_two"].versions
        # Two processes tell, each for itself, so the last that is heard may be the lesser.
        return re.match(r"fetched (8\.4|16\.8) of 83\.9 MB", version.progress or "") is not None

    def first_two() -> list[Path]:
        return sorted(cache.glob("half_plus_two-1-*/assets.extra/ballast-*"))

    wait_for("progress", is_told)
    wait_for("the first two files", lambda: [file.name for file in first_two()] == BALLAST[:2])
    there = stamps(first_two())
    [part] = cache.glob("half_plus_two-1-*.part")
    lock = part.with_suffix(".lock")
    # Who copies has it open all the time, who waits has it now and then.
    users = wait_for("the one that copies", lambda: len(found := find_users(lock)) == 1 and found)
    assert users
    kill(users[0])
    was_killed.set()
    app.wait_for_version("half_plus_two", 1)
    # By what lies there, and not by what passed: after a pause of this machine pieces are asked for a second time.
    assert stamps(first_two()[:2]) == there
    wait_for(
        "two replicas that use the copy",
        lambda: sorted(app.replicas("half_plus_two", 1).values()) == sorted(find_users(lock)) != [],
    )
    [copy] = cache.glob("half_plus_two-1-*/")
    assert copy == part.with_suffix("")
    assert ask_rest(app)() == 1
    answer = open_rest(app).predict("quick", {"instances": QUESTION})
    assert answer["predictions"] == ANSWERS[1]


def stamps(files: list[Path]) -> list[tuple[int, int]]:
    """What tells each file from another one with the same name and content."""
    return [(found.st_ino, found.st_mtime_ns) for found in (file.stat() for file in files)]
