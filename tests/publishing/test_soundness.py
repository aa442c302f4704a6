"""What is found wrong with a model before anything of it is uploaded."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving_app import publish, write_warmup
from serving_app.core.errors import FailedPrecondition, InvalidArgument, NotFound, ServingError
from serving_app.protocol import messages
from serving_app.protocol.prediction_log import WARMUP_FILE
from serving_app.protocol.tfrecord import encode_record
from serving_app.publishing.soundness import check_version, list_version
from tests.zoo import Zoo

SERVED = ("half_plus_two", "lookup", "composite", "conv", "counter", "dtypes", "heads", "strings", "tf1", "tflite")


@pytest.mark.parametrize("name", SERVED)
def test_models_that_load_pass(zoo: Zoo, name: str) -> None:
    """Nothing is wrong with any kind of model that TensorFlow exports, and its signatures are read."""
    version = Path(zoo.path(name))
    assert check_version(version, list_version(version))


@pytest.fixture
def version(zoo: Zoo, tmp_path: Path) -> Path:
    """A model with variables and an asset, to be spoilt."""
    path = Path(shutil.copytree(zoo.path("half_plus_two"), tmp_path / "model"))
    shutil.copytree(Path(zoo.path("lookup")) / "assets", path / "assets", dirs_exist_ok=True)
    return path


def cut(name: str, size: int) -> Callable[[Path], None]:
    """Leaves so many bytes of a file."""
    return lambda version: (version / name).write_bytes((version / name).read_bytes()[:size]) and None


def remove(name: str) -> Callable[[Path], None]:
    """Removes a file."""
    return lambda version: (version / name).unlink()


def edit(change: Callable[[Any], None]) -> Callable[[Path], None]:
    """Changes the SavedModel."""

    def change_file(version: Path) -> None:
        saved = messages.SavedModel.FromString((version / "saved_model.pb").read_bytes())
        change(saved)
        (version / "saved_model.pb").write_bytes(saved.SerializeToString())

    return change_file


def add_warmup(content: bytes) -> Callable[[Path], None]:
    """Puts a warm-up file there."""

    def write(version: Path) -> None:
        (version / WARMUP_FILE).parent.mkdir(exist_ok=True)
        (version / WARMUP_FILE).write_bytes(content)

    return write


def keep_internal(saved: Any) -> None:
    """Takes away all signatures but TensorFlow's own."""
    del saved.meta_graphs[0].signature_def["serving_default"]


def log_of(signature: str) -> bytes:
    """A warm-up file with one request, to this signature."""
    log = messages.PredictionLog()
    log.predict_log.request.model_spec.signature_name = signature
    return encode_record(log.SerializeToString())


SPOILT: dict[str, tuple[Callable[[Path], None], str]] = {
    "no graph": (remove("saved_model.pb"), r"no whole model: saved_model.pb is missing; export it again"),
    "an empty graph": (cut("saved_model.pb", 0), r"has no graph with the tags \{serve\}, .* it has none"),
    "half a graph": (cut("saved_model.pb", 500), r"saved_model.pb is cut off or broken"),
    "no index": (remove("variables/variables.index"), r"variables/variables.index is missing"),
    "half an index": (cut("variables/variables.index", 40), r"variables.index is cut off; export the model again"),
    "no shard": (remove("variables/variables.data-00000-of-00001"), r"variables.data-00000-of-00001 is missing"),
    "other tags": (
        edit(lambda saved: saved.meta_graphs[0].meta_info_def.tags.append("gpu")),
        r"no graph with the tags \{serve\}, which is what is loaded; it has \{gpu, serve\}. Export it",
    ),
    "no signature": (edit(keep_internal), r"has no signature, so no request could reach it; export it with"),
    "a request to nobody": (
        add_warmup(log_of("other")), r"the warm-up of \S+ does not fit the model, .*other.* \(record 1\)"
    ),
    "a request without inputs": (add_warmup(log_of("serving_default")), r"does not fit .*\(record 1\)"),
    "no record": (add_warmup(b"not a record at all"), r"the warm-up of .* does not fit .*\(record 0\)"),
    "too many requests": (add_warmup(1001 * encode_record(b"")), r"more than 1000 are too many.*\(record 1001\)"),
}


@pytest.mark.parametrize("name", SPOILT)
def test_what_would_not_load_is_not_uploaded(version: Path, tmp_path: Path, name: str) -> None:
    """A model that lacks something, or has something torn, is refused in words that help, and nothing is written."""
    spoil, words = SPOILT[name]
    spoil(version)
    with pytest.raises(FailedPrecondition, match=words):
        publish(version, base_path=str(tmp_path / "served"))
    assert not (tmp_path / "served").exists()


def test_an_asset_that_is_missing_is_named(zoo: Zoo, tmp_path: Path) -> None:
    """The graph tells which files it reads when it is loaded."""
    path = Path(shutil.copytree(zoo.path("lookup"), tmp_path / "model"))
    (asset,) = (path / "assets").iterdir()
    asset.unlink()
    with pytest.raises(FailedPrecondition, match=rf"assets/{asset.name} is missing, which the graph reads"):
        publish(path, base_path=str(tmp_path / "served"))


