"""One connection of a gRPC client: its socket, its calls and its end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import cast

from serving_app.core.errors import Unimplemented
from serving_app.protocol.grpc_wire import AnswerFields, Head, error_block, read_head
from serving_app.protocol.http2_connection import Connection
from serving_app.protocol.http2_streams import Stream
from serving_app.serve.grpc_calls import Call, Methods
from serving_app.serve.grpc_lifetime import Lifetime
from serving_app.serve.grpc_settings import GrpcSettings

_JOIN_BYTES = 1 << 16
"""What is to be sent is joined up to this size; beyond it a copy costs more than several buffers do."""
_HIGH_WATER, _LOW_WATER = 4 << 20, 1 << 20
_LATE_S = 0.05
"""How long after a deadline a call is ended from here: methods that know of it end by themselves, and say why."""

_LOOK_S = 0.02
"""Between two looks at all deadlines at least: there may be thousands, and each may be another."""


class GrpcConnection(asyncio.Protocol):
    """The protocol of one connection. `gone` is called when it is over."""

    def __init__(self, methods: Methods, settings: GrpcSettings, gone: Callable[[GrpcConnection], None]) -> None:
        self.loop = asyncio.get_running_loop()
        self.now = self.loop.time()
        """When bytes came last."""
        self.made = self.now
        self.largest, self.largest_answer = settings.max_receive_bytes, settings.max_send_bytes
        self.fields = AnswerFields()
        limit = settings.limits.header_bytes
        self.http2: Connection[Head] = Connection(
            settings.limits, partial(read_head, limit=limit), self._accept, self.fields.use_no_table
        )
        self.is_paused = False
        self.is_connected = self.is_over = False
        self._methods = methods
        self._gone = gone
        self._transport: asyncio.Transport | None = None
        self._lifetime = Lifetime(self, settings)
        self._flushing = False
        self._room: list[asyncio.Future[None]] = []
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at = 0.0

    # --- the socket --------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket, and TLS, are ready."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(_HIGH_WATER, _LOW_WATER)
        self.is_connected = True
        self.now = self.loop.time()
        self._lifetime.begin()
        self._flush()

    def data_received(self, data: bytes) -> None:
        """Bytes have come. What answers them at once goes out in one piece."""
        self.now = self.loop.time()
        self._flushing = True
        http2 = self.http2
        http2.receive(data, self.now)
        if http2.pongs:
            self._lifetime.answered(http2.pongs)
        self._flush()
        if http2.is_closed:
            self.close()

    def pause_writing(self) -> None:
        """The client does not read what it is sent: until it does, nothing more is taken from it."""
        self.is_paused = True
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        """The client reads again."""
        self.is_paused = False
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()
        self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is over, whoever ended it."""
        self.is_connected, self.is_over = False, True
        self._transport = None
        self._lifetime.end()
        if self._alarm is not None:
            self._alarm.cancel()
        self.http2.drop()
        self._make_room()
        self._gone(self)

    # --- for its calls -----------------------------------------------------------------------------------------------

    def wake(self) -> None:
        """There is something to be sent: at the end of this turn of the loop, with whatever else there is by then."""
        if not self._flushing:
            self._flushing = True
            self.loop.call_soon(self._flush)

    async def wait_for_room(self, stream: Stream) -> None:
        """Until the client has taken what a stream has sent; whoever waits is cancelled when the stream is over."""
        while stream.outgoing or self.is_paused:
            room = self.loop.create_future()
            if stream.outgoing:  # nobody else is woken by a window that is not theirs
                stream.went = partial(_let_go, room)
            else:
                self._room.append(room)
            await room

    def guard(self, deadline: float) -> None:
        """There is a call that has this deadline."""
        at = deadline + _LATE_S
        if self._alarm is not None:
            if self._alarm_at <= at:
                return
            self._alarm.cancel()
        self._alarm_at = at
        self._alarm = self.loop.call_at(at, self._expire)

    # --- its end -----------------------------------------------------------------------------------------------------

    def retire(self) -> None:
        """Let the client go elsewhere, and end when its calls here are answered."""
        self._lifetime.retire()

    def close(self) -> None:
        """Send what is left, and end."""
        self._flush()
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """End now."""
        if self._transport is not None:
            self._transport.abort()

    @property
    def is_idle(self) -> bool:
        """Whether no call is under way."""
        return not self.http2.streams

    @property
    def unsent(self) -> int:
        """Bytes that the system has not taken yet."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    # --- inside ------------------------------------------------------------------------------------------------------

    def _accept(self, stream: Stream, head: Head, ended: bool) -> Call | None:
        if head.refusal is not None:
            self.http2.sender.send_headers(stream, self.fields.whole(head.refusal), ends=True)
            return None
        method = self._methods.get(head.path)
        if method is None:
            unknown = Unimplemented(f"Method not found: {head.path:.200}; server reflection lists the services")
            self.http2.sender.send_headers(stream, self.fields.whole(error_block(unknown)), ends=True)
            return None
        call = Call(self, stream, head, method)
        if call.deadline is not None:
            self.guard(call.deadline)
        if ended:
            call.received(b"", 0, 0, True)
        return call

    def _flush(self) -> None:
        self._flushing = False
        if not self.http2.streams:
            self._lifetime.rested()
        out = self.http2.sender.take()
        if not out or self._transport is None:
            return
        if len(out) == 1:
            self._transport.write(out[0])
        elif sum(map(len, out)) <= _JOIN_BYTES:
            self._transport.write(b"".join(out))
        else:
            self._transport.writelines(out)

    def _make_room(self) -> None:
        waiting, self._room = self._room, []
        for each in waiting:
            _let_go(each)

    def _expire(self) -> None:
        self._alarm = None
        calls = [stream.owner for stream in self.http2.streams.values() if isinstance(stream.owner, Call)]
        limit = self.loop.time() - _LATE_S
        for call in calls:
            if call.deadline is not None and call.deadline <= limit:
                call.expire()
        left = [call.deadline for call in calls if call.deadline is not None and call.deadline > limit]
        if left:
            self.guard(max(min(left), limit + _LOOK_S))


def _let_go(room: asyncio.Future[None]) -> None:
    if not room.done():
        room.set_result(None)
