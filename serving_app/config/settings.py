"""What all groups of settings have in common."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """A group of settings: read once, checked, and never changed afterwards. An unknown name is an error."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        validate_default=True,
        # Fields may be called `model_...`, as TensorFlow Serving's are.
        protected_namespaces=(),
    )


@dataclass(frozen=True, slots=True)
class Form:
    """How a user writes a setting; stands in its annotation, for the page that documents it."""

    text: str
