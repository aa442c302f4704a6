"""How many processors a process has, in a container or not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from serving_app.runtime.cpus import find_quota, find_share, usable_cpus


@pytest.mark.parametrize(
    ("files", "right"),
    [
        (["max 100000\n"], None),
        (["150000 100000\n"], 1.5),
        (["400000\n", "100000\n"], 4.0),
        (["-1\n", "100000\n"], None),
        (["rubbish"], None),
        ([None], None),
    ],
)
def test_a_share_of_processors_is_read(tmp_path: Path, files: list[str | None], right: float | None) -> None:
    """Both generations of control groups say what a container may use; without a limit, or without files, none does."""
    paths = [tmp_path / str(number) for number in range(len(files))]
    for path, text in zip(paths, files, strict=True):
        if text is not None:
            path.write_text(text)
    assert find_quota(paths) == right


def test_there_is_at_least_one_processor() -> None:
    """And never more than the machine has."""
    assert 1 <= usable_cpus() <= (os.cpu_count() or 1)
    assert find_share() in (None, usable_cpus())
