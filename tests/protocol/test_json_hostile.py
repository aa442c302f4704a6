"""Requests made to hurt: deep, wide, ambiguous or no text at all. Each gets a clear answer soon, and a short one."""

from __future__ import annotations

import asyncio
import tracemalloc
from typing import Any

import numpy as np
import pytest

from serving_app.core.errors import ServingError
from serving_app.core.signatures import DType, Signature, TensorSpec
from serving_app.protocol.json_predict import decode_inputs, parse_predict

X = Signature({"x": TensorSpec("x:0", DType.FLOAT, None)}, {})
LEVELS = 20_000
DEEP = b"[" * LEVELS + b"]" * LEVELS
DEEP_OBJECT = b'{"a":' * LEVELS + b"1" + b"}" * LEVELS
DEEPEST = b"[" * 500_000 + b"]" * 500_000


def decode(text: bytes, signature: Signature = X) -> dict[str, np.ndarray[Any, Any]]:
    return decode_inputs(parse_predict(text), signature)


ANSWERED = [
    b'{"ignored": ' + DEEPEST + b', "instances": [1]}',
    b'{"instances": [1], "ignored": ' + DEEP_OBJECT + b"}",
    b'{"instances": [1]} ' + DEEP[:LEVELS],
    b'{"instances": [1]' + b"".join(b',"k%d":%d' % (key, key) for key in range(20_000)) + b"}",
    b'{"instances": [1]' + b',"instances": [2]' * 20_000 + b"}",
    b'{"instances": [{"x": 1' + b',"x": 2' * 20_000 + b"}]}",
    b'{"' + b"\xff" * 500_000 + b'": "' + b"\xc0\x80:" * 100_000 + b'", "instances": [1]}',
    b'{"ignored": "' + b':\\"' * 200_000 + b'", "instances": [1]}',
    b'{"instances": [1' + b" " * 1_000_000 + b"]}",
    b'{"instances": [1.' + b"0" * 1_000_000 + b"]}",
]


@pytest.mark.parametrize("text", ANSWERED, ids=lambda text: text[:24].decode("latin-1"))
def test_what_is_only_strange_is_answered(text: bytes):
    """Depth, width, repetition and bytes that are no text do not matter where nobody asks for them."""
    assert decode(text)["x"].tolist() == [1.0]


REFUSED = [
    (b'{"signature_name": ' + DEEPEST + b"}", "'signature_name' key must be a string value."),
    (b'{"signature_name": ' + DEEP_OBJECT + b"}", "'signature_name' key must be a string value."),
    (b'{"instances": ' + DEEP + b"}", "send a tensor of at most 64 dimensions"),
    (b'{"instances": [' + DEEP_OBJECT + b"]}", "does not have named input: a"),
    (b'{"inputs": {"x": ' + DEEP_OBJECT + b"}}", "is not of expected type: float"),
    (b'{"inputs": ' + DEEP[:LEVELS], "JSON Parse error: Invalid value. at offset: 20011"),
    (b'{"instances": ' + DEEP_OBJECT[:-LEVELS], "Missing a comma or '}' after an object member. at offset: 100015"),
    (DEEP, "Is not object"),
    (
        b'{"instances": [{' + b",".join(b'"k%d":%d' % (key, key) for key in range(20_000)) + b"}]}",
        "does not have named input: k0",
    ),
    (b'{"instances": ["' + b"\xff" * 1_000_000 + b'"]}', "is not of expected type: float"),
    (b'{"instances": [' + b"1," * 100_000 + b'"a"]}', 'JSON Value: "a" Type: String is not of expected type: float'),
    (b'{"instances": [' + b"[1],[1,2]," * 20_000 + b"[]]}", "Expecting tensor size: 1 but got: 2"),
    (b'{"instances": [' + b"9" * 100_000 + b"]}", "Number too big to be stored in double. at offset: 15"),
    (b"\xff" * 1_000_000, "JSON Parse error: Invalid value. at offset: 0"),
    (bytes(1_000_000), "JSON Parse error: The document is empty. at offset: 0"),
]


@pytest.mark.parametrize(("text", "message"), REFUSED, ids=lambda text: str(text[:24]))
def test_what_is_wrong_is_refused_in_few_words(text: bytes, message: str):
    """The mistake is told, and the message does not grow with the request."""
    with pytest.raises(ServingError) as caught:
        decode(text)
    assert message in caught.value.message
    assert len(caught.value.message) < 1300


def test_a_large_tensor_takes_little_more_memory_than_its_text():
    """Numbers are kept as an array, not as objects: three times the text, its own copy in pieces included, will do."""
    text = b'{"instances":[' + b",".join([b"[0.123456,1.5]"] * 70_000) + b"]}"
    tracemalloc.start()
    try:
        shape = decode(text)["x"].shape
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert shape == (70_000, 2)
    assert peak < 3 * len(text) + (24 << 20)  # and the objects of one piece


def test_a_large_tensor_is_read_piece_by_piece():
    """While a thread reads millions of numbers the event loop goes on turning, many times."""
    text = b'{"inputs":[' + b",".join([b"0.25"] * 1_000_000) + b"]}"

    async def count_turns() -> int:
        turns = 0
        reading = asyncio.create_task(asyncio.to_thread(decode, text))
        while not reading.done():
            await asyncio.sleep(0)
            turns += 1
        assert (await reading)["x"].shape == (1_000_000,)
        return turns

    assert asyncio.run(count_turns()) >= 10
