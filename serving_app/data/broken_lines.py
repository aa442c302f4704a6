"""Lines of text files that are no rows: a line of CSV with too few or too many columns, one of JSON Lines that is no
JSON object.

Arrow ends at the first of them. Where such lines are set aside, they are taken out before Arrow makes tables, and
remembered by their places, so that all other rows can be told by theirs.
"""

from __future__ import annotations

import io
from bisect import bisect_right
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import orjson
import pyarrow.csv

_SHOWN = 100
"""How much of a line is told, at most."""

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class BrokenLines:
    """The broken lines of one file, in their order, as far as it was read: the number of the row that each would be,
    from 0, and what is wrong with it."""

    def __init__(self) -> None:
        self.rows: list[int] = []
        self.reasons: list[str] = []
        self._others: list[int] = []  # before each of them

    def __len__(self) -> int:
        return len(self.rows)

    def place(self, index: int) -> int:
        """The number of a row in the file that is at `index` of those that are not broken."""
        return index + bisect_right(self._others, index)

    def take_csv(self, line: pyarrow.csv.InvalidRow) -> str:
        """Arrow's handler of lines that do not have the right number of columns. It counts from 1, names included."""
        reason = f"{line.actual_columns} columns and not {line.expected_columns}: {line.text[:_SHOWN]!r}"
        self._add(line.number - 2, reason)
        return "skip"

    def without(self, file: BinaryIO) -> BinaryIO:
        """The same file of JSON Lines without those that are no objects."""
        return io.BufferedReader(_Lines(self._good_lines(file), file.close))

    def _good_lines(self, file: BinaryIO) -> Iterator[bytes]:
        row = 0
        for line in file:
            if not line.strip():
                continue  # which is no row to Arrow either
            line = line.removeprefix(_BYTE_ORDER_MARK) if row == 0 else line
            if wrong := _find_fault(line):
                self._add(row, f"{wrong}: {line.strip()[:_SHOWN].decode(errors='replace')!r}")
            else:
                yield line
            row += 1

    def _add(self, row: int, reason: str) -> None:
        self._others.append(row - len(self.rows))
        self.rows.append(row)
        self.reasons.append(reason)


def _find_fault(line: bytes) -> str:
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        return f"no JSON ({error})"
    return "" if isinstance(value, dict) else "no object of JSON"


class _Lines(io.RawIOBase):
    """A file of lines that somebody else makes."""

    def __init__(self, lines: Iterator[bytes], close: Callable[[], None]) -> None:
        self._lines = lines
        self._close = close
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        part = self._rest or next(self._lines, b"")
        count = min(len(part), len(buffer))
        buffer[:count] = part[:count]
        self._rest = part[count:]
        return count

    def close(self) -> None:
        if not self.closed:
            self._close()
        super().close()
