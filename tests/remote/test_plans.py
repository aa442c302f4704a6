"""Plans, run by hand: attempts, pauses, deadlines, and signatures that have changed meanwhile."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from serving_app.core.errors import DeadlineExceeded, FailedPrecondition, InvalidArgument, NotFound, Unavailable
from serving_app.core.servable import ModelSpec
from serving_app.remote import Retries, rest_queries
from serving_app.remote.calls import UnfitAnswer, metadata, predict
from serving_app.remote.catalog import FRESH_S, Catalog
from serving_app.remote.plans import Exchange, Pause, Plan, Query, Terms, ask, terms
from serving_app.remote.retries import Setback

SPEC = ModelSpec("m")


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Longest(random.Random):
    """Chance that cuts no pause."""

    def uniform(self, a: float, b: float) -> float:
        return b


def make_terms(clock: Clock, timeout: float | None = 10.0, retries: Retries = Retries()) -> Terms:  # noqa: B008
    return terms("http://server:1", timeout, retries, clock, Longest())


class Hand:
    """Takes a plan's steps: outcomes come from a list, and a function among them is asked with the step."""

    def __init__(self, clock: Clock, *outcomes: Any) -> None:
        self._clock = clock
        self._outcomes = list(outcomes)
        self.pauses: list[float] = []
        self.asked: list[Exchange] = []

    def run(self, plan: Plan[Any]) -> Any:
        """The result of a plan that takes all outcomes."""
        result = self.run_some(plan)
        assert not self._outcomes, "not all was asked for"
        return result

    def run_some(self, plan: Plan[Any]) -> Any:
        """The result of a plan."""
        try:
            step = next(plan)
            while True:
                if isinstance(step, Pause):
                    self.pauses.append(step.seconds)
                    self._clock.now += step.seconds
                    step = plan.send(None)
                    continue
                self.asked.append(step)
                outcome = self._outcomes.pop(0)
                outcome = outcome(step) if callable(outcome) else outcome
                step = plan.throw(outcome) if isinstance(outcome, Exception) else plan.send(outcome)
        except StopIteration as end:
            return end.value


def query(*, is_repeatable: bool = True) -> Query[str]:
    return Query("/v1/models/m", b"", bytes.decode, is_repeatable)


def setback(pause: float = 0.0) -> Setback:
    return Setback(Unavailable("busy"), pause)


@pytest.mark.parametrize(
    ("outcomes", "pauses"),
    [
        ([b"well"], []),
        ([setback(), b"well"], [0.05]),
        ([setback(), setback(), setback(), b"well"], [0.05, 0.1, 0.2]),
        ([setback(1.5), setback(0.01), b"well"], [1.5, 0.1]),
    ],
)
def test_what_may_pass_is_asked_again(outcomes: list[Any], pauses: list[float]) -> None:
    """Pauses double; a server that asks for a longer one gets it."""
    clock = Clock()
    hand = Hand(clock, *outcomes)
    assert hand.run(ask(query(), make_terms(clock))) == "well"
    assert hand.pauses == pytest.approx(pauses)


@pytest.mark.parametrize(
    ("retries", "outcomes", "is_repeatable"),
    [
        (Retries(), [setback()] * 4, True),
        (Retries(attempts=1), [setback()], True),
        (Retries(), [setback()], False),
        (Retries(), [setback(11.0)], True),
    ],
)
def test_enough_is_enough(retries: Retries, outcomes: list[Any], is_repeatable: bool) -> None:
    """After the last attempt, for what must not be repeated, or if time is too short, the error is told at once."""
    clock = Clock()
    hand = Hand(clock, *outcomes)
    with pytest.raises(Unavailable, match="busy"):
        hand.run(ask(query(is_repeatable=is_repeatable), make_terms(clock, retries=retries)))
    assert len(hand.asked) == len(outcomes)
    assert clock.now < 1010.0


