"""`serving-app batch`: score the rows of files by a model, and go on where it was cut short."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from serving_app.cli import asking
from serving_app.cli.cluster import join_or_start_ray, leave_ray
from serving_app.cli.store_options import add_store_options, read_store_options
from serving_app.core.errors import DeadlineExceeded, FailedPrecondition, InvalidArgument, Unavailable

if TYPE_CHECKING:  # it needs the extra `data`
    from serving_app.data.batch import BatchRequest, Begun, Progress, Summary

_LINE_EVERY_S = 30.0
"""Between two lines about the progress where nobody looks on."""
_PATIENCE_S = 10.0
"""How long workers may take to come up until it is told what they wait for."""


def add_to(commands: Any) -> None:
    """Add this command to the command line."""
    parser = commands.add_parser(
        "batch", help="score the rows of files by a model", description=__doc__,
        usage="serving-app batch (--model MODEL | --base-path PATH) --input PATH ... --output PATH [flags]",
    )
    parser.add_argument("--model", help="the model's name; with --base-path it may be left out")
    parser.add_argument("--version", type=int, help="the version's number (default: the latest one that is ready)")
    parser.add_argument("--label", help="the version's label")
    parser.add_argument(
        "--base-path", metavar="PATH", help="score by a model that nobody serves: its base path, or a version's own"
    )
    parser.add_argument(
        "--input", metavar="PATH", nargs="+", action="extend", required=True,
        help="files, directories or patterns: Parquet, CSV, JSON Lines",
    )
    parser.add_argument("--output", metavar="PATH", required=True, help="the directory for the result")
    parser.add_argument(
        "--errors", metavar="PATH",
        help="a directory for rows that cannot be scored; without, the first of them ends the work",
    )
    add_store_options(parser, "--storage-options", "the base path")
    add_store_options(parser, "--input-storage-options", "the input")
    add_store_options(parser, "--output-storage-options", "the output, and the errors")
    parser.add_argument("--signature", default="serving_default", help="the signature (default: serving_default)")
    parser.add_argument(
        "--inputs", metavar="INPUT=COLUMN[,COLUMN...]", nargs="+", action="extend", default=[],
        help="the columns of an input, if it has not its name",
    )
    parser.add_argument(
        "--outputs", metavar="OUTPUT[=COLUMN]", nargs="+", action="extend",
        help="the outputs that are wanted, and names for their columns (default: all)",
    )
    parser.add_argument(
        "--keep", metavar="COLUMN", nargs="*", help="the columns of the input that are kept (default: all)"
    )
    parser.add_argument(
        "--how", choices=("local", "live"), default="local",
        help="load the version in workers of this work, or call the one that serves (default: local)",
    )
    parser.add_argument("--workers", type=int, help="processes that score (default: as many as find CPUs; live: 1)")
    parser.add_argument("--cpus", type=float, default=1.0, help="CPUs of each worker (default: 1)")
    parser.add_argument("--gpus", type=float, help="GPUs of each worker (default: those of a replica of the model)")
    parser.add_argument("--batch-size", type=int, default=4096, help="rows of one run (default: 4096)")
    parser.add_argument("--rows-per-call", type=int, default=256, help="live: rows of one call (default: 256)")
    parser.add_argument("--max-in-flight", type=int, default=4, help="live: a worker's calls at a time (default: 4)")
    parser.add_argument(
        "--timeout", type=float, default=300.0, help="live: seconds for a call with all its retries (default: 300)"
    )
    asking.add_json(parser)
    asking.add_app(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the command."""
    try:
        from serving_app.data import batch
    except ImportError as error:
        raise FailedPrecondition(f"batches need {error.name}: install serving-app[data]") from error
    request = to_request(options)
    with _cluster(options):
        workers = options.workers or _default_workers(options)
        begun = batch.begin(request, workers)
        follower = Follower(begun, f"{options.cpus:g} CPUs" + (f" and {options.gpus:g} GPUs" if options.gpus else ""))
        follower.begin()
        try:
            summary = batch.run(begun, lambda: batch.hire(begun, workers, options.cpus, options.gpus), follower.tell)
        except DeadlineExceeded as error:  # of calls to the model: other than the controller's it is no reason for 4
            raise Unavailable(error.message) from error
        finally:
            follower.end()
    print(json.dumps(_document(summary)) if options.json else sentence(summary, request))
    return asking.FINE


