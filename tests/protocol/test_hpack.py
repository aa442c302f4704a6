"""Header blocks, against the examples of RFC 7541."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving_app.protocol.hpack import STATIC, Decoder, Field, HpackError, encode_integer, literal, reference
from serving_app.protocol.hpack_huffman import codes, decode_huffman

GET: list[Field] = [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"www.example.com")]
SECOND = [*GET, (b"cache-control", b"no-cache")]
THIRD: list[Field] = [
    *((b":method", b"GET"), (b":scheme", b"https"), (b":path", b"/index.html"), (b":authority", b"www.example.com")),
    (b"custom-key", b"custom-value"),
]
DATES = b"Mon, 21 Oct 2013 20:13:21 GMT", b"Mon, 21 Oct 2013 20:13:22 GMT"

SESSIONS: dict[str, list[tuple[str, list[Field]]]] = {
    # Appendix C: blocks of one connection in order, and what they say
    "C.2.1": [("400a637573746f6d2d6b65790d637573746f6d2d686561646572", [(b"custom-key", b"custom-header")])],
    "C.2.2": [("040c2f73616d706c652f70617468", [(b":path", b"/sample/path")])],
    "C.2.3": [("100870617373776f726406736563726574", [(b"password", b"secret")])],
    "C.2.4": [("82", [(b":method", b"GET")])],
    "C.3": [
        ("828684410f7777772e6578616d706c652e636f6d", GET),
        ("828684be58086e6f2d6361636865", SECOND),
        ("828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565", THIRD),
    ],
    "C.4": [
        ("828684418cf1e3c2e5f23a6ba0ab90f4ff", GET),
        ("828684be5886a8eb10649cbf", SECOND),
        ("828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf", THIRD),
    ],
    # C.6, the first two, whose table of 256 bytes the block itself asks for; then what that evicted is gone
    "C.6": [
        (
            "3fe101488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff6e919d29ad171863c78f0b97c8e9ae82ae"
            "43d3",
            [
                (b":status", b"302"), (b"cache-control", b"private"), (b"date", DATES[0]),
                (b"location", b"https://www.example.com"),
            ],
        ),
        (
            "4883640effc1c0bf",
            [
                (b":status", b"307"), (b"cache-control", b"private"), (b"date", DATES[0]),
                (b"location", b"https://www.example.com"),
            ],
        ),
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", SESSIONS)
def test_the_examples_of_the_rfc_are_read(name: str) -> None:
    """Every block means what the RFC says it means, after those that came before it."""
    decoder = Decoder(10_000)
    for block, fields in SESSIONS[name]:
        found, size = decoder.decode(bytes.fromhex(block))
        assert found == fields
        assert size == sum(len(key) + len(value) + 32 for key, value in fields)


@pytest.mark.parametrize(
    ("block", "reason"),
    [
        ("80", "no entry 0"),
        ("be", "no entry 62"),
        ("ff8080808080808001", "too large"),
        ("ff80", "cut off"),
        ("400a6375", "a text is cut off"),
        ("40", "missing"),
        ("0401", "cut off"),
        ("8220", "within a block"),
        ("3fe21f", "a table of 4097"),
        ("0084ffffffff00", "Huffman"),
        ("00811800", "Huffman"),
        ("0082ffff00", "Huffman"),
    ],
)
def test_what_is_no_block_is_refused(block: str, reason: str) -> None:
    """Each way in which a block can be wrong is an error that says which."""
    with pytest.raises(HpackError, match=reason):
        Decoder(10_000).decode(bytes.fromhex(block))


def test_fields_beyond_the_limit_are_counted_and_not_kept() -> None:
    """The table follows a block that is too large, and its fields are dropped: repeating costs a client no less."""
    decoder = Decoder(100)
    block = literal(b"a", b"b" * 40, keep=True)
    assert decoder.decode(block + reference(62) * 1000) == ([(b"a", b"b" * 40)], 73 * 1001)
    assert decoder.decode(reference(62))[0] == [(b"a", b"b" * 40)]


def test_the_table_is_bounded_and_its_generation_tells_of_changes() -> None:
    """Old entries go as new ones come, one that is larger than the table empties it, and each change is told."""
    decoder = Decoder(1 << 20)
    for number in range(200):
        decoder.decode(literal(b"n", b"%03d" % number + b"x" * 60, keep=True))
    fields, _ = decoder.decode(reference(62) + reference(62 + 40))
    assert [value[:3] for _, value in fields] == [b"199", b"159"]
    generation = decoder.generation
    decoder.decode(reference(62) + literal(b"other", b"value"))
    assert decoder.generation == generation
    decoder.decode(literal(b"n", b"x" * 5000, keep=True))
    assert decoder.generation > generation
    with pytest.raises(HpackError):
        decoder.decode(reference(62))


def test_the_code_is_complete_and_as_in_the_rfc() -> None:
    """The code leaves no bits without meaning, and some of its longest and shortest are those of the RFC's table."""
    table = {symbol: (code, length) for symbol, code, length in codes()}
    assert sum(2.0**-length for _, length in table.values()) == 1.0
    assert len(table) == 257
    assert table[256] == (0x3FFFFFFF, 30)
    assert table[ord("0")] == (0x0, 5)
    assert table[ord("|")] == (0x7FC, 11)
    assert table[195] == (0x7FFF1, 19)
    assert table[249] == (0xFFFFFFE, 28)


def encode_huffman(text: bytes) -> bytes:
    """The other direction, which the server has no use for."""
    table = {symbol: (code, length) for symbol, code, length in codes()}
    bits = total = 0
    for byte in text:
        code, length = table[byte]
        bits, total = bits << length | code, total + length
    padding = -total % 8
    return (bits << padding | (1 << padding) - 1).to_bytes((total + padding) // 8, "big")


@given(st.binary(max_size=1000))
def test_what_is_encoded_is_decoded(text: bytes) -> None:
    """Any text comes back from Huffman's code, and as a literal field of any form."""
    assert decode_huffman(encode_huffman(text)) == text
    packed = encode_huffman(text)
    huffman = b"\x00\x01x" + encode_integer(len(packed), 0x7F, 0x80) + packed
    block = literal(b"x", text) + literal(b":path", text, keep=True) + reference(62) + huffman
    fields, _ = Decoder(1 << 20).decode(block)
    assert fields == [(b"x", text), (b":path", text), (b":path", text), (b"x", text)]


@given(st.lists(st.binary(max_size=40)))
def test_any_bytes_are_a_block_or_refused(blocks: list[bytes]) -> None:
    """Whatever bytes come, they are fields or an HpackError."""
    decoder = Decoder(1000)
    with contextlib.suppress(HpackError):
        for block in blocks:
            decoder.decode(block)


def test_the_static_table() -> None:
    """Its ends and some of its middle are where the RFC has them."""
    assert len(STATIC) == 62
    assert [STATIC[number] for number in (1, 8, 16, 31, 61)] == [
        *((b":authority", b""), (b":status", b"200"), (b"accept-encoding", b"gzip, deflate"), (b"content-type", b"")),
        (b"www-authenticate", b""),
    ]


@pytest.mark.parametrize("field", [b"\x82", b"\x00\x00\x00", b"\x40\x00\x00"])
def test_blocks_of_countless_fields_are_not_read_to_their_end(field: bytes) -> None:
    """What is somewhat too large is read, as the table depends on it; what nobody means ends the connection."""
    few = field * 1000
    assert Decoder(16_384).decode(few)[1] > 16_384
    with pytest.raises(HpackError, match="fields of more than 262144 bytes"):
        Decoder(16_384).decode(field * 40_000)
