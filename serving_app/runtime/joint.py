"""Joint calls: several signatures on the same inputs, in one run where the runtime can do that.

MultiInference asks for it, of models whose signatures share most of their work: the heads of one network. A run of all
computes the shared part once, and they answer from the same state and the same random numbers.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from serving_app.protocol.calls import Call, joint_output, joint_parts
from serving_app.runtime.loader import Array, Servable


@runtime_checkable
class RunsJointly(Protocol):
    """What a Servable may offer beside `run`."""

    def run_joint(
        self, parts: Mapping[str, Sequence[str]], inputs: Mapping[str, Array], timeout: float | None = None
    ) -> dict[str, Array]:
        """Answer several signatures by one run, in which each takes all of the inputs.

        `parts` are the signatures' names and the outputs that are wanted of each; the answer has them by the names
        that `joint_output` gives them. All else is as in Servable.run.
        """
        ...


def run_joint(servable: Servable, call: Call) -> dict[str, Array]:
    """Answer a joint call; where a runtime has no joint runs, by one run after the other within the call's time."""
    parts = joint_parts(call.outputs or ())
    if isinstance(servable, RunsJointly):
        return servable.run_joint(parts, call.inputs, call.timeout)
    deadline = None if call.timeout is None else time.monotonic() + call.timeout
    answers: dict[str, Array] = {}
    for name, wanted in parts.items():
        left = None if deadline is None else deadline - time.monotonic()
        outputs = servable.run(name, call.inputs, wanted, left)
        answers |= {joint_output(name, alias): array for alias, array in outputs.items()}
    return answers
