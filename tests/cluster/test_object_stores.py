"""Versions that lie in object stores, from the upload to the answer."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import pytest

from tests.cluster.asking import ANSWERS, QUESTION, ask_rest, open_rest
from tests.cluster.serving import Serving, kill
from tests.cluster.waiting import PATIENCE_S, wait_for
from tests.store.proxy import Proxy, proxy_to
from tests.store.servers import ObjectStore, gcs_server, s3_server  # noqa: F401 - fixtures
from tests.zoo import Zoo

pytestmark = pytest.mark.cluster

BALLAST = "ballast"
"""A file of so many pieces that no other is asked for before the first of them have arrived."""
BALLAST_BYTES = 88 * 2**20
WEIGHTS = "variables.data-00000-of-00001"


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


def find_holders(file: Path) -> list[int]:
    """The processes of this machine that have a file open."""
    holders = []
    for descriptor in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if os.readlink(descriptor) == str(file):
                holders.append(int(descriptor.parts[2]))
        except OSError:
            continue  # it ended, or was closed, while we looked
    return holders


def test_serves_from_object_stores(
    app: Serving, way: Proxy, s3_server: ObjectStore, gcs_server: ObjectStore, zoo: Zoo, tmp_path: Path  # noqa: F811
) -> None:
    """What `stores` and a model's own options say reaches whoever lists, reads and copies; a model in one store does
    not wait for another one's download, whose progress is told; and when the process that copies is killed, the other
    replica of the node goes on where it was, and nothing is copied twice."""
    source, cache = zoo.path("half_plus_two", 1), tmp_path / "cache"
    slow, quick = f"{s3_server.new_bucket()}/half_plus_two", f"{gcs_server.new_bucket()}/quick"
    upload(source, s3_server, slow, {f"assets.extra/{BALLAST}": os.urandom(BALLAST_BYTES)})
    upload(source, gcs_server, quick, {})
    asked, may_go_on = [], Event()

    def stall_after_two(name: str) -> None:
        if name == BALLAST:
            asked.append(name)
            if len(asked) > 2 and not may_go_on.wait(PATIENCE_S):
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

    def find_progress() -> float:
        progress = [version.progress or "" for version in app.view().models["half_plus_two"].versions]
        told = re.match(rf"fetched ([0-9.]+) of {BALLAST_BYTES / 1e6:.0f}\.[0-9] MB", "".join(progress))
        return float(told[1]) if told else 0.0

    assert wait_for("progress", find_progress) == pytest.approx(2 * 8 * 2**20 / 1e6, abs=0.1)
    [begun] = cache.glob("half_plus_two-1-*.part/.receiving-*")
    inode = begun.stat().st_ino
    [copier] = find_holders(begun.parent.with_suffix(".lock"))
    kill(copier)
    may_go_on.set()
    app.wait_for_version("half_plus_two", 1)
    [ballast] = cache.glob(f"half_plus_two-1-*/assets.extra/{BALLAST}")
    assert ballast.stat().st_ino == inode
    assert way.read[WEIGHTS] == (Path(source) / "variables" / WEIGHTS).stat().st_size
    assert ask_rest(app)() == 1
    answer = open_rest(app).predict("quick", {"instances": QUESTION})
    assert answer["predictions"] == ANSWERS[1]
