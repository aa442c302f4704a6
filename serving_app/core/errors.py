"""The errors of the whole product, one tree:

    ServingError                 a canonical code and a message for the caller
    ├── InvalidArgument          the request itself is wrong
    ├── NotFound                 no such model, version or file
    ├── PermissionDenied         not allowed to whoever asks, here mostly ourselves
    ├── FailedPrecondition       right request, wrong state
    ├── DeadlineExceeded         the caller's time is over
    ├── ResourceExhausted        a queue or a limit is full
    ├── Cancelled                the caller went away
    ├── Unavailable              nobody can answer now; try again
    ├── Unimplemented            not offered
    ├── DataLoss                 the model's files are damaged
    ├── Internal                 our own fault
    └── RuntimeFailure           what the model's runtime said, with the code it chose

An error carries a canonical code, never a number of some transport: two tables, one for HTTP and one for gRPC, do
that mapping. Errors cross processes, so each one must survive pickling with its fields.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any


class Code(IntEnum):
    """The canonical status codes; the numbers are those of gRPC and of tensorflow.error.Code."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class ServingError(Exception):
    """Root of the tree. `code` is the canonical code, `message` the text that a client sees."""

    code: Code = Code.UNKNOWN

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    def __str__(self) -> str:
        return self.message

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.code.name}: {self.message})"


class InvalidArgument(ServingError):
    """The request is wrong whatever the state of the server."""

    code = Code.INVALID_ARGUMENT


class NotFound(ServingError):
    """No such model, version, label target or file."""

    code = Code.NOT_FOUND


class PermissionDenied(ServingError):
    """Whoever asks may not do this: mostly the server itself, at a model store."""

    code = Code.PERMISSION_DENIED


class FailedPrecondition(ServingError):
    """The request would be right in another state."""

    code = Code.FAILED_PRECONDITION


class DeadlineExceeded(ServingError):
    """The time that the caller gave is over."""

    code = Code.DEADLINE_EXCEEDED


class ResourceExhausted(ServingError):
    """A queue, a memory budget or another limit is full."""

    code = Code.RESOURCE_EXHAUSTED


class Cancelled(ServingError):
    """The caller went away before there was an answer."""

    code = Code.CANCELLED


class Unavailable(ServingError):
    """Nobody can answer at the moment; the same request may succeed later."""

    code = Code.UNAVAILABLE


class Unimplemented(ServingError):
    """The server does not offer this."""

    code = Code.UNIMPLEMENTED


class DataLoss(ServingError):
    """Stored data is damaged."""

    code = Code.DATA_LOSS


class Internal(ServingError):
    """A fault of the server itself."""

    code = Code.INTERNAL


class RuntimeFailure(ServingError):
    """What a model's runtime answered: its code and its message, unchanged."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = Code(code)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.code, self.message)


def as_serving_error(error: BaseException) -> ServingError:
    """The error itself where it is one of ours, or else the INTERNAL one that names it."""
    return error if isinstance(error, ServingError) else Internal(f"{type(error).__name__}: {error}")


def code_of(error: BaseException) -> Code:
    """What a request that ends with this counts as. What is no Exception ends it because nobody waits any more."""
    if isinstance(error, ServingError):
        return error.code
    return Code.INTERNAL if isinstance(error, Exception) else Code.CANCELLED
