"""What hops and answers hold, in bytes: lists of calls, lists of replies, errors.

The body of either:

    figures     how many members and kinds there are, the size of the first area, and what an answer tells besides
    kinds       what is equal in many calls: the signature's name, outputs, api, and the layout of the inputs;
                in many replies: the layout of the outputs; or an error
    members     of each, the number of its kind; for calls the time that is left, and what joined ones consist of
    two areas   of elements (lane_tensors)

Before the body of a hop to somebody who holds several versions stands the one that is meant.

Calls of one signature look alike, and so do their answers; so most hops have one kind, and both sides have met it
before. What is remembered is bounded, and only saves time.

Nothing that is read here makes anything but arrays, texts and errors: it is no pickle.
"""

from __future__ import annotations

import math
import struct
from array import array
from collections.abc import Hashable, Iterable, Sequence
from typing import Any, NamedTuple, TypeVar

from serving_app.core import errors
from serving_app.core.errors import Code, RuntimeFailure, ServingError, as_serving_error
from serving_app.core.servable import ServableId
from serving_app.protocol.calls import Answer, Call, Reply
from serving_app.protocol.lane_frames import ALIGNMENT, Kind, Malformed, Memory, header
from serving_app.protocol.lane_tensors import (
    Areas,
    Buffer,
    Layout,
    Reader,
    Writer,
    layout_of,
    read_layout,
    write_layout,
    write_text,
)

_HEAD = struct.Struct("<IIQdII")
_OUTPUTS = struct.Struct("<i")
_MEMBERS = struct.Struct("<II")
_VERSION = struct.Struct("<qI")
_IS_OUTPUTS, _IS_ERROR = b"\x00", b"\x01"

_FIGURES_FROM = Answer._fields.index("most_rows") + 1
"""The fields of an answer from here on are seconds, that are known only where somebody measures."""

_FIGURES = struct.Struct(f"<{len(Answer._fields) - _FIGURES_FROM}d")

_DAMAGE = (struct.error, IndexError, ValueError, OverflowError, TypeError)
"""What reading a body may raise that nobody wrote as it is."""

_REMEMBERED = 1 << 14
"""Tensors in the kinds that are remembered; where models are asked in so many ways, remembering gains nothing."""

_JOINED_BYTES = 256 << 10
"""Small arrays of more than so many bytes in all are handed to the socket one by one, and not copied together."""


class _Head(NamedTuple):
    """How a body begins. `joined` is how many counts an answer has, or whether a hop has joined calls."""

    members: int
    kinds: int
    small_bytes: int
    seconds: float
    joined: int
    most_rows: int


class _CallKind(NamedTuple):
    signature_name: str
    outputs: tuple[str, ...] | None
    api: str
    layout: Layout


_Key = TypeVar("_Key", bound=Hashable)
_Value = TypeVar("_Value")

_Kind = tuple[bytes, Layout]
"""A kind as it is written, and the layout of its tensors."""


class _Remembered(dict[_Key, _Value]):
    """Kinds that were met, bounded by the tensors that they describe: of those with many fewer are kept."""

    def __init__(self) -> None:
        super().__init__()
        self._tensors = 0

    def note(self, key: _Key, value: _Value, layout: Layout) -> _Value:
        """Remember one, if need be in place of all others."""
        tensors = max(1, len(layout.tensors))
        if self._tensors + tensors > _REMEMBERED:
            self.clear()
            self._tensors = 0
        self._tensors += tensors
        self[key] = value
        return value


_written: _Remembered[Hashable, _Kind] = _Remembered()
_read_calls: _Remembered[bytes, _CallKind] = _Remembered()
_read_replies: _Remembered[bytes, Layout] = _Remembered()


def write_hop(hop: int, calls: Sequence[Call], servable: ServableId | None = None) -> list[Buffer]:
    """The frame of a hop, in pieces for the socket; with `servable` for somebody who holds several versions.

    InvalidArgument if a call has what no lane can carry.
    """
    kinds: dict[Hashable, int] = {}
    encoded: list[bytes] = []
    numbers: list[int] = []
    times: list[float] = []
    writer = Writer()
    for call in calls:
        inputs = call.inputs
        forms = [(name, each.dtype, each.shape) for name, each in inputs.items()]
        key = (call.signature_name, call.outputs, call.api, *forms)
        written = _written.get(key) or _remember(key, _write_call_kind(call), layout_of(inputs))
        number = kinds.setdefault(key, len(kinds))
        if number == len(encoded):
            encoded.append(written[0])
        numbers.append(number)
        times.append(math.nan if call.timeout is None else call.timeout)
        writer.write(written[1], inputs)
    more = _doubles(times)
    joined = any(call.members for call in calls)
    if joined:
        more += _write_members(calls)
    figures = (0.0, joined, 0)
    if servable is None:
        return _frame(Kind.HOP, hop, encoded, numbers, more, figures, writer)
    return _frame(Kind.HOP_FOR, hop, encoded, numbers, more, figures, writer, _write_servable(servable))


