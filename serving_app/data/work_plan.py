"""The plan of a batch: which pieces of which files become which parts of the output, and by which version.

It is made once and lies beside the output as long as that is there, so whoever runs the same command again does what
is left of the same work: the same pieces under the same names, by the same version wherever its label is by then.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from serving_app.core.errors import DataLoss, FailedPrecondition
from serving_app.data.input_files import InputFile

PLAN_NAME = "_serving_app_batch"
"""The plan's name, but for `.json`. What begins so is no data to those who read directories of Parquet."""

_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Piece:
    """Some rows of one file, which become one part; `stop` None means to the end."""

    number: int
    file: InputFile
    start: int
    stop: int | None

    @property
    def rows(self) -> int | None:
        """How many rows it has, as far as that is known."""
        return None if self.stop is None else self.stop - self.start


@dataclass(frozen=True)
class WorkPlan:
    """`request` is what the user asked for, word by word; `version` what came of it."""

    request: Mapping[str, Any]
    model: str
    version: int
    files: tuple[InputFile, ...]
    cuts: tuple[tuple[int, int, int | None], ...]
    """Of each piece the number of its file, the first row, and the one after the last."""

    @property
    def pieces(self) -> list[Piece]:
        """All pieces in the order of their rows."""
        return [Piece(at, self.files[file], start, stop) for at, (file, start, stop) in enumerate(self.cuts)]

    @property
    def rows(self) -> int | None:
        """How many rows there are, as far as that is known."""
        counts = [file.rows for file in self.files]
        return None if None in counts else sum(filter(None, counts))

    @property
    def digest(self) -> str:
        """What tells this work from any other."""
        return hashlib.sha256(encode_plan(self)).hexdigest()[:32]


def cut(files: Sequence[InputFile], piece_rows: int) -> tuple[tuple[int, int, int | None], ...]:
    """Pieces of about that many rows. Row groups stay whole unless one has more than twice as many."""
    cuts: list[tuple[int, int, int | None]] = []
    for number, file in enumerate(files):
        if file.groups is None:
            cuts.append((number, 0, None))
            continue
        if file.rows == 0:  # so that a result has its columns even where no row is
            cuts.append((number, 0, 0))
            continue
        start = at = 0
        for rows in file.groups:
            count = rows // piece_rows
            if count >= 2:
                if at > start:
                    cuts.append((number, start, at))
                edges = [at + rows * part // count for part in range(count + 1)]
                cuts += [(number, begin, end) for begin, end in itertools.pairwise(edges)]
                start = at + rows
            elif at + rows - start >= piece_rows:
                cuts.append((number, start, at + rows))
                start = at + rows
            at += rows
        if at > start:
            cuts.append((number, start, at))
    return tuple(cuts)


def encode_plan(plan: WorkPlan) -> bytes:
    """A text that people can read and `decode_plan` takes back."""
    content = {
        "format": _FORMAT,
        "request": plan.request,
        "model": plan.model,
        "version": plan.version,
        "files": [asdict(file) for file in plan.files],
        "pieces": plan.cuts,
    }
    return (json.dumps(content, sort_keys=True) + "\n").encode()


def decode_plan(encoded: bytes, where: str) -> WorkPlan:
    """What `encode_plan` wrote. Raises DataLoss if it is not that."""
    try:
        content = json.loads(encoded)
        if content["format"] != _FORMAT:
            raise ValueError(f"it is of format {content['format']}")
        return WorkPlan(
            content["request"],
            content["model"],
            content["version"],
            tuple(_decode_file(file) for file in content["files"]),
            tuple((file, start, stop) for file, start, stop in content["pieces"]),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise DataLoss(f"{where} is no plan of this version of serving-app ({error}); use another output") from error


def _decode_file(content: Mapping[str, Any]) -> InputFile:
    groups = content["groups"]
    return InputFile(
        content["path"], content["size"], tuple(content["stamp"]), tuple(content["names"]),
        None if groups is None else tuple(groups),
    )


def check_same(plan: WorkPlan, request: Mapping[str, Any], files: Sequence[InputFile], where: str) -> None:
    """FailedPrecondition, with what differs, unless the plan is for this request and for these files."""
    for name in sorted(plan.request.keys() | request.keys()):
        before, now = plan.request.get(name), request.get(name)
        if before != now:
            raise FailedPrecondition(
                f"{where} was begun with {name} {before!r}, and now it is {now!r}; ask for the same as then to go on, "
                "or use another output"
            )
    then, present = {file.path: file for file in plan.files}, {file.path: file for file in files}
    for path in sorted(then.keys() | present.keys()):
        if then.get(path) != present.get(path):
            what = "is gone" if path not in present else "has come" if path not in then else "has changed"
            raise FailedPrecondition(f"{path} {what} since {where} was begun; use another output for what there is now")
