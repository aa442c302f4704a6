"""What a request has besides what it asks for: the attributes by which traffic may be shared."""

from __future__ import annotations

import base64
from collections.abc import Sequence

from serving_app.core.traffic import INPUT, FirstValue


class RequestAttributes:
    """Those of one request. Nothing is looked at before somebody asks."""

    __slots__ = ("_fields", "_first")

    def __init__(self, fields: Sequence[tuple[bytes, bytes]], first: FirstValue | None = None) -> None:
        """`fields` are the headers of HTTP or the metadata of gRPC; `first` is None for requests without inputs."""
        self._fields = fields
        self._first = first

    def __call__(self, name: str) -> str | None:
        """The attribute of this name, in small letters; of a header that was sent more than once, the first.

        The values of names that end in `-bin` are those that gRPC's clients have given, who write them on the wire as
        base64, in one of two ways.
        """
        if name.startswith(INPUT):
            return self._first(name.removeprefix(INPUT)) if self._first is not None else None
        wanted = name.encode()
        value = next((value for key, value in self._fields if key.lower() == wanted), None)
        if value is None:
            return None
        if name.endswith("-bin"):
            value = _read_binary(value)
        return value.decode("utf-8", "backslashreplace").strip()


def _read_binary(value: bytes) -> bytes:
    """Where it is no base64 it is as it stands."""
    value = value.partition(b",")[0].rstrip(b"=")  # several of one name may stand in one field
    try:
        return base64.b64decode(value + b"=" * (-len(value) % 4), validate=True)
    except ValueError:
        return value
