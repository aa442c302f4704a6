"""The JSON dialect of requests."""

from __future__ import annotations

import gc
import math
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving_app.core.errors import InvalidArgument
from serving_app.protocol.json_document import encode, parse
from serving_app.protocol.json_parser import parse_exactly

NAN, INFINITY = float("nan"), float("inf")


def same(left: Any, right: Any) -> bool:
    """Equal values of equal types; NaN equals itself, 1 is not 1.0 and not True, and -0.0 is not 0.0."""
    pending = [(left, right)]
    while pending:
        one, other = pending.pop()
        if type(one) is not type(other):
            return False
        if isinstance(one, dict):
            if list(one) != list(other):
                return False
            pending.extend((one[name], other[name]) for name in one)
        elif isinstance(one, list):
            if len(one) != len(other):
                return False
            pending.extend(zip(one, other, strict=True))
        elif isinstance(one, float):
            if repr(one) != repr(other):
                return False
        elif one != other:
            return False
    return True


VALUES: list[tuple[bytes, Any]] = [
    (b"null", None),
    (b"true", True),
    (b"false", False),
    (b" \t\r\n[1 , 2]\n", [1, 2]),
    (b"{}", {}),
    (b"[]", []),
    (b'{"a":{"b":[]},"c":[{},{}]}', {"a": {"b": []}, "c": [{}, {}]}),
    # Numbers are ints as long as 64 bits can hold them.
    (b"0", 0),
    (b"-0", 0),
    (b"-0.0", -0.0),
    (b"1.0", 1.0),
    (b"1e3", 1000.0),
    (b"1E+3", 1000.0),
    (b"12.5e-1", 1.25),
    (b"18446744073709551615", 2**64 - 1),
    (b"18446744073709551616", float(2**64)),
    (b"-9223372036854775808", -(2**63)),
    (b"-9223372036854775809", float(-(2**63) - 1)),
    (b"1" + b"0" * 300, 1e300),
    (b"[1.7976931348623157e308]", [1.7976931348623157e308]),
    (b"1e-999", 0.0),
    (b"5e-324", 5e-324),
    (b"1e0007", 1e7),
    # NaN and infinities.
    (b"[NaN,-NaN]", [NAN, NAN]),
    (b"[Inf,-Inf,Infinity,-Infinity]", [INFINITY, -INFINITY, INFINITY, -INFINITY]),
    (b'{"a":NaN,"a":1}', {"a": NAN}),
    (b'{"a":NaN,"b":"\\u00e9"}', {"a": NAN, "b": "é"}),
    (b"[NaN,18446744073709551616]", [NAN, float(2**64)]),
    # The first of several members with one name counts.
    (b'{"a":1,"a":2}', {"a": 1}),
    (b'{"a":1,"b":0,"\\u0061":2}', {"a": 1, "b": 0}),
    (b'{"x":[{"a":1,"a":2}]}', {"x": [{"a": 1}]}),
    (b'{"x":[[{"a":1,"a":{"b":":"}}]],"y":"::"}', {"x": [[{"a": 1}]], "y": "::"}),
    (b'[{"a":1,"a":"\\u003a"}]', [{"a": 1}]),
    (b'{"a:":"\\":","b":[":"]}', {"a:": '":', "b": [":"]}),
    # What follows the value is not looked at.
    (b"{} trailing", {}),
    (b"[1]]", [1]),
    (b"1 2", 1),
    (b"nullx", None),
    (b"[]\0{", []),
    (b"[1]\0", [1]),
    # Byte order mark, also a part of it.
    (b"\xef\xbb\xbf[1]", [1]),
    (b"\xef[1]", [1]),
    # Strings.
    (b'"\\"\\\\\\/\\b\\f\\n\\r\\t"', '"\\/\b\f\n\r\t'),
    (b'"\\u00e9\\u20AC"', "é€"),
    (b'"\\ud83d\\ude00"', "\U0001f600"),
    (b'"\\u0000"', "\0"),
    ('"grün 😀"'.encode(), "grün 😀"),
    (b'"\xff\xfe"', "\udcff\udcfe"),
    (b'"\xed\xa0\x80"', "\udced\udca0\udc80"),
    (b'"\\udc00"', "\udced\udcb0\udc80"),
    (b'{"\xff":1}', {"\udcff": 1}),
    (b'"\x7f"', "\x7f"),
]


@pytest.mark.parametrize(("text", "value"), VALUES)
def test_a_text_has_this_value(text: bytes, value: Any):
    """Each rule of the dialect holds, whether the text is parsed quickly or exactly."""
    assert same(parse(text), value)
    assert same(parse_exactly(text), value)


