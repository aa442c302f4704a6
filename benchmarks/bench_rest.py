"""REST requests per second of half_plus_two: `serve run serving_app:app …` against the same as Ray's docs do it.

Both run on one local Ray cluster, in one run, in turn. Prints the medians of the rounds.

    python -m benchmarks.bench_rest [--rounds 3] [--seconds 5]
"""

from __future__ import annotations

import argparse
import statistics

from benchmarks import local, wrk

BODY = {"instances": [1.0, 2.0, 5.0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--connections", type=int, nargs="*", default=[1, 8, 64])
    options = parser.parse_args()
    with local.cluster() as cluster, local.models() as models:
        base_path = models / "half_plus_two"
        ours = cluster.serve_run("serving_app:app", model_name="half_plus_two", model_base_path=base_path)
        ours.wait_until_answering("half_plus_two", BODY)
        plain = cluster.deploy_naive(base_path / "1", BODY)
        targets = {
            "serving_app, own listener": ours.predict_url("half_plus_two"),
            "serving_app, Serve's door": cluster.door_url("/v1/models/half_plus_two:predict"),
            "as Ray's docs": plain,
        }
        print(f"{'':28}" + "".join(f"{f'c={c}':>28}" for c in options.connections))
        results: dict[tuple[str, int], list[wrk.Load]] = {}
        for _ in range(options.rounds):
            for connections in options.connections:
                for name, url in targets.items():
                    load = wrk.run(url, BODY, connections=connections, seconds=options.seconds)
                    results.setdefault((name, connections), []).append(load)
        for name in targets:
            cells = [_cell(results[name, connections]) for connections in options.connections]
            print(f"{name:28}" + "".join(f"{cell:>28}" for cell in cells))
        for connections in options.connections:
            ratio = _rate(results["serving_app, own listener", connections]) / _rate(
                results["as Ray's docs", connections]
            )
            print(f"c={connections}: {ratio:.1f} times as many requests as written after Ray's docs")
        ours_only = [loads for (name, _), loads in results.items() if name.startswith("serving_app")]
        failed = sum(load.failed for loads in ours_only for load in loads)
        print(f"failed requests of serving_app: {failed}")


def _rate(loads: list[wrk.Load]) -> float:
    return statistics.median(load.rate for load in loads)


def _cell(loads: list[wrk.Load]) -> str:
    median = statistics.median(load.median_ms for load in loads)
    return f"{_rate(loads):,.0f} rps ({median:.2f} ms)"


if __name__ == "__main__":
    main()
