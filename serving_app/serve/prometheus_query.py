"""Asking a Prometheus server for one number."""

from __future__ import annotations

import json
import math
import time
from http.client import HTTPException, HTTPResponse
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import urlopen

from serving_app.core.errors import InvalidArgument, Unavailable

TIMEOUT_S = 5.0
_MOST_BYTES = 1 << 20
_PIECE = 1 << 16
_MOST_WORDS = 300
"""Characters of an answer that are told: it is kept with the rollout."""


def ask(address: str, query: str, timeout_s: float = TIMEOUT_S) -> float:
    """The value of a query now. Blocks. Raises a ServingError that says why there is none."""
    url = f"{address.rstrip('/')}/api/v1/query?{urlencode({'query': query})}"
    try:
        with urlopen(url, timeout=timeout_s) as response:
            answer = json.loads(_read_body(response, time.monotonic() + timeout_s))
    except HTTPError as error:
        raise Unavailable(f"Prometheus at {address} refused {query!r}: {_read_refusal(error)}") from error
    except (HTTPException, OSError, ValueError, RecursionError) as error:
        raise Unavailable(f"Prometheus at {address} gave no answer to {query!r}: {_shorten(str(error))}") from error
    return _read(answer, query)


def _read_body(response: HTTPResponse, deadline: float) -> bytes:
    """All of it, if that is neither much nor slow."""
    body = b""
    while piece := response.read1(_PIECE):
        body += piece
        if len(body) > _MOST_BYTES:
            raise ValueError(f"it is longer than {_MOST_BYTES} bytes")
        if time.monotonic() > deadline:
            raise TimeoutError("it takes too long")
    return body


def _read_refusal(error: HTTPError) -> str:
    """What Prometheus says is wrong, such as with the query; of any other server the status."""
    with error:
        try:
            return _shorten(f"{json.loads(error.read(_PIECE))['error']} ({error})")
        except (HTTPException, OSError, ValueError, RecursionError, KeyError, TypeError):
            return str(error)


def _read(answer: Any, query: str) -> float:
    try:
        data = answer["data"]
        samples = [data["result"]] if data["resultType"] == "scalar" else [each["value"] for each in data["result"]]
        values = [float(value) for _, value in samples]
    except (KeyError, TypeError, ValueError) as error:
        said = _shorten(repr(answer))
        raise InvalidArgument(f"the query {query!r} has no numbers for an answer, but {said}") from error
    if len(values) != 1:
        raise InvalidArgument(f"the query {query!r} has {len(values)} values; write one that has one, such as sum(…)")
    if not math.isfinite(values[0]):
        raise InvalidArgument(f"the query {query!r} has the value {values[0]}")
    return values[0]


def _shorten(text: str) -> str:
    return text if len(text) <= _MOST_WORDS else f"{text[:_MOST_WORDS]}…"


def fill_in(query: str, model: str, version: int) -> str:
    """The query about a model's version."""
    return query.replace("$model", model).replace("$version", str(version))
