"""SavedModels: what is asked for is answered, what is wrong is named, and closing is safe at any time."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf import text_format

from serving_app.core.errors import Code, DeadlineExceeded, ServingError, Unavailable
from serving_app.protocol import messages
from serving_app.runtime import LoadOptions, loader_for
from serving_app.runtime.saved_model import SavedModel, SavedModelLoader
from serving_app.runtime.session_overrides import CONFIG_FILE, override_session
from serving_app.runtime.tensorflow_c.session import Session, session_config
from tests.runtime.ledger import keep_ledger
from tests.stepping import PATIENCE_S
from tests.zoo import Zoo

F32 = np.float32
Load = Callable[..., SavedModel]


@pytest.fixture
def load(zoo: Zoo) -> Iterator[Load]:
    """Loads a version of the zoo; what it loaded is closed at the end."""
    loaded = []

    def load(name: str, version: int = 1, **options: Any) -> SavedModel:
        loaded.append(SavedModelLoader().load(zoo.path(name, version), LoadOptions(**options)))
        return loaded[-1]

    yield load
    for servable in loaded:
        servable.close()


def strings(*values: Any) -> np.ndarray:
    return np.array(values, np.object_)


BROKEN = [
    ("empty", 1, {}, Code.NOT_FOUND, "Specified file path does not appear to contain a SavedModel bundle (should have"),
    ("empty", 2, {}, Code.NOT_FOUND, "a file called `saved_model.pb`)\nSpecified file path: /"),
    ("corrupt", 1, {}, Code.DATA_LOSS, "saved_model.pb as binary proto"),
    ("corrupt", 2, {}, Code.NOT_FOUND, "Could not find meta graph def matching supplied tags: { serve }"),
    ("missing_shard", 1, {}, Code.NOT_FOUND, "variables.data-00000-of-00001"),
    ("dense", 1, {"tags": ("serve", "gpu")}, Code.NOT_FOUND, "matching supplied tags: { gpu serve }"),
    ("dense", 1, {"custom_op_libraries": ("/no/such.so",)}, Code.NOT_FOUND, "/no/such.so"),
    ("dense", 1, {"session_config": b"\xff"}, Code.INVALID_ARGUMENT, "not a serialised tensorflow.ConfigProto"),
]


@pytest.mark.parametrize(("name", "version", "options", "code", "text"), BROKEN)
def test_a_version_that_cannot_be_loaded_says_why_and_leaves_nothing(
    load: Load, monkeypatch: pytest.MonkeyPatch, name: str, version: int, options: dict, code: Code, text: str
) -> None:
    """A failed load has a canonical code and names what is wrong, and every handle that it made is freed."""
    ledger = keep_ledger(monkeypatch)
    with pytest.raises(ServingError) as caught:
        load(name, version, **options)
    assert caught.value.code is code
    assert text in caught.value.message
    assert ledger.alive == {}


def test_a_torn_file_is_told_by_the_path_of_its_version(zoo: Zoo, tmp_path: Path) -> None:
    """Of a graph cut short TensorFlow reports only a number of bytes; the error says of which version."""
    torn = tmp_path / "torn"
    shutil.copytree(zoo.path("half_plus_two"), torn)
    variables = torn / "variables" / "variables.index"
    variables.write_bytes(variables.read_bytes()[:10])
    with pytest.raises(ServingError, match=str(torn)):
        loader_for("tensorflow").load(str(torn), LoadOptions())


def test_a_session_bundle_is_refused_as_tensorflow_serving_does(tmp_path: Any) -> None:
    """A directory with export.meta is a format of the past."""
    (tmp_path / "export.meta").touch()
    with pytest.raises(ServingError) as caught:
        SavedModelLoader().load(str(tmp_path), LoadOptions())
    assert (caught.value.code, caught.value.message) == (
        Code.UNIMPLEMENTED,
        "Session Bundle is deprecated and removed.",
    )


ROW = np.zeros((1, 8), F32)
UNEQUAL_ROWS = {"a": np.zeros((2, 2), F32), "b": np.zeros(3, np.int32), "flag": np.zeros(1, bool)}
WRONG = [
    ("dense", "nope", {"x": ROW}, None, Code.FAILED_PRECONDITION, 'Serving signature key "nope" not found.'),
    (
        *("dense", "serving_default", {}, None, Code.INVALID_ARGUMENT),
        "input size does not match signature: 0!=1 len({}) != len({x}). Sent extra: {}. Missing but required: {x}.",
    ),
    (
        *("dense", "serving_default", {"x": ROW, "a": ROW}, None, Code.INVALID_ARGUMENT),
        "input size does not match signature: 2!=1 len({a,x}) != len({x}). Sent extra: {a}. Missing but required: {}.",
    ),
    (
        *("dense", "serving_default", {"a": ROW}, None, Code.INVALID_ARGUMENT),
        "Signature input alias: x(feed name: serving_default_x:0) not found in request and no default value provided. "
        "Inputs expected to be in the request {x}, or default input alias set: {}",
    ),
    (
        *("tf1", "serving_default", {"bias": F32(0)}, None, Code.INVALID_ARGUMENT),
        "Signature input alias: x(feed name: x:0) not found in request and no default value provided. "
        "Inputs expected to be in the request {bias,x}, or default input alias set: {bias}",
    ),
    (
        *("tf1", "serving_default", {"x": ROW, "a": ROW}, None, Code.INVALID_ARGUMENT),
        "Inputs contains invalid name. Used request inputs: {x}, request input: {a,x}",
    ),
    (
        *("dense", "serving_default", {"x": ROW}, ["z"], Code.INVALID_ARGUMENT),
        "output tensor alias not found in signature: z Outputs expected to be in the set {probabilities}.",
    ),
    (
        *("dense", "serving_default", {"x": ROW}, ["probabilities"] * 2, Code.INVALID_ARGUMENT),
        "duplicate output tensor alias: probabilities",
    ),
    (
        *("dense", "serving_default", {"x": ROW.astype(np.float64)}, None, Code.INVALID_ARGUMENT),
        "Expects arg[0] to be float but double is provided",
    ),
    (
        *("dense", "serving_default", {"x": strings(b"a")}, None, Code.INVALID_ARGUMENT),
        "Expects arg[0] to be float but string is provided",
    ),
    (
        *("tf1", "serving_default", {"x": ROW.astype(np.float64), "bias": np.zeros((), F32)}, None),
        *(Code.INVALID_ARGUMENT, "to be float but double is provided"),
    ),
    (
        *("dense", "serving_default", {"x": ROW[:, :7]}, None, Code.INVALID_ARGUMENT),
        "Matrix size-incompatible: In[0]: [1,7], In[1]: [8,16]",
    ),
    (
        *("dense", "serving_default", {"x": np.zeros(3, "datetime64[s]")}, None, Code.INVALID_ARGUMENT),
        'Input "x": TensorFlow has no element type for an array of datetime64[s]',
    ),
    (
        *("strings", "serving_default", {"text": strings(b"a", 1)}, None, Code.INVALID_ARGUMENT),
        'Input "text": a string tensor holds bytes or str',
    ),
    (
        *("composite", "serving_default", {"x": ROW[0]}, None, Code.UNIMPLEMENTED),
        'The output "ragged" of signature "serving_default" is no plain tensor',
    ),
    (
        *("composite", "serving_default", {"x": ROW[0]}, ["plain", "sparse"], Code.UNIMPLEMENTED),
        'The output "sparse" of signature "serving_default" is no plain tensor',
    ),
    (
        *("missing_tensor", "square", {"x": ROW[0]}, None, Code.INVALID_ARGUMENT),
        "A signature names the tensor no_such_operation:0, which is not in the graph of the model.",
    ),
    (
        *("many", "serving_default", UNEQUAL_ROWS, None),
        *(Code.INVALID_ARGUMENT, "Incompatible shapes"),
    ),
]


@pytest.mark.parametrize(("name", "signature", "inputs", "outputs", "code", "text"), WRONG)
def test_a_wrong_request_is_told_what_is_wrong(
    load: Load,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    signature: str,
    inputs: dict[str, np.ndarray],
    outputs: list[str] | None,
    code: Code,
    text: str,
) -> None:
    """Errors have TensorFlow Serving's code and text, or TensorFlow's; the request leaves no tensor behind."""
    servable = load(name)
    ledger = keep_ledger(monkeypatch)
    with pytest.raises(ServingError) as caught:
        servable.run(signature, {key: np.asarray(value) for key, value in inputs.items()}, outputs)
    assert caught.value.code is code
    assert text in caught.value.message
    assert ledger.alive == {}


def test_only_the_outputs_asked_for_are_answered(load: Load) -> None:
    """A list of outputs picks those; None and an empty list mean all; two names of one tensor are two outputs."""
    servable = load("many")
    inputs = {"a": np.ones((1, 2), F32), "b": np.ones(1, np.int32), "flag": np.array([True])}
    answer = servable.run("serving_default", inputs, ["total", "again"])
    assert {name: value.tolist() for name, value in answer.items()} == {"total": [3], "again": [3]}
    everything = {"total", "again", "count", "not", "fixed"}
    assert servable.run("serving_default", inputs).keys() == everything
    assert servable.run("serving_default", inputs, []).keys() == everything
    assert load("composite").run("serving_default", {"x": np.ones(2, F32)}, ["plain"])["plain"].tolist() == [2, 2]


def test_an_input_with_a_default_may_be_left_out(load: Load) -> None:
    """The signature's default takes the place of an input that is not sent, and only then."""
    servable, x = load("tf1"), np.array([[1, 1]], F32)
    assert servable.run("serving_default", {"x": x})["product"].tolist() == [[2]]
    assert servable.run("serving_default", {"x": x, "bias": np.array(1, F32)})["product"].tolist() == [[4]]


