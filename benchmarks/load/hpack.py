"""As much of HPACK (RFC 7541) as a client needs that sends one request over and over, and reads what servers answer.

`RequestHeaders` writes the header block of that request as gRPC's own clients do: in full on the first stream of a
connection, as references to the dynamic table on every other. `ResponseHeaders` reads blocks. A block that leaves the
dynamic table alone means the same until one changes it, so such blocks are read once and looked up from then on.
"""

from __future__ import annotations

from collections.abc import Sequence

Field = tuple[bytes, bytes]

_STATIC_NAMES = (
    *(":authority", ":method", ":method", ":path", ":path", ":scheme", ":scheme"),
    *([":status"] * 7),
    *("accept-charset", "accept-encoding", "accept-language", "accept-ranges", "accept", "access-control-allow-origin"),
    *("age", "allow", "authorization", "cache-control", "content-disposition", "content-encoding", "content-language"),
    *("content-length", "content-location", "content-range", "content-type", "cookie", "date", "etag", "expect"),
    *("expires", "from", "host", "if-match", "if-modified-since", "if-none-match", "if-range", "if-unmodified-since"),
    *("last-modified", "link", "location", "max-forwards", "proxy-authenticate", "proxy-authorization", "range"),
    *("referer", "refresh", "retry-after", "server", "set-cookie", "strict-transport-security", "transfer-encoding"),
    *("user-agent", "vary", "via", "www-authenticate"),
)
_STATIC_VALUES = {
    2: "GET", 3: "POST", 4: "/", 5: "/index.html", 6: "http", 7: "https", 8: "200", 9: "204", 10: "206",
    11: "304", 12: "400", 13: "404", 14: "500", 16: "gzip, deflate",
}
STATIC: tuple[Field, ...] = tuple(
    (name.encode(), _STATIC_VALUES.get(number, "").encode()) for number, name in enumerate(_STATIC_NAMES, 1)
)
"""The static table (appendix A); the first has the index 1."""

_HUFFMAN = {
    "0": (0b00000, 5), "1": (0b00001, 5), "2": (0b00010, 5), "3": (0b011001, 6), "4": (0b011010, 6),
    "5": (0b011011, 6), "6": (0b011100, 6), "7": (0b011101, 6), "8": (0b011110, 6), "9": (0b011111, 6),
    "g": (0b100110, 6), "r": (0b101100, 6), "p": (0b101011, 6), "c": (0b00100, 5), "-": (0b010110, 6),
    "s": (0b01000, 5), "t": (0b01001, 5), "a": (0b00011, 5), "u": (0b101101, 6),
}
"""The codes (appendix B) of the characters in `grpc-status` and in numbers: all that has to be understood here."""


def huffman(text: str) -> bytes:
    """The code of a text of those characters."""
    bits = "".join(f"{code:0{length}b}" for code, length in (_HUFFMAN[each] for each in text))
    bits += "1" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big")


_DECODED = {huffman(text): text.encode() for text in ("grpc-status", *map(str, range(17)), *map(str, range(200, 600)))}


class HeaderError(Exception):
    """A header block that is not one."""


class RequestHeaders:
    """The header blocks of one request, sent on many streams of one connection."""

    def __init__(self, indexed: Sequence[int], fields: Sequence[Field]) -> None:
        known = bytes(0x80 | index for index in indexed)
        self.first = known + b"".join(_literal(0x40, name, value) for name, value in fields)
        """On the first stream: enters the fields into the dynamic table."""
        last = len(STATIC) + len(fields)
        self.later = known + bytes(0x80 | (last - number) for number in range(len(fields)))
        """On all others: what was entered, the newest having the lowest index."""
        self.plain = known + b"".join(_literal(0x00, name, value) for name, value in fields)
        """For a server without a dynamic table, on every stream."""


def _literal(kind: int, name: bytes, value: bytes) -> bytes:
    return bytes([kind]) + _string(name) + _string(value)


def _string(text: bytes) -> bytes:
    return _integer(0, 7, len(text)) + text


def _integer(kind: int, bits: int, value: int) -> bytes:
    most = (1 << bits) - 1
    if value < most:
        return bytes([kind | value])
    more = value - most
    octets = [kind | most]
    while more >= 128:
        octets.append(more & 127 | 128)
        more >>= 7
    return bytes([*octets, more])


def table_size(size: int) -> bytes:
    """What opens a block to tell that the dynamic table is limited to this."""
    return _integer(0x20, 5, size)


class ResponseHeaders:
    """Reads the header blocks of one connection, in their order."""

    def __init__(self) -> None:
        self._dynamic: list[Field] = []
        self._size = 4096
        self._seen: dict[bytes, dict[bytes, bytes]] = {}

    def read(self, block: bytes) -> dict[bytes, bytes]:
        """The fields of a block; HeaderError if it is none. Strings in a Huffman code stay as they are, but for the
        name `grpc-status` and for numbers."""
        found = self._seen.get(block)
        if found is not None:
            return found
        try:
            fields, changed = self._read(block)
        except IndexError:
            raise HeaderError(f"a header block that ends too soon, or names what is not there: {block.hex()}") from None
        if changed:
            self._seen.clear()
        else:
            self._seen[block] = fields
        return fields

    def _read(self, block: bytes) -> tuple[dict[bytes, bytes], bool]:
        fields: dict[bytes, bytes] = {}
        changed, at = False, 0
        while at < len(block):
            first = block[at]
            if first & 0x80:
                index, at = _number(block, at, 7)
                name, value = self._field(index)
            elif first & 0xE0 == 0x20:
                self._size, at = _number(block, at, 5)
                self._evict()
                changed = True
                continue
            else:
                enters = bool(first & 0x40)
                index, at = _number(block, at, 6 if enters else 4)
                name, at = (self._field(index)[0], at) if index else _read_string(block, at)
                value, at = _read_string(block, at)
                if enters:
                    self._dynamic.insert(0, (name, value))
                    self._evict()
                    changed = True
            fields[name] = value
        return fields, changed

    def _field(self, index: int) -> Field:
        if index == 0:
            raise HeaderError("a header field with the index 0")
        return STATIC[index - 1] if index <= len(STATIC) else self._dynamic[index - len(STATIC) - 1]

    def _evict(self) -> None:
        size = 0
        for number, (name, value) in enumerate(self._dynamic):
            size += len(name) + len(value) + 32
            if size > self._size:
                del self._dynamic[number:]
                break


def _number(block: bytes, at: int, bits: int) -> tuple[int, int]:
    most = (1 << bits) - 1
    value = block[at] & most
    at += 1
    if value < most:
        return value, at
    shift = 0
    while True:
        byte = block[at]
        at += 1
        value += (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, at


def _read_string(block: bytes, at: int) -> tuple[bytes, int]:
    is_coded = bool(block[at] & 0x80)
    length, at = _number(block, at, 7)
    text = block[at : at + length]
    if len(text) < length:
        raise HeaderError("a string that is longer than its header block")
    return (_DECODED.get(text, text) if is_coded else text), at + length
