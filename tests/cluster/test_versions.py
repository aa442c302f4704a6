"""Versions that come and go under load, and versions that are broken."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from serving_app.core.errors import Code
from serving_app.core.states import PublicState
from tests.cluster.asking import QUESTION, Grpc, Rest, askers, steadily, version_of
from tests.cluster.serving import Serving, add_version
from tests.cluster.waiting import wait_for
from tests.zoo import Zoo

pytestmark = pytest.mark.cluster


def test_new_version_takes_over(app: Serving, base: Path, zoo: Zoo) -> None:
    """No request fails when a version takes over, or when it goes again; the old one ends, and labels follow neither."""
    app.deploy({"half_plus_two": {"base_path": str(base)}})
    app.wait_for_version("half_plus_two", 1)
    with askers(app) as asks, steadily(asks) as load:
        add_version(zoo.path("half_plus_two", 2), base, 2)
        load.wait_for_answer_of(2)
        app.wait_for_version("half_plus_two", 1, PublicState.END)
        shutil.rmtree(base / "2")
        app.wait_for_version("half_plus_two", 2, PublicState.END)
    assert load.failures == []
    assert wait_for("version 2 to be gone", lambda: app.apps() == {app.name, f"{app.name}:half_plus_two@1"})
