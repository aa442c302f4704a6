"""How soon a version that was written to a disk is passed on: from its last byte to the event that has it.

    python -m benchmarks.bench_detection [VERSIONS]

The promise is one poll interval plus the settle time. Versions are written file by file at random times, to several
models at once, by another process, and polled by the real polls of the controller.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from serving_app.config import ServingConfig
from serving_app.core.events import Event, VersionsListed
from serving_app.serve.polling import Polling

_MODELS = 20
_INTERVAL_S = 1.0
_SETTLE_S = 1.0
_FILES = {
    "saved_model.pb": b"\x12\x02\x1a\x00",
    "variables/variables.data-00000-of-00001": b"0" * 100_000,
    "variables/variables.index": b"index",
}


def write_version(path: Path) -> float:
    """Write a version file by file; returns the time of its last byte."""
    for name, content in _FILES.items():
        file = path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        time.sleep(random.uniform(0, 0.05))
    return (path / "variables/variables.index").stat().st_mtime


def _write_all(home: str, versions: int) -> None:
    for number in range(versions):
        time.sleep(random.uniform(0, 0.2))
        model = Path(home) / f"model-{number % _MODELS}"
        print(f"model-{number % _MODELS} {1 + number // _MODELS} {write_version(model / str(1 + number // _MODELS))}")
        sys.stdout.flush()


async def _run(home: Path, versions: int) -> list[float]:
    for number in range(_MODELS):
        (home / f"model-{number}").mkdir()
    seen: dict[tuple[str, int], float] = {}
    complete = asyncio.Event()

    def emit(event: Event) -> None:
        if isinstance(event, VersionsListed):
            for version in event.versions:
                seen.setdefault((event.model, version), time.time())
            if len(seen) == versions:
                complete.set()

    settings = {"settle_s": _SETTLE_S, "version_policy": "all"}
    models = {name: {"base_path": str(home / name), **settings} for name in map("model-{}".format, range(_MODELS))}
    polling = Polling(emit)
    polling.watch(ServingConfig.model_validate({"models": models, "poll_interval_s": _INTERVAL_S}))
    writer = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.bench_detection", "write", str(home), str(versions)), stdout=subprocess.PIPE
    )
    written, _ = await writer.communicate()
    await asyncio.wait_for(complete.wait(), 60)
    polling.stop()
    lines = [line.split() for line in written.decode().splitlines()]
    return [seen[model, int(version)] - float(at) for model, version, at in lines]


def main() -> None:
    """Run it and print the figures."""
    if sys.argv[1:2] == ["write"]:
        _write_all(sys.argv[2], int(sys.argv[3]))
        return
    versions = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    with tempfile.TemporaryDirectory(prefix="serving-app-bench-") as home:
        delays = asyncio.run(_run(Path(home), versions))
    cuts = statistics.quantiles(delays, n=100)
    print(f"{versions} versions, polled every {_INTERVAL_S:g} s, settle time {_SETTLE_S:g} s")
    print(f"last byte to event: median {cuts[49]:.2f} s, p99 {cuts[98]:.2f} s, most {max(delays):.2f} s")
    print(f"promised: {_INTERVAL_S + _SETTLE_S:.2f} s")


if __name__ == "__main__":
    main()
