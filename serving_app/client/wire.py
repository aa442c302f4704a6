"""A lane for one thread, which sends a call and waits for its answer by itself: no event loop, no other thread.

What travels is the same as on other lanes (protocol/lane_frames.py), but only one hop is under way.
"""

from __future__ import annotations

import select
import socket
import time

from serving_app.client.lane import LaneBusy, LaneLost, NotCarried, keep_alive
from serving_app.core.door import Door
from serving_app.core.errors import InvalidArgument
from serving_app.core.servable import ServableId
from serving_app.protocol.calls import Answer, Call
from serving_app.protocol.lane_frames import Frame, Inbox, Kind, Malformed, hello, read_welcome
from serving_app.protocol.lane_hops import read_answer, read_fault, write_hop


class Wire:
    """A connection to the replica behind a door. For one thread at a time."""

    def __init__(self, door: Door, node: str | None, timeout: float) -> None:
        """`node` is where this process runs. Raises OSError, which TimeoutError is, if nobody lets us in."""
        self.door = door
        self._hop = 0
        self._inbox = Inbox()
        self._frames: list[Frame] = []
        self._is_leaving = False
        until = time.monotonic() + timeout
        self._socket = _connect(door, node, until)
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN)
        self.is_open = True
        try:
            self._socket.sendall(hello(door.secret))
            frame = self._receive(until)
            if frame.kind is not Kind.WELCOME:
                raise Malformed(f"a replica does not send {frame.kind.name} first")
            read_welcome(frame.body)
        except (LaneLost, Malformed) as error:
            self.close()
            raise ConnectionRefusedError(str(error)) from error
        except BaseException:
            self.close()
            raise

    @property
    def is_quiet(self) -> bool:
        """Whether the replica has said nothing unasked: it does when it goes, and is not to be asked any more then."""
        return self.is_open and not self._poll.poll(0)

    def ask(self, call: Call, servable: ServableId | None, timeout: float | None) -> Answer:
        """The answer to a hop of one call.

        Raises LaneLost, LaneBusy, NotCarried, or why the hop failed as a whole, and TimeoutError. Whatever does not end
        with an answer, an interrupt too, closes the connection, by which the replica hears that nobody waits.
        """
        try:
            hop = self._hop % 0xFFFFFFFF + 1
            pieces = write_hop(hop, [call], servable)
        except InvalidArgument as error:
            raise NotCarried(error.message) from error
        self._hop = hop
        until = None if timeout is None else time.monotonic() + timeout
        is_over = False
        try:
            for piece in pieces:
                self._socket.settimeout(None if until is None else _left(until))
                self._socket.sendall(piece)
            while True:
                frame = self._receive(until)
                if frame.kind is Kind.GOODBYE:
                    self._is_leaving = True
                if frame.hop == self._hop and frame.kind is Kind.ANSWER:
                    answer = read_answer(frame.body)
                    is_over = True
                    return answer
                if frame.hop == self._hop and frame.kind is Kind.FAULT:
                    fault = read_fault(frame.body)
                    is_over = True
                    raise fault
                if frame.hop == self._hop and frame.kind is Kind.BUSY:
                    is_over = True
                    raise LaneBusy(f"{self.door.replica} has as much to do as it may")
        except (OSError, Malformed) as error:
            if isinstance(error, TimeoutError) and error.errno is None:
                raise  # else it is the system's, which has given up a machine that has vanished
            raise LaneLost(f"the connection to {self.door.replica} was lost: {error}") from error
        finally:
            if not is_over or self._is_leaving or self._frames:  # who says something unasked goes, and waits for us
                self.close()

    def close(self) -> None:
        """What is under way is lost."""
        self.is_open = False
        self._socket.close()

    def _receive(self, until: float | None) -> Frame:
        """The next frame. Raises LaneLost if none comes any more, TimeoutError if none has come by then."""
        while not self._frames:
            if until is not None:
                self._socket.settimeout(_left(until))
            count = self._socket.recv_into(self._inbox.get_buffer())
            if not count:
                raise LaneLost(f"the connection to {self.door.replica} was lost: it was closed")
            self._frames = self._inbox.take(count)[::-1]
        return self._frames.pop()


def _left(until: float) -> float:
    return max(1e-6, until - time.monotonic())


def _connect(door: Door, node: str | None, until: float) -> socket.socket:
    if door.path is not None and door.node == node:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(_left(until))
            connection.connect(door.path)
            return connection
        except OSError:
            connection.close()
    if door.host is None:
        raise ConnectionRefusedError(f"{door.replica} has no door for other nodes")
    connection = socket.create_connection((door.host, door.port), _left(until))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    keep_alive(connection)
    return connection
