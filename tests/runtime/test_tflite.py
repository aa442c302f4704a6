"""TFLite models: which file is taken, what can be asked of it, and that it answers like any servable."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving_app.core.errors import (
    Code,
    DataLoss,
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    RuntimeFailure,
    Unavailable,
)
from serving_app.core.signatures import DType
from serving_app.protocol import messages
from serving_app.protocol.example_requests import decode_regression, make_call
from serving_app.protocol.example_results import read_results
from serving_app.runtime import LoadOptions, Servable, loader_for
from tests.runtime.test_process import NO_TENSORFLOW, run_python
from tests.zoo import Zoo

Load = Callable[..., Servable]

TYPES = [
    *("float32", "int32", "uint8", "int64", "bool", "int16", "complex64", "int8"),
    *("float64", "uint32", "float16", "uint64", "string"),
]


@pytest.fixture
def load(zoo: Zoo) -> Iterator[Load]:
    """Loads a version of the zoo's `tflite`, and closes it at the end."""
    loaded = []

    def load_version(version: int, **options: Any) -> Servable:
        options = {"prefer_tflite": True, **options}
        loaded.append(loader_for("tensorflow").load(zoo.path("tflite", version), LoadOptions(**options)))
        return loaded[-1]

    yield load_version
    for servable in loaded:
        servable.close()


def ask(servable: Servable, signature: str = "serving_default", **inputs: Any) -> dict[str, np.ndarray]:
    return servable.run(signature, {name: np.asarray(value) for name, value in inputs.items()})