LAYOUTS = [
    np.array([[1, 2, 5]], ">f4")[0],
    np.array([1, 0, 2, 0, 5, 0], F32)[::2],
    np.asfortranarray(np.array([[1, 9], [2, 9], [5, 9]], F32))[:, 0],
    np.frombuffer(b"\0" + np.array([1, 2, 5], F32).tobytes(), F32, offset=1, count=3),
]


@pytest.mark.parametrize("x", LAYOUTS, ids=["big endian", "strided", "a column", "unaligned"])
@pytest.mark.parametrize("copies", [1, 50_000], ids=["small", "large"])
def test_any_layout_of_an_input_is_read_right(load: Load, x: np.ndarray, copies: int) -> None:
    """Byte order, strides and alignment of an array do not matter, whatever its size."""
    repeated = np.concatenate([x] * copies).astype(x.dtype)
    stretched = np.empty(2 * repeated.size, x.dtype)[::2]
    stretched[...] = repeated
    for form in (x, repeated, stretched):
        answer = load("half_plus_two").run("serving_default", {"x": form})["y"]
        assert answer.tolist() == [2.5, 3, 4.5] * (form.size // 3)


def test_text_may_come_as_str_or_in_fixed_width(load: Load) -> None:
    """Strings are bytes; str is encoded as UTF-8, and numpy's own string arrays are taken too."""
    servable = load("strings")
    for text in (strings("é", b"b"), np.array(["é", "b"]), np.array(["é".encode(), b"b"])):
        assert servable.run("serving_default", {"text": text}, ["pairs"])["pairs"][0, 0] == "é".encode()


def test_answers_are_read_only(load: Load) -> None:
    """An answer may be the model's own memory, so that nobody can write to it, large or small, numbers or text."""
    heavy, text = load("heavy"), load("strings")
    answers = [
        heavy.run("whole", {})["y"],
        heavy.run("serving_default", {"rows": np.array([1], np.int32)})["y"],
        text.run("serving_default", {"text": strings(b"a")})["upper"],
    ]
    assert [answer.flags.writeable for answer in answers] == [False] * 3


def test_answers_outlive_the_version(load: Load) -> None:
    """An array that was answered stays valid after the version is closed and freed."""
    servable = load("heavy")
    whole = servable.run("whole", {})["y"]
    part = servable.run("serving_default", {"rows": np.array([1999], np.int32)})["y"]
    servable.close()
    assert whole[1999].tolist() == part[0].tolist() == list(range(1_999_000, 2_000_000))


def test_time_that_is_up_stops_a_run(load: Load) -> None:
    """TensorFlow stops a run at its timeout; with no time left at all it is not even begun."""
    slow, endless = load("slow"), {"steps": np.array(2**31 - 1, np.int32)}
    with pytest.raises(ServingError) as caught:
        slow.run("serving_default", endless, timeout=0.05)
    assert caught.value.code is Code.DEADLINE_EXCEEDED
    for timeout in (0, -1.5):
        with pytest.raises(DeadlineExceeded):
            slow.run("serving_default", endless, timeout=timeout)
    assert slow.run("serving_default", {"steps": np.array(2, np.int32)}, timeout=60)["y"] == 128


class HeldLibrary:
    """The library, in which runs begin when the test lets them."""

    def __init__(self, lib: Any) -> None:
        self._lib = lib
        self.reached, self.go = threading.Event(), threading.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._lib, name)

    def TF_SessionRun(self, *arguments: Any) -> None:
        self.reached.set()
        assert self.go.wait(PATIENCE_S)
        self._lib.TF_SessionRun(*arguments)


