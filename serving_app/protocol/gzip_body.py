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


class GzipBody:
    """Unpacks a body that comes in parts. It never holds more than the unpacked bytes that it has, 100 MiB at most.

    Several gzip members may follow one another, as the format has it.
    """

    def __init__(self, largest: int = LARGEST) -> None:
        self._largest = largest
        self._member = zlib.decompressobj(_GZIP_ONLY)
        self._unpacked = bytearray()
        self._is_given_up = False

    def feed(self, part: bytes) -> None:
        """Take the next bytes of the packed body."""
        try:
            while part and not self._is_given_up:
                if self._member.eof:
                    self._member = zlib.decompressobj(_GZIP_ONLY)
                # One byte more than fits, so that it shows if there is more.
                self._unpacked += self._member.decompress(part, self._largest + 1 - len(self._unpacked))
                if len(self._unpacked) > self._largest:
                    self._give_up()
                part = self._member.unused_data
        except zlib.error:
            self._give_up()

    def finish(self) -> bytes:
        """The whole body, once all its parts are fed."""
        return bytes(self._unpacked) if self._member.eof else b""

    def _give_up(self) -> None:
        self._is_given_up = True
        self._unpacked = bytearray()
        self._member = zlib.decompressobj(_GZIP_ONLY)
