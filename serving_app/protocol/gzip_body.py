"""Request bodies that arrive packed by gzip.

Nothing is ever refused here. What is corrupt, cut off or larger than 100 MiB counts as an empty body, about which the
reader of the body then complains ("The document is empty"): that is what TensorFlow Serving's clients see
(evhttp_request.cc, gzip_zlib.cc).
"""

from __future__ import annotations

import zlib

LARGEST = 100 << 20
"""Bytes that a body may have when it is unpacked."""

_GZIP_ONLY = 16 + zlib.MAX_WBITS


def unpack(packed: bytes, largest: int = LARGEST) -> bytes:
    """The body that was packed. Never holds more than one byte more than `largest` of it.

    Several gzip members may follow one another, as the format has it.
    """
    member = zlib.decompressobj(_GZIP_ONLY)
    unpacked = bytearray()
    try:
        while packed:
            if member.eof:
                member = zlib.decompressobj(_GZIP_ONLY)
            # One byte more than fits, so that it shows if there is more.
            unpacked += member.decompress(packed, largest + 1 - len(unpacked))
            if len(unpacked) > largest:
                return b""
            packed = member.unused_data
    except zlib.error:
        return b""
    return bytes(unpacked) if member.eof else b""
