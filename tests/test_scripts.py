"""The installed commands where not all is installed."""

from __future__ import annotations

import importlib
from collections.abc import Callable

import pytest

from serving_app import scripts


@pytest.mark.parametrize(
    ("name", "command"),
    [("serving-app", scripts.serving_app), ("tensorflow_model_server", scripts.tensorflow_model_server)],
)
def test_a_command_without_what_it_needs_says_what_to_install(
    name: str, command: Callable[[], int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where only the client is installed the commands name what is missing and the extra that brings it."""

    def missing(name: str) -> object:
        raise ModuleNotFoundError("No module named 'ray.serve'", name="ray.serve")

    monkeypatch.setattr(importlib, "import_module", missing)
    assert command() == 1
    said = capsys.readouterr().err
    assert said.startswith(f"{name}: ray.serve is not installed")
    assert "pip install 'serving-app[cpu]'" in said


def test_a_mistake_of_our_own_is_no_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """A module of this package that is not there is shown as what it is."""

    def missing(name: str) -> object:
        raise ModuleNotFoundError("No module named 'serving_app.nope'", name="serving_app.nope")

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(ModuleNotFoundError):
        scripts.serving_app()