def test_pauses_are_cut_by_chance_and_bounded() -> None:
    """A pause is between a half and all of what doubling gives, and at most the longest."""
    retries, chance = Retries(attempts=100, first_pause=0.1, longest_pause=1.0), random.Random(1)
    for attempts in range(1, 100):
        whole = min(0.1 * 2 ** (attempts - 1), 1.0)
        pause = retries.pause_after(attempts, chance)
        assert pause is not None
        assert whole / 2 <= pause <= whole
    assert retries.pause_after(100, chance) is None


@pytest.mark.parametrize("options", [{"attempts": 0}, {"first_pause": -1.0}, {"first_pause": 3.0}])
def test_retries_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    """There is at least one attempt, and pauses are no less than nothing and no longer than the longest."""
    with pytest.raises(ValueError, match="must be"):
        Retries(**options)


def test_the_deadline_holds_for_all_attempts() -> None:
    """Each attempt has the time that is left, and when that is over no other is made."""
    clock = Clock()

    def late(step: Exchange) -> Any:
        clock.now += 4.0
        return setback()

    hand = Hand(clock, late, late, TimeoutError())
    with pytest.raises(DeadlineExceeded, match=r"http://server:1 gave no answer within 10 s"):
        hand.run(ask(query(), make_terms(clock)))
    assert [step.timeout for step in hand.asked] == pytest.approx([10.0, 5.95, 1.85])


def test_a_call_that_comes_too_late_is_not_made() -> None:
    """Where the time is over before anything was sent, nothing is."""
    clock = Clock()
    hand, plan = Hand(clock), ask(query(), make_terms(clock))
    clock.now += 10.0
    with pytest.raises(DeadlineExceeded):
        hand.run(plan)


def test_without_a_limit_there_is_none() -> None:
    """None as a timeout means that every attempt may take for ever."""
    clock = Clock()
    hand = Hand(clock, setback(1e6), b"well")
    assert hand.run(ask(query(), make_terms(clock, None))) == "well"
    assert [step.timeout for step in hand.asked] == [None, None]


def test_a_limit_beyond_all_clocks_is_none() -> None:
    """Sockets and gRPC cannot count to infinity, and would end the call at once."""
    assert [terms("s", timeout, Retries()).left() for timeout in (float("inf"), 1e12)] == [None, None]


@pytest.mark.parametrize("timeout", [-1.0, float("nan")])
def test_a_timeout_is_a_number_of_seconds(timeout: float) -> None:
    """What is no time is refused before anything happens."""
    with pytest.raises(InvalidArgument, match="timeout"):
        terms("s", timeout, Retries())


def test_other_errors_are_told_at_once() -> None:
    """What will not pass is not asked again."""
    clock = Clock()
    with pytest.raises(NotFound):
        Hand(clock, NotFound("no such model")).run(ask(query(), make_terms(clock)))


# --- signatures ------------------------------------------------------------------------------------------------------


def answer_metadata(version: int, name: str, dtype: str = "DT_FLOAT") -> bytes:
    info = {"dtype": dtype, "name": "x:0", "tensor_shape": {"dim": [{"size": "-1", "name": ""}], "unknown_rank": False}}
    signature = {"inputs": {name: info}, "outputs": {"y": info}, "method_name": "tensorflow/serving/predict"}
    return json.dumps({
        "model_spec": {"name": "m", "signature_name": "", "version": str(version)},
        "metadata": {"signature_def": {"signature_def": {"serving_default": signature}}},
    }).encode()


def plan_of(
    catalog: Catalog | None, clock: Clock, inputs: Any = None, spec: ModelSpec = SPEC, **options: Any
) -> Plan[Any]:
    given = {"x": [1]} if inputs is None else inputs
    name, outputs = options.get("signature_name", "serving_default"), options.get("outputs", ())
    return predict(rest_queries, catalog, spec, given, name, outputs, make_terms(clock))


ANSWER = b'{"outputs": [1.5]}'


