"""A call of gRPC while it is answered: from its message to the bytes of its answer.

Calls are driven without tasks (see steps.py): a call begins where its bytes are read, and if it need not wait, its
answer goes out with those of the others that came with it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from serving_app.core.errors import (
    Cancelled,
    DeadlineExceeded,
    InvalidArgument,
    ResourceExhausted,
    ServingError,
    as_serving_error,
)
from serving_app.protocol.grpc_wire import (
    PREFIX_BYTES,
    Head,
    MessageReader,
    check_encoding,
    decompress,
    read_prefix,
    write_prefix,
)
from serving_app.protocol.http2_frames import ErrorCode
from serving_app.protocol.http2_streams import Stream
from serving_app.serve.grpc_requests import Requests
from serving_app.serve.steps import Steps

if TYPE_CHECKING:
    from serving_app.serve.grpc_connection import GrpcConnection

logger = logging.getLogger("ray.serve")


class Context(Protocol):
    """What a method may know of a call besides its message."""

    @property
    def metadata(self) -> Sequence[tuple[bytes, bytes]]:
        """What the caller sent with it, names in small letters."""

    def time_remaining(self) -> float | None:
        """Seconds until the caller's deadline, None if there is none."""


Answer = Callable[[bytes, Context], Coroutine[Any, Any, bytes]]
"""Answers one message with one."""
Answers = Callable[[Any, Context], AsyncIterator[bytes]]
"""Takes one message, or an iterator over many, and answers as often as it likes."""


@dataclass(frozen=True, slots=True)
class Method:
    """One method: `answer` for one message with one, or `answers`, which `takes_many` or only one. What it raises is
    the caller's status.

    A method that `needs_task` awaits what asks for the current task, as `asyncio.timeout` does.
    """

    answer: Answer | None = None
    answers: Answers | None = None
    takes_many: bool = False
    needs_task: bool = False


Methods = Mapping[str, Method]
"""All that is served, by path."""


_LARGEST_OF_MANY = 1 << 20
"""The most bytes of a message that is one of many: those are questions, and no tensors."""


