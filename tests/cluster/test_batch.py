"""Scoring datasets on a real cluster: by one version throughout, whatever moves or dies meanwhile."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray.data

from serving_app import connect
from serving_app.core.errors import InvalidArgument
from serving_app.data import predict_dataset
from serving_app.data.batch import BatchRequest, begin, run
from serving_app.data.crew import Outcome, RayCrew
from tests.cluster.asking import ANSWERS, QUESTION
from tests.cluster.serving import Serving, kill, pid_of, serving
from tests.zoo import Zoo

pytestmark = pytest.mark.cluster

MODEL = "half_plus_two"


@pytest.fixture(scope="module")
def app(door_port: int, tmp_path_factory: pytest.TempPathFactory, zoo: Zoo) -> Iterator[Serving]:
    """An app that serves two versions, of which `stable` names the first."""
    folder = tmp_path_factory.mktemp("batch") / MODEL
    for version in (1, 2):
        shutil.copytree(zoo.path(MODEL, version), folder / str(version))
    with serving("batch", door_port) as app:
        app.deploy({MODEL: {"base_path": str(folder), "version_policy": "all", "labels": {"stable": 1}}})
        for version in (1, 2):
            app.wait_for_version(MODEL, version)
        yield app


def test_a_dataset_is_scored_by_the_version_of_its_beginning(app: Serving) -> None:
    """Both ways give what the label named when the dataset was made, though it has moved before a row is scored."""
    ray.data.DataContext.get_current().enable_progress_bars = False
    rows = ray.data.from_items([{"a": each} for each in QUESTION])
    arguments = {"app": app.name, "label": "stable", "inputs": {"x": "a"}, "num_cpus": 0.1}
    local = predict_dataset(rows, MODEL, **arguments)
    live = predict_dataset(rows, MODEL, how="live", rows_per_call=2, **arguments)
    with pytest.raises(InvalidArgument, match=r"input 'x' wants 'x'. There are 'a'"):
        predict_dataset(rows, MODEL, app=app.name)
    with connect(app.name) as connection:
        connection.model(MODEL).set_label("stable", 2)
    right = dict(zip(QUESTION, ANSWERS[1], strict=True))
    for scored in (live, local):
        assert {row["a"]: row["y"] for row in scored.take_all()} == right


class _Killed(RayCrew):
    """Its first worker is killed when the first piece is done, with others in its hands."""

    deaths = 0

    def wait(self, seconds: float) -> list[Outcome]:
        outcomes = super().wait(seconds)
        if any(each.counts for each in outcomes) and not self.deaths:
            self.deaths = 1
            kill(pid_of(self._members[0].actor))
        return outcomes


def test_a_worker_that_is_killed_loses_and_doubles_no_row(app: Serving, tmp_path: Path) -> None:
    """Each row is in the output once and in its place after a worker was killed in the middle of the work."""
    count = 200_000
    ids = pa.array(range(count))
    pq.write_table(pa.table({"id": ids, "x": ids.cast(pa.float32())}), tmp_path / "in.parquet", row_group_size=16_384)
    request = BatchRequest(
        (f"{tmp_path}/in.parquet",), f"{tmp_path}/out", MODEL, app=app.name, version=1, keep=("id",)
    )
    begun = begin(request, workers=1)
    assert len(begun.left) > 4
    crews = []

    def hire_one() -> RayCrew:
        crews.append(_Killed(begun.work, 1, num_cpus=0.1, num_gpus=0))
        return crews[0]

    summary = run(begun, hire_one, lambda _: None)
    assert crews[0].deaths == 1
    assert (summary.rows_in, summary.rows_out) == (count, count)
    rows = pq.read_table(f"{tmp_path}/out")
    assert rows.column("id").equals(pa.chunked_array([ids]))
    assert rows.column("y").to_numpy()[[0, count - 1]].tolist() == [2.0, (count - 1) / 2 + 2]
    again = begin(request, workers=1)
    assert again.left == []
