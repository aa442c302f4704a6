"""Requests joined into one call before they travel, and their replies.

Requests that differ in their rows alone (same signature, outputs, and per input the same element type and inner shape)
become one call with the rows of all, so that whatever is between them and the run costs once and not for each of them.
Who sends joins, who receives takes apart only what it has to. Nothing is decided here: which requests run together is
up to the queues where the model is, which treat each member as if it had come alone.

What cannot be batched, or has no row at all, is never joined, and travels as it is to the one who refuses it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import repeat
from typing import Any, NamedTuple

import numpy as np

from serving_app.core.errors import Internal, ServingError
from serving_app.protocol.calls import Answer, Call, Outputs, Reply

_MOST_BYTES = 1 << 16
"""Larger inputs travel by themselves: copying them would cost more than a call of their own."""

_Kind = tuple[Any, ...]


class JoinedCalls(NamedTuple):
    """Calls to send, and which requests are in them."""

    calls: list[Call]
    order: list[int]
    """The places of the requests, in the order in which they stand in the calls."""
    rows: list[int]
    """In that order how many rows each has; 0 where a request travels by itself."""

    def separate(self, answer: Answer) -> list[Reply]:
        """The reply to each request, in the order in which the requests were given. Internal if there are more or
        fewer."""
        replies = self._separate(answer)
        if len(replies) != len(self.order):
            raise Internal(f"{len(self.order)} calls were answered by {len(replies)} replies")
        if self.rows is _NOT_JOINED:
            return replies
        separate: list[Any] = [None] * len(replies)
        for place, reply in zip(self.order, replies, strict=True):
            separate[place] = reply
        return separate

    def _separate(self, answer: Answer) -> list[Reply]:
        if not answer.counts:
            return answer.replies
        replies: list[Reply] = []
        for count, reply in zip(answer.counts, answer.replies, strict=True):
            if count == 1:
                replies.append(reply)
            elif isinstance(reply, ServingError):
                replies += [reply] * count
            else:
                replies += cut_outputs(reply, self.rows[len(replies) : len(replies) + count])
        return replies


_NOT_JOINED: list[int] = []


def send_apart(requests: Sequence[Call], timeouts: Sequence[float | None]) -> JoinedCalls:
    """Each request as a call of its own, with the time that it has left."""
    return JoinedCalls(
        [_timed(call, timeout) for call, timeout in zip(requests, timeouts, strict=True)],
        list(range(len(requests))),
        _NOT_JOINED,
    )


def join_requests(requests: Sequence[Call], timeouts: Sequence[float | None], most_rows: int) -> JoinedCalls:
    """The requests, each with the time that it has left, in as few calls as can be.

    No joined call has more rows than these.
    """
    groups: dict[_Kind | int, list[int]] = {}
    rows: list[int] = []
    for place, call in enumerate(requests):
        kind, count = _kind_of(call)
        rows.append(count)
        groups.setdefault(place if kind is None else kind, []).append(place)
    joined = JoinedCalls([], [], [])
    for group in groups.values():
        for places in _chunks(group, rows, most_rows):
            joined.order.extend(places)
            if len(places) == 1:
                joined.rows.append(0)
                joined.calls.append(_timed(requests[places[0]], timeouts[places[0]]))
            else:
                members = tuple([rows[place] for place in places])
                joined.rows.extend(members)
                joined.calls.append(
                    _join([requests[place] for place in places], members, [timeouts[place] for place in places])
                )
    return joined


def members_of(call: Call) -> Iterator[Call]:
    """The requests in a call, each by itself; their rows are not copied."""
    if not call.members:
        yield call
        return
    start = 0
    for rows, timeout in zip(call.members, call.timeouts or repeat(None), strict=False):
        inputs = {name: array[start : start + rows] for name, array in call.inputs.items()}
        yield call._replace(inputs=inputs, timeout=timeout, members=(), timeouts=())
        start += rows


def cut_outputs(outputs: Outputs, rows: Sequence[int]) -> list[Outputs]:
    """Outputs that hold the rows of several requests, for each its own; nothing is copied."""
    cut: list[Outputs] = []
    start = 0
    if len(outputs) == 1:  # by far the most, and worth half of the time
        ((name, array),) = outputs.items()
        for count in rows:
            cut.append({name: array[start : start + count]})
            start += count
        return cut
    for count in rows:
        end = start + count
        cut.append({name: array[start:end] for name, array in outputs.items()})
        start = end
    return cut


def _kind_of(call: Call) -> tuple[_Kind | None, int]:
    """What requests have in common that may be joined, and the rows of this one; no kind if it stays alone."""
    inputs = call.inputs
    if len(inputs) == 1:  # by far the most, and worth half of the time
        ((name, array),) = inputs.items()
        shape = array.shape
        if not shape or not shape[0] or array.nbytes > _MOST_BYTES:
            return None, 0
        return (call.signature_name, call.outputs, call.api, name, array.dtype, shape[1:]), shape[0]
    kind: list[Any] = [call.signature_name, call.outputs, call.api]
    counts = set()
    for name in sorted(inputs):
        array = inputs[name]
        shape = array.shape
        if not shape or array.nbytes > _MOST_BYTES:
            return None, 0
        counts.add(shape[0])
        kind += (name, array.dtype, shape[1:])
    return (tuple(kind), counts.pop()) if len(counts) == 1 and 0 not in counts else (None, 0)


def _chunks(places: list[int], rows: Sequence[int], most: int) -> Iterator[list[int]]:
    """These places in portions that have at most so many rows; one with more is a portion of its own."""
    if len(places) == 1 or sum([rows[place] for place in places]) <= most:
        yield places
        return
    chunk: list[int] = []
    filled = 0
    for place in places:
        if chunk and filled + rows[place] > most:
            yield chunk
            chunk, filled = [], 0
        chunk.append(place)
        filled += rows[place]
    yield chunk


def _join(requests: Sequence[Call], members: tuple[int, ...], timeouts: list[float | None]) -> Call:
    first = requests[0]
    inputs = {name: np.concatenate([call.inputs[name] for call in requests]) for name in first.inputs}
    limited = [timeout for timeout in timeouts if timeout is not None]
    return first._replace(
        inputs=inputs,
        timeout=max(limited) if len(limited) == len(timeouts) else None,
        members=members,
        timeouts=tuple(timeouts) if limited else (),
    )


def _timed(call: Call, timeout: float | None) -> Call:
    return call if timeout is call.timeout else call._replace(timeout=timeout)
