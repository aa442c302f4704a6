"""HPACK's Huffman code (RFC 7541, appendix B).

The code is canonical: among codes of one length the symbols are in their own order, and each code follows from the one
before. So the lengths are all that has to be written down.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

END_OF_STRING = 256

_SYMBOLS_BY_LENGTH: dict[int, tuple[int, ...]] = {
    5: tuple(b"012aceiost"),
    6: tuple(b" %-./3456789=A_bdfghlmnpru"),
    7: tuple(b":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz"),
    8: tuple(b"&*,;XZ"),
    10: tuple(b"!\"()?"),
    11: tuple(b"'+|"),
    12: tuple(b"#>"),
    13: (0, *b"$@[]~"),
    14: tuple(b"^}"),
    15: tuple(b"<`{"),
    19: (*b"\\", 195, 208),
    20: (128, 130, 131, 162, 184, 194, 224, 226),
    21: (153, 161, 167, 172, 176, 177, 179, 209, 216, 217, 227, 229, 230),
    22: (
        *(129, 132, 133, 134, 136, 146, 154, 156, 160, 163, 164, 169, 170, 173),
        *(178, 181, 185, 186, 187, 189, 190, 196, 198, 228, 232, 233),
    ),
    23: (
        *(1, 135, 137, 138, 139, 140, 141, 143, 147, 149, 150, 151, 152, 155, 157),
        *(158, 165, 166, 168, 174, 175, 180, 182, 183, 188, 191, 197, 231, 239),
    ),
    24: (9, 142, 144, 145, 148, 159, 171, 206, 215, 225, 236, 237),
    25: (199, 207, 234, 235),
    26: (192, 193, 200, 201, 202, 205, 210, 213, 218, 219, 238, 240, 242, 243, 255),
    27: (203, 204, 211, 212, 214, 221, 222, 223, 241, 244, 245, 246, 247, 248, 250, 251, 252, 253, 254),
    28: (*range(2, 9), 11, 12, *range(14, 22), *range(23, 32), 127, 220, 249),
    30: (10, 13, 22, END_OF_STRING),
}

_Step = tuple[int, bytes]
"""Where four bits lead: the next state, or -1 where no text goes on like that, and the byte that is complete."""


def codes() -> Iterator[tuple[int, int, int]]:
    """Every symbol, its code and the code's length in bits."""
    code = length = 0
    for length_here, symbols in _SYMBOLS_BY_LENGTH.items():
        code <<= length_here - length
        length = length_here
        for symbol in symbols:
            yield symbol, code, length
            code += 1


def decode_huffman(encoded: bytes) -> bytes:
    """The text in these bytes. Raises ValueError if they are no text in this code."""
    steps, endings = _machine()
    out = []
    state = 0
    for byte in encoded:
        for bits in (byte >> 4, byte & 15):
            state, done = steps[state][bits]
            if state < 0:
                raise ValueError("a Huffman code that stands for nothing")
            if done:
                out.append(done)
    if state not in endings:
        raise ValueError("a Huffman code is cut off, or not followed by ones")
    return b"".join(out)


@cache
def _machine() -> tuple[list[list[_Step]], frozenset[int]]:
    """For each state (a beginning of a code) where each four bits lead; and the states in which a text may end.

    A text ends with up to seven ones, which are the beginning of the code for its end.
    """
    numbers: dict[tuple[int, int], int] = {(0, 0): 0}  # (code so far, its length) -> state
    leaves: dict[tuple[int, int], int] = {}
    for symbol, code, length in codes():
        leaves[code, length] = symbol
        for shorter in range(1, length):
            numbers.setdefault((code >> (length - shorter), shorter), len(numbers))
    steps = [[_follow(code, length, bits, numbers, leaves) for bits in range(16)] for code, length in numbers]
    endings = frozenset(numbers[(1 << length) - 1, length] for length in range(8))
    return steps, endings


def _follow(
    code: int, length: int, bits: int, numbers: dict[tuple[int, int], int], leaves: dict[tuple[int, int], int]
) -> _Step:
    done = b""
    for at in (3, 2, 1, 0):
        code, length = code << 1 | bits >> at & 1, length + 1
        symbol = leaves.get((code, length))
        if symbol == END_OF_STRING:
            return -1, b""
        if symbol is not None:
            done = bytes((symbol,))
            code = length = 0
    return numbers[code, length], done
