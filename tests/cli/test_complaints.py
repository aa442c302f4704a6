"""What `serving-app up` says about models that no version was found of."""

from __future__ import annotations

import pytest

from serving_app.cli.up import complaints
from serving_app.config import parse
from serving_app.core.errors import Code
from serving_app.core.views import Failure, ManagerView, ModelView

CONFIG = parse({"models": {"m": "/models/m"}})


def view(*models: ModelView) -> ManagerView:
    """What the manager knows when it knows these models."""
    return ManagerView(1, {}, {model.name: model for model in models})


@pytest.mark.parametrize(
    ("seen", "said"),
    [
        pytest.param(view(), {}, id="not known yet"),
        pytest.param(view(ModelView("m", True, None, None, ())), {}, id="not listed yet"),
        pytest.param(view(ModelView("m", True, frozenset({1}), None, ())), {}, id="versions found"),
        pytest.param(
            view(ModelView("m", True, None, Failure(Code.NOT_FOUND, "no such path"), ())),
            {"m": "  m: NOT_FOUND: no such path"},
            id="not listable",
        ),
        pytest.param(
            view(ModelView("m", True, frozenset(), None, ())),
            {"m": "  m: no version to serve under /models/m; versions are directories named by a number, such as 1"},
            id="nothing there",
        ),
        pytest.param(
            view(ModelView("other", True, frozenset(), None, ())), {}, id="a model that this command did not configure"
        ),
    ],
)
def test_models_without_versions_are_complained_about(seen: ManagerView, said: dict[str, str]) -> None:
    """A base path that cannot be listed, or holds nothing to serve, is told with its reason; others are not."""
    assert complaints(CONFIG, seen) == said
