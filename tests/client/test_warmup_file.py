"""Warm-up files that are written without TensorFlow."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from serving_app.client.warmup_file import write_warmup
from serving_app.core.errors import DataLoss, FailedPrecondition, InvalidArgument, NotFound, ServingError
from tests.zoo import Zoo


@pytest.fixture
def version(zoo: Zoo, tmp_path: Path) -> Path:
    """A version with several signatures."""
    return Path(shutil.copytree(zoo.path("several"), tmp_path / "1"))


def read(file: Path) -> list[Any]:
    """The requests of a file, read by TensorFlow and TensorFlow Serving's classes."""
    logs = [prediction_log_pb2.PredictionLog.FromString(each.numpy()) for each in tf.data.TFRecordDataset(str(file))]
    return [
        (
            log.predict_log.request.model_spec.signature_name,
            {name: tf.make_ndarray(proto) for name, proto in log.predict_log.request.inputs.items()},
        )
        for log in logs
    ]


def test_what_is_written_is_what_tensorflow_serving_reads(version: Path) -> None:
    """Requests are in the file in their order, with the element types that their signatures want."""
    file = write_warmup(version, [{"x": [1, 2]}, ("scalar", {"x": 5.0}), ("nothing", {}), {"x": np.zeros(3)}])
    assert file == version / "assets.extra" / "tf_serving_warmup_requests"
    requests = read(file)
    assert [name for name, _ in requests] == ["serving_default", "scalar", "nothing", "serving_default"]
    assert [{name: array.tolist() for name, array in inputs.items()} for _, inputs in requests] == [
        {"x": [1.0, 2.0]}, {"x": 5.0}, {}, {"x": [0.0, 0.0, 0.0]}
    ]
    assert {array.dtype for _, inputs in requests for array in inputs.values()} == {np.dtype(np.float32)}


def test_writing_again_replaces(version: Path) -> None:
    """The requests of a second call take the place of the first one's, and nothing else is left beside them."""
    write_warmup(str(version), [{"x": [1]}] * 3)
    file = write_warmup(str(version), [{"x": [2]}])
    assert len(read(file)) == 1
    assert [path.name for path in file.parent.iterdir()] == [file.name]


@pytest.mark.parametrize(
    ("requests", "kind", "message"),
    [
        ([{"x": [1]}, ("gone", {})], FailedPrecondition, 'Serving signature key "gone" not found. (request 2)'),
        ([{}], InvalidArgument, "missing 'x'; it takes 'x' (float) (request 1)"),
        ([{"x": ["one"]}], InvalidArgument, "input 'x' must be of type float: "),
        ([{"x": [1]}] * 1001, InvalidArgument, "1001 requests are too many, 1000 is the limit; leave some out"),
    ],
)
def test_what_would_fail_the_load_is_not_written(
    version: Path, requests: list[Any], kind: type[ServingError], message: str
) -> None:
    """A request that does not fit is refused with its number, and no file appears."""
    with pytest.raises(kind) as caught:
        write_warmup(version, requests)
    assert message in caught.value.message
    assert not (version / "assets.extra").exists()


def test_a_directory_without_a_model(tmp_path: Path) -> None:
    """Where there is no SavedModel, or a torn one, the error says so."""
    with pytest.raises(NotFound, match=r"holds no saved_model\.pb; export the model first"):
        write_warmup(tmp_path, [])
    (tmp_path / "saved_model.pb").write_bytes(b"this is no protobuf")
    with pytest.raises(DataLoss, match="cannot be read"):
        write_warmup(tmp_path, [])
