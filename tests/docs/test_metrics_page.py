"""The page about metrics tells of each of them, as it is declared."""

from __future__ import annotations

import pytest

from serving_app.core.families import FAMILIES
from serving_app.core.metrics import Family
from serving_app.protocol.prometheus import exposed_label, exposed_name
from tests.docs.pages import ROOT

PAGE = (ROOT / "docs/metrics.md").read_text(encoding="utf-8")


def row(family: Family) -> str:
    """The line of the page about a metric."""
    theirs, ours = (
        ", ".join(f"`{exposed_label(label)}`" for label in labels)
        for labels in (family.labels[: family.shared], family.labels[family.shared :])
    )
    columns = [f"`{exposed_name(family.name)}`", family.kind.value, theirs, ours, family.help]
    if family.name.startswith("serving_app_"):
        columns.remove(theirs)  # which is empty
    return f"| {' | '.join(columns)} |"


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_each_metric_has_its_row(family: Family) -> None:
    """Name, type, labels and meaning are on the page; what is missing there is this line."""
    assert row(family) in PAGE.splitlines()


def test_the_page_tells_of_nothing_else() -> None:
    """Each row that begins with the name of a metric is one of these."""
    rows = [line for line in PAGE.splitlines() if line.startswith(("| `:tensorflow", "| `serving_app"))]
    assert len(rows) == len(FAMILIES)
