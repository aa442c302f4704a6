"""A thousand models in one controller's loop: what its polls and decisions cost, and how long anything else waits.

    python -m benchmarks.bench_thousand_models [SECONDS [MODELS]]

The polls and the manager are the real ones, in this process and without Ray; each model has three finished versions in
a store whose every call takes two milliseconds. The stores of some models hang, those of some fail, and some models
get a new version now and then. Loads succeed at once.
"""

from __future__ import annotations

import asyncio
import logging
import random
import statistics
import sys
import threading
import time
from typing import Any

import fsspec
from fsspec import AbstractFileSystem

from serving_app.config import ServingConfig, to_intents
from serving_app.core.actions import PublishRoutes, StartLoad, StartUnload
from serving_app.core.events import ConfigApplied, Event, ServableGone, ServableLoaded, Tick
from serving_app.core.manager import Manager
from serving_app.serve.polling import Polling

_LATENCY_S = 0.002
_HANGING = 50
_FAILING = 50
_NEW_VERSION_EVERY_S = 0.5
_PROBE_S = 0.005

_calls = 0
_newest: dict[str, int] = {}
_released = threading.Event()


class SlowFileSystem(AbstractFileSystem):
    """Models with three versions each, behind two milliseconds; `/hang-…` never answers, `/fail-…` refuses."""

    protocol = "slow"

    def _wait(self, path: str) -> None:
        global _calls
        _calls += 1
        time.sleep(_LATENCY_S)
        if "/hang-" in path:
            _released.wait()
        if "/fail-" in path:
            raise ConnectionError("the store is away")

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        self._wait(path)
        last = _newest.get(path, 3)
        return [{"name": f"{path}/{number}", "type": "directory", "size": 0} for number in range(last - 2, last + 1)]

    def find(self, path: str, maxdepth: Any = None, withdirs: bool = False, detail: bool = False, **_: Any) -> Any:
        self._wait(path)
        names = ["saved_model.pb", "variables/variables.index", "variables/variables.data-00000-of-00001"]
        return {f"{path}/{name}": {"name": f"{path}/{name}", "size": 1000, "etag": "1", "mtime": 0.0} for name in names}

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return path.removeprefix("slow:/")

    def unstrip_protocol(self, name: str) -> str:
        return f"slow:/{name}"


def _configure(count: int) -> ServingConfig:
    kinds = ["hang"] * _HANGING + ["fail"] * _FAILING + ["good"] * (count - _HANGING - _FAILING)
    random.Random(1).shuffle(kinds)
    return ServingConfig.model_validate(
        {"models": {f"model-{number}": f"slow://b/{kind}-{number}" for number, kind in enumerate(kinds)}}
    )


async def _run(seconds: float, count: int) -> None:
    config = _configure(count)
    manager, inbox = Manager(), asyncio.Queue[Event]()
    polling = Polling(inbox.put_nowait)
    lags: list[float] = []
    handled = loads = 0
    probe = asyncio.create_task(_probe(lags))
    writer = asyncio.create_task(_write([model.base_path for model in config.models]))
    inbox.put_nowait(ConfigApplied(to_intents(config)))
    inbox.put_nowait(Tick())
    polling.watch(config)
    warm_calls, warm_cpu, warm_at = 0, 0.0, 0.0
    started = time.monotonic()
    while (elapsed := time.monotonic() - started) < seconds:
        if not warm_at and elapsed > min(5.0, seconds / 4):
            _print_lags("the first seconds", lags)
            warm_calls, warm_cpu, warm_at = _calls, time.process_time(), time.monotonic()
            lags.clear()
        events = await _gather(inbox)
        for action in manager.handle(*events, now=time.time()):
            handled += 1
            match action:
                case StartLoad():
                    loads += 1
                    inbox.put_nowait(ServableLoaded(action.servable, str(action.servable), {}, action.order))
                case StartUnload():
                    inbox.put_nowait(ServableGone(action.servable, action.order))
                case PublishRoutes():
                    pass
        manager.take_happenings()
    took = time.monotonic() - warm_at
    _print_lags("after that", lags)
    print(f"threads                   {threading.active_count()}")
    print(f"calls of the store        {(_calls - warm_calls) / took:.0f} per second")
    print(f"versions loaded           {loads}")
    print(f"CPU                       {(time.process_time() - warm_cpu) / took:.2f} of a core")
    for task in (probe, writer):
        task.cancel()
    polling.stop()
    _released.set()


async def _gather(inbox: asyncio.Queue[Event]) -> list[Event]:
    try:
        events = [await asyncio.wait_for(inbox.get(), 1.0)]
    except TimeoutError:
        return [Tick()]
    while not inbox.empty():
        events.append(inbox.get_nowait())
    return events


async def _probe(lags: list[float]) -> None:
    """How much later than asked the loop comes back."""
    while True:
        before = time.monotonic()
        await asyncio.sleep(_PROBE_S)
        lags.append(time.monotonic() - before - _PROBE_S)


async def _write(base_paths: list[str]) -> None:
    """Now and then some model gets a new version."""
    good = [path.removeprefix("slow:/") for path in base_paths if "/good-" in path]
    while True:
        await asyncio.sleep(_NEW_VERSION_EVERY_S)
        path = random.choice(good)
        _newest[path] = _newest.get(path, 3) + 1


def _print_lags(when: str, lags: list[float]) -> None:
    cuts = statistics.quantiles(lags, n=100)
    print(
        f"lag of the loop, {when:<17} median {cuts[49] * 1000:.1f} ms, p99 {cuts[98] * 1000:.1f} ms, "
        f"most {max(lags) * 1000:.1f} ms"
    )


def main() -> None:
    """Run it and print the figures."""
    logging.basicConfig(level=logging.ERROR)
    fsspec.register_implementation("slow", SlowFileSystem)
    seconds, count = [*map(float, sys.argv[1:]), *[60.0, 1000.0][len(sys.argv) - 1 :]]
    print(f"{count:.0f} models, polled every second; the stores of {_HANGING} hang, those of {_FAILING} fail")
    asyncio.run(_run(seconds, int(count)))


if __name__ == "__main__":
    main()
