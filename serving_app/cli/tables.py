"""Tables for people: columns as wide as they need, and a last one that takes what is left of the terminal."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterable, Sequence

_GAP = "  "
_LEAST = 30
"""Columns of text that the last column has however narrow the terminal is."""


def table(head: Sequence[str], rows: Iterable[Sequence[str]], width: int | None = None) -> str:
    """Lines without blanks at their ends. Cells of the last column may have several lines, and long ones are wrapped.
    """
    if width is None:
        width = shutil.get_terminal_size((100, 24)).columns
    all_rows = [tuple(head), *map(tuple, rows)]
    widths = [max(len(row[at]) for row in all_rows) for at in range(len(head) - 1)]
    left = max(_LEAST, width - sum(size + len(_GAP) for size in widths))
    lines = []
    for row in all_rows:
        first = _GAP.join([*(cell.ljust(size) for cell, size in zip(row, widths, strict=False)), ""])
        for line in wrap(row[-1], left):
            lines.append((first + line).rstrip())
            first = " " * len(first)
    return "\n".join(lines)


def wrap(text: str, width: int) -> list[str]:
    """The lines of a text, none longer than this unless a word is: paths and names stay whole for copying."""
    wrapped = (
        textwrap.wrap(line, width, break_long_words=False, break_on_hyphens=False) or [""]
        for line in text.split("\n")
    )
    return [line for lines in wrapped for line in lines]


def some(values: Sequence[object], limit: int = 5) -> str:
    """The first of many, and how many more there are: `9, 8, 7 and 4 more`."""
    shown = ", ".join(map(str, values[:limit]))
    return shown if len(values) <= limit else f"{shown} and {len(values) - limit} more"


def size(nbytes: int | None) -> str:
    """A number of bytes as people read it: `1.2 MB`. Nothing if it is not known."""
    if nbytes is None:
        return ""
    amount = float(nbytes)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 999.5:
            return f"{amount:.0f} {unit}" if unit == "B" or amount >= 99.5 else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"
