"""Warm-up: what a version is asked before anybody may ask it, and what that can do to its load."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from serving_app.core.errors import Code, NotFound, ServingError
from serving_app.core.servable import ServableId
from serving_app.core.signatures import DType, Signature, TensorSpec
from serving_app.host import Assignment, Batching, Host, Warmup
from serving_app.host.warmup import warm_up
from serving_app.protocol.calls import Call, Reply
from serving_app.protocol.prediction_log import MAX_WARMUP_RECORDS, WARMUP_FILE
from serving_app.protocol.signature_proto import make_signature
from serving_app.protocol.tfrecord import encode_record
from tests.host.scripted import SCRIPTED_PLATFORM, Scripted, ScriptedLoader
from tests.zoo import Zoo

SERVABLE = ServableId("m", 3)


def predict(*values: float, **spec: Any) -> Any:
    """A logged Predict request with one vector."""
    made = prediction_log_pb2.PredictionLog()
    request = made.predict_log.request
    request.inputs["x"].CopyFrom(tf.make_tensor_proto(np.array(values, np.float32)))
    for name, value in spec.items():
        setattr(request.model_spec, name, value)
    return made


def write(folder: Path, *logs: Any) -> Path:
    """A version's warm-up file, written by TensorFlow."""
    file = folder / WARMUP_FILE
    file.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(file)) as writer:
        for each in logs:
            writer.write(each if isinstance(each, bytes) else each.SerializeToString())
    return file


def load(path: Path, warmup: Warmup | None = None, host: Host | None = None) -> Scripted:
    """The scripted servable after its load from this directory."""
    try:
        (host or Host()).load(Assignment(SERVABLE, str(path), SCRIPTED_PLATFORM, warmup=warmup or Warmup()))
    finally:
        servable = ScriptedLoader.ready.pop()
    return servable


def error_of(act: Callable[[], Any]) -> ServingError:
    """The error that this raises."""
    with pytest.raises(ServingError) as caught:
        act()
    return caught.value


# --- logged requests -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("warmup", "runs"),
    [(Warmup(), [1, 3]), (Warmup(iterations=2), [1, 1, 3, 3]), (Warmup(enabled=False), [])],
)
def test_logged_requests_are_run_in_order(tmp_path: Path, warmup: Warmup, runs: list[int]) -> None:
    """Each record is run as often as wanted, one after the other; which model it names does not matter."""
    write(tmp_path, predict(1), prediction_log_pb2.PredictionLog(), predict(1, 2, 3, name="another"))
    assert load(tmp_path, warmup).runs == runs


def test_no_requests_are_fine(tmp_path: Path) -> None:
    """A version without a warm-up file or a place for it, or with an empty one, is loaded as it is."""
    assert load(tmp_path).runs == []
    (tmp_path / "assets.extra").write_text("not a directory")
    assert load(tmp_path).runs == []
    (tmp_path / "assets.extra").unlink()
    write(tmp_path)
    assert load(tmp_path).runs == []


def test_every_kind_runs_on_a_real_model(zoo: Zoo, tmp_path: Path) -> None:
    """Predict, Classify, Regress and MultiInference requests warm a model that answers them, on which they all work."""
    shutil.copytree(zoo.path("parser"), tmp_path / "1")
    classify, regress, multi = (prediction_log_pb2.PredictionLog() for _ in range(3))
    row = tf.train.Example.FromString(zoo.examples("parser")[0].inputs["inputs"][0])
    classify.classify_log.request.input.example_list.examples.append(row)
    regress.regress_log.request.input.example_list_with_context.examples.append(row)
    regress.regress_log.request.model_spec.signature_name = "regress"
    multi.multi_inference_log.request.input.example_list.examples.append(row)
    for name, method in (("serving_default", "classify"), ("regress", "regress")):
        task = multi.multi_inference_log.request.tasks.add(method_name=f"tensorflow/serving/{method}")
        task.model_spec.name, task.model_spec.signature_name = "parser", name
    pairs = prediction_log_pb2.PredictionLog()
    pairs.predict_log.request.inputs["x"].CopyFrom(tf.make_tensor_proto(np.ones((1, 2), np.float32)))
    pairs.predict_log.request.model_spec.signature_name = "predict"
    file = write(tmp_path / "1", classify, regress, multi, pairs)
    host = Host()
    host.load(Assignment(SERVABLE, str(tmp_path / "1")))
    host.unload(SERVABLE)
    pairs.predict_log.request.inputs["x"].CopyFrom(tf.make_tensor_proto(np.ones((1, 5), np.float32)))
    write(tmp_path / "1", classify, regress, multi, pairs)
    error = error_of(lambda: host.load(Assignment(SERVABLE, str(tmp_path / "1"))))
    assert error.code is Code.INVALID_ARGUMENT
    assert error.message.endswith(f" (record 4 of {file}, in the warm-up of m@3)")


