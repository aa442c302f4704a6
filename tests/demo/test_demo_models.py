"""The models of the demo, made once as a user makes them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from serving_app.demo.models import main
from tests.conftest import Demo, make_demo

VERSIONS = ["ready/digits/1", "ready/half_plus_two/1", "staged/half_plus_two/2"]


def test_makes_every_version(demo: Demo) -> None:
    """The command leaves three SavedModels and nothing else, the second version of half_plus_two aside."""
    directory = demo.folder
    assert sorted(str(path.relative_to(directory)) for path in directory.glob("*/*/*")) == VERSIONS
    assert all((directory / version / "saved_model.pb").is_file() for version in VERSIONS)


def test_digits_are_recognised(demo: Demo) -> None:
    """The classifier is right on more than nine in ten images that it was not trained on, and the command says so."""
    accuracy = re.search(r"^ready/digits/1: accuracy ([\d.]+) on 359 images", demo.said, re.MULTILINE)
    assert accuracy is not None
    assert float(accuracy[1]) > 0.9


def test_makes_only_what_is_missing(demo: Demo) -> None:
    """A second run changes nothing, and needs no TensorFlow to find that out."""
    directory = demo.folder
    before = {path: path.stat().st_mtime_ns for path in directory.rglob("*")}
    again = make_demo(directory).said.splitlines()
    assert again == [f"{name}: is there" for name in (VERSIONS[1], VERSIONS[2], VERSIONS[0])]
    assert {path: path.stat().st_mtime_ns for path in directory.rglob("*")} == before
    program = f"import sys; from serving_app.demo.models import main; main([{str(directory)!r}]); print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    assert "serving_app.demo.models" in modules.split()
    assert "tensorflow" not in modules.split()


def test_explains_what_it_cannot_do(tmp_path: Path) -> None:
    """A directory that cannot be written and a missing argument are told in a sentence, without a traceback."""
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit, match=r"cannot be made: .*; give a directory to write to"):
        main([str(tmp_path / "file")])
    with pytest.raises(SystemExit, match=r"usage: "):
        main([])
