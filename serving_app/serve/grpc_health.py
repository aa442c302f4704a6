"""gRPC's health service, by which load balancers and clients learn whether a gateway may be sent requests.

TensorFlow Serving knows the server as a whole and its two services under their bare names (server.cc); here the full
names work as well. Nothing is healthy any more when the gateway begins to drain.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from serving_app.core.errors import NotFound
from serving_app.protocol import messages
from serving_app.protocol.model_spec_proto import parse

SERVICES = frozenset(
    {
        *("", "ModelService", "PredictionService"),
        *("tensorflow.serving.ModelService", "tensorflow.serving.PredictionService"),
    }
)
"""What can be asked about; the empty name is the server as a whole."""


class Health:
    """Whether this gateway may be sent requests. To be used on one event loop."""

    def __init__(self) -> None:
        self._draining = asyncio.Event()

    def drain(self) -> None:
        """Say from now on, also to those who watch, that requests are better sent elsewhere."""
        self._draining.set()

    @property
    def _status(self) -> str:
        return "NOT_SERVING" if self._draining.is_set() else "SERVING"

    async def check(self, request: bytes, _context: Any) -> bytes:
        """The answer to Check. NotFound for a service that is not known."""
        service = _decode(request)
        if service not in SERVICES:
            raise NotFound(f"unknown service {service:.200}; ask about one of {sorted(SERVICES)}")
        return _encode(self._status)

    async def list_all(self, _request: bytes, _context: Any) -> bytes:
        """The answer to List: how every service is."""
        response = messages.message_class("grpc.health.v1.HealthListResponse")()
        for service in SERVICES:
            response.statuses[service].status = messages.HealthCheckResponse(status=self._status).status
        encoded: bytes = response.SerializeToString()
        return encoded

    async def watch(self, request: bytes, _context: Any) -> AsyncIterator[bytes]:
        """The answers to Watch: what is so now, and then each change until the client goes or the gateway does."""
        if _decode(request) not in SERVICES:
            yield _encode("SERVICE_UNKNOWN")  # it could come to be known, says the protocol: the stream stays open
        elif not self._draining.is_set():
            yield _encode("SERVING")
        await self._draining.wait()
        if _decode(request) in SERVICES:
            yield _encode("NOT_SERVING")


def _decode(request: bytes) -> str:
    service: str = parse(messages.HealthCheckRequest, request).service
    return service


def _encode(status: str) -> bytes:
    encoded: bytes = messages.HealthCheckResponse(status=status).SerializeToString()
    return encoded