ERRORS = [
    (b"   ", "The document is empty.", 3),
    (b"\0", "The document is empty.", 0),
    (b"]", "The document is empty.", 0),
    (b" ,", "The document is empty.", 1),
    (b"\xef\xbb\xbf", "The document is empty.", 3),
    (b"x", "Invalid value.", 0),
    (b"'a'", "Invalid value.", 0),
    (b"nul", "Invalid value.", 3),
    (b"nuLl", "Invalid value.", 2),
    (b"[trux]", "Invalid value.", 4),
    (b"falsy", "Invalid value.", 4),
    (b"[", "Invalid value.", 1),
    (b"[1,]", "Invalid value.", 3),
    (b"[,1]", "Invalid value.", 1),
    (b"[1,,2]", "Invalid value.", 3),
    (b"[1, ", "Invalid value.", 4),
    (b'{"a":}', "Invalid value.", 5),
    (b'{"a":,', "Invalid value.", 5),
    (b'{"a":', "Invalid value.", 5),
    (b"[-]", "Invalid value.", 2),
    (b"[+1]", "Invalid value.", 1),
    (b"[.5]", "Invalid value.", 1),
    (b"nan", "Invalid value.", 1),
    (b"Nan", "Invalid value.", 2),
    (b"inf", "Invalid value.", 0),
    (b"[-inf]", "Invalid value.", 2),
    (b"Infinite", "Invalid value.", 7),
    (b"In", "Invalid value.", 2),
    (b"-", "Invalid value.", 1),
    (b"// comment\n1", "Invalid value.", 0),
    (b"{", "Missing a name for object member.", 1),
    (b"{,}", "Missing a name for object member.", 1),
    (b"{a:1}", "Missing a name for object member.", 1),
    (b'{"a":1,}', "Missing a name for object member.", 7),
    (b'{"a":1,', "Missing a name for object member.", 7),
    (b'{1:"a"}', "Missing a name for object member.", 1),
    (b'{"a"}', "Missing a colon after a name of object member.", 4),
    (b'{"a" 1}', "Missing a colon after a name of object member.", 5),
    (b'{"a"', "Missing a colon after a name of object member.", 4),
    (b'{"a":1', "Missing a comma or '}' after an object member.", 6),
    (b'{"a":1 "b":2}', "Missing a comma or '}' after an object member.", 7),
    (b'{"a":1]', "Missing a comma or '}' after an object member.", 6),
    (b"[1", "Missing a comma or ']' after an array element.", 2),
    (b"[1 2]", "Missing a comma or ']' after an array element.", 3),
    (b"[1}", "Missing a comma or ']' after an array element.", 2),
    (b"[01]", "Missing a comma or ']' after an array element.", 2),
    (b"[1.5.2]", "Missing a comma or ']' after an array element.", 4),
    (b"[NaNs]", "Missing a comma or ']' after an array element.", 4),
    (b"[1\0]", "Missing a comma or ']' after an array element.", 2),
    (b'"\\uD8"', "Incorrect hex digit after \\u escape in string.", 1),
    (b'"ab\\u00g0"', "Incorrect hex digit after \\u escape in string.", 3),
    (b'"\\ud83d\\u12"', "Incorrect hex digit after \\u escape in string.", 1),
    (b'"\\ud83d"', "The surrogate pair in string is invalid.", 1),
    (b'"\\ud83d\\n"', "The surrogate pair in string is invalid.", 1),
    (b'"\\ud83d\\u0041"', "The surrogate pair in string is invalid.", 1),
    (b'[NaN,"\\ud83d"]', "The surrogate pair in string is invalid.", 6),
    (b'"a\\x"', "Invalid escape character in string.", 2),
    (b'"a\nb"', "Invalid escape character in string.", 2),
    (b'"abc', "Missing a closing quotation mark in string.", 4),
    (b'"abc\0"', "Missing a closing quotation mark in string.", 4),
    (b'{"abc', "Missing a closing quotation mark in string.", 5),
    (b'"\\', "Invalid escape character in string.", 1),
    (b"[1e999]", "Number too big to be stored in double.", 1),
    (b"[NaN,1e999]", "Number too big to be stored in double.", 5),
    (b"-1e309", "Number too big to be stored in double.", 0),
    (b"1" + b"0" * 400, "Number too big to be stored in double.", 0),
    (b"[1.]", "Miss fraction part in number.", 3),
    (b"-0.e1", "Miss fraction part in number.", 3),
    (b"1e", "Miss exponent in number.", 2),
    (b"[1.5E+]", "Miss exponent in number.", 6),
    (b"1e-x", "Miss exponent in number.", 3),
]


