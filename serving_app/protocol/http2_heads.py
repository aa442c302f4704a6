"""What header blocks say. One that was seen before is looked up, as long as the table has not changed by which it is
read.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from serving_app.protocol.hpack import Decoder, Field

Head = TypeVar("Head")
"""What the fields of a request mean."""

ReadHead = Callable[[list[Field], int], Head]
"""Makes a head of fields, and of their size; of too large ones some are missing. Raises StreamFailure for fields that
are no request."""

_MOST, _MOST_BYTES = 256, 1 << 16
"""How many blocks are remembered, and how many bytes of them."""


class Heads(Generic[Head]):
    """The header blocks of one direction of a connection, whose fields have at most `limit` bytes."""

    def __init__(self, limit: int, read_head: ReadHead[Head]) -> None:
        self._decoder = Decoder(limit)
        self._read_head = read_head
        self._known: dict[bytes, Head] = {}
        self._known_bytes = 0

    def read(self, block: bytes) -> Head:
        """What a block says. Raises HpackError, or StreamFailure."""
        head = self._known.get(block)
        return self._decode(block) if head is None else head

    def skip(self, block: bytes) -> None:
        """Let the table follow a block that nobody wants to know. Raises HpackError."""
        self._fields(block)

    def _decode(self, block: bytes) -> Head:
        before = self._decoder.generation
        head = self._read_head(*self._fields(block))
        # Once the table has changed the same bytes mean something else.
        if self._decoder.generation == before:
            self._known_bytes += len(block)
            if len(self._known) >= _MOST or self._known_bytes > _MOST_BYTES:
                self._forget()
                self._known_bytes = len(block)
            self._known[block] = head
        return head

    def _fields(self, block: bytes) -> tuple[list[Field], int]:
        before = self._decoder.generation
        fields = self._decoder.decode(block)
        if self._decoder.generation != before:
            self._forget()
        return fields

    def _forget(self) -> None:
        self._known.clear()
        self._known_bytes = 0
