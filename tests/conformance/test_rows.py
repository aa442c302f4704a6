"""The table itself: no row stands there twice, and what differs on purpose is told to users."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from tests.conformance import AREAS
from tests.conformance.differences import DIFFERENCES

_PAGE = Path(__file__).parents[2] / "docs" / "compatibility.md"


def test_every_intended_difference_is_told() -> None:
    """Each reason for another answer has its row on the page about compatibility, and rows that need it."""
    page = "\n" + _PAGE.read_text()
    assert not [each for each in DIFFERENCES.values() if f"\n{each.says}" not in page]
    assert {row.differs for rows in AREAS.values() for row in rows if row.differs} == DIFFERENCES.keys()


def test_no_row_is_there_twice() -> None:
    """Twice the same row in one area is a slip; only reloads change what the same request is answered."""
    for area, rows in AREAS.items():
        twice = [text[:300] for text, count in Counter(map(repr, rows)).items() if count > 1]
        assert area == "grpc_models" or not twice