@pytest.mark.parametrize(
    ("signature", "message"),
    [
        ("flat_scores", "Expected Tensor shape: [batch_size num_classes] but got [1]"),
        ("double_scores", "Expected scores Tensor of DT_FLOAT. Got: DT_DOUBLE"),
    ],
)
def test_an_answer_that_no_client_would_get_fails_the_load(
    zoo: Zoo, tmp_path: Path, signature: str, message: str
) -> None:
    """What a model says to a logged Classify request must have the form of a classification."""
    shutil.copytree(zoo.path("forms"), tmp_path / "1")
    log = prediction_log_pb2.PredictionLog()
    log.classify_log.request.model_spec.signature_name = signature
    log.classify_log.request.input.example_list.examples.add()
    write(tmp_path / "1", log)
    error = error_of(lambda: Host().load(Assignment(SERVABLE, str(tmp_path / "1"))))
    assert error.code is Code.INVALID_ARGUMENT
    assert error.message.startswith(f"{message} (record 1 of ")


SUFFIX = ". Please verify your warmup data is in TFRecord format."


@pytest.mark.parametrize(
    ("records", "code", "message", "number"),
    [
        ([predict(1), predict(-1)], Code.FAILED_PRECONDITION, "a bad member", 2),
        ([predict(-2)], Code.INTERNAL, "KeyError: 'a mistake of the runtime'", 1),
        (
            [predict(1, signature_name="gone")],
            Code.FAILED_PRECONDITION, 'Serving signature key "gone" not found.', 1,
        ),
        ([b"malformed"], Code.INVALID_ARGUMENT, "Failed to parse warmup record: malformed from {file}", 1),
        (
            [predict(1), b"\xff\n" * 60],
            Code.INVALID_ARGUMENT,
            "Failed to parse warmup record: " + r"\xff\n" * 50 + "... (120 bytes) from {file}", 2,
        ),
        (
            [prediction_log_pb2.PredictionLog(session_run_log=prediction_log_pb2.SessionRunLog())],
            Code.UNIMPLEMENTED, "Unsupported log_type for warmup: 5", 1,
        ),
    ],
)
def test_a_request_that_fails_makes_the_load_fail(
    tmp_path: Path, records: list[Any], code: Code, message: str, number: int
) -> None:
    """The load fails with the code and the words of the request that failed, and then tells where it stands."""
    file = write(tmp_path, *records)
    error = error_of(lambda: load(tmp_path))
    where = f" (record {number} of {file}, in the warm-up of m@3)"
    assert (error.code, error.message) == (code, message.format(file=file) + where)


def test_a_thousand_requests_are_enough(tmp_path: Path) -> None:
    """A file of 1000 records is run, one of 1001 makes the load fail, as in TensorFlow Serving."""
    file = write(tmp_path, *[predict(1)] * MAX_WARMUP_RECORDS)
    assert len(load(tmp_path).runs) == 1000
    with file.open("ab") as added:
        added.write(encode_record(predict(1).SerializeToString()))
    error = error_of(lambda: load(tmp_path))
    assert error.code is Code.INVALID_ARGUMENT
    assert error.message.startswith(f"Number of warmup records exceeds the maximum (1000) at {file} (record 1001 of ")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda whole: whole[:-1], "truncated record at 41' failed with Read less bytes than requested" + SUFFIX),
        (lambda whole: whole[:60] + b"?" + whole[61:], "corrupted record at 53" + SUFFIX),
        (lambda _: b"text, not records", "corrupted record at 0 (Is this even a TFRecord file?)" + SUFFIX),
    ],
)
def test_a_damaged_file_is_data_loss(tmp_path: Path, spoil: Callable[[bytes], bytes], message: str) -> None:
    """A file that is cut, changed or no TFRecord file makes the load fail with data loss and TensorFlow's words."""
    file = write(tmp_path, predict(1), predict(1))
    assert len(file.read_bytes()) == 2 * 41
    file.write_bytes(spoil(file.read_bytes()))
    error = error_of(lambda: load(tmp_path))
    assert error.code is Code.DATA_LOSS
    assert error.message.startswith(f"{message} (record ")


def test_what_is_no_file_is_said_to_be_none(tmp_path: Path) -> None:
    """Something else in the file's place makes the load fail, and the message says what to do."""
    (tmp_path / WARMUP_FILE).mkdir(parents=True)
    error = error_of(lambda: load(tmp_path))
    assert error.code is Code.FAILED_PRECONDITION
    assert f"{WARMUP_FILE} cannot be read" in error.message
    assert "make it a readable file or remove it" in error.message


# --- the order of things ---------------------------------------------------------------------------------------------


