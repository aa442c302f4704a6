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
    "health-names": Difference(
        "tools that know a service know its full name", "| `/grpc.health.v1.Health/Check` | better: "
    ),
    "same-names": Difference(
        "what counts of members with one name does not depend on where they stand",
        "| of several members with one name in an object of `instances` or `examples` |",
    ),
    "quotation": Difference("nobody reads megabytes in an error", "| error messages that quote the request |"),
    "bad-utf-8": Difference("the answer is JSON, so that clients can read it", "| bytes in error messages that are no"),
    "levels": Difference("NumPy's limit", "| tensors nested deeper than 64 levels |"),
    "dimensions": Difference("NumPy's limit", "| shapes | at most 64 dimensions |"),
    "metric-labels": Difference("rollouts compare versions", "| labels | `version` and `signature`"),
    "negative-labels": Difference(
        "no version will ever have such a number", "| a label for a version below 0 |"
    ),
    "filled": Difference("a request of a few bytes could claim any amount of memory", "| repeated values |"),
    "logging": Difference(
        "it names the model, and comes before anything has changed", "| `logging_config` of a model |"
    ),
}
