"""Clients that speak TensorFlow Serving's gRPC API.

`address` is `host:port`, or another target that gRPC knows, such as `unix:/path`. With `tls` the connection is
encrypted. `headers` are metadata of every call; a function is asked for them each time. `compress` packs requests by
gzip. `keepalive` is after how many idle seconds the server is asked whether it is still there; servers refuse to be
asked often. `options` are gRPC's own channel arguments. `retries` says how often what may pass is tried again. Without
`typed` signatures are not asked for, and inputs are sent as what they look like.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from google.protobuf import text_format

from serving_app.core.errors import InvalidArgument
from serving_app.core.servable import ModelSpec, spec_of
from serving_app.protocol import messages
from serving_app.protocol.call_options import names_of
from serving_app.protocol.features import to_examples
from serving_app.remote import grpc_queries
from serving_app.remote.calls import Array, Classes
from serving_app.remote.clients import AsyncClient, BlockingClient
from serving_app.remote.grpc_transport import AsyncGrpc, BlockingGrpc, Option, Wire
from serving_app.remote.http_messages import Headers
from serving_app.remote.models import DEFAULT_TIMEOUT_S
from serving_app.remote.plans import Query, ask
from serving_app.remote.retries import Retries
from serving_app.remote.tls import Tls

_NO_HEADERS: Mapping[str, str] = {}

ConfigSource = str | bytes | os.PathLike[str] | Any


class GrpcClient(BlockingClient):
    """A client for threads, of which many may use it. Closed by `close`, or at the end of a `with` block."""

    def __init__(
        self,
        address: str,
        *,
        tls: Tls | None = None,
        headers: Headers = _NO_HEADERS,
        compress: bool = False,
        keepalive: float | None = None,
        options: Sequence[Option] = (),
        retries: Retries = Retries(),  # noqa: B008 - it cannot be changed
        typed: bool = True,
    ) -> None:
        carrier = BlockingGrpc(Wire(address, tls, headers, compress, keepalive, options))
        super().__init__(address, grpc_queries, retries, typed, carrier.exchange, carrier.close)

    def multi_inference(
        self,
        name: str,
        examples: Any,
        *,
        classify: Sequence[str] = (),
        regress: Sequence[str] = (),
        version: int | None = None,
        label: str | None = None,
        context: Mapping[str, Any] | None = None,
        timeout: float | None = DEFAULT_TIMEOUT_S,
    ) -> dict[str, Classes | Array]:
        """What several signatures of a model say about the same examples, by signature.

        Those of `classify` give lists of classes and those of `regress` values, as `Model.classify` and
        `Model.regress` do.
        """
        query = _multi_inference(spec_of(name, version, label), examples, classify, regress, context)
        return self.run(ask(query, self.terms(timeout)))

    def reload_config(
        self, config: ConfigSource, *, metrics: Sequence[str] = (), timeout: float | None = DEFAULT_TIMEOUT_S
    ) -> dict[str, int]:
        """Put a ModelServerConfig in force; returns when it is, with by how much these metrics have grown.

        `config` is a message, its bytes, its text, or the path of a file with its text as a pathlib.Path.
        """
        return self.run(ask(_reload(config, metrics), self.terms(timeout)))


class AsyncGrpcClient(AsyncClient):
    """A client for the coroutines of one event loop. Closed by `close`, or at the end of an `async with` block."""

    def __init__(
        self,
        address: str,
        *,
        tls: Tls | None = None,
        headers: Headers = _NO_HEADERS,
        compress: bool = False,
        keepalive: float | None = None,
        options: Sequence[Option] = (),
        retries: Retries = Retries(),  # noqa: B008 - it cannot be changed
        typed: bool = True,
    ) -> None:
        carrier = AsyncGrpc(Wire(address, tls, headers, compress, keepalive, options))
        super().__init__(address, grpc_queries, retries, typed, carrier.exchange, carrier.close)

    async def multi_inference(
        self,
        name: str,
        examples: Any,
        *,
        classify: Sequence[str] = (),
        regress: Sequence[str] = (),
        version: int | None = None,
        label: str | None = None,
        context: Mapping[str, Any] | None = None,
        timeout: float | None = DEFAULT_TIMEOUT_S,
    ) -> dict[str, Classes | Array]:
        """As `GrpcClient.multi_inference`."""
        query = _multi_inference(spec_of(name, version, label), examples, classify, regress, context)
        return await self.run(ask(query, self.terms(timeout)))

    async def reload_config(
        self, config: ConfigSource, *, metrics: Sequence[str] = (), timeout: float | None = DEFAULT_TIMEOUT_S
    ) -> dict[str, int]:
        """As `GrpcClient.reload_config`."""
        return await self.run(ask(_reload(config, metrics), self.terms(timeout)))


def _multi_inference(
    spec: ModelSpec,
    examples: Any,
    classify: Sequence[str],
    regress: Sequence[str],
    context: Mapping[str, Any] | None,
) -> Query[dict[str, Classes | Array]]:
    classified, regressed = names_of("classify", classify), names_of("regress", regress)
    methods = {**dict.fromkeys(classified, grpc_queries.CLASSIFY), **dict.fromkeys(regressed, grpc_queries.REGRESS)}
    if len(methods) < len(classified) + len(regressed):
        raise InvalidArgument("a signature is named twice; servers answer for each once")
    if not methods:
        raise InvalidArgument("name at least one signature in classify or regress")
    return grpc_queries.multi_inference(spec, methods, to_examples(examples, context))


def _reload(config: ConfigSource, metrics: Sequence[str]) -> Query[dict[str, int]]:
    return grpc_queries.reload_config(_serialized(config), names_of("metrics", metrics))


def _serialized(config: ConfigSource) -> bytes:
    if isinstance(config, bytes):
        return config
    if hasattr(config, "SerializeToString"):
        encoded: bytes = config.SerializeToString()
        return encoded
    try:
        text = config if isinstance(config, str) else _read(config)
        message = text_format.Parse(text, messages.ModelServerConfig(), descriptor_pool=messages.POOL)
    except text_format.ParseError as error:
        raise InvalidArgument(f"the configuration is no text of a ModelServerConfig: {error}") from error
    parsed: bytes = message.SerializeToString()
    return parsed


def _read(path: Any) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError, TypeError) as error:
        raise InvalidArgument(f"the configuration cannot be read: {error}") from error
