"""Workers of this process, that do one piece after the other and die when they are told to."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping

from serving_app.core.signatures import Signature
from serving_app.data.crew import LostError, Outcome
from serving_app.data.piece_scorer import PieceScorer, Work
from serving_app.data.work_plan import Piece


class LocalCrew:
    """A Crew without Ray: real work on real files, in the order in which it is handed out."""

    def __init__(self, work: Work, dies: Callable[[Piece], bool] = lambda _: False) -> None:
        self._scorer = PieceScorer(work)
        self._dies = dies
        self._todo: deque[Piece] = deque()
        self.done: list[int] = []
        self.is_closed = False

    def signatures(self) -> Mapping[str, Signature]:
        return self._scorer.signatures

    def room(self) -> int:
        return 2 - len(self._todo)

    def submit(self, piece: Piece) -> None:
        assert self.room()
        self._todo.append(piece)

    def wait(self, seconds: float) -> list[Outcome]:
        piece = self._todo.popleft()
        if self._dies(piece):
            return [Outcome(piece, None, LostError("killed"))]
        try:
            counts = self._scorer.score(piece)
        except Exception as error:
            return [Outcome(piece, None, error)]
        self.done.append(piece.number)
        return [Outcome(piece, counts)]

    def rows(self) -> int:
        return self._scorer.rows

    def close(self) -> None:
        self._scorer.close()
        self.is_closed = True
