"""Small SavedModels of every kind, and what TensorFlow itself answers for them.

    python -m tests.zoo DEST [NAME...]     makes models (all by default); this alone imports TensorFlow
    Zoo(DEST)                              finds them again, in a process without TensorFlow

Under DEST lies one folder per model, laid out as a base path with a folder per version, and `NAME.examples`: requests
with the answers that `tf.saved_model.load` gave when the model was made.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np


class Example(NamedTuple):
    """One request to one version, and its right answer. The examples of a model hold in the order they are listed."""

    version: int
    signature: str
    inputs: dict[str, np.ndarray[Any, Any]]
    outputs: dict[str, np.ndarray[Any, Any]]


class Zoo:
    """The models under a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def base(self, name: str) -> str:
        """The base path of a model, as a configuration names it."""
        return str(self.folder / name)

    def path(self, name: str, version: int = 1) -> str:
        """The folder of one version."""
        return str(self.folder / name / str(version))

    def examples(self, name: str) -> list[Example]:
        """Requests to a model with their right answers."""
        with (self.folder / f"{name}.examples").open("rb") as file:
            return [Example(*fields) for fields in pickle.load(file)]
