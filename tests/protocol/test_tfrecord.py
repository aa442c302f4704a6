"""TFRecord files, against TensorFlow's own reader and writer."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from serving_app.core.errors import DataLoss
from serving_app.protocol.tfrecord import crc32c, decode_records, encode_record

KNOWN = [
    (b"", 0),
    (b"123456789", 0xE3069283),
    (bytes(32), 0x8A9136AA),
    (b"\xff" * 32, 0x62A8AB43),
    (bytes(range(32)), 0x46DD794E),
    (bytes(range(31, -1, -1)), 0x113FDB5C),
]
"""The vectors of RFC 3720, appendix B.4, and the one that every catalogue of CRCs has."""


@pytest.mark.parametrize(("data", "crc"), KNOWN)
def test_known_checksums(data: bytes, crc: int) -> None:
    """The checksum is the one that the standards give."""
    assert crc32c(data) == crc


def one_by_one(data: bytes) -> int:
    """The checksum bit by bit, as the definition has it."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


@pytest.mark.parametrize("length", [255, 256, 257, 259, 511, 512, 513, 4099, 16383, 16384, 16385, 40001])
def test_folding_changes_no_checksum(length: int) -> None:
    """Long data has the same checksum as by the definition, at every width that it is folded by."""
    data = random.Random(length).randbytes(length)
    assert crc32c(data) == one_by_one(data)


@settings(max_examples=60)
@given(st.binary(max_size=3000))
def test_any_data_has_its_checksum(data: bytes) -> None:
    """Whatever the data and its length, the checksum is that of the definition."""
    assert crc32c(data) == one_by_one(data)


RECORDS = [b"one", b"", b"\0" * 300, random.Random(1).randbytes(100_000), b"last"]


def test_reads_what_tensorflow_writes(tmp_path: Path) -> None:
    """Records that TensorFlow has written come out as they went in, empty ones too."""
    with tf.io.TFRecordWriter(str(tmp_path / "file")) as writer:
        for record in RECORDS:
            writer.write(record)
    encoded = (tmp_path / "file").read_bytes()
    assert list(decode_records(encoded)) == RECORDS
    assert b"".join(map(encode_record, RECORDS)) == encoded


def test_no_bytes_are_no_records() -> None:
    """An empty file holds no records."""
    assert list(decode_records(b"")) == []


FILE = encode_record(b"one") + encode_record(b"three" * 100)
SECOND = len(encode_record(b"one"))


def flip(at: int) -> bytes:
    """The file with one bit of the byte at this place turned over."""
    return FILE[:at] + bytes([FILE[at] ^ 1]) + FILE[at + 1 :]


def read_until_damage(records: Iterator[Any]) -> tuple[list[Any], str]:
    """The records before the damage, and what is said about it."""
    found = []
    while True:
        try:
            found.append(next(records))
        except (DataLoss, tf.errors.DataLossError) as error:
            return found, error.message


@pytest.mark.parametrize(
    ("encoded", "whole", "message"),
    [
        (b"this is no file of records", 0, "corrupted record at 0 (Is this even a TFRecord file?)"),
        (flip(0), 0, "corrupted record at 0 (Is this even a TFRecord file?)"),
        (flip(9), 0, "corrupted record at 0 (Is this even a TFRecord file?)"),
        (flip(12), 0, "corrupted record at 12"),
        (flip(15), 0, "corrupted record at 12"),
        (flip(SECOND + 200), 1, f"corrupted record at {SECOND + 12}"),
        (FILE[:-1], 1, f"truncated record at {SECOND}' failed with Read less bytes than requested"),
        (FILE[:-100], 1, f"truncated record at {SECOND}' failed with Read less bytes than requested"),
        (FILE[: SECOND + 12], 1, f"truncated record at {SECOND}' failed with Read less bytes than requested"),
    ],
)
def test_damage_is_reported_as_tensorflow_does(tmp_path: Path, encoded: bytes, whole: int, message: str) -> None:
    """The records before the damage are read; then it is data loss, in TensorFlow's words, which tell the place."""
    (tmp_path / "file").write_bytes(encoded)
    theirs, their_message = read_until_damage(iter(tf.data.TFRecordDataset(str(tmp_path / "file"))))
    ours, our_message = read_until_damage(decode_records(encoded))
    assert ours == [record.numpy() for record in theirs]
    assert len(ours) == whole
    assert our_message == message
    assert message in their_message


@pytest.mark.parametrize("left", [1, 4, 8, 11])
def test_a_file_cut_within_a_header_is_damaged(left: int) -> None:
    """A file that ends within a header has lost data, though TensorFlow takes the rest for nothing."""
    with pytest.raises(DataLoss, match=f"^truncated record at {SECOND}' failed with Read less bytes than requested$"):
        list(decode_records(FILE[: SECOND + left]))
