"""The version policy as it is written in a configuration.

    version_policy: latest              the newest version
    version_policy: {latest: 3}         the three newest
    version_policy: all                 every version found
    version_policy: {specific: [2, 5]}  these two

The forms of TensorFlow Serving's text protos, spelled as mappings, are understood as well:
`{latest: {num_versions: 3}}`, `{all: {}}`, `{specific: {versions: [2, 5]}}`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import PlainSerializer, PlainValidator

from serving_app.config.settings import Form
from serving_app.core.policies import All, Latest, Specific, VersionPolicy

MAX_VERSION = 2**63 - 1
"""Version numbers are int64 on the wire."""

_FORMS = "write `latest`, `{latest: 2}`, `all` or `{specific: [3, 5]}`"


def parse_version_policy(value: object) -> VersionPolicy:
    """The policy that a user's text or mapping means."""
    if isinstance(value, Latest | All | Specific):
        return value
    name, argument = _split(value)
    if name == "latest":
        number = _unwrap(argument, "num_versions")
        return Latest(1 if number is None else _parse_number(number, "latest"))
    if name == "all":
        if argument not in (None, True, {}):
            raise ValueError(f"`all` takes no argument, but {argument!r} was given; {_FORMS}")
        return All()
    if name == "specific":
        return Specific(_parse_versions(_unwrap(argument, "versions")))
    raise ValueError(f"{name!r} is no version policy; {_FORMS}")


def write_version_policy(policy: VersionPolicy) -> object:
    """The shortest form that `parse_version_policy` reads back as the same policy."""
    if isinstance(policy, Latest):
        return {"latest": policy.num_versions}
    if isinstance(policy, Specific):
        return {"specific": list(policy.versions)}
    return "all"


def _split(value: object) -> tuple[object, object]:
    """A policy's name and its argument, None if it has none."""
    if isinstance(value, str):
        return value.strip(), None
    if isinstance(value, Mapping) and len(value) == 1:
        return next(iter(value.items()))
    raise ValueError(f"{value!r} is no version policy; {_FORMS}")


def _unwrap(argument: object, key: str) -> object:
    """The argument itself, out of the mapping that a text proto would make of it."""
    if isinstance(argument, Mapping) and set(argument) <= {key}:
        return argument.get(key)
    return argument


def _parse_versions(argument: object) -> tuple[int, ...]:
    if argument is None:
        return ()  # as in TensorFlow Serving: an empty list is legal, and means that no version is served
    if not isinstance(argument, list | tuple):
        raise ValueError(f"`specific` needs a list of versions, got {argument!r}; write {{specific: [3, 5]}}")
    return tuple(_parse_number(version, "specific") for version in argument)


def _parse_number(value: object, policy: str) -> int:
    text = str(value).strip()
    if isinstance(value, bool) or not (text.isascii() and text.isdigit()) or int(text) > MAX_VERSION:
        raise ValueError(f"`{policy}` needs whole numbers from 0 to 2^63 - 1, got {value!r}")
    return int(text)


VersionPolicySetting = Annotated[
    VersionPolicy,
    PlainValidator(parse_version_policy),
    PlainSerializer(write_version_policy),
    Form("`latest`, `{latest: N}`, `all` or `{specific: [N, …]}`"),
]
"""A version policy of the core, read and written in the forms above."""
