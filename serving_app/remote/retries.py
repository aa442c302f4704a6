"""Which attempts are made again, and after what pause."""

from __future__ import annotations

import random
from dataclasses import dataclass

from serving_app.core.errors import ServingError


@dataclass(frozen=True, slots=True)
class Retries:
    """How often a call is attempted, and how long the pauses in between are, in seconds.

    The pauses double from `first_pause` to `longest_pause`, each cut by chance to between a half and all of it, so that
    clients which were refused together do not come back together. A server that asks for a longer pause gets it. None
    goes beyond the call's deadline.
    """

    attempts: int = 4
    first_pause: float = 0.05
    longest_pause: float = 2.0

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ValueError(f"attempts must be at least 1, and not {self.attempts}; 1 means that nothing is repeated")
        if not 0 <= self.first_pause <= self.longest_pause:
            raise ValueError("first_pause must be at least 0, and longest_pause at least that")

    def pause_after(self, attempts: int, chance: random.Random, asked: float = 0.0) -> float | None:
        """The pause after so many attempts, at least what the server `asked` for; None if there were enough."""
        if attempts >= self.attempts:
            return None
        whole = min(self.first_pause * 2.0 ** min(attempts - 1, 64), self.longest_pause)
        return max(asked, whole * chance.uniform(0.5, 1.0))


class Setback(Exception):
    """An attempt failed in a way that may pass, and the server did not work on the request, or may do so again.

    `error` is what the caller hears if no other attempt is made; `pause` what the server asked for, in seconds.
    """

    def __init__(self, error: ServingError, pause: float = 0.0) -> None:
        super().__init__(error)
        self.error = error
        self.pause = pause