def floats(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def texts(*values: bytes) -> np.ndarray:
    array = np.empty(len(values), np.object_)
    array[:] = values
    return array


# --- which file ------------------------------------------------------------------------------------------------------


def test_the_file_is_taken_where_it_is_preferred_and_there(zoo: Zoo, load: Load, tmp_path: Path) -> None:
    """A model.tflite beside a SavedModel counts only if it is preferred; without one the SavedModel is served."""
    assert ask(load(1), x=floats(1, 2))["y"].tolist() == [3.5, 4.0]
    assert ask(load(1, prefer_tflite=False), x=floats(1, 2))["y"].tolist() == [2.5, 3.0]
    with pytest.raises(NotFound, match=r"should have a file called `saved_model\.pb`"):
        load(2, prefer_tflite=False)
    version = shutil.copytree(zoo.path("half_plus_two"), tmp_path / "1")
    servable = loader_for("tensorflow").load(str(version), LoadOptions(prefer_tflite=True))
    assert ask(servable, x=floats(1))["y"].tolist() == [2.5]
    servable.close()


def test_without_the_extra_one_is_told_what_to_install(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the interpreter is not installed the error names the extra, and SavedModels load as ever."""
    monkeypatch.delitem(sys.modules, "serving_app.runtime.tflite", raising=False)
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    with pytest.raises(FailedPrecondition, match=r"install serving-app\[tflite\]"):
        load(1)
    assert ask(load(1, prefer_tflite=False), x=floats(1))["y"].tolist() == [2.5]


@pytest.mark.parametrize("content", [b"", b"hello" * 50, None], ids=["empty", "other", "torn"])
def test_a_file_that_is_no_model_fails_to_load(zoo: Zoo, tmp_path: Path, content: bytes | None) -> None:
    """The error has the code INTERNAL and the path."""
    whole = Path(zoo.path("tflite", 1), "model.tflite").read_bytes()
    (tmp_path / "model.tflite").write_bytes(whole[: len(whole) // 2] if content is None else content)
    with pytest.raises(RuntimeFailure, match=r"model\.tflite") as caught:
        loader_for("tensorflow").load(str(tmp_path), LoadOptions(prefer_tflite=True))
    assert caught.value.code is Code.INTERNAL


def test_an_operation_without_code_fails_the_load(load: Load) -> None:
    """A custom operation is found missing before a request asks for it, and the error names it."""
    with pytest.raises(RuntimeFailure, match=r"unresolved custom op: StringLength") as caught:
        load(5)
    assert caught.value.code is Code.INTERNAL


# --- signatures ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "signatures"),
    [
        (
            1,
            {
                "count": ("steps", "total"),
                "dense": ("x", "y"),
                "pick": ("i", "y"),
                "regress": ("inputs", "outputs"),
                "serving_default": ("x", "y"),
                "two": ("s x", "t z"),
            },
        ),
        (2, {"serving_default": ("x", "y")}),
        (3, {"broken": ("in", "out"), "regress": ("in", "out"), "serving_default": ("in", "out")}),
    ],
    ids=["own", "none", "metadata"],
)
def test_signatures_come_from_the_file(load: Load, version: int, signatures: dict[str, tuple[str, str]]) -> None:
    """Those of the format and those in the metadata are taken; a file without gets one of its tensors' names."""
    found = load(version).signatures
    assert {name: (" ".join(each.inputs), " ".join(each.outputs)) for name, each in found.items()} == signatures
    methods = {name: each.method_name for name, each in found.items()}
    assert methods.pop("regress", None) == {1: "tensorflow/serving/predict", 2: None, 3: "tensorflow/serving/regress"}[
        version
    ]
    assert set(methods.values()) == {"tensorflow/serving/predict"}


def test_a_signature_tells_types_and_shapes(load: Load) -> None:
    """Dimensions that the converter left free are -1."""
    signatures = load(1).signatures
    assert (signatures["dense"].inputs["x"].dtype, signatures["dense"].inputs["x"].shape) == (DType.FLOAT, (-1, 4))
    assert (signatures["two"].inputs["s"].dtype, signatures["two"].inputs["s"].shape) == (DType.STRING, (-1,))
    assert signatures["count"].outputs["total"].shape == ()


def test_tensors_are_found_with_and_without_their_index(load: Load) -> None:
    """`x` means the tensor `x:0` and `y:0` the tensor `y`; one that is not there is TensorFlow Serving's error."""
    servable = load(3)
    for name in ("serving_default", "regress"):
        assert servable.run(name, {"in": floats(2, 4)})["out"].tolist() == [4.0, 5.0]
    with pytest.raises(RuntimeFailure, match=r"^Unknown tensor 'nowhere'\.$") as caught:
        servable.run("broken", {"in": floats(2)})
    assert caught.value.code is Code.INTERNAL


def test_damaged_metadata_fails_the_load(load: Load) -> None:
    """Signatures that cannot be read are DATA_LOSS, never a wrong signature."""
    with pytest.raises(DataLoss, match="metadata of the TFLite model"):
        load(6)


# --- runs ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(4,), (0,), (2, 1, 2), ()], ids=str)
@pytest.mark.parametrize("name", TYPES)
def test_every_type_comes_back_in_every_shape(load: Load, name: str, shape: tuple[int, ...]) -> None:
    """The graph is resized to the request, be it to nothing or to no dimensions at all."""
    values = texts(b"a\0\0", b"", b"\0b", b"x" * 5000) if name == "string" else np.array([1, 0, 1, 3]).astype(name)
    size = int(np.prod(shape))
    for x in {id(each): each for each in (values[:size].reshape(shape), values[::-1][:size].reshape(shape))}.values():
        y = ask(load(4), name, x=x)["y"]
        assert (y.dtype, y.shape, y.tolist()) == (x.dtype, x.shape, x.tolist())


def test_an_empty_text_without_dimensions_stays_empty(load: Load) -> None:
    """The interpreter takes texts apart in a way that has a trap here."""
    x = np.empty((), np.object_)
    x[()] = b""
    assert ask(load(4), "string", x=x)["y"].tolist() == b""


def test_outputs_can_be_chosen(load: Load) -> None:
    """An output filter picks; without one all outputs come."""
    servable, inputs = load(1), {"x": floats(1), "s": texts(b"t")}
    assert set(servable.run("two", inputs)) == {"t", "z"}
    assert set(servable.run("two", inputs, ["z"])) == {"z"}


@pytest.mark.parametrize(
    ("signature", "inputs", "error", "message"),
    [
        ("nope", {"x": floats(1)}, FailedPrecondition, 'Serving signature key "nope" not found.'),
        ("serving_default", {}, InvalidArgument, "input size does not match signature: 0!=1"),
        ("serving_default", {"x": np.ones(2)}, InvalidArgument, 'Input "x": the model takes float, and double was'),
        ("dense", {"x": np.ones((2, 5), np.float32)}, RuntimeFailure, "Failed to invoke TfLite interpreter: "),
        ("pick", {"i": np.array([9], np.int32)}, RuntimeFailure, "Failed to invoke TfLite interpreter: gather index"),
    ],
    ids=["signature", "names", "type", "shape", "value"],
)
def test_a_bad_request_fails_alone(
    load: Load, signature: str, inputs: dict[str, np.ndarray], error: type[Exception], message: str
) -> None:
    """The error is the request's, INTERNAL where the interpreter made it; the next request is answered."""
    servable = load(1, tflite_interpreters=1)
    for _ in range(3):
        with pytest.raises(error) as caught:
            servable.run(signature, inputs)
        assert str(caught.value).startswith(message)
        if error is RuntimeFailure:
            assert caught.value.code is Code.INTERNAL  # type: ignore[attr-defined]
        assert ask(servable, "dense", x=np.ones((3, 4), np.float32))["y"].tolist() == [[1, 1]] * 3


def test_answers_are_right_from_many_threads(load: Load) -> None:
    """Threads that ask different shapes of few interpreters, with bad requests among them, get their own answers."""
    servable = load(1, tflite_interpreters=2)

    def work(number: int) -> None:
        for round_number in range(30):
            x = np.full(1 + (number + round_number) % 7, number, np.float32)
            assert ask(servable, x=x)["y"].tolist() == [number * 0.5 + 3] * len(x)
            text = texts(*[b"%d" % number] * len(x))
            assert ask(servable, "two", x=x, s=text)["t"].tolist() == text.tolist()
            with pytest.raises(RuntimeFailure):
                ask(servable, "pick", i=np.array([9], np.int32))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))


