"""Asking a Prometheus server for one number."""

from __future__ import annotations

import json
import math
from http.client import HTTPException
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

from serving_app.core.errors import InvalidArgument, Unavailable

TIMEOUT_S = 5.0
_MOST_BYTES = 1 << 20


def ask(address: str, query: str, timeout_s: float = TIMEOUT_S) -> float:
    """The value of a query now. Blocks. Raises a ServingError that says why there is none."""
    url = f"{address.rstrip('/')}/api/v1/query?{urlencode({'query': query})}"
    try:
        with urlopen(url, timeout=timeout_s) as response:
            answer = json.loads(response.read(_MOST_BYTES))
    except (HTTPException, OSError, ValueError) as error:
        raise Unavailable(f"Prometheus at {address} gave no answer to {query!r}: {error}") from error
    return _read(answer, query)


def _read(answer: Any, query: str) -> float:
    try:
        data = answer["data"]
        samples = [data["result"]] if data["resultType"] == "scalar" else [each["value"] for each in data["result"]]
        values = [float(value) for _, value in samples]
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidArgument(f"the query {query!r} has no numbers for an answer, but {answer!r}") from error
    if len(values) != 1:
        raise InvalidArgument(f"the query {query!r} has {len(values)} values; write one that has one, such as sum(…)")
    if not math.isfinite(values[0]):
        raise InvalidArgument(f"the query {query!r} has the value {values[0]}")
    return values[0]


def fill_in(query: str, model: str, version: int) -> str:
    """The query about a model's version."""
    return query.replace("$model", model).replace("$version", str(version))
