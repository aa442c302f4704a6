"""How long a new version of half_plus_two takes, from the first poll that sees it to the first answer it gives.

Against a Serve deployment that imports TensorFlow, from `serve.run` to its first answer; one version, and ten at once.

    python -m benchmarks.bench_new_version [--rounds 3]
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import time
from pathlib import Path

from ray import serve

from benchmarks import local, naive

BODY = {"instances": [1.0, 2.0, 5.0]}
AT_ONCE = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    one: dict[str, list[float]] = {"serving_app": [], "import tensorflow": []}
    ten: dict[str, list[float]] = {"serving_app": [], "import tensorflow": []}
    with local.cluster(num_cpus=32) as cluster, local.models() as models:
        source = models / "half_plus_two" / "1"
        base = models.parent / "bench"
        names = [f"m{index}" for index in range(AT_ONCE)]
        for name in names:
            (base / name).mkdir(parents=True)
        config = {name: str(base / name) for name in names}
        served = cluster.serve_run("serving_app:app", models=str(config).replace("'", ""))
        local.wait_for("the gateway", lambda: _is_up(served.rest_port))
        for round_number in range(1, options.rounds + 1):
            one["serving_app"].append(_ours(served, base, names[:1], source, 10 * round_number))
            one["import tensorflow"].append(_plain(source, 1))
            ten["serving_app"].append(_ours(served, base, names, source, 10 * round_number + 1))
            ten["import tensorflow"].append(_plain(source, AT_ONCE))
    for title, results in (("one version", one), (f"{AT_ONCE} versions at once", ten)):
        medians = {name: statistics.median(seconds) for name, seconds in results.items()}
        cells = ", ".join(f"{name} {median:.1f} s" for name, median in medians.items())
        print(f"{title}: {cells}; ratio {medians['serving_app'] / medians['import tensorflow']:.2f}")


def _is_up(port: int) -> bool:
    import socket

    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _ours(served: local.Served, base: Path, names: list[str], source: Path, version: int) -> float:
    """Drop a version into each model's directory; seconds until every one of them answers.

    Counted from the moment when the copies are complete, so the wait for the next poll is part of it.
    """
    for name in names:
        shutil.copytree(source, base / name / "incoming")
    started = time.monotonic()
    for name in names:
        (base / name / "incoming").rename(base / name / str(version))
    for name in names:
        url = f"http://127.0.0.1:{served.rest_port}/v1/models/{name}/versions/{version}:predict"
        local.wait_for(f"{name} version {version}", lambda url=url: local.answers(url, BODY))
    return time.monotonic() - started


def _plain(source: Path, count: int) -> float:
    """Seconds from `serve.run` until every one of `count` plain deployments has answered."""
    apps = [f"plain{index}" for index in range(count)]
    started = time.monotonic()
    targets = [
        serve.RunTarget(target=naive.Model.bind(str(source)), name=app, route_prefix=None)  # type: ignore[attr-defined]
        for app in apps
    ]
    for handle in serve.run_many(targets):
        handle.predict.remote([1.0]).result()
    taken = time.monotonic() - started
    for app in apps:
        serve.delete(app)
    return taken


if __name__ == "__main__":
    main()