class Call:
    """One call, which owns its stream. Its methods are called on the connection's loop."""

    __slots__ = (
        *("_connection", "_first", "_has_headers", "_head", "_is_over", "_lingers", "_method", "_reader", "_requests"),
        *("_steps", "_stream", "deadline"),
    )

    def __init__(self, connection: GrpcConnection, stream: Stream, head: Head, method: Method) -> None:
        self._connection = connection
        self._stream = stream
        self._head = head
        self._method = method
        self.deadline = None if head.timeout is None else connection.now + head.timeout
        self._is_over = self._has_headers = self._lingers = False
        self._first: tuple[bytes, bool] | None = None
        self._reader: MessageReader | None = None
        self._requests: Requests | None = None
        self._steps: Steps | None = None

    @property
    def metadata(self) -> Sequence[tuple[bytes, bytes]]:
        """What the caller sent with it, names in small letters."""
        return self._head.metadata

    def time_remaining(self) -> float | None:
        """Seconds until the caller's deadline, None if there is none."""
        return None if self.deadline is None else self.deadline - self._connection.loop.time()

    @property
    def _largest(self) -> int:
        """The most bytes that a message may have."""
        largest = self._connection.largest
        if not self._method.takes_many:
            return largest
        return _LARGEST_OF_MANY if largest < 0 else min(largest, _LARGEST_OF_MANY)

    # --- what comes --------------------------------------------------------------------------------------------------

    def received(self, data: bytes, start: int, end: int, ended: bool) -> None:
        """Data of the request."""
        if self._is_over:
            return
        try:
            if ended and self._reader is None and not self._method.takes_many and end - start >= PREFIX_BYTES:
                length, is_compressed = read_prefix(data[start : start + PREFIX_BYTES], self._connection.largest)
                start += PREFIX_BYTES
                if length == end - start:
                    self._begin(data[start:end], is_compressed)
                    return
                start -= PREFIX_BYTES
            self._gather(data, start, end, ended)
        except ServingError as error:
            self._end_by(error)

    def _gather(self, data: bytes, start: int, end: int, ended: bool) -> None:
        """Data that is not a whole request."""
        if self._reader is None:
            self._reader = MessageReader(self._largest)
        messages = self._reader.feed(data, start, end)
        if self._method.takes_many:
            self._hand_on(messages, end - start, ended)
            return
        if messages and self._first is None:
            self._first = messages[0]  # as of grpc, also where more follow
        if not ended:
            self._connection.http2.give_credit(self._stream, end - start)
        elif self._first is None:
            raise InvalidArgument("the call ended without a whole message")
        else:
            self._begin(*self._first)

    def _hand_on(self, messages: list[tuple[bytes, bool]], size: int, ended: bool) -> None:
        if self._requests is None:
            self._requests = Requests(self._credit)
            self._start(self._answer_many(self._requests))
        if ended and self._reader is not None and not self._reader.is_between:
            raise InvalidArgument("the call ended within a message")
        encoding = self._head.encoding
        plain = [decompress(each, encoding, self._largest) if packed else each for each, packed in messages]
        self._requests.put(plain, size, ended)

    def _credit(self, size: int) -> None:
        if not self._is_over:
            self._connection.http2.give_credit(self._stream, size)
            self._connection.wake()

    def dropped(self) -> None:
        """The client is not interested any more."""
        self._is_over = True
        if self._steps is not None:
            self._lingers = True  # until it has ended: who drops calls is not to pile them up
            self._connection.http2.lingering += 1
            self._steps.cancel()

    def expire(self) -> None:
        """The caller's deadline is over. An answer that it has not taken by then is of no use any more."""
        if self._is_over:
            self._connection.http2.sender.reset(self._stream, ErrorCode.CANCEL)
            self._connection.wake()
        self._end_by(DeadlineExceeded("Deadline Exceeded"))

    def _end_by(self, error: ServingError) -> None:
        self._fail(error)
        if self._steps is not None:
            self._steps.cancel()

    # --- what goes ---------------------------------------------------------------------------------------------------

    def _begin(self, message: bytes, is_compressed: bool) -> None:
        method = self._method
        if is_compressed:
            check_encoding(self._head.encoding)
        if method.answer is None:
            self._start(self._answer_many(message, is_compressed))
        else:
            self._start(self._answer_one(message, is_compressed))

    def _start(self, answering: Coroutine[Any, Any, None]) -> None:
        self._steps = Steps(answering)
        self._steps.go()

    def _ended(self) -> None:
        """The method is done. Once all of its answer is sent nothing more is heard of the stream: a call that it still
        knew would stay in memory until cycles are looked for, which is seldom.
        """
        self._steps = None
        if self._stream.id not in self._connection.http2.streams:
            self._stream.owner = None
        if self._lingers:
            self._connection.http2.lingering -= 1

    async def _unpack(self, message: bytes) -> bytes:
        # In a thread, however small it is: nobody knows what it becomes.
        return await asyncio.to_thread(decompress, message, self._head.encoding, self._connection.largest)

    async def _answer_one(self, message: bytes, is_compressed: bool) -> None:
        method = self._method
        assert method.answer is not None
        try:
            if is_compressed:
                message = await self._unpack(message)
            answering = method.answer(message, self)
            self._finish(await (self._connection.loop.create_task(answering) if method.needs_task else answering))
        except asyncio.CancelledError:
            self._fail(Cancelled("the server has given the call up"))
        except Exception as error:
            self._fail(error)
        finally:
            self._ended()

    async def _answer_many(self, request: Any, is_compressed: bool = False) -> None:
        assert self._method.answers is not None
        try:
            if is_compressed:
                request = await self._unpack(request)
            async with aclosing(self._method.answers(request, self)) as answers:  # type: ignore[type-var]  # generators
                async for answer in answers:
                    await self._send(answer)
            self._finish_stream()
        except asyncio.CancelledError:
            self._fail(Cancelled("the server has given the call up"))
        except Exception as error:
            self._fail(error)
        finally:
            self._ended()

    async def _send(self, message: bytes) -> None:
        if self._is_over:
            return
        connection = self._connection
        if not self._has_headers:
            self._has_headers = True
            connection.http2.sender.send_headers(self._stream, connection.fields.headers())
        connection.http2.sender.send_data(self._stream, write_prefix(len(message)), message)
        connection.wake()
        await connection.wait_for_room(self._stream)

    def _finish(self, answer: bytes) -> None:
        if self._is_over:
            return
        connection = self._connection
        if 0 <= connection.largest_answer < len(answer):
            sizes = f"{len(answer)} vs. {connection.largest_answer}"
            self._fail(ResourceExhausted(f"SERVER: Sent message larger than max ({sizes})"))
            return
        self._is_over = True
        http2, stream, fields = connection.http2, self._stream, connection.fields
        prefix = write_prefix(len(answer))
        if http2.sender.fits(stream, PREFIX_BYTES + len(answer)):
            http2.sender.send_answer(stream, fields.headers(), prefix, answer, fields.trailers())
        else:
            http2.sender.send_headers(stream, fields.headers())
            went = http2.sender.send_data(stream, prefix, answer)
            http2.sender.send_headers(stream, fields.trailers(late=not went), ends=True)
        connection.wake()

    def _finish_stream(self) -> None:
        if self._is_over:
            return
        self._is_over = True
        connection = self._connection
        if not self._has_headers:
            connection.http2.sender.send_headers(self._stream, connection.fields.headers())
        trailers = connection.fields.trailers(late=bool(self._stream.outgoing))
        connection.http2.sender.send_headers(self._stream, trailers, ends=True)
        connection.wake()

    def _fail(self, error: Exception) -> None:
        if self._is_over:
            return
        self._is_over = True
        if not isinstance(error, ServingError):
            logger.error("a call of %s failed", self._head.path, exc_info=error)
        connection, stream = self._connection, self._stream
        block = connection.fields.failed(
            as_serving_error(error), has_headers=self._has_headers, late=bool(stream.outgoing)
        )
        connection.http2.sender.send_headers(stream, block, ends=True)
        connection.wake()
