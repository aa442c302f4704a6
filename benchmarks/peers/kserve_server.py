"""KServe: a model in the process of KServe's Python server, protocol version 1.

KServe batches in another process (its agent, part of a Kubernetes pod), so there is no batching here. One worker: the
model runs in the server's own process, as KServe's guide for custom predictors has it. Logs of each request are off.
"""

import logging

import arguments
from kserve import Model, ModelServer
from saved_model import SavedModel


class Served(Model):
    """One SavedModel."""

    def __init__(self, path: str) -> None:
        super().__init__("model")
        self._model = SavedModel(path)
        self.ready = True

    async def predict(self, payload, headers=None, response_headers=None):
        """Rows in, rows out."""
        return self._model.write(self._model(self._model.read(payload)))


options = arguments.read()
server = ModelServer(http_port=options.http_port, enable_grpc=False, workers=1, enable_latency_logging=False)
logging.getLogger("uvicorn.access").setLevel(logging.WARNING)
server.start([Served(options.model)])
