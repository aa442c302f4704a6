"""Names of things that are served."""

from __future__ import annotations

import operator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class ServableId:
    """One version of one model: what gets loaded, routed to and unloaded as a whole."""

    name: str
    version: int

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """How a request names a servable: by model, and at most one of version and label. Neither means the latest."""

    name: str
    version: int | None = None
    label: str | None = None


def spec_of(name: str, version: int | None = None, label: str | None = None) -> ModelSpec:
    """A spec of what a Python caller says. TypeError or ValueError if that names nothing that there can be.

    A version that is a text would else be one that nobody has ever heard of.
    """
    if version is not None and label is not None:
        raise ValueError("name a version or a label, not both")
    for what, text in (("a model's name", name), ("a label", label or "")):
        if not isinstance(text, str):
            raise TypeError(f"{what} is text, and not {text!r}")
    if version is not None:
        try:
            number = operator.index(version)
        except TypeError:
            raise TypeError(f"a version is a whole number, and not {version!r}") from None
        if not 0 <= number < 2**63:
            raise ValueError(f"a version is a number from 0 to 2**63 - 1, and not {number}")
        version = number
    return ModelSpec(name, version, label)


BY_NUMBER = "number"


def naming_of(spec: ModelSpec) -> str:
    """How a spec names the version, in a word: `number`, `label` or `latest`."""
    if spec.version is not None:
        return BY_NUMBER
    return "latest" if spec.label is None else "label"
