"""Running targets for a time: how inputs are drawn, how long each may take, and what there is to run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple
from unittest.mock import patch

from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from serving_app.protocol import tensor_proto
from tests.conformance.local import Local
from tests.fuzz import codecs, configs, fronts
from tests.serve.fronts import LoopThread
from tests.zoo import Zoo

LONGEST_S = 20.0
"""How long one input may take: far more than any does, and little enough to tell a hang."""

_BATCH = 50
"""Inputs between two looks at the clock."""


class Target(NamedTuple):
    """Something that is given inputs, and what must hold for each."""

    inputs: st.SearchStrategy[Any]
    check: Callable[[Any], None]


ALONE: dict[str, Target] = {
    "url": Target(codecs.URLS, codecs.check_url),
    "json": Target(codecs.JSON, codecs.check_json),
    "floats": Target(codecs.FLOATS, codecs.check_floats),
    "tensor": Target(codecs.TENSORS, codecs.check_tensor),
    "warmup": Target(codecs.WARMUPS, codecs.check_warmup),
    "yaml": Target(configs.YAML, configs.check_yaml),
    "text": Target(configs.TEXTS, configs.check_text),
    "flags": Target(configs.COMMAND_LINES, configs.check_flags),
}
"""Targets that need nothing but their input."""

LISTENING = ("rest", "grpc")
"""Targets that need front ends."""


@contextmanager
def listening(loop: LoopThread, zoo: Zoo) -> Iterator[dict[str, Target]]:
    """The targets that need front ends, over models of the zoo."""
    local = Local(loop, zoo)
    server = local.start()
    # A few bytes may ask for a tensor of this size by leaving its values to repetition; a million such would take days.
    with patch.object(tensor_proto, "MAX_FILLED_BYTES", 1 << 20):
        try:
            yield {
                "rest": Target(fronts.REST, partial(fronts.check_rest, server)),
                "grpc": Target(fronts.grpc_inputs(), partial(fronts.check_grpc, server)),
            }
        finally:
            local.close()


def run(target: Target, seconds: float, first_seed: int = 0) -> int:
    """Give the target inputs for so long; returns how many it got. The seed decides which. Raises what it finds."""
    end = time.monotonic() + seconds
    count = 0

    def check(value: Any) -> None:
        nonlocal count
        count += 1
        start = time.monotonic()
        target.check(value)
        assert time.monotonic() - start < LONGEST_S, "this takes too long"

    while time.monotonic() < end:
        quiet = settings(
            max_examples=_BATCH, deadline=None, database=None, suppress_health_check=list(HealthCheck), print_blob=True
        )
        seed(first_seed)(quiet(given(target.inputs)(check)))()
        first_seed += 1
    return count
