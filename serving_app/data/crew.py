"""The workers of a batch: Ray actors that each hold the version, and are replaced when they die."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import ray
from ray.exceptions import RayActorError, RayError, RayTaskError

from serving_app.client.remote_errors import cause_of
from serving_app.core.errors import Unavailable
from serving_app.core.signatures import Signature
from serving_app.data.parts import Counts
from serving_app.data.piece_scorer import PieceScorer, Work
from serving_app.data.work_plan import Piece

logger = logging.getLogger(__name__)

PIECES_AT_A_TIME = 2
"""Of one worker: while the rows of one piece are read or written, those of the other are run."""

_MOST_DEATHS_IN_A_ROW = 3
"""Workers that die while they load the version; more would die of the same."""


class LostError(Exception):
    """A worker died over a piece; another one may do it."""


class Outcome(NamedTuple):
    """What became of a piece."""

    piece: Piece
    counts: Counts | None
    error: Exception | None = None


class Crew(Protocol):
    """Workers that score pieces. All methods are for one thread."""

    def signatures(self) -> Mapping[str, Signature] | None:
        """What the version takes and gives, as a worker tells who has loaded it; None while none has."""
        ...

    def room(self) -> int:
        """How many pieces may be handed out now."""
        ...

    def submit(self, piece: Piece) -> None:
        """Have a piece scored. Only while there is room."""
        ...

    def wait(self, seconds: float) -> list[Outcome]:
        """What has ended, as soon as something has, or nothing after that time. Raises what keeps workers from coming
        up."""
        ...

    def rows(self) -> int:
        """About how many rows the workers of now have scored, those of pieces that are under way included."""
        ...

    def close(self) -> None:
        """End all workers."""
        ...


@ray.remote
class _Worker:
    """A PieceScorer in a process of its own."""

    def __init__(self, work: Work, cpus: int) -> None:
        self._work, self._cpus = work, cpus
        self._scorer: PieceScorer | None = None

    def open(self) -> Mapping[str, Signature]:
        import pyarrow as pa

        pa.set_cpu_count(self._cpus)
        self._scorer = PieceScorer(self._work)
        return self._scorer.signatures

    def score(self, piece: Piece) -> Counts:
        assert self._scorer is not None  # it is open
        return self._scorer.score(piece)

    def rows(self) -> int:
        return self._scorer.rows if self._scorer is not None else 0


class _Member:
    """A worker as the crew sees it."""

    def __init__(self, actor: Any) -> None:
        self.actor = actor
        self.opening: Any = actor.open.remote()
        self.flying: dict[Any, Piece] = {}
        self.counting: Any = None
        self.rows = 0
        self.is_lost = False

    @property
    def room(self) -> int:
        return 0 if self.is_lost or self.opening is not None else PIECES_AT_A_TIME - len(self.flying)


class RayCrew:
    """A Crew on the Ray cluster that this process is part of."""

    def __init__(self, work: Work, workers: int, num_cpus: float, num_gpus: float) -> None:
        self._work, self._num_cpus, self._num_gpus = work, num_cpus, num_gpus
        self._signatures: Mapping[str, Signature] | None = None
        self._deaths = 0
        self._members = [self._hire() for _ in range(workers)]

    def signatures(self) -> Mapping[str, Signature] | None:
        return self._signatures

    def room(self) -> int:
        return sum(member.room for member in self._members)

    def submit(self, piece: Piece) -> None:
        member = max(self._members, key=lambda each: each.room)
        member.flying[member.actor.score.remote(piece)] = piece

    def wait(self, seconds: float) -> list[Outcome]:
        refs = [ref for member in self._members for ref in (member.opening, *member.flying) if ref is not None]
        ready, _ = ray.wait(refs, timeout=seconds)
        ready, _ = ray.wait(refs, num_returns=len(refs), timeout=0) if ready else ([], [])
        outcomes: list[Outcome] = []
        for member in list(self._members):
            if member.opening in ready:
                self._end_opening(member)
            outcomes += [self._end(member, ref) for ref in [*member.flying] if ref in ready]
        return outcomes

    def rows(self) -> int:
        for member in self._members:
            if member.counting is None and member.opening is None and not member.is_lost:
                member.counting = member.actor.rows.remote()
            if member.counting is not None and ray.wait([member.counting], timeout=0)[0]:
                try:
                    member.rows = ray.get(member.counting)
                except RayError:  # the worker died, which its pieces tell
                    logger.debug("a worker has not told how far it is")
                member.counting = None
        return sum(member.rows for member in self._members)

    def close(self) -> None:
        for member in self._members:
            ray.kill(member.actor)
        self._members = []

    def _hire(self) -> _Member:
        options = {"num_cpus": self._num_cpus, "max_concurrency": PIECES_AT_A_TIME + 1}
        if self._num_gpus:
            options["num_gpus"] = self._num_gpus
        return _Member(_Worker.options(**options).remote(self._work, max(1, int(self._num_cpus))))  # type: ignore[attr-defined]

    def _end_opening(self, member: _Member) -> None:
        try:
            self._signatures = ray.get(member.opening)
        except RayTaskError as error:
            raise cause_of(error) from error
        except RayError as error:
            self._deaths += 1
            if self._deaths > _MOST_DEATHS_IN_A_ROW:
                raise Unavailable(
                    f"{self._deaths} workers in a row died while they loaded the version ({_first_line(error)}); it "
                    "may need more memory than a node has, or its native code crashes: look into Ray's logs"
                ) from error
            self._replace(member)
            self._members.remove(member)
            return
        self._deaths = 0
        member.opening = None

    def _end(self, member: _Member, ref: Any) -> Outcome:
        piece = member.flying.pop(ref)
        if member.is_lost and not member.flying:
            self._members.remove(member)
        try:
            return Outcome(piece, ray.get(ref))
        except RayTaskError as error:
            return Outcome(piece, None, cause_of(error))
        except RayActorError as error:
            if not member.is_lost:
                self._replace(member)
                if not member.flying:
                    self._members.remove(member)
            return Outcome(piece, None, LostError(_first_line(error)))
        except RayError as error:
            return Outcome(piece, None, LostError(_first_line(error)))

    def _replace(self, member: _Member) -> None:
        """A worker for one that died. What that had in hand is done anew by others."""
        member.is_lost = True
        member.rows = 0
        self._members.append(self._hire())


def _first_line(error: Exception) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
