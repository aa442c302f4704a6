"""The command: `python -m benchmarks.suite --help`."""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
from dataclasses import replace
from pathlib import Path

import benchmarks.suite
from benchmarks.suite import machine, plots, ratios, report
from benchmarks.suite.contenders import CONTENDERS
from benchmarks.suite.environments import Failed, python_of
from benchmarks.suite.plan import FULL, QUICK, Chapter
from benchmarks.suite.results import Results
from benchmarks.suite.run import Options, run
from benchmarks.suite.works import ROOT


def main() -> int:
    """Run the command; 0 unless a request failed or something could not be measured."""
    options = _parser().parse_args()
    if options.report is not None:
        kept = json.loads(options.report.read_text())
        results, described = Results.from_json(kept["results"]), kept["machine"]
    elif options.install:
        return _install(options.contenders, options.home)
    else:
        if shutil.which("wrk") is None:
            sys.exit("the suite needs wrk: apt-get install wrk")
        signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))
        results, described = Results(), machine.describe()
        try:
            run(_options(options), results)
        except KeyboardInterrupt:
            results.troubles.append("the run was ended before it was done")
    found = ratios.compute(results)
    page = report.write(results, found, described)
    print(page)
    if options.write is not None:
        options.write.mkdir(parents=True, exist_ok=True)
        kept = {"machine": described, "results": results.to_json()}
        (options.write / "results.json").write_text(json.dumps(kept, indent=1) + "\n")
        (options.write / "README.md").write_text(page)
        plots.draw(results, options.write)
    return 1 if results.troubles or any(record.failed for record in results.records) else 0


def _options(options: argparse.Namespace) -> Options:
    chapters: tuple[Chapter, ...] = QUICK if options.quick else FULL
    if options.models:
        known = {chapter.work: chapter for chapter in (*FULL, *chapters)}
        chapters = tuple(known[name] for name in options.models)
    if options.no_open:
        chapters = tuple(replace(chapter, has_open=False) for chapter in chapters)
    if options.concurrency:
        chapters = tuple(replace(chapter, concurrencies=tuple(options.concurrency)) for chapter in chapters)
    return Options(
        chapters,
        options.contenders or list(CONTENDERS),
        options.rounds or (2 if options.quick else 5),
        options.seconds or (2.0 if options.quick else 4.0),
        options.home,
        options.grpc_client,
        () if options.quick else Options.fixed_rates,
    )


def _install(names: list[str], home: Path) -> int:
    """Make the environments and nothing else."""
    failed = 0
    for requirements in sorted((ROOT / "benchmarks" / "peers").glob("*.txt")):
        try:
            print(python_of(requirements.stem, home))
        except Failed as failure:
            print(f"{requirements.stem} {failure}", file=sys.stderr)
            failed = 1
    return failed


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.suite", description=benchmarks.suite.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="what the table of ratios needs, in about twenty minutes")
    parser.add_argument("--models", nargs="+", choices=[chapter.work for chapter in FULL], help="only these models")
    parser.add_argument("--contenders", nargs="+", choices=list(CONTENDERS), help="only these servers")
    parser.add_argument("--concurrency", nargs="+", type=int, help="these concurrencies of closed loops")
    parser.add_argument("--no-open", action="store_true", help="no open loops")
    parser.add_argument("--rounds", type=int, help="rounds (5, quick 2)")
    parser.add_argument("--seconds", type=float, help="seconds of each window (4, quick 2)")
    parser.add_argument("--grpc-client", choices=["grpc", "grpcio"], default="grpc",
                        help="the load generator of the suite, or gRPC's own client for Python")  # fmt: skip
    parser.add_argument("--home", type=Path, default=ROOT / ".bench", help="where environments, models, logs lie")
    parser.add_argument("--write", type=Path, help="write results.json, README.md and the plots into this folder")
    parser.add_argument("--report", type=Path, help="measure nothing; report from this results.json")
    parser.add_argument("--install", action="store_true", help="make the environments of the peers and end")
    return parser


if __name__ == "__main__":
    sys.exit(main())
