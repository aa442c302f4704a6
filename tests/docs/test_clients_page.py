"""The page about clients names all that they have."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from serving_app import remote

PAGE = (Path(__file__).parents[2] / "docs" / "clients.md").read_text(encoding="utf-8")

INTERNAL = {"run", "terms", "context", "pem", "pause_after"}
"""What plans and other modules use of them."""

METHODS = {
    f"{name}.{method}": member
    for name in remote.__all__
    for method, member in inspect.getmembers(getattr(remote, name), inspect.isfunction)
    if not method.startswith("_") and method not in INTERNAL
} | {
    # Models are not made by users, but by clients.
    name: getattr(remote, name).__init__ for name in remote.__all__ if name not in ("Model", "AsyncModel")
}


def test_every_name_is_documented() -> None:
    """What the package lists is there, stands on the page, and nothing else is pretended."""
    for name in remote.__all__:
        assert f"`{name}" in PAGE
        assert inspect.isclass(getattr(remote, name))
    with pytest.raises(AttributeError, match="no attribute 'nope'"):
        _ = remote.nope


@pytest.mark.parametrize("name", METHODS)
def test_every_method_and_argument_is_documented(name: str) -> None:
    """Every public method stands on the page, with all of its parameters."""
    method = name.rpartition(".")[2]
    parameters = [each for each in inspect.signature(METHODS[name]).parameters if each != "self"]
    assert f"{method}(" in PAGE
    assert [each for each in parameters if not re.search(rf"\b{each}\b", PAGE)] == []