@pytest.mark.parametrize(("text", "what", "offset"), ERRORS)
def test_a_mistake_is_named_and_located(text: bytes, what: str, offset: int):
    """Each syntax error has its text and the byte offset at which RapidJSON reports it."""
    with pytest.raises(InvalidArgument) as caught:
        parse(text)
    assert caught.value.message == f"JSON Parse error: {what} at offset: {offset}"


def test_an_empty_text_has_its_own_message():
    """No byte at all is reported without an offset."""
    with pytest.raises(InvalidArgument, match=r"^JSON Parse error: The document is empty$"):
        parse(b"")


@pytest.mark.parametrize("text", [b"[" * 500_000, b'{"a":' * 100_000, b"[" * 100_000 + b"]" * 100_000 + b"x"])
def test_nesting_is_deep(text: bytes):
    """Hundreds of thousands of levels, closed or not, are read or refused like any other text."""
    if text.startswith(b"[") and text.endswith(b"x"):
        assert isinstance(parse(text), list)
    else:
        with pytest.raises(InvalidArgument, match=r"JSON Parse error: Invalid value\. at offset"):
            parse(text)


def test_a_body_of_nothing_but_brackets_is_given_up():
    """Beyond a million levels a text is refused where it gets too deep, before it fills the memory."""
    with pytest.raises(InvalidArgument) as caught:
        parse(b"[" * 1_100_000)
    assert caught.value.message == (
        "JSON Parse error: More than 1,000,000 lists and objects are nested. at offset: 1000001"
    )


def test_the_collector_rests_while_large_texts_are_read():
    """It does not start again and again while a large text is parsed, and is on afterwards, also after a mistake."""
    text = b"[" + b"[]," * 200_000 + b"[]]"
    started = []
    gc.collect()
    gc.callbacks.append(lambda phase, info: started.append(phase))
    try:
        assert isinstance(parse(text), list)
        assert len(started) < 100  # when it is on again, it makes up for what it missed, once
    finally:
        gc.callbacks.pop()
    with pytest.raises(InvalidArgument):
        parse(text[:-1])
    assert gc.isenabled()


def test_strings_keep_their_bytes():
    """A string encodes back to the bytes that stood in the text, UTF-8 or not."""
    raw = bytes(range(0x20, 0x100)).replace(b'"', b"").replace(b"\\", b"")
    value = parse(b'"' + raw + b'"')
    assert isinstance(value, str)
    assert encode(value) == raw


documents = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=150)
@given(documents)
def test_ordinary_json_is_read_as_orjson_reads_it(document: Any):
    """The exact parser agrees with an independent one on everything that is plain JSON."""
    text = orjson.dumps(document)
    assert same(parse_exactly(text), orjson.loads(text))
    assert same(parse(text), orjson.loads(text))


MARKS = rb"""{ } [ ] , : "a" "a" "b": "a":1 "\u003a" ":" " \ 1 -0 1.5 1e400 12345678901234567890123 0 . - e5 E+400
NaN -Infinity Inf true null \ud83d \ude00""".split()
fragments = st.sampled_from([*MARKS, b" ", b"\n", b"\0", b"\xff", b"\xed\xa0\x80", b"\xef\xbb\xbf"])
texts = st.lists(fragments, max_size=12).map(b"".join)
members = st.tuples(st.sampled_from([b'"a":', b'"b":', b'"\\u0061":', b'":":']), texts | fragments).map(b"".join)
objects = st.lists(members, max_size=4).map(lambda items: b"{" + b",".join(items) + b"}")
arrays = st.lists(objects | texts, max_size=3).map(lambda items: b"[" + b",".join(items) + b"]")


def outcome(read: Any, text: bytes) -> Any:
    try:
        return read(text)
    except InvalidArgument as error:
        return "error", error.message


@settings(max_examples=400)
@given(texts | objects | arrays)
def test_the_quick_way_never_differs_from_the_exact_one(text: bytes):
    """On any text, right or wrong, both ways give the same value or the same error."""
    assert same(outcome(parse, text), outcome(parse_exactly, text))


def test_infinities_are_floats():
    """The tokens are values of Python's float."""
    value = parse(b"[NaN,Inf]")
    assert isinstance(value, list)
    assert math.isnan(value[0])
    assert math.isinf(value[1])
