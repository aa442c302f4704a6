"""The page about datasets names what users can name."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

import serving_app.data
from serving_app.data import pin, predict_dataset
from serving_app.data.columns import ERROR_COLUMN
from serving_app.data.piece_scorer import FILE_COLUMN, ROW_COLUMN
from serving_app.data.work_plan import PLAN_NAME

PAGE = (Path(__file__).parents[2] / "docs" / "batch.md").read_text(encoding="utf-8")

PARAMETERS = {each for function in (pin, predict_dataset) for each in inspect.signature(function).parameters}
PARAMETERS -= {"choice", "dataset"}


@pytest.mark.parametrize("name", sorted(PARAMETERS | {ERROR_COLUMN, FILE_COLUMN, ROW_COLUMN, f"{PLAN_NAME}.json"}))
def test_arguments_and_columns_are_documented(name: str) -> None:
    """Each argument stands on the page, and each name that a user meets in a result."""
    assert f"`{name}`" in PAGE


@pytest.mark.parametrize("name", sorted(set(serving_app.data.__all__) - {"Pinned"}))
def test_public_names_are_documented(name: str) -> None:
    """What can be imported stands on the page; what `pin` returns need not be named by anybody."""
    assert f"`{name}" in PAGE
