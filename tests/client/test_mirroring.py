"""Copies of requests: what is copied, what is dropped, and what is counted."""

from __future__ import annotations

import asyncio
import gc
import math
import weakref
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from serving_app.client.copy_limits import Limits
from serving_app.client.copy_tensors import about_bytes
from serving_app.client.mirroring import Mirroring
from serving_app.core.comparison import Comparison, Side, read_comparison
from serving_app.core.errors import Code, InvalidArgument, ResourceExhausted, RuntimeFailure, Unavailable
from serving_app.core.metrics import Registry
from serving_app.core.routing import Candidate, Route
from serving_app.core.servable import ServableId
from serving_app.core.signatures import DType, Signature, TensorSpec
from serving_app.core.traffic import Tolerance
from serving_app.protocol.calls import JOINT, Call, Outputs, Reply
from tests.stepping import turns, until

SPEC = TensorSpec("x:0", DType.FLOAT, (-1,))
SIGNATURES = {"serving_default": Signature({"x": SPEC}, {"y": SPEC})}
VERSION, OTHER = (Route(ServableId("m", number), f"m-{number}", SIGNATURES) for number in (3, 4))
UNHURRIED = Limits(
    late_s=math.inf, busy_share=math.inf, waiting_share=math.inf, waiting=2000, gather_s=0.001
)


def call(value: float = 1.0, **more: Any) -> Call:
    return Call("serving_default", {"x": np.array([value], np.float32)}, **more)


def outputs(value: float = 1.0) -> Outputs:
    return {"y": np.array([value], np.float32)}


class Scene:
    """A mirroring, and the version that gets the copies: it keeps them, until it is told to answer."""

    def __init__(self, limits: Limits = UNHURRIED, answer: Callable[[Call], Any] | None = None) -> None:
        self.registry = Registry()
        self.copies: list[tuple[Call, asyncio.Future[Outputs]]] = []
        self.is_routed = True
        self._answer = answer
        self.mirroring = Mirroring(self.registry, self._begin, lambda route: self.is_routed, limits)

    def _begin(self, route: Route, copy: Call) -> Outputs | asyncio.Future[Outputs]:
        assert route is OTHER
        reply: asyncio.Future[Outputs] = asyncio.get_running_loop().create_future()
        self.copies.append((copy, reply))
        if self._answer is None:
            return reply
        answer = self._answer(copy)
        if isinstance(answer, Exception):
            raise answer
        return answer  # type: ignore[no-any-return]

    def offer(
        self, asked: Call, outcome: Reply, tolerances: dict[str, Tolerance] | None = None, *, is_shared: bool = False
    ) -> None:
        candidate = Candidate(OTHER, tolerances or {})
        self.mirroring.offer(VERSION, candidate, asked, outcome, 0.001, is_shared=is_shared)

    @property
    def comparison(self) -> Comparison:
        return read_comparison(self.registry.counts(), "m", 3, 4)

    async def compared(self, requests: int) -> Comparison:
        """What is known once so many requests are counted, or dropped."""
        await until(lambda: self.comparison.requests + sum(self.comparison.dropped.values()) >= requests)
        return self.comparison


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(scenario())  # type: ignore[arg-type]


def test_both_outcomes_are_compared() -> None:
    """Whatever they are; what the candidate is asked is what the version was asked, but for nobody's count."""

    def answer(copy: Call) -> Any:
        value = float(copy.inputs["x"][0])
        return RuntimeFailure(Code.INTERNAL, "no") if value == 3.0 else outputs(value)

    async def scenario() -> None:
        scene = Scene(answer=answer)
        scene.offer(call(1.0, outputs=("y",)), outputs(1.0))
        scene.offer(call(2.0), outputs(1.0))
        scene.offer(call(2.0), outputs(1.0), {"y": Tolerance(1.0)})
        scene.offer(call(3.0), outputs(1.0))
        scene.offer(call(1.0), InvalidArgument("no"))
        scene.offer(call(3.0), InvalidArgument("no"))
        found = await scene.compared(6)
        assert (found.requests, found.answered, found.failed) == (6, 4, 1)
        assert (found.compared, found.different, found.only_candidate_answered) == (3, 1, 1)
        assert (sum(found.latency(Side.VERSION)), sum(found.latency(Side.CANDIDATE))) == (4, 4)
        assert found.outputs["serving_default", "y"].same == 2
        [copy, *_] = [copy for copy, _ in scene.copies]
        assert (copy.signature_name, copy.outputs, copy.api) == ("serving_default", ("y",), "")
        assert copy.timeout == UNHURRIED.answer_s

    run(scenario)


