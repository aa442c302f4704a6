"""What holds for all tests of this part."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray starts a cluster of its own where it is asked for what needs one; that would run beside all later tests."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("tests here need no Ray cluster, and start none")

    monkeypatch.setattr("ray.init", refuse)
