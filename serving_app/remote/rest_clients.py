"""Clients that speak TensorFlow Serving's REST API.

`address` is a URL such as `https://host:8501`, with a path in front of the API's own if a proxy wants one. `headers` go
with every request; a function is asked for them each time. `compress` packs larger requests by gzip, and asks for
packed answers. `retries` says how often what may pass is tried again. Without `typed` signatures are not asked for, and
JSON's own rules tell the types of answers.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping

from serving_app.core.errors import InvalidArgument
from serving_app.remote import rest_queries
from serving_app.remote.clients import AsyncClient, BlockingClient
from serving_app.remote.http_async import AsyncHttp
from serving_app.remote.http_blocking import BlockingHttp
from serving_app.remote.http_messages import Address, Headers, RequestWriter, read_address, read_headers
from serving_app.remote.retries import Retries
from serving_app.remote.tls import Tls

_NO_HEADERS: Mapping[str, str] = {}


class RestClient(BlockingClient):
    """A client for threads, of which many may use it. Closed by `close`, or at the end of a `with` block."""

    def __init__(
        self,
        address: str,
        *,
        tls: Tls | ssl.SSLContext | None = None,
        headers: Headers = _NO_HEADERS,
        compress: bool = False,
        retries: Retries = Retries(),  # noqa: B008 - it cannot be changed
        typed: bool = True,
    ) -> None:
        where = read_address(address)
        http = BlockingHttp(where, _writer(where, headers, compress), _context(where, tls))
        super().__init__(str(where), rest_queries, retries, typed, http.exchange, http.close)


class AsyncRestClient(AsyncClient):
    """A client for the coroutines of one event loop. Closed by `close`, or at the end of an `async with` block."""

    def __init__(
        self,
        address: str,
        *,
        tls: Tls | ssl.SSLContext | None = None,
        headers: Headers = _NO_HEADERS,
        compress: bool = False,
        retries: Retries = Retries(),  # noqa: B008 - it cannot be changed
        typed: bool = True,
    ) -> None:
        where = read_address(address)
        http = AsyncHttp(where, _writer(where, headers, compress), _context(where, tls))
        super().__init__(str(where), rest_queries, retries, typed, http.exchange, http.close)


def _writer(address: Address, headers: Headers, compress: bool) -> RequestWriter:
    if not callable(headers):
        read_headers(headers)  # what is wrong is told at once
    return RequestWriter(address, headers, compress)


def _context(address: Address, tls: Tls | ssl.SSLContext | None) -> ssl.SSLContext | None:
    if not address.is_tls:
        if tls is not None:
            raise InvalidArgument(f"{address} is an address without TLS; write https:// to use `tls`")
        return None
    return tls if isinstance(tls, ssl.SSLContext) else (tls or Tls()).context()
