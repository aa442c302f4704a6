"""The Host with real models: what it loads, how it answers, how it lets go."""

from __future__ import annotations

import re
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Barrier
from typing import Any

import fsspec
import numpy as np
import pytest

from serving_app.core.errors import (
    Code,
    DeadlineExceeded,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    NotFound,
    ServingError,
)
from serving_app.core.servable import ServableId
from serving_app.core.signatures import DType
from serving_app.host import Assignment, Batching, Host
from serving_app.protocol.calls import Call, Reply
from serving_app.protocol.joined_calls import join_requests
from tests.host.scripted import SCRIPTED_PLATFORM, Scripted, ScriptedLoader
from tests.zoo import Zoo


def x(*values: float, **more: Any) -> Call:
    """A call with one vector."""
    return Call("serving_default", {"x": np.array(values, np.float32)}, **more)


def loaded(
    zoo: Zoo, model: str, version: int = 1, limits: Batching | None = None
) -> tuple[Host, ServableId]:
    """A Host that holds one version of the zoo."""
    host, servable = Host(), ServableId(model, version)
    host.load(Assignment(servable, zoo.path(model, version), batching=limits))
    return host, servable


def outputs(reply: Reply) -> Any:
    """The values of a reply that is no error."""
    assert not isinstance(reply, ServingError), reply
    return {name: array.tolist() for name, array in reply.items()}


SCRIPTED = ServableId("scripted", 1)


def scripted(
    tmp_path: Path, limits: Batching | None = None, host: Host | None = None
) -> tuple[Host, Scripted]:
    """A Host that holds a scripted servable."""
    host = host or Host()
    host.load(Assignment(SCRIPTED, str(tmp_path), SCRIPTED_PLATFORM, batching=limits))
    return host, ScriptedLoader.ready.pop()


# --- loading and unloading -------------------------------------------------------------------------------------------


def test_a_version_answers_from_load_to_unload(zoo: Zoo) -> None:
    """Loading returns the signatures; until it is unloaded a version answers, and afterwards it is not found."""
    host, servable = Host(), ServableId("half_plus_two", 2)
    signatures = host.load(Assignment(servable, zoo.path("half_plus_two", 2)))
    assert signatures["serving_default"].inputs["x"].dtype == DType.FLOAT
    assert outputs(host.run(servable, x(1, 2))) == {"y": [3.5, 4.0]}
    host.unload(servable)
    host.unload(servable)
    for ask in (lambda: host.run(servable, x(1)), lambda: host.run_batch(servable, [x(1)])):
        with pytest.raises(NotFound, match=r"Servable not found for request: Specific\(half_plus_two, 2\)"):
            ask()


def test_versions_are_held_side_by_side(zoo: Zoo) -> None:
    """Two versions of one model answer each for itself, and unloading one leaves the other."""
    host, _ = loaded(zoo, "half_plus_two", 1)
    host.load(Assignment(ServableId("half_plus_two", 2), zoo.path("half_plus_two", 2)))
    assert outputs(host.run(ServableId("half_plus_two", 1), x(1))) == {"y": [2.5]}
    assert outputs(host.run(ServableId("half_plus_two", 2), x(1))) == {"y": [3.5]}
    host.unload(ServableId("half_plus_two", 1))
    assert outputs(host.run(ServableId("half_plus_two", 2), x(1))) == {"y": [3.5]}


@pytest.mark.parametrize(
    ("model", "version", "code"),
    [("empty", 1, Code.NOT_FOUND), ("corrupt", 1, None), ("missing_shard", 1, None), ("no_such_model", 1, None)],
)
def test_a_version_that_cannot_be_loaded_is_not_held(zoo: Zoo, model: str, version: int, code: Code | None) -> None:
    """A failed load raises one of our errors, with the path in it or the file, and leaves nothing to be asked."""
    host, servable = Host(), ServableId(model, version)
    with pytest.raises(ServingError) as caught:
        host.load(Assignment(servable, zoo.path(model, version)))
    assert code in (None, caught.value.code)
    with pytest.raises(NotFound):
        host.run(servable, x(1))


def test_a_version_in_a_remote_store_is_fetched_first(zoo: Zoo, tmp_path: Path) -> None:
    """A version under memory:// is copied to the node's cache and loaded from there."""
    base = f"/{uuid.uuid4().hex}"
    fsspec.filesystem("memory").put(zoo.path("half_plus_two"), f"{base}/1", recursive=True)
    host, servable = Host(), ServableId("remote", 1)
    host.load(Assignment(servable, f"memory:/{base}/1", cache_dir=str(tmp_path)))
    assert outputs(host.run(servable, x(4))) == {"y": [4.0]}
    assert list(tmp_path.rglob("saved_model.pb"))
    host.unload(servable)