def read_servable(body: Memory) -> tuple[ServableId, Memory]:
    """The version that a hop is for, and the rest of its body. Raises Malformed."""
    try:
        version, size = _VERSION.unpack_from(body)
        end = _VERSION.size + size
        if end > len(body):
            raise Malformed("it ends within the name of its model")
        name = bytes(body[_VERSION.size : end]).decode()
    except (struct.error, UnicodeDecodeError) as error:
        raise Malformed(f"it does not say which version it is for: {error}") from error
    return ServableId(name, version), memoryview(body)[end + -end % ALIGNMENT :]


def read_hop(body: Memory) -> list[Call]:
    """The calls of a hop. Raises Malformed."""
    try:
        head, encoded, numbers, at = _read_head(body)
        times = struct.unpack_from(f"<{head.members}d", body, at)
        at += 8 * head.members
        if head.joined:
            members, timeouts, at = _read_members(Reader(body, at), head.members)
        kinds = [_read_calls.get(each) or _read_call_kind(each) for each in encoded]
        areas = _find_areas(body, at, head.small_bytes)
        calls = []
        for number, left in zip(numbers, times, strict=True):
            kind = kinds[number]
            timeout = None if left != left else left
            calls.append(Call(kind[0], areas.read(kind[3]), kind[1], timeout, kind[2]))
        areas.check_end()
    except _DAMAGE as error:
        raise Malformed(f"its calls cannot be read: {error}") from error
    if head.joined:
        joins = zip(calls, members, timeouts, strict=True)
        return [call._replace(members=each, timeouts=times) for call, each, times in joins]
    return calls


def write_answer(hop: int, answer: Answer) -> list[Buffer]:
    """The frame of an answer, in pieces for the socket. Outputs that no lane can carry become an error."""
    kinds: dict[Hashable, int] = {}
    encoded: list[bytes] = []
    numbers: list[int] = []
    writer = Writer()
    for reply in answer.replies:
        key, written = _write_reply(reply, writer)
        number = kinds.setdefault(key, len(kinds))
        if number == len(encoded):
            encoded.append(written)
        numbers.append(number)
    more = array("I", answer.counts).tobytes() + _doubles(answer[_FIGURES_FROM:])
    return _frame(
        Kind.ANSWER, hop, encoded, numbers, more, (answer.seconds, len(answer.counts), answer.most_rows), writer
    )


def read_answer(body: Memory) -> Answer:
    """The replies of an answer. Raises Malformed."""
    try:
        head, encoded, numbers, at = _read_head(body)
        counts = struct.unpack_from(f"<{head.joined}I", body, at)
        figures = _FIGURES.unpack_from(body, at + 4 * head.joined)
        at += 4 * head.joined + _FIGURES.size
        kinds = [_read_replies.get(each) or _read_reply_kind(each) for each in encoded]
        areas = _find_areas(body, at, head.small_bytes)
        replies: list[Reply] = []
        for number in numbers:
            kind = kinds[number]
            replies.append(kind if isinstance(kind, ServingError) else areas.read(kind))
        areas.check_end()
    except _DAMAGE as error:
        raise Malformed(f"its replies cannot be read: {error}") from error
    return Answer(replies, head.seconds, counts, head.most_rows, *figures)


def write_fault(hop: int, error: BaseException) -> list[Buffer]:
    """The frame that says why a hop failed as a whole."""
    body = _write_error(as_serving_error(error))
    return [header(Kind.FAULT, hop, len(body)), body]


def read_fault(body: Memory) -> ServingError:
    """Why a hop failed as a whole. Raises Malformed."""
    return _read_error(Reader(body))


def _frame(
    kind: Kind,
    hop: int,
    encoded: list[bytes],
    numbers: list[int],
    more: bytes,
    figures: tuple[float, int, int],
    writer: Writer,
    address: bytes = b"",
) -> list[Buffer]:
    small = writer.small
    small_bytes = sum(map(len, small))
    head = b"".join(
        (
            _HEAD.pack(len(numbers), len(encoded), small_bytes, *figures),
            array("I", map(len, encoded)).tobytes(),
            *encoded,
            array("I", numbers).tobytes(),
            more,
        )
    )
    head += bytes(-len(head) % 8)
    before = len(head) + small_bytes
    gap = -before % ALIGNMENT if writer.large else 0
    size = len(address) + before + gap + writer.large_bytes
    pieces: list[Buffer] = [header(kind, hop, size), address, head, *small, bytes(gap)]
    if small_bytes <= _JOINED_BYTES:
        pieces = [b"".join(pieces)]
    return pieces + writer.large


