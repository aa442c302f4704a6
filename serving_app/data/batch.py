"""Scoring files as one work that can be cut short anywhere and gone on with.

The work is planned once, piece by piece, and the plan kept at the output. Whoever runs it looks which parts are there,
has the others made, and counts at the end what all parts say of themselves: as many rows went in as came out or were
set aside.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import ray

from serving_app.core.errors import FailedPrecondition, InvalidArgument, Unavailable
from serving_app.core.servable import ServableId
from serving_app.data.columns import Inputs, Outputs
from serving_app.data.crew import Crew, LostError, RayCrew
from serving_app.data.finding import How
from serving_app.data.input_files import InputFile, absolute, find_files
from serving_app.data.parts import Counts, Parts
from serving_app.data.piece_scorer import FILE_COLUMN, ROW_COLUMN, Work
from serving_app.data.pinned import MAX_IN_FLIGHT, ROWS_PER_CALL, TIMEOUT_S, Pinned, pin
from serving_app.data.work_plan import PLAN_NAME, Piece, WorkPlan, check_same, cut, decode_plan, encode_plan
from serving_app.store.state_file import StateFile

logger = logging.getLogger(__name__)

BATCH_ROWS = 4096
_MOST_PIECE_ROWS, _LEAST_PIECE_ROWS = 1 << 18, 1 << 14
_PIECES_PER_WORKER = 8
"""So that workers end at about the same time, and little is lost with one that dies."""

_MOST_TRIES = 4
_LOOK_S = 0.5


@dataclass(frozen=True)
class BatchRequest:
    """What to score, by what, and where the result goes; see docs/batch.md for each."""

    inputs: tuple[str, ...]
    output: str
    model: str | None = None
    version: int | None = None
    label: str | None = None
    app: str = "default"
    base_path: str | None = None
    how: How = "local"
    signature_name: str = "serving_default"
    input_columns: Inputs = field(default_factory=dict)
    output_columns: Outputs | None = None
    keep: tuple[str, ...] | None = None
    errors: str | None = None
    batch_rows: int = BATCH_ROWS
    rows_per_call: int = ROWS_PER_CALL
    max_in_flight: int = MAX_IN_FLIGHT
    timeout: float = TIMEOUT_S
    storage_options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    input_options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    output_options: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def words(self) -> dict[str, Any]:
        """What decides the result: who goes on with a work has to ask for the same. How stores are reached does not,
        and is not written down: there are secrets in it."""
        columns = {name: [one] if isinstance(one, str) else list(one) for name, one in self.input_columns.items()}
        wanted = self.output_columns
        return {
            "inputs": [absolute(each) for each in self.inputs],
            "app": self.app,
            "model": self.model,
            "version": self.version,
            "label": self.label,
            "base_path": None if self.base_path is None else absolute(self.base_path),
            "how": self.how,
            "signature": self.signature_name,
            "input columns": columns,
            "output columns": dict(wanted) if isinstance(wanted, Mapping) else wanted and list(wanted),
            "keep": None if self.keep is None else list(self.keep),
            "errors": None if self.errors is None else absolute(self.errors),
        }

    def pin(self, version: int | None) -> Pinned:
        """What to score with; `version` is the one by which the work was begun, if it was."""
        return pin(
            self.model,
            version=self.version if version is None else version,
            label=self.label if version is None else None,
            app=self.app,
            base_path=self.base_path,
            storage_options=self.storage_options,
            how=self.how,
            signature_name=self.signature_name,
            inputs=self.input_columns,
            outputs=self.output_columns,
            keep=self.keep,
            on_error="fail" if self.errors is None else "set_aside",
            rows_per_call=self.rows_per_call,
            max_in_flight=self.max_in_flight,
            timeout=self.timeout,
        )


@dataclass(frozen=True)
class Begun:
    """A work that is planned, and how far it was when we came to it."""

    plan: WorkPlan
    pinned: Pinned
    work: Work
    done: Mapping[int, Counts]

    @property
    def left(self) -> list[Piece]:
        """The pieces that are not done."""
        return [piece for piece in self.plan.pieces if piece.number not in self.done]


@dataclass(frozen=True)
class Summary:
    """What became of a work."""

    servable: ServableId
    files: int
    parts: int
    rows_in: int
    rows_out: int
    rows_set_aside: int
    rows_from_before: int
    """Of these rows, how many were done by runs before this one."""
    seconds: float


@dataclass(frozen=True)
class Progress:
    """How far a work is. `is_waiting` while no worker has come up."""

    rows: int
    total: int | None
    seconds: float
    is_waiting: bool = False


Tell = Callable[[Progress], None]
"""Told again and again while the work goes on."""


def begin(request: BatchRequest, workers: int) -> Begun:
    """Plan a work, or take up the one that was planned for this output. Blocks.

    Raises a ServingError for everything that can be known before a row is read: a model, version or file that is not
    there, columns that do not fit, an output that holds something else.
    """
    _check(request)
    output = Parts(absolute(request.output).rstrip("/"), request.output_options)
    errors = None if request.errors is None else replace(output, directory=absolute(request.errors).rstrip("/"))
    for each in (output, errors):
        if each is not None:
            each.check()
    known = _read_plan(output)
    if known is None:
        _check_empty(output, errors)
    pinned = request.pin(None if known is None else known.version)
    files = find_files(request.inputs, request.input_options, skips_broken=request.errors is not None)
    _check_columns(pinned, files, request.errors is not None)
    if known is not None:
        check_same(known, request.words(), files, output.directory)
        plan = known
    else:
        rows = sum(file.rows or 0 for file in files)
        piece_rows = min(max(rows // (workers * _PIECES_PER_WORKER), _LEAST_PIECE_ROWS), _MOST_PIECE_ROWS)
        servable = pinned.servable
        plan = WorkPlan(request.words(), servable.name, servable.version, tuple(files), cut(files, piece_rows))
        _plan_file(output).write(encode_plan(plan))
    output = replace(output, digest=plan.digest)
    errors = errors and replace(errors, digest=plan.digest)
    return Begun(plan, pinned, Work(pinned, output, errors, request.batch_rows, request.input_options), output.done())


def run(begun: Begun, hire: Callable[[], Crew], tell: Tell, clock: Callable[[], float] = time.monotonic) -> Summary:
    """Have everything scored that is left, by workers that are hired if they are needed.

    Raises what made a piece fail; what was done by then stays done.
    """
    started = clock()
    before = sum(counts.rows for counts in begun.done.values())
    if begun.left:
        crew = hire()
        try:
            _score(
                begun, crew,
                lambda rows: tell(
                    Progress(before + rows, begun.plan.rows, clock() - started, crew.signatures() is None)
                ),
            )
        finally:
            crew.close()
    return _sum_up(begun, before, clock() - started)


def _score(begun: Begun, crew: Crew, tell: Callable[[int], None]) -> None:
    todo, flying, done = deque(begun.left), 0, 0
    tries: Counter[int] = Counter()
    has_looked = False
    while todo or flying:
        if not has_looked and (signatures := crew.signatures()) is not None:
            for file in begun.plan.files:
                with _told_of(file):
                    begun.pinned.fit(file.names, signatures)
            has_looked = True
        while todo and has_looked and crew.room():
            crew.submit(todo.popleft())
            flying += 1
        for piece, counts, error in crew.wait(_LOOK_S):
            flying -= 1
            if counts is not None:
                done += counts.rows
            elif isinstance(error, LostError):
                tries[piece.number] += 1
                if tries[piece.number] == _MOST_TRIES:
                    raise Unavailable(
                        f"{_MOST_TRIES} workers died over rows {piece.start} and up of {piece.file.path} ({error}); "
                        "they may need more memory than there is: try a smaller batch size, or fewer workers per node"
                    )
                logger.warning("a worker died over %s; another one does it: %s", piece.file.path, error)
                todo.appendleft(piece)
            elif error is not None:
                raise error
        tell(max(done, crew.rows()))


def _sum_up(begun: Begun, before: int, seconds: float) -> Summary:
    """By what the parts themselves say, which is also what others than we have written."""
    done = begun.work.output.done()
    if missing := [piece.number for piece in begun.plan.pieces if piece.number not in done]:
        raise FailedPrecondition(
            f"{len(missing)} parts are gone from {begun.work.output.directory} since they were written; run the same "
            "command again"
        )
    total = sum(done.values(), Counts(0))
    if begun.plan.rows is not None and total.rows != begun.plan.rows:
        raise FailedPrecondition(
            f"the parts have {total.rows} rows, and the files {begun.plan.rows}; begin anew at another output"
        )
    begun.work.output.clean()
    if begun.work.errors is not None:
        begun.work.errors.clean()
    return Summary(
        begun.pinned.servable, len(begun.plan.files), len(done), total.rows, total.rows - total.set_aside,
        total.set_aside, before, seconds,
    )


def hire(begun: Begun, workers: int, num_cpus: float, num_gpus: float | None) -> RayCrew:
    """Workers on the Ray cluster that this process is part of, no more than there are pieces."""
    pinned = begun.pinned
    if num_gpus is None:
        num_gpus = pinned.found.num_gpus if pinned.how == "local" else 0
    if num_gpus:
        workers = min(workers, int(ray.cluster_resources().get("GPU", 0) // num_gpus))
    work = replace(begun.work, pinned=pinned.with_cpus(max(1, int(num_cpus))))
    return RayCrew(work, max(1, min(workers, len(begun.left))), num_cpus, num_gpus)


def _check(request: BatchRequest) -> None:
    if request.batch_rows < 1:
        raise InvalidArgument("a batch has at least one row")
    if request.errors is not None and (
        _lies_within(request.errors, request.output) or _lies_within(request.output, request.errors)
    ):
        raise InvalidArgument(
            f"{request.errors} and {request.output} lie within each other, so who reads the one would read rows of the "
            "other, too; name a directory beside the output for errors"
        )
    for place in (request.output, *filter(None, [request.errors])):
        for source in request.inputs:
            if _lies_within(place, source):
                raise InvalidArgument(
                    f"{place} lies within the input {source}, of which it would be a part next time; use another place"
                )


def _lies_within(place: str, other: str) -> bool:
    """Whether a path is the other one, or below it."""
    return f"{absolute(place).rstrip('/')}/".startswith(f"{absolute(other).rstrip('/')}/")


def _read_plan(output: Parts) -> WorkPlan | None:
    file = _plan_file(output)
    content = file.read()
    return None if content is None else decode_plan(content, file.uri)


def _plan_file(output: Parts) -> StateFile:
    return StateFile(output.directory, PLAN_NAME, output.options)


def _check_empty(*directories: Parts | None) -> None:
    for parts in directories:
        if parts is not None and (names := parts.names()):
            raise FailedPrecondition(
                f"{parts.directory} holds {names[0]!r} already, and no plan of a batch; use an empty directory"
            )


def _check_columns(pinned: Pinned, files: Iterable[InputFile], sets_aside: bool) -> None:
    reserved = {FILE_COLUMN, ROW_COLUMN} if sets_aside else set()
    for file in files:
        with _told_of(file):
            pinned.fit(file.names)
        if taken := reserved & set(file.names):
            raise InvalidArgument(f"{file.path}: the column {min(taken)!r} is there already, and its name is needed")


@contextmanager
def _told_of(file: InputFile) -> Iterator[None]:
    try:
        yield
    except InvalidArgument as error:
        raise InvalidArgument(f"{file.path}: {error.message}") from error
