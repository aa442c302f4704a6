"""Errors cross processes: each of the product's arrives as what it was."""

from __future__ import annotations

import importlib
import pickle
import pkgutil
from collections.abc import Iterator
from typing import Any

import cloudpickle
import pytest

import serving_app
from serving_app.core.errors import Code, RuntimeFailure, ServingError
from serving_app.core.states import Cause, IllegalMove, State

ARGUMENTS: dict[type[ServingError], tuple[Any, ...]] = {
    RuntimeFailure: (Code.ABORTED, "it said no"),
    IllegalMove: ("m@1", State.NEW, Cause.UNLOAD, "1.000 listed"),
}
"""Of errors that are made of more than a message."""


def every_error() -> list[type[ServingError]]:
    """All errors of all modules."""
    for module in pkgutil.walk_packages(serving_app.__path__, "serving_app."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    return sorted({ServingError, *_below(ServingError)}, key=lambda kind: kind.__qualname__)


def _below(kind: type[ServingError]) -> Iterator[type[ServingError]]:
    for sub in kind.__subclasses__():
        if sub.__module__.startswith("serving_app."):
            yield sub
            yield from _below(sub)


@pytest.mark.parametrize("dumps", [pickle.dumps, cloudpickle.dumps])
@pytest.mark.parametrize("kind", every_error(), ids=lambda kind: kind.__name__)
def test_errors_survive_the_way_to_another_process(kind: type[ServingError], dumps: Any) -> None:
    """Type, code, text and fields are the same after pickling, also a second time."""
    error = kind(*ARGUMENTS.get(kind, ("it said no",)))
    copy = pickle.loads(dumps(pickle.loads(dumps(error))))
    assert type(copy) is kind
    assert vars(copy) == vars(error)
    assert (copy.code, str(copy), repr(copy)) == (error.code, str(error), repr(error))
