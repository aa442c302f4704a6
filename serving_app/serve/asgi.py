"""The REST front end as an ASGI callable, for Serve's own HTTP door."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import quote

from serving_app.serve.http_connection import HttpApp
from serving_app.serve.http_messages import Answer, HttpRequest

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class AsgiApp:
    """Answers what comes by ASGI from an application that knows whole requests."""

    def __init__(self, app: HttpApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request (or the start and the end of the server)."""
        if scope["type"] == "lifespan":
            await _acknowledge_lifespan(receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1003})
            return
        answer = await self._answer(scope, receive)
        if answer is None:
            return
        headers = [*answer.headers, (b"content-length", str(len(answer.body)).encode())]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": answer.body})

    async def _answer(self, scope: Scope, receive: Receive) -> Answer | None:
        """None if the client went away before its request was complete."""
        parts: list[bytes] = []
        size, more = 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            part: bytes = message.get("body", b"")
            size += len(part)
            if size > self._app.most_body_bytes:
                return self._app.refuse_body()
            parts.append(part)
            more = message.get("more_body", False)
        found = {name: value for name, value in scope["headers"] if name in (b"origin", b"content-encoding")}
        request = HttpRequest(
            scope["method"],
            _raw_target(scope),
            b"".join(parts),
            found.get(b"origin", b""),
            found.get(b"content-encoding", b""),
            fields=scope["headers"],
        )
        return await self._app.answer(request)


def _raw_target(scope: Scope) -> str:
    """The request target as it was sent: path, undecoded, and query string."""
    raw: bytes | None = scope.get("raw_path")
    # Serve's door hands the path over with the prefix under which the application hangs there.
    path = (raw if raw else quote(scope["path"]).encode()).removeprefix(quote(scope.get("root_path", "")).encode())
    query: bytes = scope.get("query_string", b"")
    # Servers differ in whether raw_path carries the query string.
    target = path + b"?" + query if query and b"?" not in path else path
    return target.decode("utf-8", "surrogateescape")


async def _acknowledge_lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
