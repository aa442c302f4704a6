"""The object that holds loaded servables: loads, answers, unloads.

Every method blocks and may be called from any thread; callers on an event loop hand it to a thread. A version that is
being unloaded answers what it has begun and refuses what comes later.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from serving_app.core.batching import Batching
from serving_app.core.errors import Code, DeadlineExceeded, InvalidArgument, NotFound, ServingError, as_serving_error
from serving_app.core.metrics import Registry
from serving_app.core.servable import ServableId
from serving_app.core.signatures import Signature
from serving_app.host.assignment import Assignment
from serving_app.host.batching import count_filling, join, row_count, split
from serving_app.host.meter import RunMeter, WarmupMeter
from serving_app.host.warmup import warm_up
from serving_app.protocol.batching_proto import parse_batching
from serving_app.protocol.calls import JOINT, Answer, Call, Outputs, Reply
from serving_app.protocol.joined_calls import members_of
from serving_app.runtime.joint import run_joint
from serving_app.runtime.loader import Servable, loader_for
from serving_app.store import Copy, fetch

logger = logging.getLogger(__name__)

Tell = Callable[[str], None]
"""Told in words how far a load is, a few times a second at most."""

BATCHING_FILE = "batching_params.pbtxt"
"""Where a version's own limits of batching lie, below its directory."""

_NOT_THE_MEMBERS_FAULT = frozenset({Code.DEADLINE_EXCEEDED, Code.CANCELLED, Code.UNAVAILABLE, Code.RESOURCE_EXHAUSTED})
"""Errors of a joined run that running its members one by one would only repeat, more slowly."""


class Host:
    """Loaded servables by id. What it counts is in `registry`."""

    def __init__(self, registry: Registry | None = None) -> None:
        self._registry = registry or Registry()
        self._held: dict[ServableId, tuple[Servable, Assignment, Copy]] = {}
        self._meters: dict[ServableId, RunMeter] = {}
        self._lock = threading.Lock()

    def load(self, assignment: Assignment, tell: Tell = lambda _: None) -> Mapping[str, Signature]:
        """Fetch, load, warm up and hold a version; returns its signatures.

        Nobody can ask a version before it is warm. One that is held already is replaced once the new one is. Raises
        a ServingError that says what is wrong.
        """
        copy = fetch(
            assignment.path,
            assignment.cache_dir,
            assignment.storage_options,
            max_bytes=assignment.cache_max_bytes,
            progress=lambda done, total: tell(f"fetched {done / 1e6:.1f} of {total / 1e6:.1f} MB"),
        )
        try:
            if assignment.batching_from_version:
                assignment = replace(assignment, batching=_read_batching(copy.path, assignment.batching))
            servable = _load_and_warm_up(assignment, copy.path, tell, self._registry)
        except BaseException:
            copy.release()
            raise
        with self._lock:
            replaced = self._held.get(assignment.servable)
            self._meters[assignment.servable] = RunMeter(self._registry, assignment.servable)
            self._held[assignment.servable] = (servable, assignment, copy)
        if replaced is not None:
            _let_go(*replaced)
        return servable.signatures

    def unload(self, servable_id: ServableId) -> None:
        """Let go of a version. Waits for its runs; unknown versions are nothing to do."""
        with self._lock:
            held = self._held.pop(servable_id, None)
            self._meters.pop(servable_id, None)
        if held is not None:
            _let_go(*held)

    def run(self, servable_id: ServableId, call: Call) -> Reply:
        """One call, alone."""
        held = self._held.get(servable_id) or self._find(servable_id)
        meter = self._meters.get(servable_id) or RunMeter(self._registry, servable_id)
        return _run_alone(held[0], None, meter, call)

    def may_loop(self, servable_id: ServableId) -> bool:
        """Whether a request may decide how long the version runs."""
        return bool(getattr(self._find(servable_id)[0], "may_loop", False))

    def batching(self, servable_id: ServableId) -> Batching | None:
        """The limits that hold for a version: those of its assignment, or its own; None if it is not batched."""
        return self._find(servable_id)[1].batching

    def batched(self) -> Mapping[ServableId, Batching]:
        """The versions that are batched, and by which limits."""
        held = dict(self._held)
        return {servable: entry[1].batching for servable, entry in held.items() if entry[1].batching is not None}

    def set_batching(self, servable_id: ServableId, batching: Batching | None, from_version: bool) -> None:
        """Have a version batched by these limits from now on, which are meant as those of an Assignment are.

        Raises InvalidArgument if the version's own file cannot be obeyed; then nothing changes. Blocks for that file.
        """
        _, assignment, copy = self._find(servable_id)
        if from_version:
            batching = _read_batching(copy.path, batching)
        with self._lock:
            held = self._held.get(servable_id)
            if held is not None and held[2] is copy:
                changed = replace(assignment, batching=batching, batching_from_version=from_version)
                self._held[servable_id] = (held[0], changed, copy)

    def run_batch(self, servable_id: ServableId, calls: Sequence[Call], limits: Batching | None = None) -> Answer:
        """Calls of one kind (see `batching.kind_of`), joined ones among them, as one run.

        Together they have no more rows than `limits` allow, which are the version's own if there are none. Where the
        run fails because of some requests the others are answered all the same.
        """
        servable, assignment, _ = self._find(servable_id)
        return _run_batch(servable, calls, limits or assignment.batching or Batching())

    def _find(self, servable_id: ServableId) -> tuple[Servable, Assignment, Copy]:
        held = self._held.get(servable_id)
        if held is None:
            raise NotFound(f"Servable not found for request: Specific({servable_id.name}, {servable_id.version})")
        return held


