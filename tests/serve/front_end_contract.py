"""What every front end promises, in whatever protocol: the same answers and the same errors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import pytest

from serving_app.core.errors import Code
from serving_app.core.families import MIRROR_REQUESTS
from serving_app.core.servable import ModelSpec
from tests.serve.fronts import Front
from tests.stepping import PATIENCE_S, until
from tests.zoo import Zoo


class Failed(Exception):
    """An answer that is an error: the protocol's number for it, and the text."""

    def __init__(self, number: int, message: str) -> None:
        super().__init__(f"{number}: {message}")
        self.number = number
        self.message = message


class Status(NamedTuple):
    version: int
    state: str
    code: str
    message: str


class Metadata(NamedTuple):
    name: str
    version: int
    inputs: dict[str, dict[str, str]]
    """By signature and input: the element type."""


HALF = ModelSpec("half_plus_two")
NOTHING: Mapping[str, str] = {}


class FrontEndContract:
    """Inherited by one class per protocol, which says how to ask."""

    NUMBERS: Mapping[Code, int]
    """The protocol's number for each code."""

    def predict(
        self, front: Front, spec: ModelSpec, inputs: Mapping[str, Any], signature: str = "", *, hurried: bool = False,
        fields: Mapping[str, str] = NOTHING,
    ) -> dict[str, Any]:
        """The outputs, as lists by name; `fields` are headers or metadata. Raises Failed."""
        raise NotImplementedError

    def send_garbage(self, front: Front) -> None:
        """Ask half_plus_two with a body that is no request."""
        raise NotImplementedError

    def status(self, front: Front, spec: ModelSpec) -> list[Status]:
        """The states of a model's versions."""
        raise NotImplementedError

    def metadata(self, front: Front, spec: ModelSpec) -> Metadata:
        """What can be asked of a version."""
        raise NotImplementedError

    def fails(self, code: Code, message: str, ask: Any) -> Failed:
        with pytest.raises(Failed) as caught:
            ask()
        assert caught.value.number == self.NUMBERS[code], caught.value
        assert message in caught.value.message
        assert "Traceback" not in caught.value.message
        return caught.value

    @pytest.mark.parametrize(
        ("version", "label", "right"),
        [(None, None, 3.5), (1, None, 2.5), (2, None, 3.5), (None, "stable", 2.5), (None, "canary", 3.5)],
    )
    def test_a_version_is_found_by_number_label_or_being_the_latest(
        self, front: Front, version: int | None, label: str | None, right: float
    ) -> None:
        """Without version and label the latest version answers, with one of them the version that it means."""
        spec = ModelSpec("half_plus_two", version, label)
        assert self.predict(front, spec, {"x": [1.0]}) == {"y": [right]}

    def test_signatures_are_asked_by_name(self, front: Front) -> None:
        """No signature name means serving_default; any other is found by its name."""
        several = ModelSpec("several")
        assert self.predict(front, several, {"x": [2.0]}) == {"y": [6.0]}
        assert self.predict(front, several, {"x": [2.0]}, "serving_default") == {"y": [6.0]}
        assert self.predict(front, several, {"x": [3.0]}, "square") == {"y": [9.0]}
        assert self.predict(front, several, {"x": 3.0}, "scalar") == {"y": 4.0}

    def test_several_inputs_and_outputs_keep_their_names(self, front: Front, zoo: Zoo) -> None:
        """A model with three inputs and five outputs answers as TensorFlow itself does."""
        example = zoo.examples("many")[0]
        inputs = {name: array.tolist() for name, array in example.inputs.items()}
        right = {name: array.tolist() for name, array in example.outputs.items()}
        assert self.predict(front, ModelSpec("many"), inputs) == right

    @pytest.mark.parametrize(
        ("spec", "code", "message"),
        [
            (ModelSpec("nope"), Code.NOT_FOUND, "Servable not found for request: Latest(nope)"),
            (ModelSpec("broken"), Code.NOT_FOUND, "Servable not found for request: Latest(broken)"),
            (ModelSpec("half_plus_two", 9), Code.NOT_FOUND, "Specific(half_plus_two, 9)"),
            (ModelSpec("half_plus_two", 3), Code.NOT_FOUND, "Specific(half_plus_two, 3)"),
            (
                ModelSpec("half_plus_two", None, "nope"),
                Code.INVALID_ARGUMENT,
                "Unrecognized servable version label: nope",
            ),
        ],
    )
    def test_what_is_not_served_is_said(self, front: Front, spec: ModelSpec, code: Code, message: str) -> None:
        """An unknown model, version or label, or one that failed to load, is an error that names it."""
        self.fails(code, message, lambda: self.predict(front, spec, {"x": [1.0]}))
        self.fails(code, message, lambda: self.metadata(front, spec))

    def test_an_unknown_signature_is_said(self, front: Front) -> None:
        """A signature that the model does not have is an error that names it."""
        self.fails(
            Code.FAILED_PRECONDITION, '"nope" not found', lambda: self.predict(front, HALF, {"x": [1.0]}, "nope")
        )

    @pytest.mark.parametrize("inputs", [{"z": [1.0]}, {"x": [1.0], "z": [1.0]}, {}])
    def test_wrong_inputs_are_said(self, front: Front, inputs: dict[str, Any]) -> None:
        """Inputs that are missing or not the signature's are an error of the request, and the next one is answered."""
        self.fails(Code.INVALID_ARGUMENT, "", lambda: self.predict(front, ModelSpec("half_plus_two"), inputs))
        assert self.predict(front, HALF, {"x": [1.0]}) == {"y": [3.5]}

    @pytest.mark.parametrize(
        ("model", "value"), [("half_plus_two", ["text"]), ("dense", [[1.0, 2.0, 3.0]]), ("dense", [1.0])]
    )
    def test_wrong_types_and_shapes_are_said(self, front: Front, model: str, value: Any) -> None:
        """Values that the model cannot take are an error of the request, and the next one is answered."""
        self.fails(Code.INVALID_ARGUMENT, "", lambda: self.predict(front, ModelSpec(model), {"x": value}))
        assert self.predict(front, HALF, {"x": [1.0]}) == {"y": [3.5]}

    def test_a_malformed_request_is_said(self, front: Front) -> None:
        """A body that is no request is refused as one, and the next one is answered."""
        self.fails(Code.INVALID_ARGUMENT, "", lambda: self.send_garbage(front))
        assert self.predict(front, HALF, {"x": [1.0]}) == {"y": [3.5]}

    def test_a_request_whose_time_is_over_is_told_so(self, front: Front) -> None:
        """When the model does not answer in time the client hears that, and in time; others are answered meanwhile."""
        front.hold()
        try:
            stuck = ModelSpec("stuck")
            self.fails(
                Code.DEADLINE_EXCEEDED,
                "stuck@1 gave no answer within",
                lambda: self.predict(front, stuck, {"x": [1.0]}, hurried=True),
            )
            assert self.predict(front, HALF, {"x": [1.0]}) == {"y": [3.5]}
        finally:
            front.let_go()

    def test_a_fault_of_our_own_shows_no_stack(self, front: Front, caplog: pytest.LogCaptureFixture) -> None:
        """An exception that nobody expected is an internal error: its text for the client, its stack for the log."""
        failed = self.fails(
            Code.INTERNAL,
            "KeyError: 'a fault of our own'",
            lambda: self.predict(front, ModelSpec("faulty"), {"x": [1.0]}),
        )
        assert ".py" not in failed.message
        assert "Traceback" in caplog.text

    def test_the_status_of_every_version_is_told(self, front: Front) -> None:
        """The versions of a model, newest first, each with its state and, if it failed, why."""
        failed = Status(3, "END", "NOT_FOUND", 'no "saved_model.pb"')
        ready = [Status(version, "AVAILABLE", "OK", "") for version in (2, 1)]
        assert self.status(front, HALF) == [failed, *ready]
        assert self.status(front, ModelSpec("half_plus_two", 1)) == ready[1:]
        assert self.status(front, ModelSpec("half_plus_two", 3)) == [failed]
        assert self.status(front, ModelSpec("broken")) == [Status(1, "END", "DATA_LOSS", "damaged")]
        for spec, message in (
            (ModelSpec("nope"), "Could not find any versions of model nope"),
            (ModelSpec("half_plus_two", 9), "Could not find version 9 of model half_plus_two"),
        ):
            self.fails(Code.NOT_FOUND, message, lambda spec=spec: self.status(front, spec))

    @pytest.mark.parametrize("label", [None, "stable"])
    def test_metadata_name_version_and_signatures(self, front: Front, label: str | None) -> None:
        """Metadata tell which version it is and what can be asked of it."""
        name, version, inputs = self.metadata(front, ModelSpec("half_plus_two", None, label))
        assert (name, version) == ("half_plus_two", 1 if label else 2)
        assert inputs["serving_default"] == {"x": "DT_FLOAT"}

    def test_many_clients_get_each_their_own_answer(self, front: Front) -> None:
        """Requests that arrive together are answered each with its own values, good and bad ones side by side."""

        def client(number: int) -> None:
            for value in range(number, number + 10):
                if value % 4 == 0:
                    self.fails(Code.INVALID_ARGUMENT, "", lambda: self.predict(front, HALF, {"x": ["text"]}))
                else:
                    assert self.predict(front, HALF, {"x": [2.0 * value]}) == {"y": [value + 3.0]}

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(client, range(0, 160, 10)))

    @pytest.mark.parametrize(
        ("fields", "value", "right"),
        [
            ({}, 1.0, 2.5),
            ({"x-team": "ads"}, 1.0, 3.5),
            ({"X-Team": " ads "}, 1.0, 3.5),
            ({"x-team": "adsl"}, 1.0, 2.5),
            ({}, 8.0, 7.0),
        ],
    )
    def test_an_audience_gets_its_version(
        self, front: Front, fields: Mapping[str, str], value: float, right: float
    ) -> None:
        """By a header or key of the metadata, or by the first value of an input."""
        spec = ModelSpec("half_plus_two", label="shared")
        assert self.predict(front, spec, {"x": [value, 0.0]}, fields=fields)["y"][0] == right

    def test_shared_traffic_sticks_to_its_key(self, front: Front) -> None:
        """Requests by the same key get the same version every time; by many keys, both are asked."""
        spec = ModelSpec("half_plus_two", label="split")
        answers = [
            [self.predict(front, spec, {"x": [1.0]}, fields={"x-user": f"user-{user}"})["y"][0] for user in range(20)]
            for _ in range(2)
        ]
        assert answers[0] == answers[1]
        assert set(answers[0]) == {2.5, 3.5}

    @pytest.mark.parametrize(
        ("label", "candidate", "agreement"),
        [
            ("alike", 2, ("OK", "OK", "same")),
            ("another", 2, ("OK", "OK", "different")),
            ("faulty", 5, ("OK", "INTERNAL", "")),
            ("strange", 6, ("OK", "FAILED_PRECONDITION", "")),
        ],
    )
    def test_copies_are_compared(
        self, front: Front, label: str, candidate: int, agreement: tuple[str, str, str]
    ) -> None:
        """Whatever the candidate does with its copies, the client gets the version's own answer; both are counted."""
        pair = ("mirrored", "1", str(candidate))
        before = copies(front, pair)
        spec = ModelSpec("mirrored", label=label)
        for value in (1.0, 2.0, 3.0):
            assert self.predict(front, spec, {"x": [value]}) == {"y": [value / 2 + 2]}
        front.run(until(lambda: copies(front, pair) == before + Counter({agreement: 3})))

    def test_a_candidate_that_hangs_holds_nobody_up(self, front: Front) -> None:
        """Requests are answered while their copies wait, and errors are what they were."""
        pair, spec = ("mirrored", "1", "4"), ModelSpec("mirrored", label="stuck")
        before = copies(front, pair)
        front.hold()
        try:
            for value in (1.0, 2.0):
                assert self.predict(front, spec, {"x": [value]}) == {"y": [value / 2 + 2]}
            for _ in range(2):
                assert front.gate.reached.acquire(timeout=PATIENCE_S)
            self.fails(
                Code.FAILED_PRECONDITION, "", lambda: self.predict(front, spec, {"x": [1.0]}, signature="nope")
            )
            assert copies(front, pair) == before
        finally:
            front.let_go()
        front.run(until(lambda: copies(front, pair) == before + Counter({("OK", "OK", "different"): 2})))

    def test_a_candidate_that_is_not_there_yet_gets_no_copies(self, front: Front) -> None:
        """Nor does anybody hear of it."""
        assert self.predict(front, ModelSpec("mirrored", label="early"), {"x": [1.0]}) == {"y": [2.5]}
        assert not copies(front, ("mirrored", "1", "7"))


def copies(front: Front, pair: tuple[str, str, str]) -> Counter[tuple[str, ...]]:
    """How many requests of one version and their copies for another had which outcomes."""
    cells = front.copied.counts().get(MIRROR_REQUESTS.name, {})
    return Counter({labels[3:]: int(count) for labels, count in cells.items() if labels[:3] == pair})  # type: ignore[arg-type]
