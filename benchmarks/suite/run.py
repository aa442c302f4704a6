"""One run of the suite: chapter by chapter, round by round, door by door."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.ports import free_port
from benchmarks.suite import new_version, works
from benchmarks.suite.contenders import COLOCATED, CONTENDERS, OURS, Contender, Place, cpus, has_colocated
from benchmarks.suite.environments import Failed, tail
from benchmarks.suite.measure import LoadFailed, Target, wait_until_right
from benchmarks.suite.plan import FIXED_RATES, Chapter
from benchmarks.suite.processes import Server
from benchmarks.suite.ratios import HALF, IN_PROCESS_CPU, MOBILENET, NEW_VERSION
from benchmarks.suite.results import CLOSED, Key, Record, Results
from benchmarks.suite.works import ROOT, Work

IN_PROCESS = "in the process"
_START_PATIENCE_S = 180.0
_BATCHES = (1, 8, 16)
"""Images in one call of the model in the process, of which the one with the least CPU time per image counts."""


@dataclass(frozen=True)
class Options:
    """What is measured, and how long."""

    chapters: Sequence[Chapter]
    contenders: Sequence[str]
    rounds: int
    seconds: float
    home: Path
    grpc_client: str = "grpc"
    fixed_rates: Sequence[float] = FIXED_RATES


def run(options: Options, results: Results) -> None:
    """All of it, added to the results as it is found. Servers end with it, however it ends."""
    if OURS in options.contenders and not has_colocated():
        results.troubles.append(f"{OURS}, {COLOCATED}: models have no setting `placement` in this version")
    made = works.make(options.home / "models", [chapter.work for chapter in options.chapters])
    for chapter in options.chapters:
        _run_chapter(chapter, made[chapter.work], options, results)


def _run_chapter(chapter: Chapter, work: Work, options: Options, results: Results) -> None:
    options = replace(options, seconds=options.seconds * chapter.stretch)
    print(f"== {work.name}", flush=True)
    servers: list[Server] = []
    targets: list[Target] = []
    try:
        for name in options.contenders:
            contender = CONTENDERS[name]
            if contender.takes(work) and (chapter.contenders is None or name in chapter.contenders):
                targets += _start(contender, work, options, servers, results)
        for number in range(options.rounds):
            print(f"   round {number + 1} of {options.rounds}", flush=True)
            _run_in_process(work, options, results)
            for concurrency in chapter.concurrencies:
                for target in targets:
                    _measure_closed(target, concurrency, options, results)
        for _ in range(options.rounds if chapter.has_open else 0):
            for target in targets:
                _measure_open(target, options, results)
        if work.name == HALF and has_colocated():
            _measure_new_version(targets, options, results)
    finally:
        for server in servers:
            server.end()


def _start(contender: Contender, work: Work, options: Options, servers: list[Server],
           results: Results) -> list[Target]:  # fmt: skip
    """The doors of a server that has answered rightly at each, and stands still; none if it does not come so far."""
    folder = options.home / "run" / f"{work.name}-{contender.name.replace(' ', '-')}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    ports = {name: free_port() for name in ("http", "grpc", "other")}
    log = options.home / "logs" / f"{folder.name}.log"
    server = None
    try:
        command = contender.command(Place(work, ports, folder, options.home))
        server = Server(command, log, contender.cwd, contender.environment)
        servers.append(server)
        targets = [
            Target(contender.name, door, server, ports[door.port], work, folder) for door in contender.doors(work)
        ]
        began = time.monotonic()
        for target in targets:
            target.prepare()
            if (wrong := wait_until_right(target, _START_PATIENCE_S)) is not None:
                raise Failed(f"{target.name}: {wrong}; {log} ends with\n{tail(log)}")
    except Failed as failure:
        _report(results, f"{work.name}, {contender.name}: {failure}")
        if server is not None:
            server.end()
        return []
    print(f"   {contender.name} answers after {time.monotonic() - began:.1f} s", flush=True)
    server.stop()
    return targets


def _measure_closed(target: Target, concurrency: int, options: Options, results: Results) -> None:
    target.server.go_on()
    try:
        time.sleep(0.2)
        _add(results, target, target.closed(concurrency, options.seconds, client=options.grpc_client))
    except (LoadFailed, subprocess.SubprocessError) as failure:
        _report(results, f"{target.work.name}, {target.name}, c={concurrency}: {failure}")
    finally:
        target.server.stop()


def _measure_open(target: Target, options: Options, results: Results) -> None:
    door = target.door
    best = results.best_rate(target.work.name, target.contender, door.setup, door.protocol)
    if not best:
        return
    rates = [(best / 2, "half"), *((rate, rate) for rate in options.fixed_rates if rate < best * 0.8)]
    target.server.go_on()
    try:
        time.sleep(0.2)
        for rate, name in rates:
            _add(results, target, target.open(rate, name, options.seconds))
    except (LoadFailed, subprocess.SubprocessError) as failure:
        _report(results, f"{target.work.name}, {target.name}, open loop: {failure}")
    finally:
        target.server.stop()


def _measure_new_version(targets: Sequence[Target], options: Options, results: Results) -> None:
    target = next((each for each in targets if each.door.setup == COLOCATED and each.door.protocol == "rest"), None)
    if target is None:
        return
    target.server.go_on()
    try:
        results.figures[NEW_VERSION] = new_version.measure(target, max(3, options.rounds))
    except Failed as failure:
        _report(results, f"a new version: {failure}")
    finally:
        target.server.stop()


def _run_in_process(work: Work, options: Options, results: Results) -> None:
    try:
        _measure_in_process(work, options, results)
    except subprocess.SubprocessError as failure:
        _report(results, f"{work.name}, {IN_PROCESS}: {failure}")


def _measure_in_process(work: Work, options: Options, results: Results) -> None:
    for threads in sorted({1, cpus()}):
        found = _in_process(work, options, threads, 1)
        key = Key(work.name, IN_PROCESS, "", "call", CLOSED, threads)
        results.records.append(Record(key, found["rate"], found["p50_ms"], found["p99_ms"], 0, found["cpu_ms"]))
    if work.name == MOBILENET:
        least = min(_in_process(work, options, 1, joined)["cpu_ms"] for joined in _BATCHES)
        results.figures.setdefault(IN_PROCESS_CPU, []).append(least)


def _in_process(work: Work, options: Options, threads: int, joined: int) -> dict[str, float]:
    command = [
        sys.executable, "-m", "benchmarks.servers.in_process", str(work.base_path.parent), work.name, str(threads),
        str(joined), str(options.seconds),
    ]  # fmt: skip
    found: dict[str, float] = json.loads(
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
    )
    return found


def _add(results: Results, target: Target, record: Record) -> None:
    results.records.append(record)
    key = record.key
    load = f"c={key.load}" if key.loop == CLOSED else f"open, {key.load}"
    times = f"p50 {record.p50_ms:8.2f} ms  p99 {record.p99_ms:8.2f} ms"
    failed = f"  {record.failed} FAILED: {'; '.join(record.failures)[:300]}" if record.failed else ""
    print(f"   {target.name:40} {load:12} {record.rate:10,.1f} /s  {times}{failed}", flush=True)


def _report(results: Results, trouble: str) -> None:
    trouble = trouble.replace(f"{ROOT}/", "")  # results are kept with the project, wherever it lies
    results.troubles.append(trouble)
    print(f"   !! {trouble}", flush=True)
