"""Resident memory of the gateway, the controller and Serve's proxy under load, and whether they hold TensorFlow.

    python -m benchmarks.bench_memory
"""

from __future__ import annotations

import re
from pathlib import Path

from benchmarks import local, wrk

BODY = {"instances": [1.0, 2.0, 5.0]}
LIMIT_MB = 220
WATCHED = {"gateway": "Gateway", "controller": "Controller", "proxy": "ProxyActor"}
COMPARED = {"Serve's own controller": "ServeController", "a version's replica": "Servable"}


def main() -> None:
    with local.cluster() as cluster, local.models() as models:
        served = cluster.serve_run(
            "serving_app:app", model_name="half_plus_two", model_base_path=models / "half_plus_two"
        )
        served.wait_until_answering("half_plus_two", BODY)
        for url in (served.predict_url("half_plus_two"), cluster.door_url("/v1/models/half_plus_two:predict")):
            wrk.run(url, BODY, connections=64, seconds=5)
        for title, name in {**WATCHED, **COMPARED}.items():
            for process in _processes(name):
                verdict = ""
                if title in WATCHED:
                    verdict = "ok" if _rss_mb(process) < LIMIT_MB and not _holds_tensorflow(process) else "TOO MUCH"
                held = "holds TensorFlow's library" if _holds_tensorflow(process) else "no TensorFlow"
                print(f"{title:24}{_rss_mb(process):6.0f} MB  {held}  {verdict}")


def _processes(name: str) -> list[Path]:
    """The processes of Ray actors of this class, by the title that Ray gives them."""
    pattern = re.compile(rf"ray::(ServeReplica:[^\0]*)?{name}\b")
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            title = (process / "cmdline").read_text(errors="replace")
        except OSError:
            continue
        if pattern.match(title):
            found.append(process)
    return found


def _rss_mb(process: Path) -> float:
    found = re.search(r"VmRSS:\s+(\d+) kB", (process / "status").read_text())
    return int(found[1]) / 1024 if found else 0.0


def _holds_tensorflow(process: Path) -> bool:
    return "libtensorflow" in (process / "maps").read_text()


if __name__ == "__main__":
    main()
