"""The page about control by HTTP: it has every operation, and what it shows would be taken."""

from __future__ import annotations

import re
import shlex
from typing import get_type_hints
from urllib.parse import urlsplit

import pytest

from serving_app.config.control import Nothing, read_body
from serving_app.core import shapes
from serving_app.serve.control_operations import OPERATIONS
from serving_app.serve.control_requests import find_operation
from tests.docs.pages import ROOT, blocks

PAGE = ROOT / "docs" / "control.md"
TEXT = PAGE.read_text(encoding="utf-8")


def test_the_table_has_every_operation() -> None:
    """It names each request that there is, and no others."""
    rows = re.findall(r"^\| `([A-Z]+ /\S+)` \|", TEXT, re.M)
    assert rows == [f"{each.method} {each.path}" for each in OPERATIONS]


COMMANDS = [
    shlex.split(match.replace("\\\n", " "))
    for block in blocks(PAGE)
    for match in re.findall(r"^\$ (curl (?:[^\n]*\\\n)*[^\n]*)", block.text, re.M)
]


def test_there_are_commands() -> None:
    """The page shows how to read, to start and to stop."""
    assert len(COMMANDS) >= 4


@pytest.mark.parametrize("command", COMMANDS, ids=lambda words: words[-1])
def test_commands_would_be_taken(command: list[str]) -> None:
    """Each is a request that there is, with a body that it takes, and with a token where it needs one."""
    given = dict(zip(command[1:-1:2], command[2:-1:2], strict=True))
    headers = [command[at + 1] for at, word in enumerate(command) if word == "-H"]
    operation, _ = find_operation(given.get("-X", "POST" if "-d" in given else "GET"), urlsplit(command[-1]).path)
    assert any(each.startswith("Authorization: Bearer ") for each in headers) is operation.is_order
    assert ("Content-Type: application/json" in headers) is ("-d" in given) is (operation.body is not Nothing)
    if "-d" in given:
        read_body(given["-d"].encode(), operation.body)


SHAPES = [shape for name, shape in vars(shapes).items() if name.endswith("Document")]


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.__name__)
def test_keys_of_documents_are_on_the_page_of_commands(shape: type) -> None:
    """Every key of a document that programs get is told there."""
    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8").partition("## JSON")[2]
    assert [key for key in get_type_hints(shape) if f"`{key}`" not in page] == []
