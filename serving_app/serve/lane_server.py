"""The replica's end of its lanes: a UNIX socket for callers on its node, a TCP port for others.

What arrives goes the same way as what comes through a Serve handle. Gateways have such doors, too, for colocated
versions. Who may send is who shows the secret of this replica, which only the route table tells.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import logging
import os
import secrets
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import cast

from serving_app.client.lane import keep_alive
from serving_app.core.door import Door
from serving_app.core.errors import Unavailable
from serving_app.core.servable import ServableId
from serving_app.protocol.calls import Answer, Call
from serving_app.protocol.lane_frames import (
    ANYBODY,
    HELLO_BYTES,
    MAX_BODY_BYTES,
    Inbox,
    Kind,
    Malformed,
    header,
    read_hello,
    welcome,
)
from serving_app.protocol.lane_hops import read_hop, read_servable, write_answer, write_fault
from serving_app.serve.unix_socket import answers

logger = logging.getLogger("ray.serve")

_STRANGER_S = 5.0
"""How long who connects may take to say hello."""

_FAREWELL_S = 1.0
"""How long a caller that waits for nothing may take to close its lane when the replica goes."""

_YOUNG_S = 60.0
"""A socket that is not older may be one that is about to listen."""

_LONGEST_PATH = 100
"""The system's limit for paths of sockets is 108 bytes."""

_HERE = b"".join(write_answer(ANYBODY, Answer([], 0.0)))
"""What who asks whether anybody is there is told."""

Predict = Callable[[ServableId | None, Sequence[Call]], Awaitable[Answer]]
"""Runs the calls of a hop, which names a version if whoever sent it knows several here."""


class LaneServer:
    """Takes hops for one replica. Lives on one event loop."""

    def __init__(self, app: str, replica: str, predict: Predict, max_hops: Callable[[], int]) -> None:
        """`max_hops` tells how many hops may be under way now, over all lanes; it may change."""
        self._app = app
        self._replica = replica
        self._predict = predict
        self.max_hops = max_hops
        self.secret = secrets.token_bytes(32)
        self.hops = 0
        self.lanes: set[_Lane] = set()
        self._servers: list[asyncio.Server] = []
        self._path: str | None = None
        self._news = asyncio.Event()

    async def open(self, node: str, host: str | None) -> Door:
        """Listen, and say where; for other nodes at a free port of `host`, or not at all.

        What cannot be opened is left out: who finds no lane calls through Serve's handle.
        """
        loop = asyncio.get_running_loop()
        port = 0
        try:
            path = await asyncio.to_thread(make_socket_path)
            self._servers.append(await loop.create_unix_server(lambda: _Lane(self), path))
            self._path = path
        except OSError as error:
            logger.warning("no UNIX socket for lanes: %s", error)
        if host is not None:
            try:
                server = await loop.create_server(lambda: _Lane(self, is_tcp=True), host, 0)
                self._servers.append(server)
                port = server.sockets[0].getsockname()[1]
            except OSError as error:
                logger.warning("no TCP port for lanes at %s: %s", host, error)
                host = None
        return Door(self._app, self._replica, node, self._path, host, port, self.secret)

    async def close(self, drain_s: float) -> None:
        """Take nobody in any more, have all callers go elsewhere, and answer what is under way."""
        for server in self._servers:
            server.close()
        if self._path is not None:
            with contextlib.suppress(OSError):
                os.unlink(self._path)
        for lane in list(self.lanes):
            lane.say_goodbye()
        try:
            async with asyncio.timeout(drain_s):
                await self._drain()
        except TimeoutError:
            logger.warning("%d hops were not finished within %.1f s", self.hops, drain_s)
        for lane in list(self.lanes):
            lane.close()

    async def _drain(self) -> None:
        """Callers close their lanes when they have all their answers; until then a hop may be on the way. One that has
        nothing to wait for and does not close is not waited for."""
        while self.lanes:
            self._news.clear()
            try:
                async with asyncio.timeout(None if self.hops else _FAREWELL_S):
                    await self._news.wait()
            except TimeoutError:
                return

    def predict(self, servable: ServableId | None, calls: Sequence[Call]) -> Awaitable[Answer]:
        """Run what a hop brought."""
        return self._predict(servable, calls)

    def leave(self, lane: _Lane) -> None:
        """A lane is closed."""
        self.lanes.discard(lane)
        self._news.set()

    def end_hop(self) -> None:
        """A hop is answered or given up."""
        self.hops -= 1
        self._news.set()


