"""What a request has besides what it asks for: the attributes by which traffic may be shared."""

from __future__ import annotations

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
        """The attribute of this name, in small letters; of a header that was sent more than once, the first."""
        if name.startswith(INPUT):
            return self._first(name.removeprefix(INPUT)) if self._first is not None else None
        wanted = name.encode()
        return next((_decode(value) for key, value in self._fields if key.lower() == wanted), None)


def _decode(value: bytes) -> str:
    return value.decode("utf-8", "backslashreplace").strip()
