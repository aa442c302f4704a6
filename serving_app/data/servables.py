"""The two ways to run rows: in a version that this process has loaded itself, or by asking the one that serves.

*local* leaves the serving app alone: the version is fetched, by the node's cache where its store is remote, loaded and
run as a replica does it, with all rows of a batch in one run.

*live* gives the answers of production and takes its share of it: no more than so many calls are under way at a time,
and a call that is told to come later is tried again, with growing pauses, until its time is over.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np

from serving_app.core.errors import DeadlineExceeded, NotFound, ResourceExhausted, ServingError, Unavailable
from serving_app.core.servable import ServableId
from serving_app.core.signatures import Signature
from serving_app.data.scoring import Runs
from serving_app.host import Assignment, Host
from serving_app.protocol.calls import Call

Tensors = Mapping[str, np.ndarray[Any, Any]]

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 5.0


class Predicts(Protocol):
    """The part of a model as `connect` gives it that is needed here."""

    def predict(
        self, inputs: Tensors, /, *, signature_name: str, outputs: tuple[str, ...], timeout: float | None
    ) -> Tensors:
        """The outputs of one call."""
        ...


class LocalServable:
    """A version in this process."""

    def __init__(self, assignment: Assignment) -> None:
        """Loads it; raises a ServingError that says what is wrong."""
        self._host = Host()
        self._servable: ServableId = assignment.servable
        self.signatures: Mapping[str, Signature] = self._host.load(assignment)

    def runs(self, signature_name: str, outputs: tuple[str, ...]) -> Runs:
        """Runs of one signature, of all rows at once: the runtime uses all of its threads for each."""
        return _LocalRuns(self._host, self._servable, signature_name, outputs)

    def close(self) -> None:
        """Unload the version."""
        self._host.unload(self._servable)


class _LocalRuns:
    rows_per_run: int | None = None
    parallel = 1

    def __init__(self, host: Host, servable: ServableId, signature_name: str, outputs: tuple[str, ...]) -> None:
        self._host, self._servable = host, servable
        self._signature_name, self._outputs = signature_name, outputs

    def run(self, inputs: Tensors) -> Tensors:
        reply = self._host.run(self._servable, Call(self._signature_name, inputs, self._outputs))
        if isinstance(reply, ServingError):
            raise reply
        return reply


class LiveRuns:
    """Runs of one signature by calls of the version that serves."""

    def __init__(
        self,
        model: Predicts,
        signature_name: str,
        outputs: tuple[str, ...],
        *,
        rows_per_run: int,
        parallel: int,
        timeout: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """`timeout` is for one call with everything that it has to be tried again for."""
        self.rows_per_run: int | None = rows_per_run
        self.parallel = parallel
        self._model = model
        self._signature_name, self._outputs = signature_name, outputs
        self._timeout = timeout
        self._clock, self._sleep, self._chance = clock, sleep, chance

    def run(self, inputs: Tensors) -> Tensors:
        """The outputs of some rows. Waits where the version has too much to do, or nobody answers for it just now."""
        deadline = self._clock() + self._timeout
        pause = _FIRST_PAUSE_S
        while True:
            left = deadline - self._clock()
            try:
                return self._model.predict(
                    inputs, signature_name=self._signature_name, outputs=self._outputs, timeout=left
                )
            except (ResourceExhausted, Unavailable) as error:
                wait = pause * (0.5 + self._chance())  # so that many callers do not come back together
                if self._clock() + wait >= deadline:
                    raise DeadlineExceeded(
                        f"the model could not answer within {self._timeout:g} s ({error.code.name}: {error.message}); "
                        "give it more replicas, or ask with fewer calls at a time"
                    ) from error
                self._sleep(wait)
                pause = min(2 * pause, _LONGEST_PAUSE_S)
            except NotFound as error:
                raise NotFound(
                    f"{error.message}: the version by which this work was begun does not serve any more; let it serve "
                    "until the work is done, or run the version locally"
                ) from error
