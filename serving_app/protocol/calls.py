"""What travels between a front end and a servable: one call, one reply.

Many calls travel in one hop. Each keeps its own outcome: a reply is the outputs or the error of that call alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from serving_app.core.errors import ServingError

JOINT = ""
"""Stands where a signature's name does, in a call of several signatures."""


class Call(NamedTuple):
    """One run of one signature. `outputs` None means all; `timeout` is the time left, in seconds.

    A *joint* call is one run of several signatures, each of which takes the same inputs: its signature name is JOINT,
    and its outputs, all of which are named, are `joint_output`s.

    `api` is what its run counts as: Predict, Classify or Regress; empty where it does not count.

    A *joined* call is several requests that differ in their rows alone. Its arrays hold the rows of all, one request
    after the other; `members` tells how many rows each has, which is at least one, and `timeouts` the time that each
    has left: nothing where none has a limit. Its own timeout is then the longest of these. Each member has an outcome
    of its own.
    """

    signature_name: str
    inputs: Mapping[str, np.ndarray[Any, Any]]
    outputs: tuple[str, ...] | None = None
    timeout: float | None = None
    api: str = "Predict"
    members: tuple[int, ...] = ()
    timeouts: tuple[float | None, ...] = ()

    @property
    def requests(self) -> int:
        """How many requests this call is: its members, or itself."""
        return len(self.members) or 1

    @property
    def nbytes(self) -> int:
        """About how many bytes this call puts on the wire."""
        return total_bytes(self.inputs)


def joint_output(signature_name: str, alias: str) -> str:
    """What an output of one signature is called in a joint call. The alias has no slash."""
    return f"{signature_name}/{alias}"


def joint_parts(outputs: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """The signatures of a joint call, in order, and the outputs that are wanted of each."""
    parts: dict[str, tuple[str, ...]] = {}
    for output in outputs:
        signature_name, _, alias = output.rpartition("/")
        parts[signature_name] = (*parts.get(signature_name, ()), alias)
    return parts


Outputs = dict[str, np.ndarray[Any, Any]]
Reply = Outputs | ServingError


class Answer(NamedTuple):
    """What a replica sends back for a list of calls: replies, and the time that running them took.

    Without `counts` there is one reply for each request, members of joined calls being requests of their own. With it
    the first reply is for the first `counts[0]` requests, and so on: an error is the error of each of them, and outputs
    hold the rows of all, one request after the other. A reply is never for requests of two calls.

    `most_rows` is how many rows one run may join there; 0 where each request runs by itself, and nothing is won by
    sending joined calls. Either kind is answered in either case.

    `held` is for how long the replica had the calls, from their coming to this answer, and `ran` the sum over all
    requests of what their runs took, which for each of a run of many is the whole of that run.
    """

    replies: list[Reply]
    seconds: float
    counts: tuple[int, ...] = ()
    most_rows: int = 0
    held: float = 0.0
    ran: float = 0.0


def total_bytes(tensors: Mapping[str, np.ndarray[Any, Any]]) -> int:
    """Bytes of the payload of all of these."""
    return sum(map(payload_bytes, tensors.values()))


def payload_bytes(array: np.ndarray[Any, Any]) -> int:
    """Bytes of an array's payload; a string tensor counts its strings, not the pointers to them."""
    if array.dtype.kind == "O":
        return sum(len(value) for value in array.flat) + 16 * array.size
    return array.nbytes