def test_signatures_are_asked_for_once() -> None:
    """The first call asks for them, those after it do not, until they are old; those of a numbered version stay."""
    clock = Clock()
    catalog = Catalog(clock)
    hand = Hand(clock, answer_metadata(1, "x"), ANSWER, ANSWER)
    for _ in range(2):
        assert hand.run_some(plan_of(catalog, clock))["y"].tolist() == [1.5]
    assert [step.query.target for step in hand.asked] == ["/v1/models/m/metadata", *["/v1/models/m:predict"] * 2]
    numbered = ModelSpec("m", version=1)
    hand = Hand(clock, answer_metadata(1, "x"))
    hand.run(metadata(rest_queries, catalog, numbered, make_terms(clock)))
    clock.now += FRESH_S + 1
    assert Hand(clock, answer_metadata(1, "x"), ANSWER).run(plan_of(catalog, clock))["y"].tolist() == [1.5]
    assert Hand(clock, ANSWER).run(plan_of(catalog, clock, spec=numbered))["y"].tolist() == [1.5]


OTHER_INPUT, OTHER_TYPE = answer_metadata(2, "z"), answer_metadata(2, "x", "DT_STRING")


@pytest.mark.parametrize(
    ("inputs", "outcomes", "right"),
    [
        # a name that is there now; the server refuses what was right; an answer that does not fit
        ({"z": [1.0]}, [OTHER_INPUT, ANSWER], [1.5]),
        ({"x": ["a"]}, [OTHER_TYPE, b'{"outputs": ["b"]}'], [b"b"]),
        ({"x": [1.0]}, [InvalidArgument("no"), answer_metadata(2, "x", "DT_DOUBLE"), ANSWER], [1.5]),
        ({"x": [1.0]}, [b'{"outputs": [true]}', answer_metadata(2, "x", "DT_DOUBLE"), ANSWER], [1.5]),
    ],
)
def test_a_new_version_behind_the_name_is_noticed(inputs: Any, outcomes: list[Any], right: list[Any]) -> None:
    """What does not fit the known signatures is held against those of today, and the call is made by them."""
    clock = Clock()
    catalog = Catalog(clock)
    Hand(clock, answer_metadata(1, "x")).run(metadata(rest_queries, catalog, SPEC, make_terms(clock)))
    assert Hand(clock, *outcomes).run(plan_of(catalog, clock, inputs))["y"].tolist() == right


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({"inputs": {"z": [1.0]}}, InvalidArgument),
        ({"signature_name": "nope"}, FailedPrecondition),
        ({"outputs": ["nope"]}, InvalidArgument),
    ],
)
def test_a_mistake_of_the_caller_stays_one(options: dict[str, Any], kind: type[Exception]) -> None:
    """If the signatures are what they were, the first error stands; those of a numbered version are not asked again."""
    clock = Clock()
    catalog = Catalog(clock)
    for spec, again in ((SPEC, [answer_metadata(1, "x")]), (ModelSpec("m", 1), [])):
        Hand(clock, answer_metadata(1, "x")).run(metadata(rest_queries, catalog, spec, make_terms(clock)))
        hand = Hand(clock, *again)
        with pytest.raises(kind):
            hand.run(plan_of(catalog, clock, spec=spec, **options))
        assert len(hand.asked) == len(again)


@pytest.mark.parametrize(
    "body",
    [
        b'{"model_spec": {}}',
        b'{"model_spec": {"version": "1"}, "metadata": []}',
        b'{"model_spec": {"version": "1"}, "metadata": {"signature_def": {"signature_def": {"a": 1}}}}',
        b"not JSON",
        b"[]",
    ],
)
def test_metadata_that_are_none_are_told_so(body: bytes) -> None:
    """An answer that tells no signatures is a fault of whoever answered."""
    clock = Clock()
    with pytest.raises(UnfitAnswer, match="the answer"):
        Hand(clock, body).run(metadata(rest_queries, None, SPEC, make_terms(clock)))
