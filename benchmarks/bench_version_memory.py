"""What a version that came and went leaves in the processes that had to do with it, with handles closed as Serve closes
them and as serving_app does.

    python -m benchmarks.bench_version_memory [--rounds 8]

In each round six Serve applications are deployed by one process, called by two others, and deleted; one of the callers
closes its handles by Serve's own means. The figures are the growth of each process per application, after a collection
of garbage and `malloc_trim`; the first round does not count.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import gc
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

_AT_ONCE = 6


class Size(NamedTuple):
    """What a process takes: KB of memory, and objects of Python's."""

    resident: float
    objects: int


def measure() -> Size:
    """What this process takes without what it could give back."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return Size(pages * os.sysconf("SC_PAGE_SIZE") / 1024, len(gc.get_objects()))


class Caller:
    """Calls applications by handles, as a gateway does."""

    def __init__(self, is_ours: bool) -> None:
        self._is_ours = is_ours

    async def call(self, apps: list[str]) -> None:
        """Call each of these once, and close the handle."""
        from serving_app import ray_private

        for app in apps:
            handle = await ray_private.open_handle(app)
            await ray_private.inline(handle, "answer").remote(1)
            if self._is_ours:
                await ray_private.close_handle(app, handle)
            else:
                await handle.shutdown_async()

    async def measure(self) -> Size:
        """What this process takes now, when what is under way has ended."""
        await asyncio.sleep(2.0)
        return measure()


class Deployer:
    """Deploys and deletes applications, as the controller does."""

    def deploy(self, apps: list[str]) -> None:
        """Deploy these; returns when they run."""
        from ray import serve

        from serving_app import ray_private

        @serve.deployment(name="servable", ray_actor_options={"num_cpus": 0}, graceful_shutdown_wait_loop_s=0.1)
        class Servable:
            def answer(self, number: int) -> int:
                return number

        ray_private.deploy([serve.RunTarget(target=Servable.bind(), name=app, route_prefix=None) for app in apps])
        while any(self._states().get(app) != "RUNNING" for app in apps):
            time.sleep(0.1)

    def delete(self, apps: list[str]) -> None:
        """Delete these; returns when they are gone."""
        from serving_app import ray_private

        for app in apps:
            ray_private.delete_app(app)
        while set(apps) & self._states().keys():
            time.sleep(0.1)

    def measure(self) -> Size:
        """What this process takes now."""
        return measure()

    def _states(self) -> dict[str, str]:
        from ray import serve

        return {name: app.status.value for name, app in serve.status().applications.items()}


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=8, help="how many times six applications come and go")
    rounds: int = parser.parse_args().rounds
    os.environ.setdefault("RAY_SERVE_LOG_TO_STDERR", "0")
    import ray
    from ray import serve
    from ray.serve.config import ProxyLocation

    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # Ray's sockets lie below it, and their names must be short
    ray.init(
        address="local", num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level="ERROR",
        _temp_dir=folder,
    )  # fmt: skip
    try:
        serve.start(proxy_location=ProxyLocation.Disabled)
        caller, deployer = ray.remote(num_cpus=0)(Caller), ray.remote(num_cpus=0)(Deployer)
        actors: dict[str, Any] = {
            "closes handles as Serve does": caller.remote(False),
            "closes handles as serving_app does": caller.remote(True),
            "deploys and deletes": deployer.remote(),
        }
        *callers, deploying = actors.values()
        before: list[Size] = []
        for number in range(rounds + 1):
            apps = [f"m{each}@{number}" for each in range(_AT_ONCE)]
            ray.get(deploying.deploy.remote(apps))
            ray.get([each.call.remote(apps) for each in callers])
            ray.get(deploying.delete.remote(apps))
            if number == 0:
                before = ray.get([actor.measure.remote() for actor in actors.values()])
        after: list[Size] = ray.get([actor.measure.remote() for actor in actors.values()])
    finally:
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)
    print("| process | stays per version | Python objects |\n|---|---|---|")
    for what, old, new in zip(actors, before, after, strict=True):
        count = rounds * _AT_ONCE
        grown, objects = (new.resident - old.resident) / count, (new.objects - old.objects) / count
        print(f"| {what} | {grown:.0f} KB | {objects:.0f} |")


if __name__ == "__main__":
    main()