@pytest.mark.parametrize(
    ("error", "status", "dropped"),
    [
        (RuntimeFailure(Code.RESOURCE_EXHAUSTED, "out of memory"), "RESOURCE_EXHAUSTED", {}),
        (KeyError("a fault"), "INTERNAL", {}),
        (Unavailable("no replica"), "UNAVAILABLE", {}),
        (ResourceExhausted("the queue is full"), None, {"candidate_busy": 1}),
    ],
)
@pytest.mark.parametrize("is_later", [False, True])
def test_errors_of_the_candidate(error: Exception, status: str | None, dropped: dict[str, int], is_later: bool) -> None:
    """Each is its own error, at once or later, but for the queue before it, which may be full of other requests."""

    async def scenario() -> None:
        scene = Scene(answer=None if is_later else lambda copy: error)
        scene.offer(call(), outputs())
        await until(lambda: bool(scene.copies))
        if is_later:
            scene.copies[0][1].set_exception(error)
        found = await scene.compared(1)
        assert found.dropped == dropped
        assert {labels[:2] for labels in found.cells.get("serving_app_mirror_requests", {})} == (
            {("OK", status)} if status else set()
        )

    run(scenario)


@pytest.mark.parametrize(
    ("signature", "asked", "status"),
    [
        ("other", {"x": [1.0]}, "FAILED_PRECONDITION"),
        ("serving_default", {"z": [1.0]}, "INVALID_ARGUMENT"),
        (JOINT, {"z": [1.0]}, "OK"),
    ],
)
def test_what_the_candidate_does_not_know(signature: str, asked: dict[str, Any], status: str) -> None:
    """Signatures and inputs that it does not have are its errors, as clients would get them; of several signatures at
    once only its runtime can say so."""

    async def scenario() -> None:
        scene = Scene(answer=lambda copy: outputs())
        scene.offer(Call(signature, {name: np.array(each) for name, each in asked.items()}), outputs())
        found = await scene.compared(1)
        assert [labels[1] for labels in found.cells["serving_app_mirror_requests"]] == [status]
        assert len(scene.copies) == (status == "OK")

    run(scenario)


@pytest.mark.parametrize(
    ("limits", "outcome", "why"),
    [
        (Limits(each_bytes=11), outputs(), "too_large"),
        (Limits(all_bytes=11), outputs(), "gateway_busy"),
        (Limits(waiting=0), outputs(), "gateway_busy"),
        (UNHURRIED, ResourceExhausted("20000 requests wait"), "gateway_busy"),
        (replace(UNHURRIED, flying=0), outputs(), "candidate_busy"),
    ],
)
def test_what_is_dropped(limits: Limits, outcome: Reply, why: str) -> None:
    """What is more than may be held, and everything under pressure; it is counted, and never sent."""

    async def scenario() -> None:
        scene = Scene(limits)
        scene.offer(call(), outcome)
        assert (await scene.compared(1)).dropped == {why: 1}
        assert not scene.copies

    run(scenario)


def test_a_slow_candidate_has_a_bounded_number_in_hand() -> None:
    """What comes beyond that is dropped; when it has answered, there is room again, and for the bytes, too."""

    async def scenario() -> None:
        scene = Scene(replace(UNHURRIED, flying=2, all_bytes=5 * 12))
        for _ in range(7):
            scene.offer(call(), outputs())
        found = await scene.compared(5)
        assert found.dropped == {"candidate_busy": 3, "gateway_busy": 2}
        for _, reply in scene.copies:
            reply.set_result(outputs())
        assert (await scene.compared(7)).compared == 2
        assert not scene.mirroring._in_hand
        for _ in range(2):
            scene.offer(call(), outputs())
        await until(lambda: len(scene.copies) == 4)
        assert scene.comparison.dropped == found.dropped

    run(scenario)