class _Lane(asyncio.BufferedProtocol):
    """One connection of one caller."""

    def __init__(self, server: LaneServer, *, is_tcp: bool = False) -> None:
        self._server = server
        self._is_tcp = is_tcp
        self._inbox = Inbox(HELLO_BYTES)
        self._transport: asyncio.Transport | None = None
        self._hops: dict[int, asyncio.Task[None]] = {}
        self._told = 0
        self._loop = asyncio.get_running_loop()
        self._stranger: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for a hello."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own is none by its class
        if self._is_tcp:
            keep_alive(transport.get_extra_info("socket"))
        self._stranger = self._loop.call_later(_STRANGER_S, self._refuse, "it did not say hello")

    def get_buffer(self, _sizehint: int) -> memoryview:
        """Where to write what comes next."""
        return self._inbox.get_buffer()

    def buffer_updated(self, nbytes: int) -> None:
        """Take in what came."""
        try:
            for kind, hop, body in self._inbox.take(nbytes):
                if kind is Kind.HOP and self._told:
                    self._begin(hop, None, body)
                elif kind is Kind.HOP_FOR and self._told:
                    self._begin(hop, *read_servable(body))
                elif kind is Kind.CANCEL and self._told:
                    self._cancel(hop)
                elif kind is Kind.HELLO and not self._told:
                    if not self._let_in(body):
                        return
                else:
                    raise Malformed(f"{kind.name} is not what a caller sends {'here' if self._told else 'first'}")
        except Malformed as error:
            self._refuse(str(error))

    def connection_lost(self, _error: Exception | None) -> None:
        """Nobody waits for what is under way."""
        self._transport = None
        if self._stranger is not None:
            self._stranger.cancel()
        hops, self._hops = self._hops, {}
        for task in hops.values():
            task.cancel()
        self._server.leave(self)

    def say_goodbye(self) -> None:
        """Have the caller send nothing more."""
        self._write(header(Kind.GOODBYE))

    def close(self) -> None:
        """Close the connection; what is under way is given up."""
        if self._transport is not None:
            self._transport.close()

    def _let_in(self, body: bytearray | memoryview) -> bool:
        if not hmac.compare_digest(read_hello(body), self._server.secret):
            self._refuse("it does not know the secret")
            return False
        if self._stranger is not None:
            self._stranger.cancel()
        self._inbox.max_body_bytes = MAX_BODY_BYTES
        self._server.lanes.add(self)
        self._tell_limit()
        return True

    def _tell_limit(self) -> None:
        limit = self._server.max_hops()
        if limit != self._told:
            self._told = limit
            self._write(welcome(limit))

    def _refuse(self, reason: str) -> None:
        logger.warning("a lane is closed: %s", reason)
        if self._transport is not None:
            self._transport.abort()

    def _begin(self, hop: int, servable: ServableId | None, body: bytearray | memoryview) -> None:
        if hop in self._hops:
            raise Malformed(f"the hop {hop} is under way already")
        self._tell_limit()
        if hop == ANYBODY:
            self._write(_HERE)
            return
        if self._server.hops >= self._told:
            self._write(header(Kind.BUSY, hop))
            return
        calls = read_hop(body)
        self._server.hops += 1
        self._hops[hop] = task = self._loop.create_task(self._run(hop, servable, calls))
        task.add_done_callback(self._end)  # also of one that is cancelled before it has begun

    async def _run(self, hop: int, servable: ServableId | None, calls: list[Call]) -> None:
        try:
            pieces = write_answer(hop, await self._server.predict(servable, calls))
        except asyncio.CancelledError:
            if hop not in self._hops:
                return  # the caller wants no answer any more, or is gone
            pieces = write_fault(hop, Unavailable("the replica gave the request up; try again"))
        except Exception as error:
            logger.exception("a hop of %d calls failed", len(calls))
            pieces = write_fault(hop, error)
        if self._hops.pop(hop, None) is not None and self._transport is not None:
            self._transport.writelines(pieces) if len(pieces) > 1 else self._transport.write(pieces[0])

    def _end(self, _task: asyncio.Task[None]) -> None:
        self._server.end_hop()

    def _cancel(self, hop: int) -> None:
        task = self._hops.pop(hop, None)
        if task is not None:
            task.cancel()

    def _write(self, frame: bytes) -> None:
        if self._transport is not None:
            self._transport.write(frame)


def make_socket_path() -> str:
    """A new path for a socket in a directory that is this user's alone; sockets that answer nobody are removed there.

    Raises OSError if there can be none.
    """
    folder = os.path.join(tempfile.gettempdir(), f"serving_app-{os.getuid()}")
    if len(folder.encode()) > _LONGEST_PATH - 20:
        folder = f"/tmp/serving_app-{os.getuid()}"
    os.makedirs(folder, mode=0o700, exist_ok=True)
    found = os.lstat(folder)
    if found.st_uid != os.getuid() or found.st_mode & 0o077 or not os.path.isdir(folder) or os.path.islink(folder):
        raise PermissionError(f"{folder} is not a directory of this user alone; remove it")
    for entry in os.scandir(folder):
        with contextlib.suppress(FileNotFoundError):  # another replica does the same
            is_old = time.time() - entry.stat(follow_symlinks=False).st_mtime > _YOUNG_S
            if is_old and not answers(entry.path):
                os.unlink(entry.path)
    return os.path.join(folder, f"{secrets.token_hex(8)}.lane")