def test_nobody_can_ask_a_version_before_it_is_warm(tmp_path: Path) -> None:
    """While the first load of a version warms it up it is not found; during a second load the first one answers."""
    write(tmp_path, predict(1, 2))
    host, call = Host(), Call("serving_default", {"x": np.array([5], np.float32)})
    seen: list[Reply | str] = []

    class Watching(Scripted):
        def run(self, *args: Any) -> dict[str, Any]:
            if not self.runs:
                try:
                    seen.append(host.run(SERVABLE, call))
                except NotFound:
                    seen.append("not found")
            return super().run(*args)

    first = _loaded_as(Watching(), host, tmp_path)
    second = _loaded_as(Watching(), host, tmp_path)
    assert seen == ["not found", {"y": [10]}]
    assert (first.runs, second.runs) == ([2, 1], [2])
    assert (first.closed, second.closed) == (1, 0)


class _Given:
    """Loads the servable that it is given."""

    servable: Scripted

    def load(self, *_: Any) -> Scripted:
        return self.servable


def _loaded_as(servable: Scripted, host: Host, path: Path) -> Scripted:
    _Given.servable = servable
    host.load(Assignment(SERVABLE, str(path), f"{__name__}:_Given"))
    return servable


def test_a_version_that_does_not_get_warm_is_closed_and_its_predecessor_stays(tmp_path: Path) -> None:
    """After a failed warm-up nothing of the new servable is left, and what was held before answers on."""
    host = Host()
    load(tmp_path, host=host)
    write(tmp_path, predict(-1))
    with pytest.raises(ServingError):
        host.load(Assignment(SERVABLE, str(tmp_path), SCRIPTED_PLATFORM))
    assert ScriptedLoader.ready.pop().closed == 1
    assert not isinstance(host.run(SERVABLE, Call("serving_default", {"x": np.array([5], np.float32)})), ServingError)


def test_runs_have_no_time_limit(tmp_path: Path) -> None:
    """No run of the warm-up has a timeout: a first run may take as long as the load may."""
    write(tmp_path, predict(1))
    timeouts: list[float | None] = []
    signatures = {"serving_default": make_signature({"x": VECTOR}, {"y": VECTOR})}

    def run(call: Call) -> Reply:
        timeouts.append(call.timeout)
        return {}

    warm_up(SERVABLE, str(tmp_path), signatures, Warmup(synthetic=True), run)
    assert timeouts == [None, None]


# --- requests that are made up ---------------------------------------------------------------------------------------

VECTOR = TensorSpec("x:0", DType.FLOAT, (-1,))


def made_up(signatures: dict[str, Signature], tmp_path: Path, *sizes: int, iterations: int = 1) -> list[Call]:
    """The calls that are made up for these signatures and batch sizes."""
    calls: list[Call] = []

    def run(call: Call) -> Reply:
        calls.append(call)
        return {}

    warm_up(SERVABLE, str(tmp_path), signatures, Warmup(True, iterations, True, sizes or (1,)), run)
    return calls


@pytest.mark.parametrize(
    ("shape", "sizes", "shapes"),
    [
        ((-1,), (1, 8), [(1,), (8,)]),
        ((-1, 3), (4,), [(4, 3)]),
        ((-1, -1, 3, -1), (4,), [(4, 1, 3, 1)]),
        (None, (2, 3), [(2,), (3,)]),
        ((), (1, 8), [()]),
        ((5, -1), (1, 8), [(5, 1)]),
        ((0, 2), (1,), [(0, 2)]),
    ],
)
def test_shapes_of_made_up_requests(
    tmp_path: Path, shape: tuple[int, ...] | None, sizes: tuple[int, ...], shapes: list[tuple[int, ...]]
) -> None:
    """An unknown first size is the batch size, other unknown ones are 1; what does not depend on it is asked once."""
    spec = TensorSpec("x:0", DType.FLOAT, shape)
    calls = made_up({"s": make_signature({"x": spec}, {"y": VECTOR})}, tmp_path, *sizes)
    assert [call.inputs["x"].shape for call in calls] == shapes


@pytest.mark.parametrize(
    ("allowed", "sizes", "asked"),
    [((), (1,), [1]), ((4, 16), (1,), [4, 16]), ((4, 16), (16,), [16]), ((4, 16), (1, 2), [1, 2])],
)
def test_allowed_batch_sizes_are_warmed(
    tmp_path: Path, allowed: tuple[int, ...], sizes: tuple[int, ...], asked: list[int]
) -> None:
    """Where batching allows only some sizes, requests of each are made up, unless others are configured."""
    seen: list[int] = []

    def run(call: Call) -> Reply:
        seen.append(len(call.inputs["x"]))
        return {}

    signatures = {"s": make_signature({"x": VECTOR}, {"y": VECTOR})}
    warm_up(SERVABLE, str(tmp_path), signatures, Warmup(synthetic=True, batch_sizes=sizes), run, allowed)
    assert seen == asked


