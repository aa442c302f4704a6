"""TFRecord files: bytes to records and back.

A file is a row of records, each one

    length    8 bytes, little-endian
    checksum  4 bytes, of the length
    data      `length` bytes
    checksum  4 bytes, of the data

A checksum is a CRC-32C, "masked" by a rotation and an addition so that a checksum of data with checksums in it does
not come out as something special (tsl/lib/hash/crc32c.h).

NumPy has no CRC, and byte by byte Python does some 10 MB a second, so long data is *folded* first. Read as one long
polynomial, data may be replaced by any other with the same remainder. A word that is followed by n others is worth as
much as its product with x^(32 n) at the place of the last of these; four tables of 256 entries hold these products for
one n, and look up a whole row of words at a time. So rows of n words are added up into one row, which is cut in half
and added up again, until what is left is short. That makes some 300 MB a second.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import numpy as np

from serving_app.core.errors import DataLoss

Words = np.ndarray[Any, np.dtype[np.uint32]]

_POLYNOMIAL = 0x82F63B78  # Castagnoli's, bits reversed
_MASK_DELTA = 0xA282EAD8
_LENGTH, _CHECKSUM = 8, 4
_HEADER = _LENGTH + _CHECKSUM

_WORD = np.dtype("<u4")
_WIDEST = 4096
"""Words in a row at first: enough to make what NumPy does per row count little, few enough to stay in the cache."""
_SHORT = 256
"""Bytes up to which one by one is the fastest way."""


def encode_record(data: bytes) -> bytes:
    """A record with this data, as it stands in a file."""
    length = len(data).to_bytes(_LENGTH, "little")
    return b"".join((length, _checksum(length), data, _checksum(data)))


def decode_records(encoded: bytes) -> Iterator[bytes]:
    """The data of each record of a file, in order.

    Raises DataLoss with TensorFlow's message when it comes to one that is damaged. TensorFlow takes a file that is cut
    within a header for one that ends before it; here that is damage, too.
    """
    at = 0
    while at < len(encoded):
        body = at + _HEADER
        if len(encoded) < body:
            raise _truncated(at)
        header = encoded[at : at + _LENGTH]
        if encoded[at + _LENGTH : body] != _checksum(header):
            raise DataLoss(f"corrupted record at {at} (Is this even a TFRecord file?)")
        end = body + int.from_bytes(header, "little")
        if len(encoded) < end + _CHECKSUM:
            raise _truncated(at)
        data = encoded[body:end]
        if encoded[end : end + _CHECKSUM] != _checksum(data):
            raise DataLoss(f"corrupted record at {body}")
        yield data
        at = end + _CHECKSUM


def crc32c(data: bytes) -> int:
    """The CRC-32C of some bytes."""
    if len(data) <= _SHORT:
        return _add_bytes(0xFFFFFFFF, data) ^ 0xFFFFFFFF
    return _add_bytes(0, _fold(data)) ^ 0xFFFFFFFF


def _truncated(at: int) -> DataLoss:
    return DataLoss(f"truncated record at {at}' failed with Read less bytes than requested")


def _checksum(data: bytes) -> bytes:
    crc = crc32c(data)
    masked = ((crc >> 15 | crc << 17) + _MASK_DELTA) & 0xFFFFFFFF
    return masked.to_bytes(_CHECKSUM, "little")


def _add_bytes(crc: int, data: bytes) -> int:
    table = _byte_table()
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc


def _fold(data: bytes) -> bytes:
    """A short message with the remainder that `data` has for a start value of all ones; its own start value is 0."""
    width = _WIDEST
    while width * _WORD.itemsize > len(data):
        width //= 2
    # Zeros in front change nothing as long as the start value, which is added to the first bytes, is not in front.
    padding = -len(data) % (width * _WORD.itemsize)
    padded = np.zeros(padding + len(data), np.uint8)
    padded[padding:] = np.frombuffer(data, np.uint8)
    padded[padding : padding + 4] ^= 0xFF
    row = padded.view(_WORD)
    while len(row) * _WORD.itemsize > _SHORT:
        rows = row.reshape(-1, width)
        row = rows[0]
        for following in rows[1:]:
            row = _multiply(row, _products(width))
            row ^= following
        width //= 2
    return row.tobytes()


def _multiply(words: Words, products: Words) -> Words:
    """Each word times what `products` is for."""
    octets = words.view(np.uint8)
    result: Words = products[0].take(octets[0::4])
    for place in (1, 2, 3):
        result ^= products[place].take(octets[place::4])
    return result


@functools.cache
def _products(width: int) -> Words:
    """For each byte of a word, and each value of it: its product with x^(32 width). The width is a power of two."""
    if width > 1:
        half = _products(width // 2)
        return _multiply(half.reshape(-1), half).reshape(4, 256)
    table = np.array(_byte_table(), _WORD)
    products = np.arange(256, dtype=_WORD) << np.array([[0], [8], [16], [24]], _WORD)
    for _ in range(_WORD.itemsize):
        products = products >> 8 ^ table[products & 0xFF]
    return products.astype(_WORD, order="C")


@functools.cache
def _byte_table() -> tuple[int, ...]:
    """The remainder of each byte followed by four zeros."""
    table = []
    for crc in range(256):
        for _ in range(8):
            crc = crc >> 1 ^ (_POLYNOMIAL if crc & 1 else 0)
        table.append(crc)
    return tuple(table)
