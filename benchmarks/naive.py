"""What one writes first: two Serve deployments after Ray's documentation, with `import tensorflow` in the model.

The comparison for the gateway (one handle call per request behind Serve's proxy) and for bringing a version up.
"""

from __future__ import annotations

from typing import Any

from ray import serve
from starlette.requests import Request


@serve.deployment(max_ongoing_requests=100)
class Model:
    """Holds one SavedModel."""

    def __init__(self, path: str) -> None:
        import tensorflow as tf

        self._tf = tf
        self._model = tf.saved_model.load(path)
        self._predict = self._model.signatures["serving_default"]

    def predict(self, instances: list[float]) -> list[float]:
        """One call of the default signature."""
        outputs = self._predict(x=self._tf.constant(instances, self._tf.float32))
        return outputs["y"].numpy().tolist()  # type: ignore[no-any-return]


@serve.deployment(max_ongoing_requests=100)
class Ingress:
    """Reads JSON and asks the model by handle."""

    def __init__(self, model: Any) -> None:
        self._model = model

    async def __call__(self, request: Request) -> dict[str, Any]:
        body = await request.json()
        return {"predictions": await self._model.predict.remote(body["instances"])}


def build(path: str) -> serve.Application:
    """The whole application."""
    return Ingress.bind(Model.bind(path))
