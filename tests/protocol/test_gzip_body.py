"""Request bodies packed by gzip."""

from __future__ import annotations

import gzip
import random
import tracemalloc

import pytest

from serving_app.protocol.gzip_body import unpack

BODY = b'{"instances": [1.0, 2.0, 5.0]}'
PACKED = gzip.compress(BODY)


@pytest.mark.parametrize(
    ("packed", "body"),
    [
        (PACKED, BODY),
        (gzip.compress(b""), b""),
        (PACKED + gzip.compress(b" ") + PACKED, BODY + b" " + BODY),
        (b"", b""),
        # What is not whole and right counts as nothing.
        (PACKED[:-1], b""),
        (PACKED[:12], b""),
        (PACKED + PACKED[:-1], b""),
        (PACKED[:-8] + b"\0\0\0\0" + PACKED[-4:], b""),
        (PACKED[:-4] + b"\0\0\0\0", b""),
        (PACKED + b"more", b""),
        (BODY, b""),
        (b"more" + PACKED, b""),
    ],
)
def test_a_body_is_unpacked_whole_or_not_at_all(packed: bytes, body: bytes):
    """A right body comes out; a wrong one is empty, wherever its fault is."""
    assert unpack(packed) == body


@pytest.mark.parametrize(("size", "is_kept"), [(1000, True), (1001, False), (5000, False)])
def test_a_body_has_a_largest_size(size: int, is_kept: bool):
    """A body of the largest size is kept, one byte more makes it empty, in one member or in several."""
    body = random.Random(1).randbytes(size)
    members = gzip.compress(body[:600]) + gzip.compress(body[600:])
    for packed in (gzip.compress(body), members):
        assert unpack(packed, largest=1000) == (body if is_kept else b"")


def test_a_bomb_takes_no_more_memory_than_a_body_may_have():
    """However much a few kilobytes would unpack to, the memory stays within a small multiple of the largest body."""
    bomb = gzip.compress(bytes(64 << 20))
    assert len(bomb) < 1 << 17
    tracemalloc.start()
    try:
        assert unpack(bomb, largest=1 << 20) == b""
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()
