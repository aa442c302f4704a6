"""`serving-app publish` without a cluster."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from serving_app.cli import main
from serving_app.cli.publish import page
from serving_app.publishing import Published
from tests.zoo import Zoo


def test_a_version_is_put_under_a_base_path(zoo: Zoo, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By a base path alone the command asks nobody, and tells where the version is, for people or programs."""
    command = ["publish", zoo.path("half_plus_two"), "--base-path", str(tmp_path / "m"), "--metadata", "commit=12e4"]
    assert main(command) == 0
    assert capsys.readouterr().out.startswith(f"version 1 is at {tmp_path}/m/1 (")
    assert json.loads((tmp_path / "m/1/assets.extra/serving_app.json").read_text())["metadata"] == {"commit": "12e4"}
    assert main([*command, "--json", "--version", "7"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told.pop("size") > 0, told) == (
        True, {"model": None, "version": 7, "path": f"{tmp_path}/m/7", "labels": [], "served": False}
    )


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ([], "say where the version is to go"),
        (["--base-path", "/m", "--wait"], "give its name, too"),
        (["--base-path", "/m", "--metadata", "commit"], "--metadata: 'commit' is no pair; write NAME=VALUE"),
        (["--base-path", "/m", "--storage-options", "{"], "--storage-options: '{' is no JSON"),
        (["--base-path", "/m", "--storage-options", "[]"], "--storage-options: '[]' is no object"),
    ],
)
def test_what_makes_no_sense_is_refused(capsys: pytest.CaptureFixture[str], flags: list[str], words: str) -> None:
    """One message says what is wrong."""
    assert main(["publish", "/nowhere", *flags]) == 1
    assert words in capsys.readouterr().err


def test_a_version_that_is_served_is_told_as_such() -> None:
    """People read where the version is, who routes to it, and what names it."""
    done = Published(2, "/models/m/2", 12_345, ("canary", "best"), True)
    assert page(done, "m") == (
        "m version 2 is at /models/m/2 (12.3 kB)\nm version 2 is served by every gateway, and is named by canary, best"
    )
