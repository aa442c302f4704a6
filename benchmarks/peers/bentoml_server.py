"""BentoML with its adaptive batching and one worker, which holds the model as its documentation has it."""

import os
import sys
from pathlib import Path

import arguments

options = arguments.read()
os.environ |= {
    "BENCHMARK_MODEL": options.model,
    "BENCHMARK_MAX_BATCH": str(arguments.MAX_BATCH),
    "BENTOML_DO_NOT_TRACK": "True",
    "BENTOML_HOME": options.folder,
}
command = str(Path(sys.executable).with_name("bentoml"))
arguments_ = ["serve", "bentoml_service:Served", "--host", "127.0.0.1", "--port", str(options.http_port)]
os.execv(command, [command, *arguments_])