def test_a_candidate_that_never_answers_is_given_up() -> None:
    """After the time that the client gave, or the longest that a copy may take."""

    async def scenario() -> None:
        scene = Scene(replace(UNHURRIED, answer_s=0.01))
        scene.offer(call(timeout=0.001), outputs())
        scene.offer(call(timeout=60.0), outputs())
        scene.offer(call(), outputs())
        found = await scene.compared(3)
        assert found.cells["serving_app_mirror_requests"] == {("OK", "DEADLINE_EXCEEDED", ""): 3}
        assert all(reply.cancelled() for _, reply in scene.copies)

    run(scenario)


@pytest.mark.parametrize("is_sent", [False, True])
def test_a_candidate_that_is_gone(is_sent: bool) -> None:
    """What it fails in when no route leads to it any more is not held against it, and nothing more is sent there."""

    async def scenario() -> None:
        scene = Scene()
        scene.offer(call(), outputs())
        if is_sent:
            await until(lambda: bool(scene.copies))
        scene.is_routed = False
        if is_sent:
            scene.copies[0][1].cancel()
        assert (await scene.compared(1)).dropped == {"gone": 1}
        assert len(scene.copies) == is_sent

    run(scenario)


def test_large_answers_are_compared_beside_the_loop() -> None:
    """And count like others."""

    async def scenario() -> None:
        large = {"y": np.zeros(1 << 17, np.float32)}
        scene = Scene(answer=lambda copy: large)
        scene.offer(call(), large)
        scene.offer(call(), outputs())
        found = await scene.compared(2)
        assert (found.compared, found.different) == (2, 1)

    run(scenario)


def test_much_is_compared_beside_the_loop() -> None:
    """Also where it is much because it is many; the others wait meanwhile, and a while afterwards, as after a turn."""

    async def scenario() -> None:
        scene = Scene(replace(UNHURRIED, pause_factor=0.0))
        some = {"y": np.zeros(2000, np.float32)}

        async def answer(requests: int) -> None:
            known, before = len(scene.copies), scene.comparison.compared
            for _ in range(requests):
                scene.offer(call(), some)
            await until(lambda: len(scene.copies) == known + requests)
            for _, reply in scene.copies[known:]:
                reply.set_result(some)
            await until(lambda: scene.comparison.compared == before + requests and not scene.mirroring._bytes)

        await answer(1)
        assert scene.mirroring._pool is None
        for _ in range(3):
            await answer(20)
        assert scene.mirroring._pool is not None
        scene.mirroring._compares_from = math.inf  # as while a thread is at it
        scene.offer(call(), some)
        await until(lambda: len(scene.copies) == 62)
        scene.copies[-1][1].set_result(some)
        await until(lambda: bool(scene.mirroring._answered))
        await turns()
        assert scene.comparison.compared == 61
        scene.mirroring.close()

    run(scenario)


def test_what_others_change_is_not_what_is_copied() -> None:
    """Who asks in this process may use their arrays again as soon as they have their answer, and write into it."""

    async def scenario() -> None:
        scene = Scene(answer=lambda copy: {"y": copy.inputs["x"] * 2})
        asked, answer = call(1.0), outputs(2.0)
        scene.offer(asked, answer, is_shared=True)
        asked.inputs["x"][:] = 7.0
        answer["y"][:] = 9.0
        found = await scene.compared(1)
        assert (found.compared, found.different) == (1, 0)

    run(scenario)


