"""The grammar of REST URLs: a method and a raw target in, what is asked of which model out.

    POST /v1/models/NAME[/versions/VERSION | /labels/LABEL]:classify | :regress | :predict
    GET  /v1/models[/NAME][/versions/VERSION | /labels/LABEL][/metadata]

The grammar is matched against the raw target, query string included, before anything is percent-decoded; that is how
an encoded slash or colon can be part of a name. So a query string is never ignored: a POST with one is malformed, and
a GET takes it as part of the name before it. Letters match in any case, but the verb after the colon must then be in
lower case, and so must `metadata`: `/METADATA` asks for the status. Clients can see each of these quirks, and all are
TensorFlow Serving's (http_rest_api_handler.cc).

NAME and LABEL are decoded as curl does it: `+` stays. A `%` that no two hex digits follow is an error. Bytes that are
not UTF-8 become surrogate escapes; no model has such a name, so the lookup that follows answers "not found".
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache
from urllib.parse import unquote

from serving_app.core.errors import InvalidArgument
from serving_app.core.servable import ModelSpec


class RestAction(Enum):
    """What a request asks for."""

    PREDICT = "predict"
    CLASSIFY = "classify"
    REGRESS = "regress"
    STATUS = "status"
    METADATA = "metadata"


@dataclass(frozen=True, slots=True)
class RestCall:
    """A request line that was understood."""

    action: RestAction
    spec: ModelSpec
    api: str = field(init=False)
    """What it counts as: the verb of an inference, empty for what asks no model."""

    def __post_init__(self) -> None:
        is_inference = self.action not in (RestAction.STATUS, RestAction.METADATA)
        object.__setattr__(self, "api", self.action.value if is_inference else "")


class UnreadablePart(InvalidArgument):
    """The URL has the right form, but a part of it cannot be read; answered with an empty body, as in TFS."""


# ASCII, because otherwise `ſ` would match `s`, and digits of other scripts \d.
_FLAGS = re.IGNORECASE | re.ASCII | re.DOTALL
_API = re.compile(r"/v1/.*", _FLAGS)
_VERSION_OR_LABEL = r"(?:/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?"
_POST = re.compile(rf"/v1/models/(?P<name>[^/:]+){_VERSION_OR_LABEL}:(?P<verb>classify|regress|predict)", _FLAGS)
_GET = re.compile(rf"/v1/models(?:/(?P<name>[^/:]+))?{_VERSION_OR_LABEL}(?:/(?P<verb>metadata))?", _FLAGS)

_PATTERNS = {"POST": _POST, "GET": _GET}
_INFERENCE = {action.value: action for action in (RestAction.PREDICT, RestAction.CLASSIFY, RestAction.REGRESS)}
_MAX_VERSION = 2**63 - 1


def is_api_target(target: str) -> bool:
    """True if `parse` is responsible for this target. Any other is unknown to the REST API: an HTTP 404."""
    return target.startswith("/v1/") or _API.fullmatch(target) is not None


def parse(method: str, target: str) -> RestCall:
    """What a request line asks for; InvalidArgument if it is malformed.

    `target` is the raw path and query. Bytes that are not ASCII are expected as surrogate escapes, or as the
    characters that they encode.
    """
    return (_parse_again if len(target) <= _LONGEST_REMEMBERED else _parse)(method, target)


def _parse(method: str, target: str) -> RestCall:
    pattern = _PATTERNS.get(method)
    match = pattern.fullmatch(target) if pattern else None
    action = _action(method, match["verb"]) if match else None
    if match is None or action is None:
        raise InvalidArgument(f"Malformed request: {method} {target}")
    if not match["name"]:
        raise InvalidArgument("Missing model name in request.")
    version, label = match["version"], match["label"]
    return RestCall(
        action,
        ModelSpec(
            name=_decode("name", match["name"]),
            version=None if version is None else _read_version(version),
            label=None if label is None else _decode("version label", label),
        ),
    )


# Servers see few different targets, many times each. Long ones are not kept, so that nobody can fill the memory.
_parse_again = lru_cache(maxsize=1024)(_parse)
_LONGEST_REMEMBERED = 256


def _action(method: str, verb: str | None) -> RestAction | None:
    if method == "POST":
        return _INFERENCE.get(verb or "")
    return RestAction.METADATA if verb == "metadata" else RestAction.STATUS


_LONE_PERCENT = re.compile(r"%(?![0-9a-fA-F]{2})")


def _decode(part: str, text: str) -> str:
    if _LONE_PERCENT.search(text):
        raise UnreadablePart(f"Failed to decode model {part}:{text}")
    return unquote(text, errors="surrogateescape")


def _read_version(digits: str) -> int:
    # The length is looked at first: int() refuses to convert more than some thousands of digits.
    significant = digits.lstrip("0") or "0"
    if len(significant) > len(str(_MAX_VERSION)) or int(significant) > _MAX_VERSION:
        raise UnreadablePart(f"Failed to convert version: {digits} to numeric.")
    return int(significant)
