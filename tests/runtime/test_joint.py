"""Joint calls: one run where the runtime can do that, one after the other where it cannot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from serving_app.core.errors import Code, DeadlineExceeded, FailedPrecondition, ServingError
from serving_app.core.servable import ServableId
from serving_app.host import Assignment, Batching, Host
from serving_app.protocol.calls import JOINT, Call
from serving_app.runtime import LoadOptions, saved_model
from serving_app.runtime.joint import RunsJointly, run_joint
from tests.zoo import Zoo


class Plain:
    """A servable that knows nothing of joint runs, and tells what it was asked."""

    signatures: Mapping[str, Any] = {}

    def __init__(self) -> None:
        self.asked: list[tuple[str, Any, float | None]] = []

    def run(
        self, signature_name: str, inputs: Mapping[str, Any], outputs: Sequence[str] | None = None,
        timeout: float | None = None,
    ) -> dict[str, Any]:
        self.asked.append((signature_name, outputs, timeout))
        if signature_name == "bad":
            raise FailedPrecondition("bad")
        if timeout is not None and timeout <= 0:
            raise DeadlineExceeded("over")
        return {name: inputs["x"] + len(self.asked) for name in outputs or ()}

    def close(self) -> None:
        pass


def call(*outputs: str, timeout: float | None = None) -> Call:
    return Call(JOINT, {"x": np.zeros(1)}, outputs, timeout)


def test_a_runtime_without_joint_runs_is_asked_in_turn() -> None:
    """Each signature is run by itself, with what is left of the time; the outputs are told apart."""
    servable = Plain()
    outputs = run_joint(servable, call("a/b/y", "c/y", "a/b/z", timeout=9.0))
    assert {name: array.tolist() for name, array in outputs.items()} == {"a/b/y": [1], "a/b/z": [1], "c/y": [2]}
    (first, second) = servable.asked
    assert [each[:2] for each in (first, second)] == [("a/b", ("y", "z")), ("c", ("y",))]
    assert 0 < (second[2] or 0) <= (first[2] or 0) <= 9.0
    run_joint(servable, call("a/y"))
    assert servable.asked[-1] == ("a", ("y",), None)


def test_the_first_failure_is_that_of_the_call() -> None:
    """A signature that fails ends the joint call with its error."""
    servable = Plain()
    with pytest.raises(FailedPrecondition):
        run_joint(servable, call("a/y", "bad/y", "c/y"))
    assert [name for name, *_ in servable.asked] == ["a", "bad"]


@pytest.mark.parametrize("batching", [None, Batching(allowed_batch_sizes=(2, 4), max_batch_size=4)])
def test_saved_models_run_jointly(zoo: Zoo, batching: Batching | None) -> None:
    """One run of several signatures gives what each gives by itself, also when it is batched with others."""
    assert issubclass(saved_model.SavedModel, RunsJointly)
    servable, host = ServableId("heads", 2), Host()
    host.load(Assignment(servable, zoo.path("heads", 2), batching=batching))
    try:
        classify, regress = zoo.examples("heads")
        wanted = ("total/outputs", "serving_default/scores")
        right = {wanted[0]: regress.outputs["outputs"], wanted[1]: classify.outputs["scores"]}
        joint = Call(JOINT, classify.inputs, wanted)
        late = joint._replace(timeout=-1.0)
        replies = host.run_batch(servable, [joint, joint]).replies if batching else [host.run(servable, joint)]
        for reply in replies:
            assert not isinstance(reply, ServingError)
            assert reply.keys() == right.keys()
            for name, array in reply.items():
                np.testing.assert_allclose(array, right[name])
        refused = host.run(servable, late)
        assert isinstance(refused, ServingError)
        assert refused.code is Code.DEADLINE_EXCEEDED
        wrong = host.run(servable, joint._replace(inputs={"x": np.zeros(1)}))
        assert isinstance(wrong, ServingError)
        assert wrong.code is Code.INVALID_ARGUMENT
    finally:
        host.unload(servable)


def test_plans_are_not_kept_without_end(zoo: Zoo, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients choose outputs and signatures; beyond a limit a combination is prepared anew each time, and answered."""
    monkeypatch.setattr(saved_model, "_MOST_PLANS", 1)
    loaded = saved_model.SavedModelLoader().load(zoo.path("heads", 2), LoadOptions())
    try:
        inputs = zoo.examples("heads")[0].inputs
        first = loaded.run("total", inputs)
        for _ in range(2):
            joint = loaded.run_joint({"total": ("outputs",)}, inputs)
            assert joint["total/outputs"].tolist() == first["outputs"].tolist()
        assert len(loaded._plans) == 1
    finally:
        loaded.close()


def test_signatures_that_share_tensors(zoo: Zoo) -> None:
    """An input that signatures share is fed once, and an output that they share is given to each."""
    servable, host = ServableId("parser", 1), Host()
    host.load(Assignment(servable, zoo.path("heads", 1)))
    try:
        inputs = zoo.examples("heads")[0].inputs
        reply = host.run(servable, Call(JOINT, inputs, ("serving_default/scores", "value/outputs")))
        assert not isinstance(reply, ServingError)
        scores, values = reply.values()
        assert scores.tolist() == values.tolist()
        assert scores is not values
    finally:
        host.unload(servable)
