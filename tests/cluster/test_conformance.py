"""The table of what TensorFlow Serving's clients see, asked of a real serving app row by row."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from serving_app.core.states import PublicState
from tests.cluster.serving import serving
from tests.conformance import FIRST, rows
from tests.conformance.models import LABELS, MODELS, lay_out
from tests.conformance.rows import Row
from tests.conformance.server import Server
from tests.zoo import Zoo

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def server(door_port: int, zoo: Zoo, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The models of the table, all of them loaded or failed."""
    folder = tmp_path_factory.mktemp("conformance") / "models"
    lay_out(folder, zoo)
    with serving("conformance", door_port) as app:
        # Where `model-server` has them, too; other tests ask versions that have replicas of their own.
        models = {name: {"base_path": str(folder / name), "placement": "colocated"} for name in MODELS[:-1]}
        models["half_plus_two"] |= {"version_policy": "all", "labels": LABELS}
        once = {"retry_base_s": 600.0, "retry_max_s": 600.0}  # what has failed stays so
        app.deploy(models, allow_version_labels_for_unavailable_models=True, load=once)
        for version in (1, 2):
            app.wait_for_version("half_plus_two", version)
        app.wait_for_version("forms", 1)
        server = Server(f"http://127.0.0.1:{app.rest_port}", f"127.0.0.1:{app.grpc_port}", str(folder))
        for row in FIRST:
            complaint = server.complaint(row, original=False)
            assert complaint is None, complaint
        app.wait_for_version("broken", 1, PublicState.END)
        yield server
        server.close()


@pytest.mark.parametrize("row", rows(), ids=str)
def test_a_client_sees_what_it_sees_of_tensorflow_serving(server: Server, row: Row) -> None:
    """The answer has the code, the text and the values of TensorFlow Serving's, or those of an intended difference."""
    complaint = server.complaint(row, original=False)
    assert complaint is None, complaint
    if row.differs:
        assert server.complaint(row, original=True), "it does not differ any more; say so in differences.py"
