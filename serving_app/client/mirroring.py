"""Copies of requests, for a version whose answers nobody gets to see: made, sent, compared, and dropped before they
bother anybody.

A request is offered here when its own answer is there. So a copy can neither fail nor hold up the request that it is
made of, and both outcomes are known when the candidate's is. What copies cost is bounded in each respect:

- time of the event loop: all of the work is done in turns, and after each there is a pause of some multiple of what it
  took, with an estimate of what it takes to carry what was sent. What is more than a little is compared in a thread,
  which pauses in the same way.
- memory: what all copies hold, from their offer to the end of the comparison, and how many may wait. What an error
  keeps, such as the request that it is about, is not kept.
- the candidate: how many copies it has in hand.

Whatever is beyond that is dropped and counted. While the loop has no time to spare, or the machine none for the loop,
or its turns come late, all but a trickle is dropped, so that something is known even then. No copy holds a lease on a
route table: a rollout that is aborted, or a version that is unloaded, does not wait for copies. Everything here runs on
one event loop.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from serving_app.client.copy_limits import USUAL, Limits
from serving_app.client.copy_outcomes import Answered, Copy, count_outcomes, outcome_of, pair_of
from serving_app.client.copy_tensors import about_bytes, doubled, kept
from serving_app.client.thread_time import ThreadTime, read_thread_time
from serving_app.core.comparison import Dropped
from serving_app.core.errors import (
    DeadlineExceeded,
    ResourceExhausted,
    ServingError,
    Unavailable,
    as_serving_error,
)
from serving_app.core.families import MIRROR_DROPPED
from serving_app.core.metrics import Registry
from serving_app.core.routing import Candidate, Route
from serving_app.core.servable import ServableId
from serving_app.protocol.calls import JOINT, Call, Outputs, Reply
from serving_app.protocol.predict_checks import check_inputs, find_signature

Begin = Callable[[Route, Call], Outputs | asyncio.Future[Outputs]]
"""Sends a call on its way: its outputs, or what will be that. Raises its error where that is known at once."""

_TOGETHER = 64
"""Answers that are compared together."""

_LOOK_S = 0.1
"""Between two looks at how busy the loop is, and for copies whose time is over."""

_CARRY_S, _CARRY_BYTES_PER_S = 0.00002, 1e9
"""What it takes to carry a copy to its version and its answer back, about: others do that, later on the same loop."""

_LARGE_BYTES = 1 << 17
"""What copies and answers that are compared together may hold, to be compared on the loop."""


class Mirroring:
    """Copies what one process has asked, and counts what comes of it."""

    def __init__(
        self, registry: Registry, begin: Begin, is_routed: Callable[[Route], bool], limits: Limits = USUAL
    ) -> None:
        """`is_routed` tells whether the newest route table still has a route to a version."""
        self._registry = registry
        self._begin = begin
        self._is_routed = is_routed
        self._limits = limits
        self._offered: deque[Copy] = deque()
        self._flying: dict[asyncio.Future[Outputs], Copy] = {}
        self._in_hand: Counter[ServableId] = Counter()
        self._answered: deque[Answered] = deque()
        self._dropped: Counter[tuple[ServableId, ServableId, Dropped]] = Counter()
        self._bytes = 0
        self._is_busy = self._may_trickle = False
        self._thread_time: ThreadTime | None = None
        registry.feed(self._feed)
        self._timer: asyncio.TimerHandle | None = None
        self._is_turning = False
        self._due = self._rests_until = self._next_look = self._next_comparison = 0.0
        self._compares_from = 0.0  # for ever later, while a thread compares
        self._pool: ThreadPoolExecutor | None = None
        self._is_closed = False

    def offer(
        self, route: Route, candidate: Candidate, call: Call, reply: Reply, took_s: float, *, is_shared: bool = False
    ) -> None:
        """Copy this call, which had this outcome where clients see it, if there is room for that. Costs next to
        nothing, and raises nothing.

        Tensors that are shared with somebody who may change them are copied here and now.
        """
        if self._is_closed:
            return
        limits = self._limits
        ids = route.servable, candidate.route.servable
        if (
            isinstance(reply, ResourceExhausted)
            or len(self._offered) + len(self._answered) >= limits.waiting
            or (self._is_busy and not self._may_trickle)
        ):
            self._dropped[*ids, Dropped.GATEWAY_BUSY] += 1
            if self._timer is None:
                self._wake(_LOOK_S)
            return
        outcome = outcome_of(reply)
        nbytes = about_bytes(call.inputs) + (2 * about_bytes(outcome) if isinstance(outcome, dict) else 0)
        if nbytes > limits.each_bytes:
            self._dropped[*ids, Dropped.TOO_LARGE] += 1
        elif self._bytes + nbytes > limits.all_bytes:
            self._dropped[*ids, Dropped.GATEWAY_BUSY] += 1
        else:
            self._may_trickle = False
            self._bytes += nbytes
            if is_shared:
                call = call._replace(inputs=doubled(call.inputs))
                outcome = doubled(outcome) if isinstance(outcome, dict) else outcome
            self._offered.append(Copy(route.servable, candidate, call, outcome, took_s, nbytes))
            self._wake(limits.pause_s)

    def close(self) -> None:
        """Copy no more, and give up what is under way. What was answered is counted still, if that takes but a moment.
        """
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        flying, self._flying = self._flying, {}
        for reply in flying:
            reply.cancel()
        self._offered.clear()
        answered = list(self._answered)
        self._answered.clear()
        if sum(each.copy.nbytes for each in answered) <= _LARGE_BYTES:
            count_outcomes(self._registry, answered)
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    # Turns.

    def _wake(self, delay_s: float) -> None:
        """See that there is a turn after this time, or sooner, but not before the pause is over."""
        if self._is_turning:
            return  # it looks at its end for what is to be done
        now = time.monotonic()
        due = max(now + delay_s, self._rests_until)
        if self._timer is not None:
            if self._due <= due:
                return
            self._timer.cancel()
        self._due = due
        self._timer = asyncio.get_running_loop().call_later(due - now, self._turn)

    def _turn(self) -> None:
        self._timer, self._is_turning = None, True
        began, carried_s = time.monotonic(), 0.0
        if began - self._due > self._limits.late_s:
            spared = 1 if began >= self._next_look else 0
            while len(self._offered) > spared:
                self._drop(self._offered.pop(), Dropped.GATEWAY_BUSY)
        try:
            if began >= self._next_look:
                self._look_at_loop(began)
                self._give_up(began)
                self._next_look = began + _LOOK_S
            if began >= self._compares_from and (
                len(self._answered) >= _TOGETHER or (self._answered and began >= self._next_comparison)
            ):
                self._next_comparison = began + self._limits.gather_s
                self._compare([self._answered.popleft() for _ in range(min(_TOGETHER, len(self._answered)))])
            while self._offered:  # one at least, however long the turn has taken already
                copy = self._offered.popleft()
                carried_s += _CARRY_S + copy.nbytes / _CARRY_BYTES_PER_S
                self._send(copy)
                if time.monotonic() + carried_s >= began + self._limits.turn_s:
                    break
        finally:
            self._is_turning = False
            now = time.monotonic()
            rest_s = (now + carried_s - began) * self._limits.pause_factor
            self._rests_until = now + min(rest_s, self._limits.most_pause_s)
            if self._offered:
                self._wake(self._limits.pause_s)
            elif self._answered:
                self._wake_to_compare()
            elif self._flying or self._is_busy:
                self._wake(_LOOK_S)

    def _wake_to_compare(self) -> None:
        limits = self._limits
        gather_s = limits.gather_s if len(self._answered) < _TOGETHER else limits.pause_s
        self._wake(min(_LOOK_S, max(gather_s, self._compares_from - time.monotonic())))

    def _look_at_loop(self, now: float) -> None:
        """See how much the loop's thread has had to do since the last look, and for how long it got no processor."""
        then, self._thread_time = self._thread_time, read_thread_time()
        if then is not None:
            worked, waited = (after - before for before, after in zip(then, self._thread_time, strict=True))
            since_s, limits = now - self._next_look + _LOOK_S, self._limits
            self._is_busy = (
                worked + waited > limits.busy_share * since_s or waited > limits.waiting_share * since_s
            )
        self._may_trickle = True

    def _give_up(self, now: float) -> None:
        for reply in [reply for reply, copy in self._flying.items() if copy.deadline <= now]:
            copy = self._flying.pop(reply)
            self._come_back(copy)
            reply.cancel()
            self._settle(copy, DeadlineExceeded(f"{copy.servable} gave no answer in time"))

    # A copy's way.

    def _send(self, copy: Copy) -> None:
        route, call, limits = copy.candidate.route, copy.call, self._limits
        if not self._is_routed(route):
            self._drop(copy, Dropped.GONE)
            return
        if self._in_hand[copy.servable] >= limits.flying:
            self._drop(copy, Dropped.CANDIDATE_BUSY)
            return
        timeout = limits.answer_s if call.timeout is None else min(call.timeout, limits.answer_s)
        if isinstance(copy.outcome, dict):
            copy.outcome = kept(copy.outcome)
        copy.deadline = time.monotonic() + timeout
        copy.sent = time.perf_counter()
        try:
            if call.signature_name != JOINT:
                check_inputs(find_signature(route.signatures, call.signature_name), call.inputs)
            begun = self._begin(route, call._replace(timeout=timeout, api=""))  # a run that counts as nobody's
        except Exception as error:
            self._settle(copy, as_serving_error(error))
            return
        if isinstance(begun, dict):
            self._settle(copy, begun)
            return
        self._flying[begun] = copy
        self._in_hand[copy.servable] += 1
        begun.add_done_callback(self._land)

    def _land(self, reply: asyncio.Future[Outputs]) -> None:
        copy = self._flying.pop(reply, None)
        if copy is None:
            return  # it was given up
        self._come_back(copy)
        if reply.cancelled():
            self._settle(copy, Unavailable("the candidate went away"))
        elif (error := reply.exception()) is not None:
            self._settle(copy, as_serving_error(error))
        else:
            self._settle(copy, reply.result())

    def _come_back(self, copy: Copy) -> None:
        """The candidate has it in hand no more."""
        self._in_hand[copy.servable] -= 1
        if not self._in_hand[copy.servable]:
            del self._in_hand[copy.servable]

    def _settle(self, copy: Copy, reply: Reply) -> None:
        """The candidate has answered, whatever that is."""
        took_s = time.perf_counter() - copy.sent
        if isinstance(reply, ResourceExhausted):  # its queue is full; a model without memory fails in other words
            self._drop(copy, Dropped.CANDIDATE_BUSY)
        elif isinstance(reply, ServingError) and not self._is_routed(copy.candidate.route):
            self._drop(copy, Dropped.GONE)
        else:
            if isinstance(reply, dict):
                expected = about_bytes(copy.outcome) if isinstance(copy.outcome, dict) else 0
                more = about_bytes(reply) - expected
                copy.nbytes += more
                self._bytes += more
            self._answered.append(Answered(copy, outcome_of(reply), took_s))
            self._wake_to_compare()

    # What comes of it.

    def _compare(self, answered: Sequence[Answered]) -> None:
        if sum(copy.nbytes for copy, _, _ in answered) > _LARGE_BYTES:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(1, thread_name_prefix="compare")
            counting = asyncio.get_running_loop().run_in_executor(self._pool, count_outcomes, self._registry, answered)
            counting.add_done_callback(partial(self._end_counting, answered, time.monotonic()))
            self._compares_from = math.inf
            return
        try:
            count_outcomes(self._registry, answered)
        finally:
            self._end(answered)

    def _end_counting(self, answered: Sequence[Answered], began: float, counting: asyncio.Future[None]) -> None:
        self._end(answered)
        now = time.monotonic()
        self._compares_from = now + min((now - began) * self._limits.pause_factor, self._limits.most_pause_s)
        if not counting.cancelled():
            counting.result()

    def _end(self, answered: Sequence[Answered]) -> None:
        self._bytes -= sum(copy.nbytes for copy, _, _ in answered)

    def _drop(self, copy: Copy, why: Dropped) -> None:
        self._bytes -= copy.nbytes
        self._dropped[copy.asked, copy.servable, why] += 1

    def _feed(self) -> None:
        """What is dropped may be most of all, and is counted without a lock until somebody looks."""
        dropped, self._dropped = self._dropped, Counter()
        for (asked, candidate, why), count in dropped.items():
            self._registry.count(MIRROR_DROPPED, (*pair_of(asked, candidate), why.value), count)
