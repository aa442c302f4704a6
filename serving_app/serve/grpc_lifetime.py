"""How long a connection of gRPC lives: whether its client is still there, and how it is sent elsewhere.

A client that is to go learns it in three steps, so that no call is lost that was on its way meanwhile:

1. GOAWAY with the highest number there is, and a ping: new calls go to another connection from now on; those that are
   on their way are answered;
2. when the ping has come back, so that nothing is on its way any more, GOAWAY with the number of the last call;
3. when all calls are answered, the end. The client closes, as it has nothing to wait for; if it does not, we do.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

from serving_app.serve.grpc_settings import GrpcSettings

if TYPE_CHECKING:
    from serving_app.serve.grpc_connection import GrpcConnection

_FAREWELL, _KEEPALIVE = b"farewell", b"stillon?"
_FAREWELL_S = 5.0
"""How long the answer to a farewell may take."""
GREETING_S = 20.0
"""How long a client may take to begin."""
_LINGER_S = 1.0
"""How long a client may take to close a connection that is done."""


class Lifetime:
    """The timers of one connection."""

    def __init__(self, connection: GrpcConnection, settings: GrpcSettings) -> None:
        self._connection = connection
        self._settings = settings
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._is_retiring = False
        self._rested_at = 0.0
        self._asked_at: float | None = None
        self._unsent = 0  # then

    def begin(self) -> None:
        """The connection is there."""
        settings = self._settings
        self._set("greeting", GREETING_S, self._check_greeting)
        if self._is_retiring:
            self._send_off()
        if settings.max_age_s is not None:
            # Connections that were made together are not to be made anew together.
            self._set("age", settings.max_age_s * random.uniform(0.9, 1.1), self.retire)
        if settings.max_idle_s is not None:
            self._rested_at = self._connection.now
            self._set("idle", settings.max_idle_s, self._look_idle)
        if settings.keepalive_s is not None:
            self._set("keepalive", settings.keepalive_s, self._ask)

    def end(self) -> None:
        """The connection is gone."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def retire(self) -> None:
        """Send the client elsewhere."""
        if self._is_retiring:
            return
        self._is_retiring = True
        if self._connection.is_connected:
            self._send_off()

    def _send_off(self) -> None:
        http2 = self._connection.http2
        http2.warn()
        http2.ping(_FAREWELL)
        self._connection.wake()
        self._set("farewell", _FAREWELL_S, self._say_goodbye)
        if self._settings.max_age_grace_s is not None:
            self._set("grace", self._settings.max_age_grace_s, self._connection.abort)

    def _say_goodbye(self) -> None:
        self._connection.http2.say_goodbye()
        self._connection.wake()

    def answered(self, pongs: list[bytes]) -> None:
        """Pings have come back."""
        if _FAREWELL in pongs and self._is_retiring:
            self._say_goodbye()
        self._asked_at = None
        pongs.clear()

    def rested(self) -> None:
        """No call is under way (any more)."""
        self._rested_at = self._connection.now
        if self._connection.http2.said_goodbye and "linger" not in self._timers:
            self._set("linger", _LINGER_S, self._connection.close)

    def _check_greeting(self) -> None:
        if not self._connection.http2.is_settled:
            self._connection.abort()

    def _look_idle(self) -> None:
        limit = self._settings.max_idle_s or 0.0
        left = self._rested_at + limit - self._connection.loop.time()
        if not self._connection.is_idle:
            left = limit
        if left <= 0:
            self.retire()
        else:
            self._set("idle", left, self._look_idle)

    def _ask(self) -> None:
        """Ping if nothing has come for a while; a client that does not answer is gone.

        One that takes what it is sent is not, however slowly: our question waits behind that, and its answer may wait
        to be read (see `GrpcConnection.pause_writing`).
        """
        settings, connection = self._settings, self._connection
        now = connection.loop.time()
        keepalive_s = settings.keepalive_s or 0.0
        silent_s = now - connection.now
        unsent, self._unsent = self._unsent, connection.unsent
        if self._asked_at is not None and connection.now <= self._asked_at and self._unsent >= unsent:
            connection.abort()
            return
        self._asked_at = None
        if silent_s < keepalive_s:
            self._set("keepalive", keepalive_s - silent_s, self._ask)
        elif connection.is_idle and not settings.keepalive_when_idle:
            self._set("keepalive", keepalive_s, self._ask)
        else:
            self._asked_at = now
            connection.http2.ping(_KEEPALIVE)
            connection.wake()
            self._set("keepalive", settings.keepalive_timeout_s, self._ask)

    def _set(self, name: str, seconds: float, work: object) -> None:
        if name in self._timers:
            self._timers[name].cancel()
        self._timers[name] = self._connection.loop.call_later(seconds, work)  # type: ignore[arg-type]
