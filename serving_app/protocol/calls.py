"""What travels between a front end and a servable: one call, one reply.

Many calls travel in one hop. Each keeps its own outcome: a reply is the outputs or the error of that call alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from serving_app.core.errors import ServingError


class Call(NamedTuple):
    """One run of one signature. `outputs` None means all; `timeout` is the time left, in seconds.

    `api` is what its run counts as: Predict, Classify or Regress; empty where it does not count.
    """

    signature_name: str
    inputs: Mapping[str, np.ndarray[Any, Any]]
    outputs: tuple[str, ...] | None = None
    timeout: float | None = None
    api: str = "Predict"

    @property
    def nbytes(self) -> int:
        """About how many bytes this call puts on the wire."""
        return sum(payload_bytes(array) for array in self.inputs.values())


Outputs = dict[str, np.ndarray[Any, Any]]
Reply = Outputs | ServingError


class Answer(NamedTuple):
    """What a replica sends back for a list of calls: a reply for each, and the time that running them took."""

    replies: list[Reply]
    seconds: float


def payload_bytes(array: np.ndarray[Any, Any]) -> int:
    """Bytes of an array's payload; a string tensor counts its strings, not the pointers to them."""
    if array.dtype.kind == "O":
        return sum(len(value) for value in array.flat) + 16 * array.size
    return array.nbytes