def test_loading_a_held_version_again_replaces_it(tmp_path: Path) -> None:
    """Of two loads of one version the second answers, and the first is closed, once."""
    host, first = scripted(tmp_path)
    _, second = scripted(tmp_path, host=host)
    assert (first.closed, second.closed) == (1, 0)
    host.run(SCRIPTED, x(1))
    assert (first.runs, second.runs) == ([], [1])


def test_unloading_waits_for_what_runs(tmp_path: Path) -> None:
    """A call that was begun before the unload is answered, one that comes later is refused, then the unload ends."""
    host, servable = scripted(tmp_path)
    servable.go.clear()
    with ThreadPoolExecutor(2) as pool:
        call = pool.submit(host.run, SCRIPTED, x(1))
        assert servable.running.wait(30)
        unload = pool.submit(host.unload, SCRIPTED)
        assert servable.closing.wait(30)
        with pytest.raises(NotFound):
            host.run(SCRIPTED, x(2))
        assert not unload.done()
        servable.go.set()
        unload.result(30)
        assert outputs(call.result(30)) == {"y": [2]}
    assert (servable.runs, servable.closed) == ([1], 1)


# --- batches ---------------------------------------------------------------------------------------------------------


def test_joined_calls_get_the_answers_they_would_get_alone(zoo: Zoo) -> None:
    """Every request of the zoo, joined with its like and filled up, is answered as it is alone."""
    limits = Batching(max_batch_size=16, allowed_batch_sizes=(5, 11, 16))
    for model in ("half_plus_two", "dense", "conv", "strings", "dtypes"):
        host, servable = loaded(zoo, model, limits=limits)
        for example in zoo.examples(model):
            call = Call(example.signature, example.inputs)
            if example.version != 1:
                continue
            right = _reply(host.run(servable, call))
            if any(array.ndim == 0 for array in (*call.inputs.values(), *right.values())):
                continue
            for reply in host.run_batch(servable, [call] * 3).replies:
                assert not isinstance(reply, ServingError), reply
                assert reply.keys() == right.keys()
                for name, array in reply.items():
                    assert array.dtype == right[name].dtype
                    np.testing.assert_array_equal(array, right[name]) if array.dtype.kind == "O" else (
                        np.testing.assert_allclose(array.astype(complex), right[name].astype(complex), rtol=1e-5)
                    )
        host.unload(servable)


def test_a_batch_is_one_run(tmp_path: Path) -> None:
    """The calls of a batch are joined into one run, and replies come back in the order of the calls."""
    host, servable = scripted(tmp_path)
    replies = host.run_batch(SCRIPTED, [x(1), x(2, 3), x(), x(4)]).replies
    assert servable.runs == [4]
    assert [outputs(reply)["y"] for reply in replies] == [[2], [4, 6], [], [8]]


def test_a_batch_is_filled_up_to_an_allowed_size(tmp_path: Path) -> None:
    """A run has one of the allowed sizes, also that of a single call; nobody sees the rows that fill it up."""
    limits = Batching(max_batch_size=8, allowed_batch_sizes=(2, 4, 8))
    host, servable = scripted(tmp_path, limits)
    assert [outputs(reply)["y"] for reply in host.run_batch(SCRIPTED, [x(1), x(2, 3)]).replies] == [[2], [4, 6]]
    assert [outputs(reply)["y"] for reply in host.run_batch(SCRIPTED, [x(1, 2, 3, 4, 5)]).replies] == [[2, 4, 6, 8, 10]]
    assert [outputs(reply)["y"] for reply in host.run_batch(SCRIPTED, [x()]).replies] == [[]]
    assert servable.runs == [4, 8, 0]


@pytest.mark.parametrize(("value", "kind"), [(-1, FailedPrecondition), (-2, Internal)])
def test_a_bad_member_fails_alone(tmp_path: Path, value: float, kind: type[ServingError]) -> None:
    """When a run fails its halves are run, and theirs, so only the bad member gets an error, of whatever kind."""
    host, servable = scripted(tmp_path, Batching(max_batch_size=8, allowed_batch_sizes=(2, 4, 8)))
    replies = host.run_batch(SCRIPTED, [x(1), x(value), x(3), x(4), x(5)]).replies
    assert servable.runs == [8, 2, 2, 2, 4]
    assert type(replies[1]) is kind
    assert [outputs(replies[index])["y"] for index in (0, 2, 3, 4)] == [[2], [6], [8], [10]]


