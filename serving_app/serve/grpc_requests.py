"""The messages of a call that sends many, between those who send and those who read."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable


class Requests:
    """The messages of a call that sends many, as they come. Unread ones are few: the client may not send more."""

    def __init__(self, credit: Callable[[int], None]) -> None:
        self._credit = credit
        self._messages: deque[bytes] = deque()
        self._withheld = 0
        self._ended = False
        self._waiter: asyncio.Future[None] | None = None

    def put(self, messages: list[bytes], size: int, ended: bool) -> None:
        """These messages, which came in so many bytes; `ended`: there will be no more."""
        self._messages += messages
        self._ended = self._ended or ended
        self._withheld += size
        if not self._messages:  # a part of one that may be larger than the window
            self._release()
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _release(self) -> None:
        size, self._withheld = self._withheld, 0
        self._credit(size)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        while not self._messages:
            if self._ended:
                raise StopAsyncIteration
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        message = self._messages.popleft()
        if not self._messages:
            self._release()
        return message
