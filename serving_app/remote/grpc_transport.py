"""Carries requests by gRPC: blocking, and on an event loop."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from typing import Any

import grpc
import grpc.aio

from serving_app.core.errors import FailedPrecondition, InvalidArgument, Unavailable
from serving_app.remote.event_loops import own_loop
from serving_app.remote.grpc_outcomes import outcome
from serving_app.remote.http_messages import Headers, read_headers
from serving_app.remote.plans import Exchange
from serving_app.remote.tls import Tls

Option = tuple[str, int | str]

_OPTIONS: tuple[Option, ...] = (
    ("grpc.max_receive_message_length", -1),  # tensors are larger than gRPC's usual limit of 4 MiB
    ("grpc.max_send_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),  # a connection of its own, not shared with other clients in the process
    ("grpc.enable_http_proxy", 0),  # model servers are near, and REST clients here look for no proxies either
    # A server that restarts is there again soon. The `min_` of these is left at 20 seconds: despite its name it is how
    # long a connection may take to be there, and one that is refused is tried again before that.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 5000),
)


class Wire:
    """How to reach a server: what both ways of carrying have in common."""

    def __init__(
        self, target: str, tls: Tls | None, headers: Headers, compress: bool, keepalive: float | None,
        options: Sequence[Option],
    ) -> None:
        if not target or "://" in target.partition(":///")[0]:
            raise InvalidArgument(f"{target!r} is no address for gRPC; write HOST:PORT, or unix:PATH")
        if not callable(headers):
            read_headers(headers)
        self.target = target
        self.credentials = None if tls is None else _credentials(tls)
        self.compression = grpc.Compression.Gzip if compress else grpc.Compression.NoCompression
        self.options = tuple(dict((*_OPTIONS, *_keepalive_options(keepalive), *options)).items())
        self._headers = headers

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """The metadata of the next call."""
        return tuple(read_headers(self._headers).items())


def _credentials(tls: Tls) -> grpc.ChannelCredentials:
    ca, key, certificate = tls.pem()
    return grpc.ssl_channel_credentials(ca, key, certificate)


def _keepalive_options(seconds: float | None) -> tuple[Option, ...]:
    if seconds is None:
        return ()
    every = int(seconds * 1000)
    return (
        ("grpc.keepalive_time_ms", every),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
    )


class BlockingGrpc:
    """A channel to one server, for threads."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        if wire.credentials is None:
            self._channel = grpc.insecure_channel(wire.target, wire.options)
        else:
            self._channel = grpc.secure_channel(wire.target, wire.credentials, wire.options)
        self._methods: dict[str, Any] = {}
        self._process = os.getpid()

    def exchange(self, step: Exchange) -> bytes:
        """Make one exchange, as plans.py has it."""
        wire, path = self._wire, step.query.target
        if self._process != os.getpid():
            raise FailedPrecondition(
                "this process was forked from the one that made the client, and gRPC does not survive that; start it "
                "by multiprocessing's method 'spawn', or make the first client after the fork"
            )
        try:
            method = self._methods.get(path) or self._methods.setdefault(path, self._channel.unary_unary(path))
            answer: bytes = method(
                step.query.body, timeout=step.timeout, metadata=wire.metadata(), compression=wire.compression
            )
            return answer
        except grpc.RpcError as error:
            raise outcome(error, wire.target) from error
        except ValueError as error:  # what grpc raises of a channel that is closed
            raise Unavailable(f"this client is closed; make another one ({error})") from error

    def close(self) -> None:
        """Close the channel. Calls that are under way fail."""
        self._channel.close()


class AsyncGrpc:
    """A channel to one server, for coroutines of the event loop of the first call."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._loop: asyncio.AbstractEventLoop | None = None
        self._channel: grpc.aio.Channel | None = None
        self._methods: dict[str, Any] = {}
        self._is_closed = False

    async def exchange(self, step: Exchange) -> bytes:
        """Make one exchange, as plans.py has it."""
        if self._is_closed:
            raise Unavailable("this client is closed; make another one")
        self._loop = own_loop(self._loop)
        wire, path = self._wire, step.query.target
        method = self._methods.get(path) or self._methods.setdefault(path, self._open().unary_unary(path))
        try:
            answer: bytes = await method(
                step.query.body, timeout=step.timeout, metadata=wire.metadata(), compression=wire.compression
            )
            return answer
        except grpc.aio.AioRpcError as error:
            raise outcome(error, wire.target) from error
        except grpc.aio.UsageError as error:
            raise Unavailable("this client is closed; make another one") from error

    async def close(self) -> None:
        """Close the channel. Calls that are under way fail."""
        self._is_closed = True
        if self._channel is not None:
            await self._channel.close()

    def _open(self) -> grpc.aio.Channel:
        if self._channel is None:
            wire = self._wire
            if wire.credentials is None:
                self._channel = grpc.aio.insecure_channel(wire.target, wire.options)
            else:
                self._channel = grpc.aio.secure_channel(wire.target, wire.credentials, wire.options)
        return self._channel
