"""What `serving-app demo` tells its readers to try."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from serving_app.cli.demo import try_this


def commands(text: str) -> list[list[str]]:
    """The commands in the text, as a shell reads each line that is indented like one."""
    return [shlex.split(line) for line in text.splitlines() if line.startswith("     ")]


@pytest.mark.parametrize(
    ("app", "call"), [("default", "connect().model("), ("trial", 'connect("trial").model(')]
)
def test_what_is_to_be_tried_can_be_pasted(app: str, call: str) -> None:
    """Each command is one line that a shell understands, also below a folder with a blank, and the Python compiles."""
    curl, python, copy, remove = commands(try_this(Path("/my models"), app, "127.0.0.1:8601"))
    assert curl[-1] == "http://127.0.0.1:8601/v1/models/half_plus_two:predict"
    compile(python[-1], "-c", "exec")
    assert call in python[-1]
    assert copy == ["cp", "-r", "/my models/staged/half_plus_two/2", "/my models/ready/half_plus_two/"]
    assert remove == ["rm", "-r", "/my models/ready/half_plus_two/2"]
