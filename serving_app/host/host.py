"""The object that holds loaded servables: loads, answers, unloads.

Every method blocks and may be called from any thread; callers on an event loop hand it to a thread. A version that is
being unloaded answers what it has begun and refuses what comes later.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from functools import partial

from serving_app.core.errors import Code, Internal, NotFound, ServingError
from serving_app.core.servable import ServableId
from serving_app.core.signatures import Signature
from serving_app.host.assignment import Assignment
from serving_app.host.batching import form_batches, join, row_count, split
from serving_app.host.warmup import warm_up
from serving_app.protocol.calls import Call, Reply
from serving_app.runtime.loader import Servable, loader_for
from serving_app.store import Copy, Progress, fetch

logger = logging.getLogger(__name__)

_NOT_THE_MEMBERS_FAULT = frozenset({Code.DEADLINE_EXCEEDED, Code.CANCELLED, Code.UNAVAILABLE, Code.RESOURCE_EXHAUSTED})
"""Errors of a joined run that running its members one by one would only repeat, more slowly."""


class Host:
    """Loaded servables by id."""

    def __init__(self) -> None:
        self._held: dict[ServableId, tuple[Servable, Assignment, Copy]] = {}
        self._lock = threading.Lock()

    def load(self, assignment: Assignment, progress: Progress | None = None) -> Mapping[str, Signature]:
        """Fetch, load, warm up and hold a version; returns its signatures.

        Nobody can ask a version before it is warm. One that is held already is replaced once the new one is. Raises
        a ServingError that says what is wrong. `progress` is told how far the copy of a remote version has come.
        """
        copy = fetch(
            assignment.path,
            assignment.cache_dir,
            assignment.storage_options,
            max_bytes=assignment.cache_max_bytes,
            progress=progress,
        )
        try:
            servable = _load_and_warm_up(assignment, copy.path)
        except BaseException:
            copy.release()
            raise
        with self._lock:
            replaced = self._held.get(assignment.servable)
            self._held[assignment.servable] = (servable, assignment, copy)
        if replaced is not None:
            _let_go(*replaced)
        return servable.signatures

    def unload(self, servable_id: ServableId) -> None:
        """Let go of a version. Waits for its runs; unknown versions are nothing to do."""
        with self._lock:
            held = self._held.pop(servable_id, None)
        if held is not None:
            _let_go(*held)

    def run(self, servable_id: ServableId, call: Call) -> Reply:
        """One call, alone."""
        servable, *_ = self._find(servable_id)
        return _run_one(servable, call)

    def run_joined(self, servable_id: ServableId, calls: Sequence[Call]) -> list[Reply]:
        """Calls joined into as few runs as the assignment's batching allows; one reply per call, in order."""
        servable, assignment, _ = self._find(servable_id)
        max_rows = assignment.batching.max_batch_size if assignment.batching else 1
        replies: list[Reply | None] = [None] * len(calls)
        for members in form_batches(calls, max_rows):
            batch = [calls[index] for index in members]
            for index, reply in zip(members, _run_batch(servable, batch), strict=True):
                replies[index] = reply
        return [reply for reply in replies if reply is not None]

    def _find(self, servable_id: ServableId) -> tuple[Servable, Assignment, Copy]:
        held = self._held.get(servable_id)
        if held is None:
            raise NotFound(f"Servable not found for request: Specific({servable_id.name}, {servable_id.version})")
        return held


def _load_and_warm_up(assignment: Assignment, path: str) -> Servable:
    servable = loader_for(assignment.platform).load(path, assignment.load)
    try:
        warm_up(assignment.servable, path, servable.signatures, assignment.warmup, partial(_run_one, servable))
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
        return servable.run(call.signature_name, call.inputs, call.outputs, call.timeout)
    except ServingError as error:
        return error
    except Exception as error:  # a runtime's mistake is the outcome of this run, and of no other
        logger.exception("a run of signature %r failed unexpectedly", call.signature_name)
        return Internal(f"{type(error).__name__}: {error}")


def _run_batch(servable: Servable, batch: Sequence[Call]) -> list[Reply]:
    if len(batch) == 1:
        return [_run_one(servable, batch[0])]
    joined = _run_one(servable, join(batch))
    if not isinstance(joined, ServingError):
        try:
            return list(split(joined, [row_count(call) or 0 for call in batch]))
        except ServingError as error:
            joined = error
    if joined.code in _NOT_THE_MEMBERS_FAULT:
        return [joined] * len(batch)
    logger.debug("a joined run of %d calls failed (%s); running them one by one", len(batch), joined)
    return [_run_one(servable, call) for call in batch]