def test_no_more_is_kept_than_is_counted() -> None:
    """Neither the request that an error is about, nor the answers that came together with one, nor one that is larger
    than it was expected to be."""

    async def scenario() -> None:
        scene = Scene(replace(UNHURRIED, all_bytes=1 << 20, pause_factor=1e9, most_pause_s=1e9))
        together = np.zeros(1 << 18, np.float32)
        scene.offer(call(), {"y": together[:1]})
        try:
            body = np.zeros(1)
            raise InvalidArgument("about a request") from KeyError(body)
        except InvalidArgument as error:
            scene.offer(call(), error)
        watched = weakref.ref(together), weakref.ref(body)
        del together, body
        await until(lambda: bool(scene.copies))
        gc.collect()
        assert [each() for each in watched] == [None, None]
        before = scene.mirroring._bytes
        scene.copies[0][1].set_result({"y": np.zeros(1 << 18, np.float32)})
        await turns()
        assert scene.mirroring._bytes == before + (1 << 20) - 4
        scene.offer(call(), outputs())
        assert scene.comparison.dropped == {"gateway_busy": 1}
        scene.mirroring.close()

    run(scenario)


@pytest.mark.parametrize(
    ("strings", "least", "most"),
    [([b"x" * 100], 100, 200), ([b"x" * 10] * 100_000, 1_000_000, 3_000_000), ([], 0, 0), ([b""], 1, 20)],
)
def test_strings_take_memory(strings: list[bytes], least: int, most: int) -> None:
    """About as much as they are long; many are not all looked at."""
    array = np.array(strings, object)
    assert least <= about_bytes({"y": array, "z": np.zeros(0)}) <= most


def test_many_are_compared() -> None:
    """None of hundreds is lost, whatever the turns are; each is with its own."""

    async def scenario() -> None:
        scene = Scene(answer=lambda copy: {"y": copy.inputs["x"]})
        for value in range(300):
            scene.offer(call(value), outputs(value))
        found = await scene.compared(300)
        assert (found.compared, found.different, dict(found.dropped)) == (300, 0, {})

    run(scenario)


@pytest.mark.parametrize(
    "limits",
    [
        replace(UNHURRIED, busy_share=-1.0),
        replace(UNHURRIED, waiting_share=-1.0),
        replace(UNHURRIED, late_s=-1.0),
    ],
)
def test_a_busy_loop_copies_a_trickle(limits: Limits) -> None:
    """What else is offered is dropped and counted, and copies go on."""

    async def scenario() -> None:
        scene = Scene(limits, lambda copy: outputs())

        def offered() -> bool:
            scene.offer(call(), outputs())
            return True

        await until(lambda: offered() and scene.comparison.dropped.get("gateway_busy", 0) > 10)
        before = scene.comparison.requests
        await until(lambda: offered() and scene.comparison.requests > before + 1)
        assert scene.comparison.dropped.keys() == {"gateway_busy"}
        scene.mirroring.close()

    run(scenario)


def test_turns_are_followed_by_pauses() -> None:
    """However much is offered meanwhile: here a pause takes hours."""

    async def scenario() -> None:
        scene = Scene(replace(UNHURRIED, pause_factor=1e9, most_pause_s=1e9))
        scene.offer(call(), outputs())
        await until(lambda: bool(scene.copies))
        scene.offer(call(), outputs())
        scene.copies[0][1].set_result(outputs())
        await turns()
        assert len(scene.copies) == 1
        assert scene.comparison.requests == 0
        scene.mirroring.close()

    run(scenario)


def test_what_is_answered_at_the_end_is_counted() -> None:
    """Though it still waits for others to be compared with."""

    async def scenario() -> None:
        scene = Scene(replace(UNHURRIED, gather_s=1e9))
        scene.mirroring._next_comparison = math.inf
        scene.offer(call(), outputs())
        await until(lambda: bool(scene.copies))
        scene.copies[0][1].set_result(outputs())
        await until(lambda: bool(scene.mirroring._answered))
        assert scene.comparison.requests == 0
        scene.mirroring.close()
        assert scene.comparison.compared == 1

    run(scenario)


def test_the_end() -> None:
    """What is under way is given up, and nothing more is copied."""

    async def scenario() -> None:
        scene = Scene()
        scene.offer(call(), outputs())
        await until(lambda: bool(scene.copies))
        scene.offer(call(), outputs())
        scene.mirroring.close()
        scene.offer(call(), outputs())
        await turns()
        assert [reply.cancelled() for _, reply in scene.copies] == [True]
        assert scene.comparison.requests == 0

    run(scenario)