def test_runs_go_on_in_parallel_and_close_waits_for_them(load: Load) -> None:
    """While one thread is in a run, others run too; close refuses new runs and waits, however often it is called."""
    servable = load("slow")
    lib, steps = servable._session._lib, {"steps": np.array(1, np.int32)}
    held = HeldLibrary(lib)
    with ThreadPoolExecutor(4) as pool:
        servable._session._lib = held  # type: ignore[assignment]
        long_run = pool.submit(servable.run, "serving_default", steps)
        assert held.reached.wait(PATIENCE_S)
        servable._session._lib = lib
        assert servable.run("serving_default", steps)["y"] == 128
        closings = [pool.submit(servable.close) for _ in range(2)]
        wait_until(lambda: servable._session._closing)
        with pytest.raises(Unavailable):
            servable.run("serving_default", steps)
        assert not any(closing.done() for closing in closings)
        held.go.set()
        assert long_run.result()["y"] == 128
        for closing in closings:
            closing.result()
    servable.close()


def test_closing_under_load_refuses_and_never_breaks(load: Load) -> None:
    """Whatever the moment at which a version is closed, each call is answered right or refused as unavailable."""
    x = np.array([1, 2, 5], F32)

    def call_until_refused(servable: SavedModel, started: threading.Barrier) -> int:
        started.wait()
        answered = 0
        while True:
            try:
                assert servable.run("serving_default", {"x": x})["y"].tolist() == [2.5, 3, 4.5]
            except Unavailable:
                return answered
            answered += 1

    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            servable, started = load("half_plus_two"), threading.Barrier(5)
            callers = [pool.submit(call_until_refused, servable, started) for _ in range(4)]
            started.wait()
            wait_until(lambda servable=servable: servable._plans)
            servable.close()
            assert all(caller.result() >= 0 for caller in callers)


