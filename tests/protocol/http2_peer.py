"""The other side of a connection, as tests need it: frames to send, and what was sent back, in words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from serving_app.protocol.hpack import Decoder, literal
from serving_app.protocol.http2_connection import Connection
from serving_app.protocol.http2_frames import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADER,
    HEADERS,
    PREFACE,
    frame,
    settings_frame,
)
from serving_app.protocol.http2_streams import Limits, Stream

GREETING = PREFACE + settings_frame({})
REQUEST = {
    ":method": "POST", ":scheme": "http", ":path": "/t/Echo",
    "content-type": "application/grpc", "te": "trailers",
}
BLOCK = b"".join(literal(name.encode(), value.encode()) for name, value in REQUEST.items())


class Frame(NamedTuple):
    kind: int
    flags: int
    stream: int
    payload: bytes

    @property
    def number(self) -> int:
        """The last four bytes, as a number."""
        return int.from_bytes(self.payload[-4:], "big")


def frames(sent: bytes) -> Iterator[Frame]:
    """The frames in these bytes, which hold nothing else."""
    at = 0
    while at < len(sent):
        high, low, kind, flags, stream = HEADER.unpack_from(sent, at)
        end = at + 9 + (high << 8 | low)
        assert end <= len(sent)
        yield Frame(kind, flags, stream, sent[at + 9 : end])
        at = end


def headers(stream: int, block: bytes = BLOCK, *, ends: bool = False) -> bytes:
    return frame(HEADERS, END_HEADERS | (END_STREAM if ends else 0), stream, block)


def data(stream: int, payload: bytes, *, ends: bool = False) -> bytes:
    return frame(DATA, END_STREAM if ends else 0, stream, payload)


def message(text: bytes, flag: int = 0) -> bytes:
    """A message of gRPC with its prefix."""
    return bytes((flag,)) + len(text).to_bytes(4, "big") + text


def ask(stream: int, text: bytes = b"hello", block: bytes = BLOCK) -> bytes:
    """A whole unary request."""
    return headers(stream, block) + data(stream, message(text), ends=True)


class Answers:
    """Reads what a server sends: the fields and the data of every stream, and all other frames."""

    def __init__(self) -> None:
        self._decoder = Decoder(1 << 20)
        self._block = b""
        self.fields: dict[int, list[dict[str, str]]] = {}
        self.data: dict[int, bytes] = {}
        self.ended: list[int] = []
        self.others: list[Frame] = []

    def read(self, sent: bytes) -> None:
        for each in frames(sent):
            if each.kind in (HEADERS, CONTINUATION):
                self._block += each.payload
                if each.flags & END_HEADERS:
                    fields, _ = self._decoder.decode(self._block)
                    self._block = b""
                    texts = {name.decode(): value.decode() for name, value in fields}
                    self.fields.setdefault(each.stream, []).append(texts)
            elif each.kind == DATA:
                self.data[each.stream] = self.data.get(each.stream, b"") + each.payload
            else:
                self.others.append(each)
            if each.kind in (HEADERS, DATA) and each.flags & END_STREAM:
                self.ended.append(each.stream)

    def of(self, kind: int) -> list[Frame]:
        return [each for each in self.others if each.kind == kind]


class Log:
    """The owner of a stream, which writes down what happens to it."""

    def __init__(self) -> None:
        self.data = b""
        self.ended = self.is_dropped = False

    def received(self, data: bytes, start: int, end: int, ended: bool) -> None:
        assert not self.ended
        self.data += data[start:end]
        self.ended = ended

    def dropped(self) -> None:
        assert not self.is_dropped
        self.is_dropped = True


class Server:
    """A connection whose streams are written down, as a client sees it."""

    def __init__(self, limits: Limits | None = None, greeting: bytes = GREETING) -> None:
        self.opened: dict[int, tuple[Stream, Any, Log]] = {}
        self.connection: Connection[Any] = Connection(limits or Limits(), lambda fields, _: tuple(fields), self._accept)
        self.answers = Answers()
        self.send(greeting)

    def _accept(self, stream: Stream, head: Any, ended: bool) -> Log:
        log = Log()
        log.ended = ended
        self.opened[stream.id] = stream, head, log
        return log

    def send(self, sent: bytes, now: float = 0.0, step: int | None = None) -> None:
        """Let the server receive this, in pieces of so many bytes, and read what it answers."""
        for at in range(0, len(sent), step or len(sent) or 1):
            self.connection.receive(sent[at : at + (step or len(sent))], now)
        self.take()

    def take(self) -> bytes:
        sent = b"".join(self.connection.sender.take())
        self.answers.read(sent)
        return sent

    def log(self, stream: int) -> Log:
        return self.opened[stream][2]

    def stream(self, stream: int) -> Stream:
        return self.opened[stream][0]
