"""Whatever is deleted, nothing of it is left."""

from __future__ import annotations

from pathlib import Path

import pytest
from ray import serve

from tests.cluster.serving import Serving, add_version
from tests.cluster.waiting import wait_for
from tests.zoo import Zoo

pytestmark = pytest.mark.cluster


def test_delete(app: Serving, base: Path, zoo: Zoo) -> None:
    """Deleting the application ends its gateway, its controller and its versions, also one that is being loaded."""
    app.deploy({"half_plus_two": str(base)})
    app.wait_for_version("half_plus_two", 1)
    pids = {*app.replicas().values(), *app.replicas("half_plus_two", 1).values(), app.controller_pid()}
    assert len(pids) == 3
    add_version(zoo.path("half_plus_two", 2), base, 2)
    wait_for("the next version to be on its way", lambda: f"{app.name}:half_plus_two@2" in app.apps())
    serve.delete(app.name)
    app.wait_until_gone()
    wait_for("its processes to end", lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))
