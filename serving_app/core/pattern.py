"""Regular expressions that are matched in a time that is proportional to the text, whatever pattern and text are.

Python's own try one way after the other, and a text that nearly fits may keep them at it for years: a header that
anybody can send would then hold up a gateway, by a pattern that somebody wrote in good faith. Here all ways are
followed at the same time. So there are no references back to groups and no looks ahead or behind; the rest is written
as in Python, and means the same where the whole of a text is matched.

A pattern is read into *positions*, one for each character that it may take, with those that may follow each (Glushkov's
construction). Sets of positions are the bits of an integer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

MOST_POSITIONS = 200
"""Characters that a pattern may have, counted repetitions written out."""

LONGEST_TEXT = 2048
"""Longer texts fit no pattern."""

_LONGEST_PATTERN = 1000
_DEEPEST = 40
_REMEMBERED = 512

_Test = Callable[[str], bool]
"""Whether a position takes a character."""


class Pattern:
    """A regular expression for the whole of a text."""

    def __init__(self, source: str) -> None:
        """ValueError if it is none, or one that takes too much."""
        tree = _Reader(source).read()
        positions = _Positions()
        self._start = positions.add(tree)
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


# What a pattern is read into.


class _Char(NamedTuple):
    """One character that passes the test."""

    takes: _Test


class _Sequence(NamedTuple):
    """One after the other."""

    parts: tuple[_Node, ...]


class _Choice(NamedTuple):
    """One of several."""

    parts: tuple[_Node, ...]


class _Repeat(NamedTuple):
    """The same from so many times to so many, None being any number of times."""

    part: _Node
    least: int
    most: int | None


_Node = _Char | _Sequence | _Choice | _Repeat


class _Span(NamedTuple):
    """Where a part of a pattern may begin and end, and whether it may be empty."""

    first: int
    last: int
    may_be_empty: bool


_EMPTY = _Span(0, 0, True)


class _Positions:
    """The positions of a pattern, while they are found."""

    def __init__(self) -> None:
        self.tests: list[_Test] = []
        self.follow: list[int] = []

    def add(self, node: _Node) -> _Span:
        """The positions of this part as well."""
        match node:
            case _Char(takes):
                if len(self.tests) == MOST_POSITIONS:
                    raise ValueError(f"it has more than {MOST_POSITIONS} characters, repetitions written out")
                self.tests.append(takes)
                self.follow.append(0)
                bit = 1 << len(self.tests) - 1
                return _Span(bit, bit, False)
            case _Sequence(parts):
                span = _EMPTY
                for part in parts:
                    span = self._join(span, self.add(part))
                return span
            case _Choice(parts):
                spans = [self.add(part) for part in parts]
                first, last = 0, 0
                for span in spans:
                    first, last = first | span.first, last | span.last
                return _Span(first, last, any(span.may_be_empty for span in spans))
            case _Repeat(part, least, most):
                return self._repeat(part, least, most)

    def _repeat(self, part: _Node, least: int, most: int | None) -> _Span:
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


# Reading.

_COUNTS = re.compile(r"\{(?:(\d+)|(\d*),(\d*))\}")
_CATEGORIES: dict[str, _Test] = {
    "d": str.isdecimal,
    "w": lambda char: char.isalnum() or char == "_",
    "s": str.isspace,
}
_CONTROLS = {"a": "\a", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_CODES = {"x": 2, "u": 4, "U": 8}
_HEXADECIMAL = frozenset("0123456789abcdefABCDEF")


class _Reader:
    """Reads one pattern."""

    def __init__(self, source: str) -> None:
        if len(source) > _LONGEST_PATTERN:
            raise ValueError(f"it is longer than {_LONGEST_PATTERN} characters")
        self._any_case = source.startswith("(?i)")
        self._source = source
        self._at = 4 if self._any_case else 0
        self._depth = 0

    def read(self) -> _Node:
        """The whole of it."""
        tree = self._read_choice()
        if self._at < len(self._source):
            raise ValueError(f"there is no ( for the ) at position {self._at}")
        return tree

    def _peek(self) -> str:
        return self._source[self._at : self._at + 1]

    def _take(self) -> str:
        char = self._peek()
        if not char:
            raise ValueError("it ends too early")
        self._at += 1
        return char

    def _skip(self, text: str) -> bool:
        if self._source.startswith(text, self._at):
            self._at += len(text)
            return True
        return False

    def _read_choice(self) -> _Node:
        parts = [self._read_sequence()]
        while self._skip("|"):
            parts.append(self._read_sequence())
        return parts[0] if len(parts) == 1 else _Choice(tuple(parts))

    def _read_sequence(self) -> _Node:
        parts: list[_Node] = []
        if not self._depth:
            self._skip("^")  # the whole is matched in any case, so many write it
        while self._peek() not in ("", "|", ")"):
            if not self._depth and self._peek() == "$" and self._source[self._at + 1 : self._at + 2] in ("", "|"):
                self._at += 1
                break
            parts.append(self._read_repeated())
        return parts[0] if len(parts) == 1 else _Sequence(tuple(parts))

    def _read_repeated(self) -> _Node:
        at = self._at
        if self._read_counts() is not None:
            raise ValueError(f"there is nothing to repeat at position {at}")
        node = self._read_one()
        counts = self._read_counts()
        if counts is None:
            return node
        least, most = counts
        if max(least, most or 0) > MOST_POSITIONS or (most is not None and most < least):
            raise ValueError(f"it can be repeated from 0 to {MOST_POSITIONS} times, the smaller number first")
        self._skip("?")  # as few as possible comes to the same for the whole of a text
        at = self._at
        if self._skip("+") or self._read_counts() is not None:
            raise ValueError(f"a repetition cannot be repeated, as at position {at}; put it into a group")
        return _Repeat(node, least, most)

    def _read_counts(self) -> tuple[int, int | None] | None:
        for sign, counts in (("*", (0, None)), ("+", (1, None)), ("?", (0, 1))):
            if self._skip(sign):
                return counts
        match = _COUNTS.match(self._source, self._at)
        if match is None:
            return None
        self._at = match.end()
        exactly, least, most = match.groups()
        if exactly is not None:
            return int(exactly), int(exactly)
        return int(least or 0), int(most) if most else None

    def _read_one(self) -> _Node:
        char = self._take()
        if char == "(":
            return self._read_group()
        if char == "[":
            return _Char(self._read_class())
        if char == ".":
            return _Char(lambda given: given != "\n")
        if char == "\\":
            return _Char(self._read_escape())
        if char in "^$":
            raise ValueError(f"{char} at position {self._at - 1} is neither at its beginning nor at its end")
        return _Char(self._literal(char))

    def _read_group(self) -> _Node:
        if self._peek() == "?" and not self._skip("?:"):
            raise ValueError("of groups with a question mark only (?:…) is known, and (?i) before everything else")
        self._depth += 1
        if self._depth > _DEEPEST:
            raise ValueError(f"it has groups in groups, more than {_DEEPEST} deep")
        node = self._read_choice()
        if not self._skip(")"):
            raise ValueError("a group has no end")
        self._depth -= 1
        return node

    def _read_escape(self) -> _Test:
        """What comes after a backslash."""
        char = self._take()
        category = _CATEGORIES.get(char.lower())
        if category is not None:
            return category if char.islower() else lambda given: not category(given)
        return self._literal(self._unescape(char))

    def _unescape(self, char: str) -> str:
        if char in _CONTROLS:
            return _CONTROLS[char]
        if char in _CODES:
            digits = "".join(self._take() for _ in range(_CODES[char]))
            if not set(digits) <= _HEXADECIMAL:
                raise ValueError(f"\\{char}{digits} is no character")
            return chr(int(digits, 16))
        if char.isascii() and char.isalnum():
            raise ValueError(f"\\{char} is not known here")
        return char

    def _read_class(self) -> _Test:
        """A choice of characters, whose bracket has been read."""
        is_negated = self._skip("^")
        tests: list[_Test] = []
        while not tests or self._peek() != "]":
            tests.append(self._read_range())
        self._at += 1
        if is_negated:
            return lambda given: not any(takes(given) for takes in tests)
        return lambda given: any(takes(given) for takes in tests)

    def _read_range(self) -> _Test:
        low = self._take()
        if low == "\\":
            low = self._take()
            if low.lower() in _CATEGORIES:
                self._at -= 1
                return self._read_escape()
            low = self._unescape(low)
        if self._peek() != "-" or self._source[self._at + 1 : self._at + 2] in ("", "]"):
            return self._literal(low)
        self._at += 1
        high = self._take()
        if high == "\\":
            high = self._unescape(self._take())
        if high < low:
            raise ValueError(f"from {low!r} to {high!r} there is no character")
        cases = self._cases
        return lambda given: any(low <= each <= high for each in cases(given))

    def _literal(self, char: str) -> _Test:
        cases = self._cases
        meant = cases(char)
        return lambda given: not meant.isdisjoint(cases(given))

    def _cases(self, char: str) -> frozenset[str]:
        """The characters that are the same as this one."""
        if not self._any_case:
            return frozenset(char)
        lower, upper = char.lower(), char.upper()
        return frozenset(each for each in (char, lower, upper, lower.upper(), upper.lower()) if len(each) == 1)
