"""The versions to roll out and to compare, made once as a user makes them."""

from __future__ import annotations

import re

import numpy as np
import pytest

from serving_app.demo.digit_versions import IMAGES, main
from tests.conftest import Demo, make_digit_versions


def test_each_version_is_what_it_is_said_to_be(digit_versions: Demo) -> None:
    """On images that none has seen the second is better than the first, the third is bad, and the fourth fails on some
    of them, and on no others."""
    line = r"^(\d): right on ([\d.]+)% of 600 images it has not seen, fails on ([\d.]+)%$"
    told = re.findall(line, digit_versions.said, re.M)
    right = {int(version): float(share) for version, share, _ in told}
    fails = {int(version): float(share) for version, _, share in told}
    assert right.keys() == {1, 2, 3, 4}
    assert 75 < right[1] < right[2] - 2
    assert right[2] > 94
    assert right[3] < 75
    assert {version for version, share in fails.items() if share} == {4}
    assert 15 < fails[4] < 50
    assert all((digit_versions.folder / str(version) / "saved_model.pb").is_file() for version in right)


def test_images_come_with_them(digit_versions: Demo) -> None:
    """600 images as rows, as the model takes them, with what they show."""
    images, labels = np.load(digit_versions.folder / IMAGES).values()
    assert (images.shape, images.dtype, labels.shape) == ((600, 64), np.float32, (600,))
    assert set(labels.tolist()) == set(range(10))


def test_makes_only_what_is_missing(digit_versions: Demo) -> None:
    """A second run changes nothing."""
    before = {path: path.stat().st_mtime_ns for path in digit_versions.folder.rglob("*")}
    said = make_digit_versions(digit_versions.folder).said
    assert said.splitlines() == [f"{version}: is there" for version in (1, 2, 3, 4)]
    assert {path: path.stat().st_mtime_ns for path in digit_versions.folder.rglob("*")} == before


def test_a_missing_argument_is_told() -> None:
    """Without a directory the usage is told."""
    with pytest.raises(SystemExit, match="usage: "):
        main([])
