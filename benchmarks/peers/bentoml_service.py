"""The service that BentoML serves: batching where the request is one array, which is what BentoML can join."""

import os
from typing import Any

import bentoml
import numpy as np
from saved_model import SavedModel

PATH = os.environ["BENCHMARK_MODEL"]
MAX_BATCH = int(os.environ["BENCHMARK_MAX_BATCH"])


@bentoml.service(workers=1, traffic={"timeout": 60}, logging={"access": {"enabled": False}},
                 metrics={"enabled": False})  # fmt: skip
class Served:
    """One SavedModel."""

    def __init__(self) -> None:
        self._model = SavedModel(PATH)

    @bentoml.api(batchable=True, max_batch_size=MAX_BATCH)
    def rows(self, instances: np.ndarray) -> np.ndarray:
        """For a model with one input."""
        ((name, dtype),) = self._model.dtypes.items()
        (output,) = self._model({name: instances.astype(dtype)}).values()
        return output

    @bentoml.api
    def columns(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """For a model with several inputs."""
        return self._model.write(self._model(self._model.read({"inputs": inputs})))

    @bentoml.api(batchable=True, max_batch_size=MAX_BATCH)
    def texts(self, instances: list[str]) -> list[float]:
        """For a model whose input is text, and whose output is a number for each row."""
        (output,) = self._model(self._model.read({"instances": instances})).values()
        return output.tolist()
