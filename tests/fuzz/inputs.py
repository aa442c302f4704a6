"""Where inputs come from: right ones with mistakes made in them, and some out of nothing."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st

from tests.conformance import AREAS
from tests.conformance.rows import Grpc, Rest

_LONGEST = 4096
"""Seeds beyond are for other tests: what matters here is form."""

_PIECES = (
    b"\0", b"\xff", b"\xc3", b"\xef\xbb\xbf", b'"', b"\\", b"\\u", b"{", b"}", b"[", b"]", b":", b",", b"-", b"+",
    b".", b"e", b"0", b"9" * 20, b"1e309", b"NaN", b"Infinity", b"null", b"true", b'{"b64": "', b"%", b"%2F", b"/",
    b"?", b"#", b"\n", b" ", b"'", b"&a", b"*a", b"!!python/object:os.system", b"<<: ", b"\x08", b"\x12", b"\x80" * 9,
    b"\xff" * 9 + b"\x01", b"\x0a\x00", "ſ".encode(), "٣".encode(), b"\xed\xa0\x80",
)


def bodies() -> list[bytes]:
    """The bodies of the table of requests."""
    rows = (row for area in AREAS.values() for row in area if isinstance(row, Rest))
    return sorted({row.body for row in rows if len(row.body) <= _LONGEST})


def targets() -> list[bytes]:
    """The methods and targets of the table of requests, with a blank between."""
    rows = (row for area in AREAS.values() for row in area if isinstance(row, Rest))
    return sorted({f"{row.method} {row.target}".encode() for row in rows if len(row.target) <= _LONGEST})


def calls() -> list[Grpc]:
    """The gRPC calls of the table of requests."""
    return [row for area in AREAS.values() for row in area if isinstance(row, Grpc)]


@st.composite
def edited(draw: st.DrawFn, seeds: Sequence[bytes]) -> bytes:
    """One of the seeds with up to six mistakes."""
    text = draw(st.sampled_from(seeds))
    for _ in range(draw(st.integers(0, 6))):
        at = draw(st.integers(0, len(text)))
        kind = draw(st.sampled_from(("insert", "insert", "overwrite", "delete", "repeat", "splice", "flip")))
        length = draw(st.integers(1, 12))
        if kind == "insert":
            text = text[:at] + draw(st.sampled_from(_PIECES)) + text[at:]
        elif kind == "overwrite":
            text = text[:at] + draw(st.binary(max_size=8)) + text[at + length :]
        elif kind == "delete":
            text = text[:at] + text[at + length :]
        elif kind == "repeat":
            text = text[:at] + text[at : at + length] * draw(st.integers(2, 40)) + text[at + length :]
        elif kind == "splice":
            other = draw(st.sampled_from(seeds))
            text = text[:at] + other[draw(st.integers(0, len(other))) :]
        elif text:
            at = min(at, len(text) - 1)
            text = text[:at] + bytes([text[at] ^ 1 << draw(st.integers(0, 7))]) + text[at + 1 :]
    return text


_NUMBERS = st.one_of(
    st.integers(-(2**70), 2**70).map(str), st.floats().map(str), st.sampled_from(("-0", "1e400", "1.", "NaN", "-Inf"))
)
_STRINGS = st.text(max_size=8).map(lambda text: '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"')
_NAMES = st.sampled_from(('"b64"', '"a"', '"b"', '"x"', '"inputs"', '"instances"', '"signature_name"', '"examples"'))
_SCALARS = st.one_of(_NUMBERS, _STRINGS, _NAMES, st.sampled_from(("true", "false", "null", "{}", "[]")))


def documents() -> st.SearchStrategy[bytes]:
    """JSON out of nothing, nearly all of it well-formed."""
    value = st.recursive(
        _SCALARS,
        lambda inner: st.one_of(
            st.lists(inner, max_size=4).map(lambda items: f"[{', '.join(items)}]"),
            st.lists(st.tuples(_NAMES, inner), max_size=3).map(
                lambda items: "{" + ", ".join(f"{name}: {item}" for name, item in items) + "}"
            ),
        ),
        max_leaves=12,
    )
    body = st.tuples(st.sampled_from(("inputs", "instances", "examples", "context")), value, value).map(
        lambda parts: f'{{"{parts[0]}": {parts[1]}, "context": {parts[2]}}}'
    )
    return st.one_of(value, body).map(lambda text: text.encode("utf-8", "surrogatepass"))