def _write_servable(servable: ServableId) -> bytes:
    """As long as leaves the rest aligned."""
    name = servable.name.encode()
    written = _VERSION.pack(servable.version, len(name)) + name
    return written + bytes(-len(written) % ALIGNMENT)


def _read_head(body: Memory) -> tuple[_Head, list[bytes], tuple[int, ...], int]:
    """How a body begins, its kinds, of each member the number of its kind, and where the rest begins."""
    head = _Head(*_HEAD.unpack_from(body))
    at = _HEAD.size + 4 * head.kinds
    encoded = []
    for size in struct.unpack_from(f"<{head.kinds}I", body, _HEAD.size):
        encoded.append(bytes(body[at : at + size]))
        at += size
    return head, encoded, struct.unpack_from(f"<{head.members}I", body, at), at + 4 * head.members


def _write_members(calls: Sequence[Call]) -> bytes:
    """The rows of the members of joined calls, and their times."""
    parts = []
    for call in calls:
        times = [math.nan if left is None else left for left in call.timeouts]
        parts += [
            _MEMBERS.pack(len(call.members), len(times)),
            array("I", call.members).tobytes(),
            _doubles(times),
        ]
    return b"".join(parts)


def _read_members(
    reader: Reader, count: int
) -> tuple[list[tuple[int, ...]], list[tuple[float | None, ...]], int]:
    members, timeouts = [], []
    for _ in range(count):
        rows, times = reader.unpack(_MEMBERS)
        members.append(reader.numbers("I", rows))
        timeouts.append(tuple([None if left != left else left for left in reader.numbers("d", times)]))
    return members, timeouts, reader.at


def _find_areas(body: Memory, at: int, small_bytes: int) -> Areas:
    small = at + -at % 8
    small_end = large = small + small_bytes
    if large < len(body):
        large += -large % ALIGNMENT
    if large > len(body):
        raise Malformed("it ends too early")
    return Areas(body, small, small_end, large)


def _doubles(numbers: Iterable[Any]) -> bytes:
    return array("d", numbers).tobytes()


def _write_call_kind(call: Call) -> bytes:
    parts = write_text(call.signature_name) + write_text(call.api)
    parts.append(_OUTPUTS.pack(-1 if call.outputs is None else len(call.outputs)))
    for output in call.outputs or ():
        parts += write_text(output)
    return b"".join(parts)


def _read_call_kind(encoded: bytes) -> _CallKind:
    reader = Reader(encoded)
    signature_name, api = reader.text(), reader.text()
    (count,) = reader.unpack(_OUTPUTS)
    outputs = None if count < 0 else tuple([reader.text() for _ in range(count)])
    layout = read_layout(reader)
    return _read_calls.note(encoded, _CallKind(signature_name, outputs, api, layout), layout)


def _write_reply(reply: Reply, writer: Writer) -> tuple[Hashable, bytes]:
    if not isinstance(reply, ServingError):
        before = writer.mark()
        try:
            key = tuple([(name, each.dtype, each.shape) for name, each in reply.items()])
            encoded, layout = _written.get(key) or _remember(key, _IS_OUTPUTS, layout_of(reply))
            writer.write(layout, reply)
            return key, encoded
        except ServingError as error:
            writer.take_back(before)
            reply = error
    encoded = _IS_ERROR + _write_error(reply)
    return encoded, encoded


def _read_reply_kind(encoded: bytes) -> Layout | ServingError:
    reader = Reader(encoded)
    if reader.bytes(1) == _IS_ERROR:
        return _read_error(reader)
    layout = read_layout(reader)
    return _read_replies.note(encoded, layout, layout)


def _write_error(error: ServingError) -> bytes:
    is_runtime = isinstance(error, RuntimeFailure)
    return b"".join((bytes((is_runtime, error.code)), *write_text(error.message)))


_ERRORS: dict[int, type[ServingError]] = {
    int(kind.code): kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, ServingError) and kind is not RuntimeFailure
}


def _read_error(reader: Reader) -> ServingError:
    is_runtime, number = reader.bytes(2)
    message = reader.text()
    try:
        code = Code(number)
    except ValueError as error:
        raise Malformed(f"{number} is no code of an error") from error
    kind = _ERRORS.get(number)
    return RuntimeFailure(code, message) if is_runtime or kind is None else kind(message)


def _remember(key: Hashable, head: bytes, layout: Layout) -> _Kind:
    return _written.note(key, (head + write_layout(layout), layout), layout)