def test_every_handle_is_freed_once(load: Load, zoo: Zoo, monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading, running every example, failing and closing leave no handle of the C API behind, and free none twice."""
    ledger = keep_ledger(monkeypatch)
    for name in ("half_plus_two", "dtypes", "counter", "many", "tf1", "heavy"):
        servable = load(name)
        for example in zoo.examples(name):
            servable.run(example.signature, example.inputs)
        with pytest.raises(ServingError):
            servable.run("serving_default", {"no such input": ROW})
        servable.close()
        servable.close()
        assert ledger.alive == {}
    assert ledger.freed > 300


def test_a_version_that_is_dropped_unclosed_is_freed(zoo: Zoo, monkeypatch: pytest.MonkeyPatch) -> None:
    """Forgetting a servable frees its session and graph."""
    ledger = keep_ledger(monkeypatch)
    servable = SavedModelLoader().load(zoo.path("dense"), LoadOptions())
    assert sorted(ledger.alive.values()) == ["TF_LoadSessionFromSavedModel", "TF_NewGraph"]
    del servable
    assert ledger.alive == {}


@pytest.mark.parametrize(
    ("share", "base", "option", "right"),
    [(None, 0, None, 0), (2, 0, None, 2), (2, 3, None, 3), (2, 3, 0, 0), (2, 0, 5, 5), (2, 0, -1, -1)],
)
def test_threads_follow_the_share_of_a_container(
    monkeypatch: pytest.MonkeyPatch, share: int | None, base: int, option: int | None, right: int
) -> None:
    """Where nobody names a number of threads there are as many as the container's share; else TensorFlow chooses."""
    monkeypatch.setattr("serving_app.runtime.tensorflow_c.session.find_share", lambda: share)
    encoded = messages.ConfigProto(intra_op_parallelism_threads=base, inter_op_parallelism_threads=base)
    given = LoadOptions(
        session_config=encoded.SerializeToString(), intra_op_parallelism=option, inter_op_parallelism=option
    )
    config = messages.ConfigProto.FromString(session_config(given))
    assert (config.intra_op_parallelism_threads, config.inter_op_parallelism_threads) == (right, right)


def test_options_go_on_top_of_the_session_configuration() -> None:
    """What is set overrides the given ConfigProto, 0 included; what is not set leaves it as it is."""
    base = messages.ConfigProto(intra_op_parallelism_threads=3, inter_op_parallelism_threads=4)
    base.gpu_options.per_process_gpu_memory_fraction = 0.5
    encoded = base.SerializeToString()

    kept = messages.ConfigProto.FromString(
        session_config(LoadOptions(session_config=encoded, allow_soft_placement=None))
    )
    assert kept == base

    options = LoadOptions(
        session_config=encoded,
        intra_op_parallelism=0,
        inter_op_parallelism=-1,
        gpu_memory_fraction=0.25,
        gpu_allow_growth=True,
    )
    changed = messages.ConfigProto.FromString(session_config(options))
    assert (changed.intra_op_parallelism_threads, changed.inter_op_parallelism_threads) == (0, -1)
    assert (changed.gpu_options.per_process_gpu_memory_fraction, changed.gpu_options.allow_growth) == (0.25, True)
    assert changed.allow_soft_placement


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"xla": True}, "optimizer_options { global_jit_level: ON_1 }"),
        ({"xla": False}, "optimizer_options { global_jit_level: OFF }"),
        ({"mixed_precision": "bfloat16"}, "rewrite_options { auto_mixed_precision_onednn_bfloat16: ON }"),
    ],
)
def test_options_for_the_graph_are_switches_of_tensorflows_optimizers(zoo: Zoo, options: Any, text: str) -> None:
    """Each becomes the field that TensorFlow Serving's flag sets, beside what is there, and the model still answers."""
    base = messages.ConfigProto()
    base.graph_options.rewrite_options.disable_model_pruning = True
    given = LoadOptions(session_config=base.SerializeToString(), allow_soft_placement=None, **options)
    wanted = text_format.Parse(f"graph_options {{ {text} }}", messages.ConfigProto(), descriptor_pool=messages.POOL)
    wanted.MergeFrom(base)
    assert messages.ConfigProto.FromString(session_config(given)) == wanted
    servable = SavedModelLoader().load(zoo.path("half_plus_two"), given)
    assert servable.run("serving_default", {"x": np.array([1, 2], np.float32)})["y"].tolist() == [2.5, 3]
    servable.close()