def _load_and_warm_up(assignment: Assignment, path: str, tell: Tell, registry: Registry) -> Servable:
    tell("loading its files")
    servable = loader_for(assignment.platform).load(path, assignment.load)
    limits = assignment.batching
    run = partial(_run_alone, servable, limits, RunMeter(registry, assignment.servable))
    sizes = limits.allowed_batch_sizes if limits else ()
    meter = WarmupMeter(registry, assignment.path)
    tell("warming up")
    try:
        warm_up(assignment.servable, path, servable.signatures, assignment.warmup, run, sizes, meter)
    except BaseException:
        servable.close()
        raise
    return servable


def _let_go(servable: Servable, _: Assignment, copy: Copy) -> None:
    # A runtime may read from its files for as long as it is open.
    try:
        servable.close()
    finally:
        copy.release()


def _run_one(servable: Servable, call: Call) -> Reply:
    try:
        if call.signature_name == JOINT:
            return run_joint(servable, call)
        return servable.run(call.signature_name, call.inputs, call.outputs, call.timeout)
    except ServingError as error:
        return error
    except Exception as error:  # a runtime's mistake is the outcome of this run, and of no other
        logger.exception("a run of signature %r failed unexpectedly", call.signature_name)
        return as_serving_error(error)


def _run_alone(servable: Servable, limits: Batching | None, meter: RunMeter, call: Call) -> Reply:
    """One call as it runs when it finds no company: with batching as a batch of its own."""
    started = time.perf_counter()
    reply = _run_one(servable, call) if limits is None else _run_batch_of_one(servable, limits, meter, call)
    meter.ran(call, reply, time.perf_counter() - started)
    return reply


def _run_batch_of_one(servable: Servable, limits: Batching, meter: RunMeter, call: Call) -> Reply:
    try:
        rows = row_count(call)
        meter.came(call, (rows,))
        meter.joined(rows, count_filling(rows, limits.allowed_batch_sizes))
        return _run_requests(servable, [call], limits)[0]
    except ServingError as error:
        return error


def _run_batch(servable: Servable, calls: Sequence[Call], limits: Batching) -> Answer:
    started = time.monotonic()
    reply = _run_joined(servable, calls, limits)
    requests = [call.requests for call in calls]
    if not isinstance(reply, ServingError):
        replies: list[Reply] = [*reply]
    elif requests == [1] or reply.code in _NOT_THE_MEMBERS_FAULT:
        replies = [reply] * len(calls)
    else:
        apart = [request for call in calls for request in members_of(call)]
        return Answer(_run_halves(servable, apart, limits, reply, started), time.monotonic() - started)
    is_joined = len(requests) != sum(requests)
    return Answer(replies, time.monotonic() - started, tuple(requests) if is_joined else ())


def _run_joined(servable: Servable, calls: Sequence[Call], limits: Batching) -> list[Outputs] | ServingError:
    """The outputs of each call, by one run, or what went wrong with that."""
    rows = [row_count(call) for call in calls]
    filling = count_filling(sum(rows), limits.allowed_batch_sizes)
    reply = _run_one(servable, join(calls, filling))
    if isinstance(reply, ServingError):
        return reply
    try:
        return split(reply, rows, filling)
    except ServingError as error:
        return error


def _run_requests(servable: Servable, batch: Sequence[Call], limits: Batching) -> list[Reply]:
    """All in one run. If that fails each half is tried by itself, so that in the end only bad members have failed.

    Every run, also of a half, obeys the limits.
    """
    started = time.monotonic()
    reply = _run_joined(servable, batch, limits)
    if not isinstance(reply, ServingError):
        return [*reply]
    if len(batch) == 1 or reply.code in _NOT_THE_MEMBERS_FAULT:
        return [reply] * len(batch)
    return _run_halves(servable, batch, limits, reply, started)


def _run_halves(
    servable: Servable, batch: Sequence[Call], limits: Batching, error: ServingError, started: float
) -> list[Reply]:
    """A batch that has failed as a whole, each half of it by itself; one request that is alone has failed by itself."""
    if len(batch) == 1:
        return [error]
    logger.debug("a joined run of %d calls failed (%s); running each half", len(batch), error)
    middle = len(batch) // 2
    return [
        *_run_in_time(servable, batch[:middle], limits, started),
        *_run_in_time(servable, batch[middle:], limits, started),
    ]


def _run_in_time(servable: Servable, batch: Sequence[Call], limits: Batching, started: float) -> list[Reply]:
    """A batch whose members' times began at `started`; those that have none left are not run."""
    passed = time.monotonic() - started
    members = [call if call.timeout is None else call._replace(timeout=call.timeout - passed) for call in batch]
    in_time = [call for call in members if call.timeout is None or call.timeout > 0]
    replies = iter(_run_requests(servable, in_time, limits) if in_time else [])
    too_late = DeadlineExceeded("Run() timeout exceeded while others of the same batch were run again")
    return [next(replies) if call.timeout is None or call.timeout > 0 else too_late for call in members]


def _read_batching(path: str, shared: Batching | None) -> Batching | None:
    """What a version's own file says, with the threads of the settings for all; None if there is no such file."""
    file = Path(path, BATCHING_FILE)
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"{file} cannot be read: {error}. Correct or remove the file") from error
    threads = shared or Batching()
    return replace(
        parse_batching(text, str(file)),
        num_batch_threads=threads.num_batch_threads,
        thread_pool_name=threads.thread_pool_name,
    )
