"""Versions that do not come up, and what becomes of their processes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from serving_app.core.errors import Code
from serving_app.core.states import PublicState
from tests.cluster.asking import ask_rest
from tests.cluster.bad_platforms import CRASHING, HANGING
from tests.cluster.serving import Serving
from tests.cluster.waiting import wait_for

pytestmark = pytest.mark.cluster


def test_a_warm_up_that_crashes_or_hangs(app: Serving, base: Path, tmp_path: Path) -> None:
    """Such a version is reported with what is known of its end, its processes go, and other models come up and answer.
    """
    for name in ("crashing", "hanging"):
        (tmp_path / name / "1").mkdir(parents=True)
        (tmp_path / name / "1" / "weights").touch()
    bad = {"warmup": {"synthetic": True}, "settle_s": 0, "drain_timeout_s": 1.0}
    app.deploy(
        {
            "crashing": {**bad, "base_path": str(tmp_path / "crashing"), "platform": CRASHING},
            "hanging": {**bad, "base_path": str(tmp_path / "hanging"), "platform": HANGING, "load_timeout_s": 8.0},
            "half_plus_two": str(base),
        },
        load={"retry_base_s": 600, "retry_max_s": 600},
    )
    app.wait_for_version("half_plus_two", 1)
    hung = app.wait_for_version("hanging", 1, PublicState.END)
    crashed = app.wait_for_version("crashing", 1, PublicState.END)
    assert (hung.code, crashed.code) == (Code.DEADLINE_EXCEEDED, Code.UNAVAILABLE)
    # What was heard of its replica follows, if that came up in time (tests/serve/test_fleet.py).
    assert hung.message.partition("; ")[0] == "not loaded within load_timeout_s"
    assert re.search("Actor(Died|Unavailable)Error", crashed.message)  # by whether the news of its death came in time
    wait_for("the end of what did not come up", lambda: len(app.apps()) == 2)
    assert ask_rest(app)() == 1
