"""MLServer with its adaptive batching, REST and gRPC, the model in the server's own process (`parallel_workers: 0`), as
its documentation advises for models that take little time."""

import json
import os
import sys
from pathlib import Path

import arguments

options = arguments.read()
folder = Path(options.folder, "repository")
folder.mkdir(parents=True, exist_ok=True)
settings = {
    "debug": False,
    "host": "127.0.0.1",
    "http_port": options.http_port,
    "grpc_port": options.grpc_port,
    "metrics_port": options.other_port,
    "metrics_endpoint": None,
    "parallel_workers": 0,
    "gzip_enabled": False,
    "grpc_max_message_length": -1,
}
model = {
    "name": "model",
    "implementation": "mlserver_model.Served",
    "parameters": {"uri": options.model},
    "max_batch_size": arguments.MAX_BATCH,
    "max_batch_time": 0.001,
}
(folder / "settings.json").write_text(json.dumps(settings))
(folder / "model-settings.json").write_text(json.dumps(model))
here = str(Path(__file__).resolve().parent)
os.environ["PYTHONPATH"] = here
command = str(Path(sys.executable).with_name("mlserver"))
os.execv(command, [command, "start", str(folder)])