@pytest.mark.parametrize(
    ("path", "error", "words"),
    [
        ("nowhere", NotFound, "nowhere does not exist; give the directory of a SavedModel"),
        ("file", NotFound, "file is a file; give the directory of a SavedModel"),
        ("empty", FailedPrecondition, "empty is empty; give the directory"),
    ],
)
def test_what_is_no_directory_is_refused(tmp_path: Path, path: str, error: type[ServingError], words: str) -> None:
    """A path that leads to no files is refused."""
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    with pytest.raises(error, match=words):
        publish(tmp_path / path, base_path=str(tmp_path / "served"))


def test_a_base_path_is_no_version(zoo: Zoo, tmp_path: Path) -> None:
    """Who gives the directory of a model's versions is told to give one of them."""
    with pytest.raises(FailedPrecondition, match=r"holds versions of one; give .*, such as .*half_plus_two/1"):
        publish(zoo.base("half_plus_two"), base_path=str(tmp_path / "served"))


def test_tflite_models_are_looked_at(zoo: Zoo, tmp_path: Path) -> None:
    """A TFLite model alone is published as one; where a SavedModel is wanted it is none, and a torn one is refused."""
    version = Path(zoo.path("tflite", 2))
    names = list_version(version)
    assert check_version(version, names) == check_version(version, names, prefer_tflite=True) == {}
    with pytest.raises(FailedPrecondition, match=r"saved_model.pb is missing \(there is a model.tflite"):
        check_version(version, names, prefer_tflite=False)
    (tmp_path / "model.tflite").write_bytes(b"no model")
    with pytest.raises(FailedPrecondition, match=r"model.tflite is no TFLite model"):
        check_version(tmp_path, ["model.tflite"])


def test_other_platforms_know_their_files(tmp_path: Path) -> None:
    """What a platform of somebody's own needs is not known here, so its files are taken as they are."""
    (tmp_path / "weights.bin").write_bytes(b"1")
    assert check_version(tmp_path, list_version(tmp_path), platform="mine:Loader") == {}


@pytest.mark.parametrize(
    ("requests", "error", "words"),
    [
        ([{"x": [1.0]}, {"y": [1.0]}], InvalidArgument, r"\(request 2\)"),
        ([("other", {})], FailedPrecondition, r"other.*\(request 1\)"),
        ([{"x": ["one"]}], InvalidArgument, r"\(request 1\)"),
    ],
)
def test_requests_that_do_not_fit_are_refused(
    zoo: Zoo, tmp_path: Path, requests: list[Any], error: type[ServingError], words: str
) -> None:
    """Warm-up requests given to `publish` are held against the signatures before anything is written."""
    with pytest.raises(error, match=words):
        publish(zoo.path("half_plus_two"), base_path=str(tmp_path / "served"), warmup=requests)
    assert not (tmp_path / "served").exists()


def test_requests_are_written_beside_the_model(zoo: Zoo, tmp_path: Path) -> None:
    """The version gets the requests that were given, in place of those of the directory, which stays as it was."""
    version = Path(shutil.copytree(zoo.path("half_plus_two"), tmp_path / "model"))
    own = write_warmup(version, [{"x": [7.0]}]).read_bytes()
    given = [{"x": np.zeros(rows)} for rows in (1, 8)]
    done = publish(version, base_path=str(tmp_path / "served"), warmup=(each for each in given))
    kept = publish(version, base_path=str(tmp_path / "served"))
    assert Path(kept.path, WARMUP_FILE).read_bytes() == own == (version / WARMUP_FILE).read_bytes()
    assert Path(done.path, WARMUP_FILE).read_bytes() == write_warmup(version, given).read_bytes() != own


@pytest.mark.parametrize("value", [float("nan"), object(), {1, 2}, b"bytes", {"deep": [object()]}])
def test_metadata_that_json_cannot_hold_is_refused(zoo: Zoo, tmp_path: Path, value: Any) -> None:
    """What cannot be read again is not written."""
    with pytest.raises(InvalidArgument, match="the metadata cannot be written as JSON"):
        publish(zoo.path("half_plus_two"), base_path=str(tmp_path / "served"), metadata={"value": value})
    assert not (tmp_path / "served").exists()


def test_numbers_of_numpy_are_numbers(zoo: Zoo, tmp_path: Path) -> None:
    """Metrics of a training job need no conversion."""
    metadata = {"loss": np.float32(0.5), "steps": np.int64(10), "good": np.bool_(True)}
    done = publish(zoo.path("half_plus_two"), base_path=str(tmp_path / "served"), metadata=metadata)
    text = Path(done.path, "assets.extra/serving_app.json").read_text(encoding="utf-8")
    assert re.search(r'"loss": 0.5,\s+"steps": 10,\s+"good": true', text)
