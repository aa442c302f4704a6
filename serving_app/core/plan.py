"""What an edit of the configuration would change, to be read before it is made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

_SIGNS = {"add": "+", "remove": "-", "change": "~"}


@dataclass(frozen=True, slots=True)
class Change:
    """One setting that comes, goes or gets another value, and what follows from it.

    `model` is None for a setting of the whole serving app. `setting` is empty when a whole model comes or goes.
    `before` is empty for what is added, `after` for what is removed; `effect` is a sentence, or empty if there is
    nothing to say.
    """

    model: str | None
    kind: Literal["add", "remove", "change"]
    setting: str
    before: str
    after: str
    effect: str = ""

    def __str__(self) -> str:
        subject = " ".join(
            part for part in (f"model {self.model}" if self.model is not None else "", self.setting) if part
        )
        values = " -> ".join(value for value in (self.before, self.after) if value)
        line = f"{_SIGNS[self.kind]} {subject}"
        if values:
            line += f": {values}"
        return f"{line} ({self.effect})" if self.effect else line


@dataclass(frozen=True, slots=True)
class Plan:
    """All that an edit would change, in the order in which to read it."""

    changes: tuple[Change, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether everything would stay as it is."""
        return not self.changes

    def __str__(self) -> str:
        return "\n".join(map(str, self.changes)) or "nothing changes"