def to_request(options: argparse.Namespace) -> BatchRequest:
    """What the command line asks for. Raises InvalidArgument where it makes no sense."""
    from serving_app.data.batch import BatchRequest

    if options.workers is not None and options.workers < 1:
        raise InvalidArgument("--workers is at least 1")
    if not options.cpus > 0:
        raise InvalidArgument("--cpus is above 0")
    storage_options = read_store_options("--storage-options", options.storage_options)
    if storage_options and options.base_path is None:
        raise InvalidArgument("--storage-options are for a --base-path; an app that serves knows the way to its models")
    return BatchRequest(
        inputs=tuple(options.input),
        output=options.output,
        model=options.model,
        version=options.version,
        label=options.label,
        app=options.name,
        base_path=options.base_path,
        how=options.how,
        signature_name=options.signature,
        input_columns={name: columns.split(",") for name, columns in _pairs("--inputs", options.inputs)},
        output_columns=None if options.outputs is None else dict(_pairs("--outputs", options.outputs, bare=True)),
        keep=None if options.keep is None else tuple(options.keep),
        errors=options.errors,
        batch_rows=options.batch_size,
        rows_per_call=options.rows_per_call,
        max_in_flight=options.max_in_flight,
        timeout=options.timeout,
        storage_options=storage_options,
        input_options=read_store_options("--input-storage-options", options.input_storage_options),
        output_options=read_store_options("--output-storage-options", options.output_storage_options),
    )


def _pairs(flag: str, given: Sequence[str], *, bare: bool = False) -> Iterator[tuple[str, str]]:
    names: set[str] = set()
    for each in given:
        name, equals, value = each.partition("=")
        if bare and not equals:
            value = name
        if not name or not value:
            raise InvalidArgument(f"{flag} {each!r} is not of the form NAME=COLUMN")
        if name in names:
            more = "" if bare else f"; several columns of one input are written {name}=COLUMN,COLUMN"
            raise InvalidArgument(f"{flag} names {name!r} twice{more}")
        names.add(name)
        yield name, value


@contextmanager
def _cluster(options: argparse.Namespace) -> Iterator[None]:
    """The cluster of the serving app; for a model that nobody serves also one of our own, if there is none."""
    if options.base_path is None:
        asking.open_control(options)
        yield
        return
    started = join_or_start_ray(options.address, _say)
    try:
        yield
    finally:
        leave_ray(started, _say)


def _default_workers(options: argparse.Namespace) -> int:
    import ray

    if options.how == "live":
        return 1
    return max(1, int(ray.available_resources().get("CPU", 1.0) // options.cpus))


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


class Follower:
    """Tells on standard error how far the work is: in one line that changes for people, in a few lines else."""

    def __init__(self, begun: Begun, needs: str) -> None:
        self._begun = begun
        self._needs = needs
        self._has_complained = False
        self._is_terminal = sys.stderr.isatty()
        self._next_at = _LINE_EVERY_S
        self._shown = 0

    def begin(self) -> None:
        """Tell what is to be done."""
        plan, left = self._begun.plan, self._begun.left
        rows = "rows" if plan.rows is None else f"{plan.rows} rows"
        _say(f"{rows} of {_count(len(plan.files), 'file')}, scored by version {plan.version} of {plan.model}")
        if done := len(plan.cuts) - len(left):
            _say(f"going on: {done} of {len(plan.cuts)} parts are done")

    def tell(self, progress: Progress) -> None:
        """Tell how far it is, if it is time to."""
        if progress.is_waiting:
            self._complain(progress)
            return
        line = progress_line(progress)
        if self._is_terminal:
            print(f"\r{line.ljust(self._shown)}", end="", file=sys.stderr, flush=True)
            self._shown = len(line)
        elif progress.seconds >= self._next_at:
            _say(line)
            self._next_at = progress.seconds + _LINE_EVERY_S

    def _complain(self, progress: Progress) -> None:
        if progress.seconds >= _PATIENCE_S and not self._has_complained:
            self._has_complained = True
            _say(f"no worker is up yet: each needs {self._needs} that are free on the cluster, and loads the version")

    def end(self) -> None:
        """Leave the line that changed as it is."""
        if self._shown:
            _say("")


def progress_line(progress: Progress) -> str:
    """How far a work is, in one line."""
    rate = progress.rows / progress.seconds if progress.seconds > 0 else 0.0
    if progress.total is None:
        return f"{progress.rows} rows, {rate:.0f} rows/s"
    share = progress.rows / progress.total if progress.total else 1.0
    return f"{share:4.0%}  {progress.rows} of {progress.total} rows, {rate:.0f} rows/s"


def sentence(summary: Summary, request: BatchRequest) -> str:
    """What became of the work, in one line."""
    words = (
        f"{summary.rows_in} rows in, {summary.rows_out} out in {_count(summary.parts, 'part')}, "
        f"{summary.rows_set_aside} set aside; by version {summary.servable.version} of {summary.servable.name}; "
    )
    now = summary.rows_in - summary.rows_from_before
    rate = now / summary.seconds if summary.seconds > 0 else 0.0
    words += f"{now} rows in {summary.seconds:.1f} s" if now else "all of it was done before"
    words += f", {rate:.0f} rows/s" if now else ""
    return f"{words}: {request.output}"


def _document(summary: Summary) -> dict[str, Any]:
    document = asdict(summary)
    servable = document.pop("servable")
    return {"model": servable["name"], "version": servable["version"], **document}


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