def test_a_model_that_fails_for_all_says_so_to_each(tmp_path: Path) -> None:
    """A model that cannot run at all gives each member the error, after less than two runs for each."""
    host, servable = scripted(tmp_path)
    replies = host.run_batch(SCRIPTED, [x(-1)] * 10).replies
    assert [type(reply) for reply in replies] == [FailedPrecondition] * 10
    assert len(servable.runs) == 19


def test_what_time_has_ended_is_not_repeated(tmp_path: Path) -> None:
    """A joined run that ran out of time is not followed by a run per member, which would take longer still."""
    host, servable = scripted(tmp_path)
    replies = host.run_batch(SCRIPTED, [x(1), x(-3)]).replies
    assert servable.runs == [2]
    assert [type(reply) for reply in replies] == [DeadlineExceeded, DeadlineExceeded]


def test_members_without_time_are_not_run_again(tmp_path: Path) -> None:
    """After a run that failed only those members are tried again that have time left."""
    host, servable = scripted(tmp_path)
    replies = host.run_batch(SCRIPTED, [x(-1), x(2, timeout=1e-9), x(3, timeout=30.0), x(4)]).replies
    assert servable.runs == [4, 1, 2]
    assert [type(replies[index]) for index in (0, 1)] == [FailedPrecondition, DeadlineExceeded]
    assert [outputs(replies[index])["y"] for index in (2, 3)] == [[6], [8]]


def test_a_joined_call_is_answered_whole(tmp_path: Path) -> None:
    """The members of a joined call have one reply together, without the rows that filled the batch up."""
    host, servable = scripted(tmp_path, Batching(max_batch_size=8, allowed_batch_sizes=(2, 4, 8)))
    (joined,) = join_requests([x(1), x(2, 3)], [None, None], 8).calls
    answer = host.run_batch(SCRIPTED, [joined, x(4), joined])
    assert servable.runs == [8]
    assert [outputs(reply)["y"] for reply in answer.replies] == [[2, 4, 6], [8], [2, 4, 6]]
    assert answer.counts == (2, 1, 2)


def test_a_bad_member_of_a_joined_call_fails_alone(tmp_path: Path) -> None:
    """When the run of a joined call fails its members are told apart, with the time that each of them has."""
    host, _ = scripted(tmp_path)
    members, timeouts = [x(1), x(-1), x(2, 3), x(4)], [None, None, None, 1e-9]
    (joined,) = join_requests(members, timeouts, 8).calls
    answer = host.run_batch(SCRIPTED, [joined])
    assert [type(answer.replies[index]) for index in (1, 3)] == [FailedPrecondition, DeadlineExceeded]
    assert [outputs(answer.replies[index])["y"] for index in (0, 2)] == [[2], [4, 6]]
    assert answer.counts == ()
    assert host.run_batch(SCRIPTED, join_requests([x(1), x(-3)], [None] * 2, 8).calls).counts == (2,)


def test_a_wrong_number_of_rows_is_found_out(tmp_path: Path) -> None:
    """When a model answers fewer rows than it was asked, nobody gets another one's rows."""
    host, _ = scripted(tmp_path)
    replies = host.run_batch(SCRIPTED, [x(1), x(-4, 2), x(3)]).replies
    assert [outputs(replies[index])["y"] for index in (0, 2)] == [[2], [6]]
    assert isinstance(replies[1], FailedPrecondition)
    assert "0th dimension does not equal the sum" in replies[1].message


def test_outputs_that_are_no_rows_are_refused(zoo: Zoo) -> None:
    """A model with a scalar output cannot be batched, whatever the size of the batch; its other outputs can."""
    host, servable = loaded(zoo, "many", limits=Batching())
    inputs = {"a": np.ones((2, 2), np.float32), "b": np.array([1, 2], np.int32), "flag": np.array([True, False])}
    whole = Call("serving_default", inputs)
    for count in (1, 3):
        for reply in host.run_batch(servable, [whole] * count).replies:
            assert isinstance(reply, FailedPrecondition)
            assert reply.message == "Batched output tensor has 0 dimensions"
    names = tuple(sorted(name for name, array in _reply(host.run(servable, whole)).items() if len(array.shape)))
    right = outputs(host.run(servable, whole._replace(outputs=names)))
    for reply in host.run_batch(servable, [whole._replace(outputs=names)] * 3).replies:
        assert outputs(reply) == right


