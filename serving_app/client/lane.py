"""One lane: a connection to one replica, over which lists of calls travel without Ray (protocol/lane_frames.py).

Any number of hops are under way on it at one time, and are answered in any order. Everything runs on one event loop.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Sequence
from typing import Any, cast

from serving_app.core.door import Door
from serving_app.core.errors import InvalidArgument
from serving_app.core.servable import ServableId
from serving_app.protocol.calls import Answer, Call
from serving_app.protocol.lane_frames import ANYBODY, Inbox, Kind, Malformed, header, hello, read_welcome
from serving_app.protocol.lane_hops import read_answer, read_fault, write_hop

logger = logging.getLogger(__name__)

CONNECT_S = 2.0
"""How long a replica may take to let us in."""

_SILENT_S = 10
"""After how long without a sign of life from its machine a replica on another node counts as gone."""

_MOST_UNSENT_BYTES = 8 << 20
"""What may lie here for a replica that does not read; while it is more, no hop is added to it."""

_IS_ANYBODY_THERE = b"".join(write_hop(ANYBODY, ()))


class LaneLost(Exception):
    """The lane broke, and it is not known whether what was under way was done."""


class LaneBusy(Exception):
    """The replica has as much to do as it may; nothing of the hop was done."""


class NotCarried(Exception):
    """A lane cannot carry one of the calls; nothing was sent."""


class Lane(asyncio.BufferedProtocol):
    """A connection to the replica behind a door. Made by `open_lane`."""

    def __init__(self, door: Door, changed: Callable[[], None]) -> None:
        """`changed` is called when there is room where there was none, and when the lane closes."""
        self.door = door
        self.calls = 0
        """How many calls are under way."""
        self.unheard = 0
        """How many were called off since the replica has given its last sign of life: one that hangs has them still,
        and looks as if it had nothing to do."""
        self.max_hops = 0
        loop = asyncio.get_running_loop()
        self.welcomed: asyncio.Future[None] = loop.create_future()
        self.ended: asyncio.Future[None] = loop.create_future()
        """Done when no hop is to be sent any more and none is under way."""
        self.is_leaving = False
        """Whether the replica said good-bye: nobody needs to come back."""
        self._changed = changed
        self._loop = loop
        self._inbox = Inbox()
        self._transport: asyncio.Transport | None = None
        self._hops: dict[int, tuple[asyncio.Future[Answer], int]] = {}
        self._last_hop = 0
        self._resting = self._choked = False

    @property
    def is_open(self) -> bool:
        """Whether the replica takes hops at all."""
        return self.max_hops > 0 and self._transport is not None and not self.is_leaving

    @property
    def has_room(self) -> bool:
        """Whether it takes another one now."""
        return self.is_open and len(self._hops) < self.max_hops and not self._resting and not self._choked

    async def ask(self, calls: Sequence[Call], servable: ServableId | None = None) -> Answer:
        """The answer to a hop, which tells `servable` to who holds several.

        Raises LaneLost, LaneBusy, NotCarried, or why the hop failed as a whole. When the caller is cancelled the
        replica is told, so that it need not begin.
        """
        transport = self._transport
        if transport is None:
            raise LaneLost("the lane is closed")
        self._last_hop = hop = self._last_hop % 0xFFFFFFFF + 1
        try:
            pieces = write_hop(hop, calls, servable)
        except InvalidArgument as error:
            raise NotCarried(error.message) from error
        reply: asyncio.Future[Answer] = self._loop.create_future()
        self._hops[hop] = reply, len(calls)
        self.calls += len(calls)
        transport.writelines(pieces) if len(pieces) > 1 else transport.write(pieces[0])
        try:
            return await reply
        except asyncio.CancelledError:
            if hop in self._hops:
                transport.write(header(Kind.CANCEL, hop) + (b"" if self.unheard else _IS_ANYBODY_THERE))
                self.unheard += len(calls)
                self._take(hop)
            raise

    def leave(self) -> None:
        """Send nothing more; the connection is closed when what is under way is answered."""
        self.is_leaving = True
        self._end_if_done()

    def close(self) -> None:
        """Close the connection now; what is under way is lost."""
        if self._transport is not None:
            self._transport.close()

    def rest(self, seconds: float) -> None:
        """Have no room for a moment: the replica has too much to do."""
        self._resting = True
        self._loop.call_later(seconds, self._go_on)

    def _go_on(self) -> None:
        self._resting = False
        self._changed()

    # What the loop tells.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say who we are."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own is none by its class
        self._transport.set_write_buffer_limits(_MOST_UNSENT_BYTES)
        self._transport.write(hello(self.door.secret))

    def get_buffer(self, _sizehint: int) -> memoryview:
        """Where to write what comes next."""
        return self._inbox.get_buffer()

    def buffer_updated(self, nbytes: int) -> None:
        """Take in what came."""
        self.unheard = 0
        try:
            for kind, hop, body in self._inbox.take(nbytes):
                self._handle(kind, hop, body)
        except Malformed as error:
            logger.error("the lane to %s is closed: %s", self.door.replica, error)
            self.close()

    def pause_writing(self) -> None:
        """The replica does not read; what is given up meanwhile would only pile up here."""
        self._choked = True

    def resume_writing(self) -> None:
        """It reads again."""
        self._choked = False
        self._changed()

    def connection_lost(self, error: Exception | None) -> None:
        """Whatever is under way will not be answered here."""
        self._transport = None
        lost = LaneLost(f"the connection to {self.door.replica} was lost: {error or 'it was closed'}")
        hops, self._hops = self._hops, {}
        self.calls = 0
        for reply, _ in hops.values():
            if not reply.done():
                reply.set_exception(lost)
        for waiting in (self.welcomed, self.ended):
            if not waiting.done():
                waiting.set_result(None)
        self._changed()

    def _handle(self, kind: Kind, hop: int, body: bytearray | memoryview) -> None:
        if kind is Kind.ANSWER:
            reply = self._take(hop)
            if reply is not None:
                try:
                    reply.set_result(read_answer(body))
                except Malformed as error:
                    reply.set_exception(LaneLost(f"{self.door.replica} gave an answer that is none: {error}"))
                    raise
        elif kind is Kind.WELCOME:
            self.max_hops = read_welcome(body)
            if not self.welcomed.done():
                self.welcomed.set_result(None)
            self._changed()
        elif kind is Kind.FAULT:
            self._fail(hop, read_fault(body))
        elif kind is Kind.BUSY:
            self._fail(hop, LaneBusy(f"{self.door.replica} has as much to do as it may"))
        elif kind is Kind.GOODBYE:
            self.leave()
        else:
            raise Malformed(f"a replica does not send {kind.name}")

    def _fail(self, hop: int, error: Exception) -> None:
        reply = self._take(hop)
        if reply is not None:
            reply.set_exception(error)

    def _take(self, hop: int) -> asyncio.Future[Answer] | None:
        """Who waits for this hop, if anybody does; it counts no more."""
        was_full = len(self._hops) >= self.max_hops
        reply, count = self._hops.pop(hop, (None, 0))
        self.calls -= count
        if self.is_leaving:
            self._end_if_done()
        if was_full and not len(self._hops) >= self.max_hops:
            self._changed()
        return reply if reply is not None and not reply.done() else None

    def _end_if_done(self) -> None:
        if not self._hops:
            self.close()
        self._changed()


async def open_lane(door: Door, node: str | None, changed: Callable[[], None]) -> Lane:
    """A lane through this door: by its UNIX socket where that is on our node, else by TCP.

    Raises OSError or TimeoutError if there is none now, and ConnectionError, which is one, if it does not let us in.
    """
    loop = asyncio.get_running_loop()

    def make() -> Lane:
        return Lane(door, changed)

    lane: Lane
    async with asyncio.timeout(CONNECT_S):
        if door.path is not None and door.node == node:
            try:
                _, lane = await loop.create_unix_connection(make, door.path)
            except OSError:
                _, lane = await _open_tcp(loop, make, door)
        else:
            _, lane = await _open_tcp(loop, make, door)
        try:
            await lane.welcomed
        except asyncio.CancelledError:
            lane.close()
            raise
    if not lane.is_open:
        raise ConnectionRefusedError(f"{door.replica} does not let us in")
    return lane


async def _open_tcp(
    loop: asyncio.AbstractEventLoop, make: Callable[[], Lane], door: Door
) -> tuple[Any, Lane]:
    if door.host is None:
        raise ConnectionRefusedError(f"{door.replica} has no door for other nodes")
    connection = await loop.create_connection(make, door.host, door.port)
    keep_alive(connection[0].get_extra_info("socket"))
    return connection


def keep_alive(connection: Any) -> None:
    """Have the system close a TCP connection whose other end has vanished with its machine, instead of waiting for it
    for ever."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 3), ("TCP_KEEPINTVL", 2), ("TCP_USER_TIMEOUT", _SILENT_S * 1000)):
        option = getattr(socket, name, None)  # not every system has all of them
        if option is not None:
            connection.setsockopt(socket.IPPROTO_TCP, option, value)
