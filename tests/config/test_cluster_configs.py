"""The Serve config files that come with the product."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from serving_app.config import from_args

FILES = sorted((Path(__file__).parents[2] / "cluster_configs").glob("*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_arguments_are_a_configuration(path: Path) -> None:
    """The arguments of each application in a file are a configuration with models."""
    applications = yaml.safe_load(path.read_text(encoding="utf-8"))["applications"]
    assert all(from_args(application["args"]).models for application in applications)
