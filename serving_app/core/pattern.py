"""Regular expressions that are matched in a time that is proportional to the text, whatever pattern and text are.

Python's own try one way after the other, and a text that nearly fits may keep them at it for years: a header that
anybody can send would then hold up a gateway, by a pattern that somebody wrote in good faith. Here all ways are
followed at the same time. So there are no references back to groups and no looks ahead or behind; the rest is written
as in Python, and means the same where the whole of a text is matched.

A pattern is read into *positions*, one for each character that it may take, with those that may follow each (Glushkov's
construction). Sets of positions are the bits of an integer.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from serving_app.core.pattern_tree import MOST_POSITIONS, Char, Choice, Node, Repeat, Sequence, Test, read_pattern

LONGEST_TEXT = 2048
"""Longer texts fit no pattern."""

_REMEMBERED = 512


class Pattern:
    """A regular expression for the whole of a text."""

    def __init__(self, source: str) -> None:
        """ValueError if it is none, or one that takes too much."""
        positions = _Positions()
        self._start = positions.add(read_pattern(source))
        self._tests, self._follow = positions.tests, positions.follow
        # What was found out before; as many different characters and sets may come, not without bounds.
        self._taking: dict[str, int] = {}
        self._next: dict[int, int] = {}

    def fits(self, text: str) -> bool:
        """Whether the whole of the text is meant."""
        if not text:
            return self._start.may_be_empty
        if len(text) > LONGEST_TEXT:
            return False
        candidates, reached = self._start.first, 0
        for char in text:
            taking = self._taking.get(char)
            reached = candidates & (self._find_taking(char) if taking is None else taking)
            if not reached:
                return False
            following = self._next.get(reached)
            candidates = self._find_next(reached) if following is None else following
        return bool(reached & self._start.last)

    def _find_taking(self, char: str) -> int:
        if len(self._taking) >= _REMEMBERED:
            self._taking.clear()
        found = self._taking[char] = sum(1 << place for place, takes in enumerate(self._tests) if takes(char))
        return found

    def _find_next(self, reached: int) -> int:
        if len(self._next) >= _REMEMBERED:
            self._next.clear()
        found = 0
        for place in _places(reached):
            found |= self._follow[place]
        self._next[reached] = found
        return found


def _places(positions: int) -> Iterator[int]:
    while positions:
        lowest = positions & -positions
        yield lowest.bit_length() - 1
        positions ^= lowest


class _Span(NamedTuple):
    """Where a part of a pattern may begin and end, and whether it may be empty."""

    first: int
    last: int
    may_be_empty: bool


_EMPTY = _Span(0, 0, True)


class _Positions:
    """The positions of a pattern, while they are found."""

    def __init__(self) -> None:
        self.tests: list[Test] = []
        self.follow: list[int] = []

    def add(self, node: Node) -> _Span:
        """The positions of this part as well."""
        match node:
            case Char(takes):
                if len(self.tests) == MOST_POSITIONS:
                    raise ValueError(f"it has more than {MOST_POSITIONS} characters, repetitions written out")
                self.tests.append(takes)
                self.follow.append(0)
                bit = 1 << len(self.tests) - 1
                return _Span(bit, bit, False)
            case Sequence(parts):
                span = _EMPTY
                for part in parts:
                    span = self._join(span, self.add(part))
                return span
            case Choice(parts):
                spans = [self.add(part) for part in parts]
                first, last = 0, 0
                for span in spans:
                    first, last = first | span.first, last | span.last
                return _Span(first, last, any(span.may_be_empty for span in spans))
            case Repeat(part, least, most):
                return self._repeat(part, least, most)

    def _repeat(self, part: Node, least: int, most: int | None) -> _Span:
        span = _EMPTY
        for number in range(max(least, 1) if most is None else most):
            before = len(self.tests)
            each = self.add(part)
            if len(self.tests) == before:
                return span  # nothing, however often
            if number >= least:
                each = each._replace(may_be_empty=True)
            span = self._join(span, each)
        if most is None:
            self._link(each.last, each.first)  # the last one may come again
        return span

    def _join(self, left: _Span, right: _Span) -> _Span:
        self._link(left.last, right.first)
        return _Span(
            left.first | right.first if left.may_be_empty else left.first,
            left.last | right.last if right.may_be_empty else right.last,
            left.may_be_empty and right.may_be_empty,
        )

    def _link(self, last: int, first: int) -> None:
        for place in _places(last):
            self.follow[place] |= first
