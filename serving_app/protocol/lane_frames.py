"""Frames of a lane, the socket between whoever calls a version and one of its replicas.

    client                                    replica
      HELLO  our word, release, secret  --->
                                        <---  WELCOME  how many hops at most
      HOP 1  calls                      --->
      HOP 2  calls                      --->
      CANCEL 1                          --->  nobody waits for hop 1 any more: no answer comes
                                        <---  ANSWER 2  a reply for each call
      HOP_FOR 3  version, calls         --->  to who holds several versions
                                        <---  BUSY 3  it has as many hops as it may: not taken
      HOP 0  no calls                   --->  is anybody there?
                                        <---  ANSWER 0  no replies, at once
                                        <---  GOODBYE  send no more; what was sent is answered

Each frame is a header of 16 bytes, the body's length, the hop's number and the kind, and the body. What hops and
answers hold is `lane_hops`'s. Nothing here reads a socket: an `Inbox` gives the memory to receive into and cuts what
came into frames. A body is copied once at most: one that did not arrive as a whole with what came before it gets memory
of its own, into which the rest is received.
"""

from __future__ import annotations

import struct
import sys
from enum import IntEnum
from typing import NamedTuple

import numpy as np

Memory = bytearray | memoryview
"""A body as it was received; arrays look into it, so it is never written again."""

MAX_BODY_BYTES = 1 << 36
"""No body is larger; a length above it is not one."""

HELLO_BYTES = 1 << 10
"""Nor is one of a stranger, who may make us set aside so much memory and no more."""

ANYBODY = 0
"""The number of hops without calls, which ask for a sign of life; other hops have others."""

ALIGNMENT = 64
"""Of the start of a large body, and of large arrays in it: what TensorFlow reads in place."""

_HEADER = struct.Struct("<QIB3x")
_HELLO = struct.Struct("<16sI")
_WELCOME = struct.Struct("<I")
_WORD = b"serving_app lane"
_FORMAT = 2
"""Of everything that travels; to be raised with any change. Two that differ do not talk, and use Serve's handles."""

_SCRATCH_BYTES = 32 << 10
_OWN_FROM_BYTES = 4 << 10

# Numbers are written as this machine has them in memory.
assert sys.byteorder == "little", "lanes are for machines whose bytes are in little-endian order"


class Kind(IntEnum):
    """What a frame is."""

    HELLO = 1
    WELCOME = 2
    HOP = 3
    ANSWER = 4
    FAULT = 5
    """In place of an answer: the hop failed as a whole."""
    CANCEL = 6
    BUSY = 7
    GOODBYE = 8
    HOP_FOR = 9


class Malformed(Exception):
    """What came is not what this side understands; the connection is of no more use."""


class Frame(NamedTuple):
    """A frame that came in whole."""

    kind: Kind
    hop: int
    body: Memory


_KINDS = {int(kind): kind for kind in Kind}


def header(kind: Kind, hop: int = 0, length: int = 0) -> bytes:
    """The header of a frame; alone, a frame with nothing in it."""
    return _HEADER.pack(length, hop, kind)


def hello(secret: bytes) -> bytes:
    """The frame that a client begins with."""
    body = _HELLO.pack(_WORD, _FORMAT) + secret
    return header(Kind.HELLO, 0, len(body)) + body


def read_hello(body: Memory) -> bytes:
    """The secret that a client shows."""
    if len(body) < _HELLO.size:
        raise Malformed("its hello is too short")
    word, number = _HELLO.unpack_from(body)
    if word != _WORD:
        raise Malformed("it does not say hello as a lane does")
    if number != _FORMAT:
        raise Malformed(f"it speaks format {number} of lanes, and this side format {_FORMAT}")
    return bytes(body[_HELLO.size :])


def welcome(max_hops: int) -> bytes:
    """The frame by which a replica lets a client in: how many hops it takes at one time."""
    return header(Kind.WELCOME, 0, _WELCOME.size) + _WELCOME.pack(max_hops)


def read_welcome(body: Memory) -> int:
    """How many hops may be under way."""
    if len(body) != _WELCOME.size:
        raise Malformed("its welcome has another size")
    max_hops: int = _WELCOME.unpack_from(body)[0]
    if max_hops < 1:
        raise Malformed("it takes no hops")
    return max_hops


class Inbox:
    """Receives the frames of one connection: fill what `get_buffer` gives, tell `take` how much came."""

    def __init__(self, max_body_bytes: int = MAX_BODY_BYTES) -> None:
        self.max_body_bytes = max_body_bytes
        self._scratch = memoryview(bytearray(_SCRATCH_BYTES))
        self._start = self._end = 0  # of what lies in the scratch memory and is not taken yet
        self._body: memoryview | None = None  # of a frame of which the header came, and not all of the rest
        self._filled = 0
        self._kind, self._hop = Kind.HELLO, 0  # of that frame

    def get_buffer(self) -> memoryview:
        """Where to write what comes next; never empty."""
        if self._body is not None:
            return self._body[self._filled :]
        return self._scratch[self._end :]

    def take(self, nbytes: int) -> list[Frame]:
        """The frames that are complete now that so many bytes came. Raises Malformed."""
        if self._body is not None:
            self._filled += nbytes
            if self._filled < len(self._body):
                return []
            frame = Frame(self._kind, self._hop, self._body)
            self._body = None
            return [frame]
        self._end += nbytes
        frames = []
        while self._end - self._start >= _HEADER.size:
            length, hop, number = _HEADER.unpack_from(self._scratch, self._start)
            kind = _KINDS.get(number)
            if kind is None:
                raise Malformed(f"{number} is no kind of frame")
            if length > self.max_body_bytes:
                raise Malformed(f"a body of {length} bytes is too large")
            begin = self._start + _HEADER.size
            if begin + length <= self._end:
                frames.append(Frame(kind, hop, bytearray(self._scratch[begin : begin + length])))
                self._start = begin + length
            elif length >= _OWN_FROM_BYTES:
                self._begin_body(kind, hop, length, self._scratch[begin : self._end])
                break
            else:
                break
        self._make_room()
        return frames

    def _begin_body(self, kind: Kind, hop: int, length: int, part: memoryview) -> None:
        self._kind, self._hop = kind, hop
        self._body = aligned(length)
        self._filled = len(part)
        self._body[: self._filled] = part
        self._start = self._end = 0

    def _make_room(self) -> None:
        """What is left of a frame goes to the front, where there is room for all of it."""
        left = self._end - self._start
        if self._start and left:
            self._scratch[:left] = bytes(self._scratch[self._start : self._end])
        self._start, self._end = 0, left


def aligned(length: int) -> memoryview:
    """New memory on an address that large arrays may have."""
    memory = np.empty(length + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory.data[start : start + length]
