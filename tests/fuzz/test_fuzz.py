"""Every target of the fuzzing for a moment, always with the same inputs; `python -m tests.fuzz` goes on with others."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fuzz.running import ALONE, LISTENING, Target, listening, run
from tests.serve.fronts import LoopThread
from tests.zoo import Zoo

_SECONDS = 1.5


@pytest.fixture(scope="module")
def fronts(zoo: Zoo) -> Iterator[dict[str, Target]]:
    """The targets that need front ends."""
    loop = LoopThread()
    with listening(loop, zoo) as targets:
        yield targets
    loop.stop()


@pytest.mark.parametrize("name", ALONE)
def test_readers_refuse_or_understand(name: str) -> None:
    """Whatever is read, the only exceptions are errors that blame it, and what was understood can be written again."""
    assert run(ALONE[name], _SECONDS)


@pytest.mark.parametrize("name", LISTENING)
def test_front_ends_answer(name: str, fronts: dict[str, Target]) -> None:
    """Whatever is asked, an answer comes in time, and it is no error of the server's own."""
    assert run(fronts[name], _SECONDS)
