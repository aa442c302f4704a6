"""Control endpoints: what REST answers below `/control`, where a token is configured.

Whoever asks, the requests for models must not feel it. So a few control requests are answered at a time, and threads of
their own do what takes long: making documents, and looking for the controller, which may hang with the cluster's head.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache, partial
from typing import Any, TypeVar

from serving_app.client.control import Control, find_controller
from serving_app.config.secrets import redact_text
from serving_app.core.documents import dump
from serving_app.core.errors import Internal, ResourceExhausted, ServingError
from serving_app.protocol.rest_status import error_answer, error_body
from serving_app.serve.control_openapi import make_document
from serving_app.serve.control_operations import Operation
from serving_app.serve.control_page import write_page
from serving_app.serve.control_requests import (
    PREFIX,
    Refused,
    check_token,
    find_operation,
    is_control_target,
    read_request,
    refuse_method,
)
from serving_app.serve.control_tokens import Tokens
from serving_app.serve.http_messages import Answer, Headers, HttpRequest

logger = logging.getLogger("ray.serve")

T = TypeVar("T")

MOST_AT_A_TIME = 8
"""Questions that are answered at a time, and as many orders: those who only look hold up nobody who has a token."""

_COMMON: Headers = ((b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff"))
_JSON: Headers = ((b"content-type", b"application/json"), *_COMMON)
_HTML: Headers = (
    (b"content-type", b"text/html; charset=utf-8"),
    # The page needs nothing from anywhere, and no script.
    (b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"),
    *_COMMON,
)


class ControlApp:
    """Answers control requests. Lives on one event loop."""

    def __init__(self, control: Control, tokens: Tokens) -> None:
        self._control = control
        self._tokens = tokens
        self._threads = {is_order: ThreadPoolExecutor(1, "control") for is_order in (False, True)}
        self._under_way: Counter[bool] = Counter()

    @staticmethod
    def is_at(target: str) -> bool:
        """Whether a request's target, path and query, is its affair."""
        return is_control_target(target)

    async def answer(self, request: HttpRequest) -> Answer:
        """The answer to one request. Raises nothing but CancelledError. To be awaited in a task."""
        try:
            return await self._answer(request)
        except Refused as refused:
            return Answer(refused.status, error_body(refused.message), refused.headers + _JSON)
        except ServingError as error:
            return _answer_error(error)
        except Exception as error:
            logger.exception("%s %s failed", request.method, request.target)
            return _answer_error(Internal(f"{type(error).__name__}: {error}"))

    async def _answer(self, request: HttpRequest) -> Answer:
        path, _, query = request.target.partition("?")
        if path in _PAGES:
            if request.method not in ("GET", "HEAD"):
                raise refuse_method(request.method, path, ("GET", "HEAD"))
            return await self._on_thread(False, _PAGES[path])
        operation, parts = find_operation(request.method, path)
        if operation.is_order:
            check_token(request, self._tokens)
        with self._counted(operation):
            asked = await self._on_thread(operation.is_order, read_request, operation, parts, query, request)
            found = await operation.ask(self._control, asked)
            return Answer(200, await self._on_thread(operation.is_order, _write, operation.show, found), _JSON)

    @contextmanager
    def _counted(self, operation: Operation) -> Iterator[None]:
        is_order = operation.is_order
        if self._under_way[is_order] >= MOST_AT_A_TIME:
            raise ResourceExhausted(f"{MOST_AT_A_TIME} control requests are being answered here; ask again later")
        self._under_way[is_order] += 1
        try:
            yield
        finally:
            self._under_way[is_order] -= 1

    async def _on_thread(self, is_order: bool, work: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads[is_order], work, *arguments)


def patient_control(app: str) -> Control:
    """The controller of an app, looked for on threads of its own: those of the loop are for requests for models."""
    finding = ThreadPoolExecutor(2, "find-controller")

    async def on_thread(work: Callable[..., T], *arguments: Any, **options: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(finding, partial(work, *arguments, **options))

    return Control(app, find=partial(find_controller, on_thread=on_thread))


def _answer_error(error: ServingError) -> Answer:
    status, body = error_answer(error)  # by now it is of a length that takes no time to look through
    return Answer(status, redact_text(body.decode()).encode(), _JSON)


def _write(show: Callable[[Any], Any], found: Any) -> bytes:
    return f"{dump(_redact(show(found)))}\n".encode("utf-8", "replace")


def _redact(document: Any) -> Any:
    """Without the passwords of URLs, which paths and errors may quote. Commands show them to those who may see them."""
    if isinstance(document, dict):
        return {key: _redact(value) for key, value in document.items()}
    if isinstance(document, list):
        return [_redact(value) for value in document]
    return redact_text(document) if isinstance(document, str) else document


@cache
def _answer_document() -> Answer:
    return Answer(200, f"{dump(make_document())}\n".encode(), _JSON)


@cache
def _answer_page() -> Answer:
    return Answer(200, write_page(make_document()).encode(), _HTML)


def _answer_redirect() -> Answer:
    # As a relative place, because Serve's door puts a prefix before the path.
    return Answer(308, b"", ((b"location", b"control/"), *_COMMON))


_PAGES: dict[str, Callable[[], Answer]] = {
    PREFIX: _answer_redirect,
    f"{PREFIX}/": _answer_page,
    f"{PREFIX}/openapi.json": _answer_document,
}
