"""LitServe with its batching, one worker for the model and one process for HTTP, as its defaults are for a CPU."""

import arguments
import litserve
from saved_model import SavedModel, join, split

options = arguments.read()


class Served(litserve.LitAPI):
    """One SavedModel."""

    def setup(self, device):
        self._model = SavedModel(options.model)

    def decode_request(self, request):
        return self._model.read(request)

    def batch(self, inputs):
        return join(inputs)

    def predict(self, x):
        rows, sizes = x
        return self._model(rows), sizes

    def unbatch(self, output):
        outputs, sizes = output
        return split(outputs, sizes)

    def encode_response(self, output):
        return self._model.write(output)


if __name__ == "__main__":
    server = litserve.LitServer(
        Served(max_batch_size=64, batch_timeout=0.001), accelerator="cpu", workers_per_device=1, timeout=60
    )
    server.run(
        host="127.0.0.1", port=options.http_port, num_api_servers=1, generate_client_file=False, log_level="warning",
        access_log=False,
    )  # fmt: skip
