"""What is answered otherwise than by TensorFlow Serving, on purpose: the reason, and the row of the page that tells it.

The page is docs/compatibility.md; `says` is how the row of its table begins.
"""

from __future__ import annotations

from typing import NamedTuple


class Difference(NamedTuple):
    """One intended difference."""

    reason: str
    says: str


DIFFERENCES: dict[str, Difference] = {
    "json-404": Difference("clients of a JSON API need not read HTML", "| any other path |"),
    "filled": Difference("a request of a few bytes could claim any amount of memory", "| repeated values |"),
    "logging": Difference(
        "it names the model, and comes before anything has changed", "| `logging_config` of a model |"
    ),
}
