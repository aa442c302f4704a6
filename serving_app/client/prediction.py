"""What a Python caller gets for an answer: the outputs, and which version they are from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from serving_app.core.servable import ServableId

Array = np.ndarray[Any, Any]


class Prediction(dict[str, Array]):
    """The outputs of one call, by name."""

    __slots__ = ("servable",)

    def __init__(self, outputs: Mapping[str, Array], servable: ServableId) -> None:
        super().__init__(outputs)
        self.servable = servable

    @property
    def version(self) -> int:
        """The version that has answered."""
        return self.servable.version

    def __reduce__(self) -> tuple[Any, ...]:
        return Prediction, (dict(self), self.servable)
