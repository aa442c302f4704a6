"""How long `serving-app model-server` takes from its start to its first answer, step by step, and to its end.

    python -m benchmarks.bench_start [--rounds 3]
"""

from __future__ import annotations

import argparse
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import local
from benchmarks.ports import free_port

BODY = {"instances": [1.0, 2.0, 5.0]}

STEPS = {
    "imported": "starting Ray on this machine",
    "Ray runs": "started a Ray cluster",
    "Serve runs": "deploying",
    "model is loading": "Loading servable version",
    "model is loaded": "Successfully loaded servable version",
    "ports are open": "Exporting HTTP/REST API",
}
"""What the server has done when it logs this."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    rounds: list[dict[str, float]] = []
    with local.models() as models:
        for _ in range(options.rounds):
            rounds.append(measure(models / "half_plus_two"))
    for step in rounds[0]:
        print(f"{step}: {statistics.median(each[step] for each in rounds):.1f} s")


def measure(base_path: Path) -> dict[str, float]:
    """Seconds from the start to each step; the last is from the signal to the end."""
    grpc_port, rest_port = free_port(), free_port()
    command = [
        str(Path(sys.executable).with_name("serving-app")), "model-server", f"--port={grpc_port}",
        f"--rest_api_port={rest_port}", "--model_name=half_plus_two", f"--model_base_path={base_path}",
    ]  # fmt: skip
    took: dict[str, float] = {}
    with tempfile.NamedTemporaryFile("w+") as log:
        began = time.monotonic()
        process = subprocess.Popen(command, stdout=log, stderr=log)
        for step, line in STEPS.items():
            local.wait_for(step, lambda line=line: line in Path(log.name).read_text())  # type: ignore[misc]
            took[step] = time.monotonic() - began
        url = f"http://127.0.0.1:{rest_port}/v1/models/half_plus_two:predict"
        local.wait_for("an answer", lambda: local.answers(url, BODY))
        took["first answer"] = time.monotonic() - began
        process.send_signal(signal.SIGTERM)
        stopping = time.monotonic()
        process.wait()
        took["end"] = time.monotonic() - stopping
    return took


if __name__ == "__main__":
    main()
