"""Fixtures that several files here share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.serve.fronts import Front, LoopThread
from tests.zoo import Zoo


@pytest.fixture(scope="session")
def loop_thread() -> Iterator[LoopThread]:
    """One loop for all front ends: gRPC's servers are best off when they share one."""
    loop = LoopThread()
    yield loop
    loop.stop()


@pytest.fixture(scope="session")
def front(loop_thread: LoopThread, zoo: Zoo) -> Iterator[Front]:
    """Both front ends over a Host with models of the zoo."""
    front = Front(loop_thread, zoo)
    yield front
    front.close()
