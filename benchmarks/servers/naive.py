"""The application of `benchmarks/naive.py` on a Ray cluster of its own, behind Serve's proxy as Ray starts it."""

from __future__ import annotations

import signal

import ray
from ray import serve
from ray.serve.config import HTTPOptions

from benchmarks import naive
from benchmarks.peers import arguments

if __name__ == "__main__":
    options = arguments.read()
    signal.signal(signal.SIGTERM, lambda *_: exit())
    ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    serve.start(http_options=HTTPOptions(port=options.http_port))
    serve.run(naive.build(options.model), name="naive", route_prefix="/naive")
    signal.pause()