def _reply(reply: Reply) -> dict[str, Any]:
    assert not isinstance(reply, ServingError), reply
    return reply


# --- limits that come with the version -------------------------------------------------------------------------------

SHARED = Batching(max_batch_size=7, num_batch_threads=3, thread_pool_name="mine")


@pytest.mark.parametrize(
    ("text", "limits"),
    [
        (None, None),
        ("", Batching(num_batch_threads=3, thread_pool_name="mine")),
        (
            "max_batch_size { value: 4 } allowed_batch_sizes: [2, 4] num_batch_threads { value: 9 } "
            "thread_pool_name { value: 'theirs' } pad_variable_length_inputs: true",
            Batching(
                max_batch_size=4,
                allowed_batch_sizes=(2, 4),
                pad_variable_length_inputs=True,
                num_batch_threads=3,
                thread_pool_name="mine",
            ),
        ),
    ],
)
def test_a_version_may_bring_its_own_limits(tmp_path: Path, text: str | None, limits: Batching | None) -> None:
    """Where that is on, a version's own file sets all but the threads, and a version without one is not batched."""
    if text is not None:
        (tmp_path / "batching_params.pbtxt").write_text(text)
    for is_on, right in ((True, limits), (False, SHARED)):
        host = Host()
        host.load(
            Assignment(SCRIPTED, str(tmp_path), SCRIPTED_PLATFORM, batching=SHARED, batching_from_version=is_on)
        )
        assert host.batching(SCRIPTED) == right


@pytest.mark.parametrize(
    ("encoded", "words"),
    [
        (b"max_batch_size: 4", "is no BatchingParameters in text form: 1:17"),
        (b"max_batch { value: 4 }", "no field named"),
        (b"max_batch_size { value: 4 } allowed_batch_sizes: 2", "last entry was 2; expected 4"),
        (b"\xff", "cannot be read: .*Correct or remove the file"),
    ],
)
def test_limits_that_cannot_be_read_fail_the_load(tmp_path: Path, encoded: bytes, words: str) -> None:
    """A version with a file of limits that is damaged or contradicts itself is not loaded; the error names the file."""
    file = tmp_path / "batching_params.pbtxt"
    file.write_bytes(encoded)
    ScriptedLoader.ready.clear()
    host = Host()
    with pytest.raises(InvalidArgument, match=f"{re.escape(str(file))}.*{words}"):
        host.load(Assignment(SCRIPTED, str(tmp_path), SCRIPTED_PLATFORM, batching=SHARED, batching_from_version=True))
    assert ScriptedLoader.ready == []


def test_limits_change_without_a_load(tmp_path: Path) -> None:
    """A version that is held can be batched by other limits, by those of its own file, or no more."""
    host, servable = scripted(tmp_path, SHARED)
    (tmp_path / "batching_params.pbtxt").write_text("max_batch_size { value: 4 }")
    host.set_batching(SCRIPTED, SHARED, True)
    assert host.batching(SCRIPTED) == replace(SHARED, max_batch_size=4)
    host.set_batching(SCRIPTED, None, False)
    assert host.batching(SCRIPTED) is None
    host.set_batching(SCRIPTED, Batching(max_batch_size=2), False)
    assert host.batching(SCRIPTED) == Batching(max_batch_size=2)
    (tmp_path / "batching_params.pbtxt").write_text("nonsense")
    with pytest.raises(InvalidArgument, match=r"batching_params\.pbtxt"):
        host.set_batching(SCRIPTED, SHARED, True)
    assert host.batching(SCRIPTED) == Batching(max_batch_size=2)
    assert servable.closed == 0
    with pytest.raises(NotFound):
        host.set_batching(ServableId("other", 1), SHARED, False)


# --- runs ------------------------------------------------------------------------------------------------------------


def test_an_unexpected_exception_is_an_internal_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A runtime that raises what it should not fails the one call, by type and text, and its trace is in the log."""
    host, _ = scripted(tmp_path)
    reply = host.run(SCRIPTED, x(-2))
    assert isinstance(reply, Internal)
    assert reply.message == "KeyError: 'a mistake of the runtime'"
    assert "serving_default" in caplog.text


def test_runs_do_not_wait_for_one_another(tmp_path: Path) -> None:
    """Calls from several threads run at the same time."""
    host, servable = scripted(tmp_path)
    servable.meeting = Barrier(2)
    with ThreadPoolExecutor(2) as pool:
        replies = pool.map(lambda value: host.run(SCRIPTED, x(value)), [1, 2])
        assert [outputs(reply)["y"] for reply in replies] == [[2], [4]]
