"""The attributes of a Python caller's requests: what traffic may be shared by, as of headers where there are some."""

from __future__ import annotations

from collections.abc import Mapping

from serving_app.core.errors import InvalidArgument
from serving_app.core.traffic import INPUT, Attributes, FirstValue


def check_attributes(given: Mapping[str, str]) -> dict[str, str]:
    """As gateways read headers: names in small letters, values without blanks around. InvalidArgument for what no
    header could be."""
    attributes = {}
    for name, value in given.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise InvalidArgument(f"attributes are texts by name, and {name!r} is {value!r}; give both as text")
        if name.startswith(INPUT):
            raise InvalidArgument(f"{name!r} is what an input tells; give it as an input")
        attributes[name.lower()] = value.strip()
    return attributes


def attributes_of(given: Mapping[str, str], first: FirstValue | None) -> Attributes:
    """Those of one request; `first` finds the first values of its inputs, each of which is looked for once."""
    found: dict[str, str | None] = {}

    def find(name: str) -> str | None:
        if not name.startswith(INPUT):
            return given.get(name)
        if name not in found:
            found[name] = first(name.removeprefix(INPUT)) if first is not None else None
        return found[name]

    return find
