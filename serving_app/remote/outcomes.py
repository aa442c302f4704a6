"""What servers and the ways to them say when something is wrong, as errors of our own tree.

An error has the server's code and message. What is not the server's own word, such as a refused connection or a page of
a proxy in between, names the address and what to look at next.
"""

from __future__ import annotations

import email.utils
import gzip
import json
import time
import zlib
from collections.abc import Mapping
from typing import NamedTuple

from serving_app.core.errors import Code, DataLoss, Internal, RuntimeFailure, ServingError, Unavailable
from serving_app.remote.retries import Setback


class Answer(NamedTuple):
    """An HTTP answer as it came. Names of headers are in small letters."""

    status: int
    reason: str
    headers: Mapping[str, str]
    body: bytes


def _classes() -> dict[Code, type[ServingError]]:
    """The class for each code that has one."""
    return {kind.code: kind for kind in ServingError.__subclasses__() if kind is not RuntimeFailure}


_CLASSES = _classes()


def server_error(code: Code, message: str) -> ServingError:
    """The error with which a server answered. A code that has no class of its own is a RuntimeFailure with it."""
    kind = _CLASSES.get(code)
    return RuntimeFailure(code, message) if kind is None else kind(message)


_CODES = {
    400: Code.INVALID_ARGUMENT,
    401: Code.UNAUTHENTICATED,
    403: Code.PERMISSION_DENIED,
    404: Code.NOT_FOUND,
    405: Code.UNIMPLEMENTED,
    408: Code.DEADLINE_EXCEEDED,
    409: Code.ABORTED,
    413: Code.RESOURCE_EXHAUSTED,
    429: Code.RESOURCE_EXHAUSTED,
    499: Code.CANCELLED,
    500: Code.INTERNAL,
    501: Code.UNIMPLEMENTED,
    502: Code.UNAVAILABLE,
    503: Code.UNAVAILABLE,
    504: Code.DEADLINE_EXCEEDED,
}
"""Several codes have one number in HTTP; this is the one that it most often stands for."""


def judge(answer: Answer, server: str) -> bytes:
    """The body of an answer that is right. Raises what it says otherwise: a ServingError, or Setback around one."""
    body = _unpack(answer, server)
    if answer.status == 200:
        if body[:1] == b"<" or "html" in answer.headers.get("content-type", ""):
            raise Internal(_foreign(answer, body, server))
        return body
    said = _said(body)
    if said is None:
        error = server_error(_code(answer.status), _foreign(answer, body, server))
    else:
        error = server_error(_code(answer.status), said)
    pause = _retry_after(answer.headers.get("retry-after"))
    if answer.status in (502, 503) or (answer.status == 429 and pause is not None):
        raise Setback(error, pause or 0.0)
    raise error


def refused(server: str, error: BaseException) -> Setback:
    """There is no connection, so the server has seen nothing of the request."""
    return Setback(
        Unavailable(f"{server} cannot be reached ({_reason(error)}); see that a server listens there, and on this port")
    )


def broken(server: str, is_begun: bool) -> Setback:
    """A connection ended before the whole answer was there. The server may have worked on the request."""
    when = "in the middle of its answer" if is_begun else "instead of an answer"
    return Setback(Unavailable(f"{server} closed the connection {when}; its log may tell why"))


def distrusted(server: str, error: BaseException) -> ServingError:
    """TLS does not come about, and will not the next time."""
    return Unavailable(
        f"{server} and this client do not agree on TLS ({_reason(error)}); look at the scheme of the address, at the "
        "authorities that are trusted (Tls(ca=...)), and at what certificate the server wants of its clients"
    )


def no_http(server: str, error: object) -> ServingError:
    """What came is no HTTP."""
    return Unavailable(f"{server} did not answer by HTTP/1.1 ({error}); see that this is a port for REST, and not gRPC")


def _code(status: int) -> Code:
    if status in _CODES:
        return _CODES[status]
    return Code.INVALID_ARGUMENT if 400 <= status < 500 else Code.UNKNOWN


def _reason(error: BaseException) -> str:
    return str(error) or type(error).__name__


def _said(body: bytes) -> str | None:
    """The message of an error that a server wrote; None if the body is something else."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return None
    message = document.get("error") if isinstance(document, dict) else None
    return message if isinstance(message, str) else None


def _foreign(answer: Answer, body: bytes, server: str) -> str:
    status = f"{answer.status} {answer.reason}".strip()
    if 300 <= answer.status < 400:
        to = answer.headers.get("location", "elsewhere")
        return f"{server} answered {status} and points to {to}; give the address where the server itself is"
    said = " ".join(body[:300].decode(errors="replace").split()) or "nothing else"
    return (
        f"{server} answered {status}, but not in the words of a model server; look at the address, its path, and at "
        f"proxies in between. It said: {said}"
    )


def _retry_after(value: str | None) -> float | None:
    """For how many seconds a server wants not to be asked; None if it does not say."""
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        until = email.utils.parsedate_to_datetime(value).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None
    return max(0.0, until - time.time())


def _unpack(answer: Answer, server: str) -> bytes:
    encoding = answer.headers.get("content-encoding", "identity").strip().lower()
    if encoding in ("identity", ""):
        return answer.body
    try:
        if encoding in ("gzip", "x-gzip"):
            return gzip.decompress(answer.body)
    except (OSError, EOFError, zlib.error) as error:
        raise DataLoss(f"{server} sent an answer that cannot be unpacked: {error}") from error
    raise Internal(f"{server} packed its answer by {encoding!r}, which was not asked for; look at proxies in between")
