"""What a regular expression says, as a tree: read by the rules of Python's, for `serving_app.core.pattern`."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

MOST_POSITIONS = 200
"""Characters that a pattern may have, counted repetitions written out."""

_LONGEST_PATTERN = 1000
_DEEPEST = 40

Test = Callable[[str], bool]
"""Whether a position takes a character."""


class Char(NamedTuple):
    """One character that passes the test."""

    takes: Test


class Sequence(NamedTuple):
    """One after the other."""

    parts: tuple[Node, ...]


class Choice(NamedTuple):
    """One of several."""

    parts: tuple[Node, ...]


class Repeat(NamedTuple):
    """The same from so many times to so many, None being any number of times."""

    part: Node
    least: int
    most: int | None


Node = Char | Sequence | Choice | Repeat


def read_pattern(source: str) -> Node:
    """The tree of a pattern. ValueError if it is none."""
    return _Reader(source).read()


_COUNTS = re.compile(r"\{(?:(\d+)|(\d*),(\d*))\}")
_CATEGORIES: dict[str, Test] = {
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

    def read(self) -> Node:
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

    def _read_choice(self) -> Node:
        parts = [self._read_sequence()]
        while self._skip("|"):
            parts.append(self._read_sequence())
        return parts[0] if len(parts) == 1 else Choice(tuple(parts))

    def _read_sequence(self) -> Node:
        parts: list[Node] = []
        if not self._depth:
            self._skip("^")  # the whole is matched in any case, so many write it
        while self._peek() not in ("", "|", ")"):
            if not self._depth and self._peek() == "$" and self._source[self._at + 1 : self._at + 2] in ("", "|"):
                self._at += 1
                break
            parts.append(self._read_repeated())
        return parts[0] if len(parts) == 1 else Sequence(tuple(parts))

    def _read_repeated(self) -> Node:
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
        return Repeat(node, least, most)

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

    def _read_one(self) -> Node:
        char = self._take()
        if char == "(":
            return self._read_group()
        if char == "[":
            return Char(self._read_class())
        if char == ".":
            return Char(lambda given: given != "\n")
        if char == "\\":
            return Char(self._read_escape())
        if char in "^$":
            raise ValueError(f"{char} at position {self._at - 1} is neither at its beginning nor at its end")
        return Char(self._literal(char))

    def _read_group(self) -> Node:
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

    def _read_escape(self) -> Test:
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

    def _read_class(self) -> Test:
        """A choice of characters, whose bracket has been read."""
        is_negated = self._skip("^")
        tests: list[Test] = []
        while not tests or self._peek() != "]":
            tests.append(self._read_range())
        self._at += 1
        if is_negated:
            return lambda given: not any(takes(given) for takes in tests)
        return lambda given: any(takes(given) for takes in tests)

    def _read_range(self) -> Test:
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

    def _literal(self, char: str) -> Test:
        cases = self._cases
        meant = cases(char)
        return lambda given: not meant.isdisjoint(cases(given))

    def _cases(self, char: str) -> frozenset[str]:
        """The characters that are the same as this one."""
        if not self._any_case:
            return frozenset(char)
        lower, upper = char.lower(), char.upper()
        return frozenset(each for each in (char, lower, upper, lower.upper(), upper.lower()) if len(each) == 1)