@pytest.mark.parametrize(
    ("content", "disabled", "log"),
    [
        (messages.SavedModelConfig(session_overrides={"disable_meta_optimizer": True}).SerializeToString(), True, ""),
        (
            messages.SavedModelConfig(session_overrides={"batch_op_rewriter_config": {}}).SerializeToString(),
            False,
            "batch_op_rewriter_config has no effect",
        ),
        (b"\x0a\xff", False, "is left out, because it cannot be read"),
        (None, False, ""),
    ],
    ids=["override", "rewriter", "broken", "none"],
)
def test_a_version_may_override_its_session(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes | None, disabled: bool, log: str
) -> None:
    """What a version's assets.extra/saved_model_config.pb says goes on top; a broken one is logged and left out."""
    if content is not None:
        (tmp_path / "assets.extra").mkdir()
        (tmp_path / CONFIG_FILE).write_bytes(content)
    base = messages.ConfigProto(intra_op_parallelism_threads=3)
    config = messages.ConfigProto.FromString(override_session(base.SerializeToString(), str(tmp_path)))
    assert config.graph_options.rewrite_options.disable_meta_optimizer is disabled
    assert config.intra_op_parallelism_threads == 3
    assert log in caplog.text
    assert bool(log) == bool(caplog.text)


def test_the_callers_thread_may_run_the_whole_graph(zoo: Zoo) -> None:
    """With inter_op_parallelism -1 answers are the same."""
    servable = loader_for("tensorflow").load(zoo.path("dense"), LoadOptions(inter_op_parallelism=-1))
    for example in zoo.examples("dense"):
        outputs = servable.run(example.signature, example.inputs)
        np.testing.assert_allclose(outputs["probabilities"], example.outputs["probabilities"], rtol=1e-6)
    servable.close()


def test_quick_calls_move_to_the_callers_thread_and_slow_ones_stay_out(
    load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once a signature's runs were quick, no other thread is woken for them; a graph with loops stays stoppable."""
    places: list[bool] = []
    run = Session.run

    def watch(*arguments: Any, here: bool = False) -> list[int]:
        places.append(here)
        return run(*arguments, here=here)

    monkeypatch.setattr(Session, "run", watch)
    monkeypatch.setattr("serving_app.runtime.saved_model._QUICK_S", 0.9)  # whatever else this machine does
    servable = load("half_plus_two")
    while not any(places):
        outputs = servable.run("serving_default", {"x": np.array([1, 2, 5], np.float32)}, timeout=30)
        np.testing.assert_allclose(outputs["y"], [2.5, 3, 4.5])
    assert not places[0]

    places.clear()
    looping = load("slow")
    for _ in range(50):
        looping.run("serving_default", {"steps": np.array(1, np.int32)}, timeout=30)
    assert not any(places)


def wait_until(condition: Callable[[], Any], seconds: float = PATIENCE_S) -> None:
    """Return as soon as a condition holds; fail if it never does."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "what was waited for has not happened"
        time.sleep(0.001)
