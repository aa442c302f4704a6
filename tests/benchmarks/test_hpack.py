"""The header blocks of the load generator."""

from __future__ import annotations

import pytest

from benchmarks.load import hpack
from benchmarks.load.hpack import STATIC, HeaderError, RequestHeaders, ResponseHeaders


def test_static_table() -> None:
    """The static table has 61 entries, each where RFC 7541 has it."""
    assert len(STATIC) == 61
    where = {
        1: (b":authority", b""), 3: (b":method", b"POST"), 8: (b":status", b"200"),
        16: (b"accept-encoding", b"gzip, deflate"), 31: (b"content-type", b""), 58: (b"user-agent", b""),
        61: (b"www-authenticate", b""),
    }  # fmt: skip
    assert {index: STATIC[index - 1] for index in where} == where


def test_requests_are_read_as_they_were_written() -> None:
    """All three blocks of a request mean the same, each in its place."""
    fields = ((b":path", b"/s/m"), (b":authority", b"h" * 200), (b"te", b"trailers"))
    headers = RequestHeaders((3, 6), fields)
    whole = {b":method": b"POST", b":scheme": b"http", **dict(fields)}
    reader = ResponseHeaders()
    assert [reader.read(block) for block in (headers.first, headers.later, headers.later)] == [whole] * 3
    assert len(headers.later) == 5
    assert ResponseHeaders().read(headers.plain) == whole


def test_examples_of_the_rfc() -> None:
    """Responses with Huffman codes and a dynamic table of 256 bytes, in which entries are evicted (RFC 7541, C.6),
    leave the table as it is there: the third names what the first and the second entered."""
    reader = ResponseHeaders()
    reader.read(hpack.table_size(256))
    first = reader.read(bytes.fromhex(
        "488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff6e919d29ad171863c78f0b97c8e9ae82ae43d3"
    ))  # fmt: skip
    assert first[b":status"] == b"302"
    assert list(first) == [b":status", b"cache-control", b"date", b"location"]
    second = reader.read(bytes.fromhex("4883640effc1c0bf"))
    assert second[b":status"] == b"307"
    assert [second[name] for name in (b"cache-control", b"date", b"location")] == [*first.values()][1:]


@pytest.mark.parametrize("status", range(17))
def test_statuses_in_huffman_codes(status: int) -> None:
    """A status of gRPC's is understood also where its name and its number are coded."""
    name, value = hpack.huffman("grpc-status"), hpack.huffman(str(status))
    block = bytes([0x00, 0x80 | len(name)]) + name + bytes([0x80 | len(value)]) + value
    assert ResponseHeaders().read(block) == {b"grpc-status": str(status).encode()}


def test_what_is_remembered_follows_the_table() -> None:
    """A block that was read before is read again after the table has changed."""
    reader = ResponseHeaders()
    enter = [bytes([0x40, 1]) + b"a" + bytes([1]) + value for value in (b"1", b"2")]
    reader.read(enter[0])
    assert [reader.read(b"\xbe"), reader.read(b"\xbe")] == [{b"a": b"1"}] * 2
    reader.read(enter[1])
    assert [reader.read(b"\xbe"), reader.read(b"\xbf")] == [{b"a": b"2"}, {b"a": b"1"}]
    reader.read(hpack.table_size(0))
    with pytest.raises(HeaderError):
        reader.read(b"\xbe")


@pytest.mark.parametrize("block", [b"\x80", b"\xff", b"\xbe", b"\x40\x05ab", b"\x40", b"\x0f"])
def test_blocks_that_are_none(block: bytes) -> None:
    """A block that ends too soon or names what is not there is an error, not an answer."""
    with pytest.raises(HeaderError):
        ResponseHeaders().read(block)
