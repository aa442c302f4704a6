"""gRPC over HTTP/2 (PROTOCOL-HTTP2.md of grpc): what header fields mean, how messages are framed, how a call ends."""

from __future__ import annotations

import re
import zlib
from functools import lru_cache
from typing import NamedTuple

from serving_app.core.errors import Code, Internal, ResourceExhausted, ServingError, Unimplemented
from serving_app.protocol.grpc_methods import truncate
from serving_app.protocol.hpack import Field, literal, reference
from serving_app.protocol.http2_frames import ErrorCode, StreamFailure

PREFIX_BYTES = 5
"""Before each message: whether it is compressed, and its length."""

_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
_PSEUDO = frozenset((b":method", b":scheme", b":path", b":authority"))
_OF_CONNECTIONS = frozenset((b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade"))
_TIMEOUT = re.compile(rb"([0-9]{1,8})([HMSmun])")
_SECONDS = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}

_CONTENT_TYPE = (b"content-type", b"application/grpc")
_ENCODINGS = (b"grpc-accept-encoding", b"identity, deflate, gzip")
_OK = (b"grpc-status", b"0")
_STATUS_200 = reference(8)


class Head(NamedTuple):
    """What the header fields of a call say.

    `timeout` is in seconds, None for ever. `encoding` is the compression of messages that say they are compressed.
    Where `refusal` is set, these fields are the whole answer.
    """

    path: str
    timeout: float | None = None
    encoding: str = "identity"
    refusal: bytes | None = None
    metadata: tuple[Field, ...] = ()


def read_head(fields: list[Field], size: int, limit: int) -> Head:
    """The head in the fields of a request, whose size is this. Raises StreamFailure where they are no request.

    Many clients send another timeout with each call, and all else again; so that is read once.
    """
    if size > limit:
        too_large = ResourceExhausted(f"received metadata size exceeds hard limit ({size} vs. {limit})")
        return Head("", refusal=error_block(too_large))
    for at, (name, value) in enumerate(fields):
        if name == b"grpc-timeout":
            head = _read_fields((*fields[:at], _SOME_TIMEOUT, *fields[at + 1 :]))
            return head if head.refusal else head._replace(timeout=parse_timeout(value))
    return _read_fields(tuple(fields))


_SOME_TIMEOUT = (b"grpc-timeout", b"")


@lru_cache(256)
def _read_fields(fields: tuple[Field, ...]) -> Head:
    """The head in these fields but for the timeout."""
    pseudo: dict[bytes, bytes] = {}
    known: dict[bytes, bytes] = {}
    metadata: list[Field] = []
    for name, value in fields:
        if name[:1] == b":":
            if metadata or known or name in pseudo or name not in _PSEUDO:
                raise StreamFailure(ErrorCode.PROTOCOL_ERROR, "misplaced pseudo-header")
            pseudo[name] = value
        elif not _NAME.fullmatch(name) or b"\0" in value or b"\n" in value or b"\r" in value:
            raise StreamFailure(ErrorCode.PROTOCOL_ERROR, "a field that HTTP does not know")
        elif name in _OF_CONNECTIONS or (name == b"te" and value != b"trailers"):
            raise StreamFailure(ErrorCode.PROTOCOL_ERROR, "a field of a connection")
        elif name in (b"content-type", b"grpc-timeout", b"grpc-encoding"):
            known[name] = value
        else:
            metadata.append((name, value))
    if not {b":method", b":scheme", b":path"} <= pseudo.keys():
        raise StreamFailure(ErrorCode.PROTOCOL_ERROR, "method, scheme or path is missing")
    path = pseudo[b":path"].decode("utf-8", "replace")
    if pseudo[b":method"] != b"POST":
        return Head(path, refusal=literal(b":status", b"405") + literal(b"allow", b"POST"))
    kind = known.get(b"content-type", b"")
    if kind[:16] != b"application/grpc" or kind[16:17] not in (b"", b"+", b";"):
        return Head(path, refusal=literal(b":status", b"415"))
    encoding = known.get(b"grpc-encoding", b"identity").decode("utf-8", "replace")
    return Head(path, None, encoding, None, tuple(metadata))


def parse_timeout(text: bytes | None) -> float | None:
    """Seconds; None for ever, which is also what grpc takes a text for that it cannot read."""
    match = _TIMEOUT.fullmatch(text) if text is not None else None
    return int(match[1]) * _SECONDS[match[2]] if match else None


class MessageReader:
    """Makes messages of the data of a stream, whatever its pieces are.

    Large pieces are kept as they came and joined once. Small ones are copied together: a view of a few bytes would keep
    alive all that came with them.
    """

    __slots__ = ("_head", "_is_compressed", "_left", "_limit", "_parts")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._head = b""
        self._left = -1  # of the message that is under way; below 0: none is
        self._is_compressed = False
        self._parts: list[bytearray | memoryview] = []

    @property
    def is_between(self) -> bool:
        """Whether no message is under way."""
        return self._left < 0 and not self._head

    def feed(self, data: bytes, at: int, end: int) -> list[tuple[bytes, bool]]:
        """The messages that these bytes complete, and whether they are compressed. Raises ServingError."""
        messages = []
        while at < end or self._left == 0:
            if self._left < 0:
                more = data[at : min(end, at + PREFIX_BYTES - len(self._head))]
                self._head += more
                at += len(more)
                if len(self._head) < PREFIX_BYTES:
                    break
                self._left, self._is_compressed = read_prefix(self._head, self._limit)
                self._head = b""
            size = min(self._left, end - at)
            if size:
                self._keep(data, at, at + size)
                at += size
                self._left -= size
            if self._left:
                break
            messages.append((b"".join(self._parts), self._is_compressed))
            self._parts, self._left = [], -1
        return messages

    def _keep(self, data: bytes, start: int, end: int) -> None:
        if (end - start) * 4 >= len(data) and end - start >= _LARGE_PIECE:
            self._parts.append(memoryview(data)[start:end])
        elif self._parts and isinstance(last := self._parts[-1], bytearray):
            last += memoryview(data)[start:end]
        else:
            self._parts.append(bytearray(memoryview(data)[start:end]))


_LARGE_PIECE = 4096


def read_prefix(prefix: bytes, limit: int) -> tuple[int, bool]:
    """The length of the message after a prefix, and whether it is compressed. Raises ServingError."""
    if prefix[0] > 1:
        raise Internal(f"a message begins with {prefix[0]}, which is neither 0 nor 1; is this gRPC?")
    length = int.from_bytes(prefix[1:], "big")
    if 0 <= limit < length:
        raise ResourceExhausted(f"SERVER: Received message larger than max ({length} vs. {limit})")
    return length, prefix[0] == 1


def write_prefix(length: int) -> bytes:
    """What goes before a message of so many bytes that is not compressed."""
    return b"\0" + length.to_bytes(4, "big")


def check_encoding(encoding: str) -> None:
    """Raises Unimplemented for a compression that is not known."""
    if encoding not in _WINDOW_BITS:
        raise Unimplemented(f"Compression algorithm '{encoding:.100}' is unknown; use gzip or deflate")


def decompress(message: bytes, encoding: str, limit: int) -> bytes:
    """A message as it was before compression, of at most `limit` bytes (below 0: any number). Raises ServingError."""
    check_encoding(encoding)
    bits = _WINDOW_BITS[encoding]
    if bits is None:
        raise Internal("a message says that it is compressed, and the call does not say how; set grpc-encoding")
    machine = zlib.decompressobj(bits)
    try:
        plain = machine.decompress(message, limit + 1 if limit >= 0 else 0)
    except zlib.error as error:
        raise Internal(f"a message that is no {encoding}: {error}") from None
    if 0 <= limit < len(plain):
        raise ResourceExhausted(f"Decompressed message larger than max ({limit})")
    if not machine.eof:
        raise Internal(f"a message whose {encoding} is cut off")
    return plain


_WINDOW_BITS = {"identity": None, "gzip": 31, "deflate": 15}


class AnswerFields:
    """The header blocks of answers on one connection.

    Nearly all are the same, so they are put into the other side's table once, and are then a byte each. The number of
    an entry grows with each that comes after it.
    """

    __slots__ = ("_headers", "_is_plain", "_prefix", "_trailers")

    def __init__(self) -> None:
        self._is_plain = False
        self._prefix = b""
        self._headers = _STATUS_200 + literal(*_CONTENT_TYPE, keep=True) + literal(*_ENCODINGS, keep=True)
        self._trailers = literal(*_OK, keep=True)

    def use_no_table(self) -> None:
        """The other side has next to no table: take nothing for granted in it, and say so first."""
        if not self._is_plain:
            self._is_plain = True
            self._prefix = b"\x20"
            self._headers, self._trailers = _PLAIN_HEADERS, _PLAIN_TRAILERS

    def headers(self) -> bytes:
        """Before the first message."""
        block = self._headers
        if self._prefix:
            block, self._prefix = self._prefix + block, b""
        elif block is _AFTER_TRAILERS or self._is_plain:
            return block
        elif len(block) > 3:
            self._headers = _STATUS_200 + reference(63) + reference(62)
        return block

    def trailers(self, *, late: bool = False) -> bytes:
        """After the last message, where all is well; headers came before. What goes `late`, after data that waits, must
        change nothing in the table: others overtake it.
        """
        block = self._trailers
        if len(block) > 1 and not self._is_plain:
            if late:
                return _PLAIN_TRAILERS
            self._trailers = reference(62)
            self._headers = _AFTER_TRAILERS
        return block

    def failed(self, error: ServingError, *, has_headers: bool, late: bool = False) -> bytes:
        """After the last message, or instead of any, where something is wrong."""
        block = _error_trailers(int(error.code), error.message) if has_headers else error_block(error)
        return block if late else self.whole(block)

    def whole(self, block: bytes) -> bytes:
        """Fields that use no table, on this connection."""
        prefix, self._prefix = self._prefix, b""
        return prefix + block


_PLAIN_HEADERS = _STATUS_200 + literal(*_CONTENT_TYPE) + literal(*_ENCODINGS)
_PLAIN_TRAILERS = literal(*_OK)
_AFTER_TRAILERS = _STATUS_200 + reference(64) + reference(63)


def error_block(error: ServingError) -> bytes:
    """The fields of an answer that is only an error."""
    return _STATUS_200 + literal(*_CONTENT_TYPE) + _error_trailers(int(error.code), error.message)


@lru_cache(256)
def _error_trailers(code: int, message: str) -> bytes:
    block = literal(b"grpc-status", str(code).encode())
    if code == Code.UNIMPLEMENTED:
        block += literal(*_ENCODINGS)  # so that a client whose compression is not known learns which are
    return block + literal(b"grpc-message", percent_encode(truncate(message))) if message else block


def percent_encode(message: str) -> bytes:
    """A message as it travels in a header."""
    return _UNSAFE.sub(lambda found: b"%%%02X" % ord(found[0]), message.encode("utf-8", "replace"))


_UNSAFE = re.compile(rb"[^ -$&-~]")
