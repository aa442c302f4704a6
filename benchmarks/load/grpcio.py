"""gRPC's own Python client as a load, for figures that a program in Python would see."""

from __future__ import annotations

import asyncio

import grpc.aio

from benchmarks.load.answers import Answers
from benchmarks.load.pace import Pace

_UNLIMITED = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
_OWN = ("grpc.use_local_subchannel_pool", 1)
"""Channels of one process share a connection otherwise."""


class GrpcioLine:
    """A channel with a connection of its own."""

    def __init__(self, pace: Pace, channel: grpc.aio.Channel, path: str, message: bytes, answers: Answers) -> None:
        self._pace = pace
        self._channel = channel
        self._call = channel.unary_unary(path)
        self._message = message
        self._answers = answers
        self._under_way: set[asyncio.Task[None]] = set()

    @classmethod
    async def open(cls, address: str, path: str, pace: Pace, message: bytes, answers: Answers) -> GrpcioLine:
        """A connected channel."""
        channel = grpc.aio.insecure_channel(address, options=[*_UNLIMITED, _OWN])
        await channel.channel_ready()
        return cls(pace, channel, path, message, answers)

    def start(self, due: float) -> None:
        """Send the call."""
        task = asyncio.get_running_loop().create_task(self._ask(due))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def close(self) -> None:
        """End it for good."""
        for task in self._under_way:
            task.cancel()
        await self._channel.close()

    async def _ask(self, due: float) -> None:
        try:
            wrong = self._answers.find_wrong(await self._call(self._message))
        except grpc.aio.AioRpcError as error:
            wrong = f"{error.code().name}: {error.details()}"
        self._pace.done(self, due, wrong)
