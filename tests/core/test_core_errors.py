"""The error tree."""

import pickle

import grpc
import pytest

from serving_app.core import errors
from serving_app.core.errors import Code, RuntimeFailure, ServingError

TREE = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, ServingError)]


def make(kind: type[ServingError]) -> ServingError:
    return kind(Code.ABORTED, "it said no") if issubclass(kind, RuntimeFailure) else kind("it said no")


@pytest.mark.parametrize("kind", TREE, ids=lambda kind: kind.__name__)
def test_errors_travel(kind):
    """Every error arrives in another process as the same type with the same fields."""
    error = make(kind)
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is kind
    assert (copy.code, copy.message, str(copy)) == (error.code, "it said no", "it said no")


@pytest.mark.parametrize("kind", TREE, ids=lambda kind: kind.__name__)
def test_errors_are_drawn(kind):
    """The tree at the top of the module shows every error."""
    assert kind.__name__ in (errors.__doc__ or "")


def test_codes():
    """Each kind of error has its own code, and none means success."""
    codes = [kind.code for kind in TREE if kind is not RuntimeFailure]
    assert len(set(codes)) == len(codes)
    assert Code.OK not in codes
    assert repr(RuntimeFailure(Code.ABORTED, "it said no")) == "RuntimeFailure(ABORTED: it said no)"


def test_code_numbers_are_those_of_grpc():
    """The numbers are those that clients know from gRPC."""
    assert {code.name: code.value for code in Code} == {code.name: code.value[0] for code in grpc.StatusCode}