@pytest.mark.parametrize(
    ("dtype", "value"),
    [(DType.FLOAT, 0.0), (DType.INT64, 0), (DType.BOOL, False), (DType.STRING, b""), (DType.COMPLEX64, 0j)],
)
def test_values_of_made_up_requests(tmp_path: Path, dtype: DType, value: object) -> None:
    """Numbers are 0, strings empty, truths false."""
    (call,) = made_up({"s": make_signature({"x": TensorSpec("x:0", dtype, (-1,))}, {"y": VECTOR})}, tmp_path, 2)
    assert call.inputs["x"].tolist() == [value, value]


def test_made_up_requests_for_every_signature(tmp_path: Path) -> None:
    """Every signature is asked for all of its outputs, as often as wanted; TensorFlow's own ones are left alone."""
    spec = make_signature({"x": VECTOR}, {"y": VECTOR})
    calls = made_up({"a": spec, "b": spec, "__saved_model_init_op": spec}, tmp_path, iterations=2)
    assert [(call.signature_name, call.outputs) for call in calls] == [("a", None)] * 2 + [("b", None)] * 2


@pytest.mark.parametrize(
    "model",
    [
        *("half_plus_two", "dense", "conv", "lookup", "parser", "many"),
        *("counter", "dtypes", "several", "tf1", "slow", "composite"),
    ],
)
def test_made_up_requests_suit_real_models(
    zoo: Zoo, model: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Models of every kind can answer what is made up for them, of each type and for two batch sizes."""
    caplog.set_level(logging.INFO)
    warmup = Warmup(synthetic=True, batch_sizes=(1, 4))
    host = Host()
    signatures = host.load(Assignment(SERVABLE, zoo.path(model), warmup=warmup))
    host.unload(SERVABLE)
    assert [record.message for record in caplog.records if record.levelno >= logging.WARNING] == []
    assert all(f"signature {name!r}" in caplog.text for name in signatures if not name.startswith("__"))


def test_a_made_up_request_that_fails_is_only_logged(zoo: Zoo, caplog: pytest.LogCaptureFixture) -> None:
    """What fails of the made up requests is logged with its reason, and the version is loaded all the same."""
    host = Host()
    host.load(Assignment(SERVABLE, zoo.path("missing_tensor"), warmup=Warmup(synthetic=True)))
    host.unload(SERVABLE)
    (warning,) = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert "m@3: the request that was made up for signature 'square' with shapes {'x': (1,)} failed" in warning
    assert "no_such_operation" in warning


@pytest.mark.parametrize("size", [10**13, 10**25])
@pytest.mark.parametrize("dtype", [DType.FLOAT, DType.STRING])
def test_a_made_up_request_may_be_too_large(
    tmp_path: Path, size: int, dtype: DType, caplog: pytest.LogCaptureFixture
) -> None:
    """A batch size that no memory has room for is a warning like any other."""
    assert made_up({"s": make_signature({"x": TensorSpec("x:0", dtype, (-1,))}, {"y": VECTOR})}, tmp_path, size) == []
    (warning,) = [record.message for record in caplog.records]
    assert "set a smaller batch size" in warning


# --- with batching ---------------------------------------------------------------------------------------------------


def test_requests_are_filled_up_to_allowed_sizes(tmp_path: Path) -> None:
    """With batching each request runs as a batch of its own would, with the rows that such a batch may have."""
    write(tmp_path, predict(1), predict(1, 2, 3))
    limits = Batching(max_batch_size=8, allowed_batch_sizes=(2, 8))
    Host().load(
        Assignment(SERVABLE, str(tmp_path), SCRIPTED_PLATFORM, batching=limits, warmup=Warmup(synthetic=True))
    )
    assert ScriptedLoader.ready.pop().runs == [2, 8, 2, 8]


def test_a_request_that_cannot_be_batched_makes_the_load_fail(zoo: Zoo, tmp_path: Path) -> None:
    """With batching a logged request without rows fails the load, as it would fail when a client sends it."""
    shutil.copytree(zoo.path("several"), tmp_path / "1")
    scalar = prediction_log_pb2.PredictionLog()
    scalar.predict_log.request.model_spec.signature_name = "scalar"
    scalar.predict_log.request.inputs["x"].CopyFrom(tf.make_tensor_proto(np.float32(1)))
    write(tmp_path / "1", scalar)
    error = error_of(lambda: Host().load(Assignment(SERVABLE, str(tmp_path / "1"), batching=Batching())))
    assert error.code is Code.INVALID_ARGUMENT
    assert error.message.startswith("Batching Run() input tensors must have at least one dimension (record 1 of ")
