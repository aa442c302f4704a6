"""HPACK (RFC 7541): the header blocks of HTTP/2.

Decoding is complete. Of encoding there is as much as a server needs that sends the same few fields again and again:
literals, and references to what it has put into the table itself.
"""

from __future__ import annotations

from collections import deque

from serving_app.protocol.hpack_huffman import decode_huffman

Field = tuple[bytes, bytes]
"""Name and value."""

TABLE_SIZE = 4096
"""How large a table is unless its owner says otherwise, counted as the RFC counts it."""

_ENTRY_OVERHEAD = 32
_LARGEST_INTEGER = 1 << 28

_FAR_BEYOND, _LEAST = 16, 1 << 18
"""A block of a hundred thousand fields of a byte each would keep the event loop busy for long, and nobody means it."""


class HpackError(Exception):
    """The bytes are no header block; the connection cannot go on, for nobody knows the table any more."""


class Decoder:
    """The table of one direction of a connection, and the blocks that are read by it.

    `limit` is how large the fields of one block may be, counted as the RFC counts them: what is beyond it is read, as
    the table depends on it, and not kept; what is far beyond it is an error. `generation` changes when the table does:
    blocks mean what they meant before as long as it stays.
    """

    def __init__(self, limit: int) -> None:
        self.generation = 0
        self._limit = limit
        self._most = max(_FAR_BEYOND * limit, _LEAST)
        self._largest = TABLE_SIZE
        self._size = 0
        self._entries: deque[Field] = deque()  # the newest comes first

    def decode(self, block: bytes) -> tuple[list[Field], int]:
        """The fields of a block, and their size; fields beyond the limit are missing. Raises HpackError."""
        fields: list[Field] = []
        total = at = 0
        end = len(block)
        while at < end:
            first = block[at]
            if first & 0x80:
                number, at = _integer(block, at, 0x7F)
                field = self._look_up(number)
            elif first & 0x40:
                field, at = self._literal(block, at, 0x3F)
                self._insert(field)
            elif first & 0x20:
                number, at = _integer(block, at, 0x1F)
                if fields or total:
                    raise HpackError("the size of the table changes within a block")
                self._resize(number)
                continue
            else:
                field, at = self._literal(block, at, 0x0F)
            total += len(field[0]) + len(field[1]) + _ENTRY_OVERHEAD
            if total <= self._limit:
                fields.append(field)
            elif total > self._most:
                raise HpackError(f"fields of more than {self._most} bytes")
        return fields, total

    def _literal(self, block: bytes, at: int, mask: int) -> tuple[Field, int]:
        number, at = _integer(block, at, mask)
        if number:
            name = self._look_up(number)[0]
        else:
            name, at = _string(block, at)
        value, at = _string(block, at)
        return (name, value), at

    def _look_up(self, number: int) -> Field:
        if 0 < number < len(STATIC):
            return STATIC[number]
        at = number - len(STATIC)
        if not 0 <= at < len(self._entries):
            raise HpackError(f"there is no entry {number} in the table")
        return self._entries[at]

    def _insert(self, field: Field) -> None:
        self.generation += 1
        self._entries.appendleft(field)
        self._size += _size_of(field)
        self._evict()

    def _resize(self, largest: int) -> None:
        if largest > TABLE_SIZE:
            raise HpackError(f"a table of {largest} bytes where {TABLE_SIZE} are allowed")
        self.generation += 1
        self._largest = largest
        self._evict()

    def _evict(self) -> None:
        while self._size > self._largest:
            self._size -= _size_of(self._entries.pop())


def _size_of(field: Field) -> int:
    return len(field[0]) + len(field[1]) + _ENTRY_OVERHEAD


def _integer(block: bytes, at: int, mask: int) -> tuple[int, int]:
    """The number in the low bits of the byte at `at` and, where they are all ones, in those after it; and its end."""
    number = block[at] & mask
    at += 1
    if number < mask:
        return number, at
    shift = 0
    try:
        while True:
            byte = block[at]
            at += 1
            number += (byte & 0x7F) << shift
            if number > _LARGEST_INTEGER or shift > 28:
                raise HpackError("a number that is too large")
            if byte < 0x80:
                return number, at
            shift += 7
    except IndexError:
        raise HpackError("a number is cut off") from None


def _string(block: bytes, at: int) -> tuple[bytes, int]:
    if at >= len(block):
        raise HpackError("a text is missing")
    length, start = _integer(block, at, 0x7F)
    end = start + length
    if end > len(block):
        raise HpackError("a text is cut off")
    text = block[start:end]
    if block[at] & 0x80:
        try:
            text = decode_huffman(text)
        except ValueError as error:
            raise HpackError(str(error)) from None
    return text, end


def encode_integer(number: int, mask: int, pattern: int) -> bytes:
    """A number in the low bits of a byte with this pattern, and in as many further bytes as it needs."""
    if number < mask:
        return bytes((pattern | number,))
    out = bytearray((pattern | mask,))
    number -= mask
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def literal(name: bytes, value: bytes, *, keep: bool = False) -> bytes:
    """A field in full; `keep` puts it into the other side's table, too."""
    number = _NAMES.get(name, 0)
    start = encode_integer(number, 0x3F, 0x40) if keep else encode_integer(number, 0x0F, 0)
    text = b"" if number else encode_integer(len(name), 0x7F, 0) + name
    return start + text + encode_integer(len(value), 0x7F, 0) + value


def reference(number: int) -> bytes:
    """A field of the table."""
    return encode_integer(number, 0x7F, 0x80)


def _static() -> tuple[Field, ...]:
    """Appendix A; entries count from 1."""
    rows = (
        ":authority", ":method=GET", ":method=POST", ":path=/", ":path=/index.html", ":scheme=http", ":scheme=https",
        ":status=200", ":status=204", ":status=206", ":status=304", ":status=400", ":status=404", ":status=500",
        "accept-charset", "accept-encoding=gzip, deflate", "accept-language", "accept-ranges", "accept",
        "access-control-allow-origin", "age", "allow", "authorization", "cache-control", "content-disposition",
        "content-encoding", "content-language", "content-length", "content-location", "content-range", "content-type",
        "cookie", "date", "etag", "expect", "expires", "from", "host", "if-match", "if-modified-since",
        "if-none-match", "if-range", "if-unmodified-since", "last-modified", "link", "location", "max-forwards",
        "proxy-authenticate", "proxy-authorization", "range", "referer", "refresh", "retry-after", "server",
        "set-cookie", "strict-transport-security", "transfer-encoding", "user-agent", "vary", "via",
        "www-authenticate",
    )  # fmt: skip
    pairs = (row.partition("=") for row in rows)
    return ((b"", b""), *((name.encode(), value.encode()) for name, _, value in pairs))


STATIC = _static()
_NAMES = {name: number for number, (name, _) in reversed(list(enumerate(STATIC))) if number}
