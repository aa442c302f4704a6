"""Commands that start Ray clusters, or run on one that a test has started: what they share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.commands import kill_processes


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Where a command runs that may start a cluster. What it leaves behind is killed."""
    yield tmp_path
    kill_processes(tmp_path)
