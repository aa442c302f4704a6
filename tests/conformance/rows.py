"""What a row of the suite is: one request to a server, and what TensorFlow Serving answers.

A row that this server answers differently on purpose names one of `differences.DIFFERENCES`, and says what it answers
instead.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from google.protobuf import text_format
from google.protobuf.message import Message


class Setting:
    """How the server must have been started for a row; most rows need nothing."""

    STOCK = ""
    CORS = "cors"
    CHECKED = "checked"
    CONTENT = "content"


# --- REST ------------------------------------------------------------------------------------------------------------


class Number(str):
    """A number of a JSON text, as it was written: 2.5 is not 2.50 here."""

    __slots__ = ()


def read_json(text: bytes | str) -> Any:
    """A JSON text in which numbers keep their digits."""
    return json.loads(text, parse_float=Number, parse_int=Number, parse_constant=Number)


@dataclass(frozen=True)
class Answer:
    """What must be true of an HTTP answer. What is None is not looked at."""

    status: int
    body: bytes | None = None
    """The exact bytes."""
    value: str | None = None
    """A JSON text: the same value with the same digits, in any layout."""
    matches: str | None = None
    """A regular expression that is found in the body."""
    headers: Mapping[str, str | None] = field(default_factory=dict)
    """Headers with their values; None for those that must not be there."""

    def complaint(self, status: int, headers: Mapping[str, str], body: bytes) -> str | None:
        """What is wrong with an answer; None if nothing is."""
        if status != self.status:
            return f"status {status} instead of {self.status}: {shown(body)}"
        if self.body is not None and body != self.body:
            return f"body {shown(body)} instead of {shown(self.body)}"
        if self.value is not None:
            try:
                value = read_json(body)
            except ValueError as error:
                return f"the body is no JSON ({error}): {shown(body)}"
            if value != read_json(self.value):
                return f"body {shown(body)} instead of {self.value}"
        if self.matches is not None and not re.search(self.matches.encode(), body, re.DOTALL):
            return f"body {shown(body)} does not match {self.matches}"
        for name, wanted in self.headers.items():
            if headers.get(name.lower()) != wanted:
                return f"header {name} is {headers.get(name.lower())!r} instead of {wanted!r}"
        return None


def shown(body: bytes) -> str:
    """The beginning of a body, to be read by people."""
    return repr(body[:500])[1:] + ("…" if len(body) > 500 else "")


@dataclass(frozen=True)
class Rest:
    """One HTTP request, sent as it stands here, and its answer."""

    method: str
    target: str
    answer: Answer
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    setting: str = Setting.STOCK
    differs: str | None = None
    instead: Answer | None = None

    def __str__(self) -> str:
        more = "".join(f" {name}: {value}" for name, value in self.headers.items())
        return f"{self.method} {self.target[:100]}{more} {shown(self.body[:120]) if self.body else ''}".rstrip()


def string(text: str) -> str:
    """A JSON string as TensorFlow Serving writes it: only quotes, backslashes and control characters are escaped."""
    short = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
    return '"' + "".join(short.get(c) or (f"\\u{ord(c):04X}" if c < " " else c) for c in text) + '"'


def error(status: int, message: str) -> Answer:
    """An error with this message: the whole body, byte for byte."""
    return Answer(status, f'{{\n    "error": {string(message)}\n}}'.encode())


def bad(message: str) -> Answer:
    """An invalid request."""
    return error(400, message)


def value(text: str) -> Answer:
    """A success with this JSON value, in any layout."""
    return Answer(200, value=text)


def text(body: str) -> Answer:
    """A success with exactly this body."""
    return Answer(200, body.encode())


def predict(
    body: str | bytes, answer: Answer, *, signature: str = "", model: str = "forms", verb: str = "predict"
) -> Rest:
    """An inference request. `signature` is written into the body, in front of what is there."""
    raw = body.encode() if isinstance(body, str) else body
    if signature:
        raw = raw.replace(b"{", b'{"signature_name": "%s", ' % signature.encode(), 1)
    return Rest("POST", f"/v1/models/{model}:{verb}", answer, raw)


# --- gRPC ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Grpc:
    """One gRPC call, and its answer: a message, or a code and a text."""

    method: str
    """Service and method, `PredictionService/Predict`, say."""
    request: str
    """The request in text form. `%MODELS%` stands for the folder of the models."""
    response: str | None = None
    """The whole response in text form; what else there must be if it is None, is in the other fields."""
    code: str = "OK"
    message: str | None = None
    """The status's text, exactly."""
    matches: str | None = None
    """A regular expression that is found in the status's text, or in the response's text form."""
    setting: str = Setting.STOCK
    differs: str | None = None
    instead: Grpc | None = None
    """As this row, but for the answer."""

    def __str__(self) -> str:
        return f"{self.method} {' '.join(self.request.split())[:160]}"

    def complaint(self, code: str, message: str, response: Message | None) -> str | None:
        """What is wrong with an answer; None if nothing is."""
        got = text_format.MessageToString(response, as_one_line=True) if response is not None else message
        if code != self.code:
            return f"{code} instead of {self.code}: {got[:500]}"
        if self.message is not None and message != self.message:
            return f"{message[:1200]!r} instead of {self.message!r}"
        if self.response is not None:
            wanted = text_format.Parse(self.response, type(response)())
            if wanted != response:
                return f"{got[:500]} instead of {text_format.MessageToString(wanted, as_one_line=True)[:500]}"
        if self.matches is not None and not re.search(self.matches, got, re.DOTALL):
            return f"{got[:500]!r} does not match {self.matches}"
        return None


def refused(method: str, request: str, code: str, message: str) -> Grpc:
    """A call that fails with this code and exactly this text."""
    return Grpc(method, request, code=code, message=message)


# --- differences -----------------------------------------------------------------------------------------------------

Row = Rest | Grpc


def differing(why: str, row: Rest, instead: Answer) -> Rest:
    """The row, which this server answers otherwise for a reason in the table."""
    return replace(row, differs=why, instead=instead)


def differing_grpc(why: str, row: Grpc, **instead: Any) -> Grpc:
    """The row, which this server answers otherwise for a reason in the table."""
    blank = {"response": None, "code": "OK", "message": None, "matches": None}
    return replace(row, differs=why, instead=replace(row, **{**blank, **instead}))


def under(setting: str, rows: Iterable[Row]) -> list[Row]:
    """The rows for a server that was started in another way."""
    return [replace(row, setting=setting) for row in rows]
