"""A stream of HTTP/2, who answers it, and what one connection may ask for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol


class Owner(Protocol):
    """Who answers a stream."""

    def received(self, data: bytes, start: int, end: int, ended: bool) -> None:
        """These bytes of the request have come; `ended`: they are its last."""

    def dropped(self) -> None:
        """The stream is over before it was answered: the other side has given it up, or broken it."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one connection may ask for."""

    streams: int = 10_000
    """Requests at one time."""
    header_bytes: int = 16_384
    """Of the fields of one request, counted as HPACK counts them."""
    stream_window: int = 4 << 20
    """Of the data of one stream that are on their way or not yet taken."""
    connection_window: int = 64 << 20
    frame_bytes: int = 1 << 20
    resets_per_second: int = 10_000
    """Streams that the other side gives up: as many as can reach their deadline at one moment."""
    idle_frames_per_second: int = 5_000
    """Frames that ask for nothing: pings, settings, empty data, what nobody knows."""


class Stream:
    """One request and its answer."""

    __slots__ = ("credit", "credited", "id", "is_open", "outgoing", "owner", "trailers", "went", "window")

    def __init__(self, number: int, window: int, credit: int) -> None:
        self.id = number
        self.window = window  # what may be sent
        self.credit = credit  # what may be received
        self.credited = 0  # what has been received and may be sent again
        self.is_open = True  # on the other side
        self.owner: Owner | None = None
        self.outgoing: list[memoryview] | None = None  # data that waits for a window
        self.went: Callable[[], None] | None = None  # called once when all of that has gone
        self.trailers: bytes | None = None  # fields that wait for that data; the stream ends with them