def test_time_runs_out_while_none_is_free(load: Load) -> None:
    """A request waits for an interpreter no longer than its time; time that is over is not waited for at all."""
    servable = load(1, tflite_interpreters=1)
    with pytest.raises(DeadlineExceeded):
        servable.run("serving_default", {"x": floats(1)}, timeout=0)
    free = servable._interpreters  # type: ignore[attr-defined]
    with free.lend(None), pytest.raises(DeadlineExceeded, match="before an interpreter was free"):
        servable.run("serving_default", {"x": floats(1)}, timeout=0.001)
    assert ask(servable, x=floats(1))["y"].tolist() == [3.5]


def test_close_waits_for_runs_and_refuses_new_ones(load: Load) -> None:
    """Closing lasts until what runs is answered; what comes later, or waits for an interpreter, is UNAVAILABLE."""
    servable = load(1, tflite_interpreters=1)
    with ThreadPoolExecutor(2) as pool:
        with servable._interpreters.lend(None):  # type: ignore[attr-defined]
            waiting = pool.submit(ask, servable, x=floats(1))
            closing = pool.submit(servable.close)
            with pytest.raises(Unavailable):
                waiting.result()
            with pytest.raises(Unavailable):
                ask(servable, x=floats(1))
            assert not closing.done()
        closing.result()
    servable.close()
    with pytest.raises(Unavailable):
        ask(servable, x=floats(1))


def test_examples_are_answered_by_structure(load: Load) -> None:
    """Signatures of the format's own say predict; one with the form of a regression answers Regress all the same."""
    servable = load(1)
    request = messages.RegressionRequest()
    request.model_spec.signature_name = "regress"
    for _ in range(3):
        request.input.example_list.examples.add()
    query = decode_regression(request.SerializeToString())
    call = make_call(query, servable.signatures)
    outputs = servable.run(call.signature_name, call.inputs, call.outputs)
    assert [result.values.tolist() for result in read_results(query, call, outputs)] == [[1.5, 1.5, 1.5]]
    with pytest.raises(InvalidArgument, match="method"):
        make_call(query, servable.signatures, check_method_names=True)


# --- the process -----------------------------------------------------------------------------------------------------


def test_memory_comes_back_and_tensorflow_stays_out(zoo: Zoo) -> None:
    """Fifteen loads, with runs of every interpreter and failures, leave nothing; TensorFlow's library is not opened."""
    churn = """
import threading
import numpy
from serving_app.core.errors import RuntimeFailure
from serving_app.runtime import LoadOptions, loader_for

def resident():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * 4096

def ask(servable):
    for _ in range(3):
        servable.run("serving_default", {"x": numpy.ones(500_000, "f4")})
        try:
            servable.run("pick", {"i": numpy.array([9], "i4")})
        except RuntimeFailure:
            pass

sizes = []
for _ in range(20):
    servable = loader_for("tensorflow").load(path, LoadOptions(prefer_tflite=True, tflite_interpreters=2))
    threads = [threading.Thread(target=ask, args=(servable,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    servable.close()
    sizes.append(resident())
with open("/proc/self/maps") as maps:
    assert "libtensorflow" not in maps.read()
print(sizes[-1] - sizes[4])
"""
    assert int(run_python(churn, NO_TENSORFLOW, path=zoo.path("tflite", 1), log="XNNPACK delegate")) < 4e6


def test_both_formats_live_in_one_process(zoo: Zoo) -> None:
    """A process that holds a SavedModel loads a TFLite model beside it, in either order."""
    both = """
import numpy
from serving_app.runtime import LoadOptions, loader_for
x = {"x": numpy.array([1, 2], "f4")}
for order in ((True, False), (False, True)):
    held = [loader_for("tensorflow").load(path, LoadOptions(prefer_tflite=prefer)) for prefer in order]
    for servable, prefer in zip(held, order):
        assert servable.run("serving_default", x)["y"].tolist() == ([3.5, 4] if prefer else [2.5, 3])
        servable.close()
"""
    run_python(both, NO_TENSORFLOW, path=zoo.path("tflite", 1), log="XNNPACK delegate")
