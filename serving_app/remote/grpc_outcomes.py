"""What gRPC says when a call fails, as errors of our own tree."""

from __future__ import annotations

from typing import Any

import grpc

from serving_app.core.errors import Code
from serving_app.remote.outcomes import server_error
from serving_app.remote.retries import Setback

_PUSHBACK = "grpc-retry-pushback-ms"
_MOST_PUSHBACK_MS = 10**9

_OF_THE_TRANSPORT = ("failed to connect to all addresses", "DNS resolution failed", "Name resolution failure")
"""How messages begin that are no server's."""


def outcome(error: Any, server: str) -> Exception:
    """What to raise for a failed call. `error` is an RpcError that knows of its call, as all are that calls raise."""
    status: grpc.StatusCode = error.code()
    code = Code(status.value[0])
    message: str = error.details() or ""
    if code is Code.DEADLINE_EXCEEDED and _is_own_limit(error):
        return TimeoutError(message)
    if message.startswith(_OF_THE_TRANSPORT):
        message = f"{server} cannot be reached ({message}); see that a server listens there, and on this port"
    elif not message:
        message = f"{server} answered {code.name} without a word"
    failure = server_error(code, message)
    pause = _pushback(error)
    if pause is not None and pause < 0:  # it wants no other attempt
        return failure
    if code is Code.UNAVAILABLE or (code is Code.RESOURCE_EXHAUSTED and pause is not None):
        return Setback(failure, pause or 0.0)
    return failure


def _is_own_limit(error: Any) -> bool:
    """Whether the client's own clock ended the call. A server that does so has its own words for it."""
    return (error.details() or "") in ("Deadline Exceeded", "Deadline exceeded", "")


def _pushback(error: Any) -> float | None:
    """The seconds that a server wants to be left alone; less than none if it wants no other attempt."""
    for key, value in error.trailing_metadata() or ():
        if key == _PUSHBACK:
            try:
                return min(int(value), _MOST_PUSHBACK_MS) / 1000
            except ValueError:
                return -1.0
    return None
