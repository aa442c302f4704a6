"""The command: a Ray cluster of its own, a soak on it, the verdict."""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
import tempfile

import benchmarks.soak


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.soak", description=benchmarks.soak.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--minutes", type=float, default=30.0, help="how long versions come and go (default: 30)")
    parser.add_argument("--models", type=int, default=20, help="how many models are served (default: 20)")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="what happens (default: by chance)")
    parser.add_argument(
        "--every", type=float, default=4.0, metavar="SECONDS", help="time between two happenings (default: 4)"
    )
    given = parser.parse_args()
    # Before Ray is imported, which reads it then.
    os.environ.setdefault("RAY_SERVE_LOG_TO_STDERR", "0")
    import ray
    from ray import serve
    from ray.serve.config import ProxyLocation

    from benchmarks.soak.soak import Options, soak

    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # Ray's sockets lie below it, and their names must be short
    ray.init(
        address="local", num_cpus=8, include_dashboard=False, log_to_driver=False, logging_level="ERROR",
        _temp_dir=folder,
    )  # fmt: skip
    try:
        serve.start(proxy_location=ProxyLocation.Disabled)
        print(f"soaking for {given.minutes:g} minutes with seed {given.seed}", flush=True)
        report = soak(Options(given.minutes * 60, models=given.models, seed=given.seed, every_s=given.every))
    finally:
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)
    print(report)
    return 1 if report.violations else 0


if __name__ == "__main__":
    sys.exit(main())
