"""What clients ask and get, through every door, of one app that all tests here share and none changes."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import ray

from serving_app import connect, write_warmup
from serving_app.client.connection import Connection
from serving_app.core.errors import FailedPrecondition, InvalidArgument, NotFound, RuntimeFailure, Unavailable
from serving_app.core.routing import VersionStatus
from serving_app.core.states import PublicState
from serving_app.serve.controller import find_controller
from tests.cluster.asking import ANSWERS, QUESTION, Grpc, Rest, open_grpc, open_rest
from tests.cluster.serving import Serving, serving
from tests.cluster.waiting import PATIENCE_S
from tests.zoo import Zoo

pytestmark = pytest.mark.cluster

SPECS: list[dict[str, Any]] = [{}, {"version": 1}, {"version": 2}, {"label": "stable"}, {"label": "canary"}]
RIGHT = [2, 1, 2, 1, 2]
"""The version that each of the specs means."""


@pytest.fixture(scope="module")
def app(door_port: int, zoo: Zoo, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """Several models, one of them with two versions and labels, and one with a warm-up."""
    warm = tmp_path_factory.mktemp("warm")
    shutil.copytree(zoo.path("counter"), warm / "1")
    write_warmup(warm / "1", [{"x": 100.0}])
    with serving("requests", door_port) as app:
        app.deploy({
            "half_plus_two": {
                "base_path": Path(zoo.base("half_plus_two")).as_uri(),
                "version_policy": "all",
                "labels": {"stable": 1, "canary": 2},
            },
            "dtypes": zoo.base("dtypes"),
            "warm": {"base_path": str(warm), "warmup": {"iterations": 2}},
            "parser": {
                "base_path": zoo.base("parser"),
                "batching": {"max_batch_size": 32, "batch_timeout_micros": 20_000},
            },
        })
        for model, version in (("half_plus_two", 1), ("half_plus_two", 2), ("dtypes", 1), ("parser", 1), ("warm", 1)):
            app.wait_for_version(model, version)
        yield app


@pytest.fixture(scope="module")
def stub(app: Serving) -> Grpc:
    return open_grpc(app)


@pytest.fixture(scope="module")
def rest(app: Serving) -> Rest:
    return open_rest(app)


@pytest.fixture(scope="module")
def door(app: Serving) -> Rest:
    """Serve's own HTTP door."""
    rest = Rest(app.door_port, app.prefix)
    app.clients.callback(rest.close)
    return rest


@pytest.fixture(scope="module")
def connection(app: Serving) -> Connection:
    return app.clients.enter_context(connect(app.name))


def where(spec: dict[str, Any]) -> str:
    """The model that a spec means, as a URL has it."""
    return "half_plus_two" + "".join(f"/{kind}s/{value}" for kind, value in spec.items())


@pytest.mark.parametrize("listener", ["rest", "door"])
def test_rest(listener: str, request: pytest.FixtureRequest) -> None:
    """REST answers by latest version, number and label, in rows and in columns, at its own port and at Serve's."""
    client: Rest = request.getfixturevalue(listener)
    for spec, version in zip(SPECS, RIGHT, strict=True):
        assert client.predict(where(spec), {"instances": QUESTION}) == {"predictions": ANSWERS[version]}
        assert client.predict(where(spec), {"inputs": QUESTION}) == {"outputs": ANSWERS[version]}
    status, answer = client.request("GET", "/v1/models/half_plus_two")
    assert status == 200
    assert [(each["version"], each["state"]) for each in answer["model_version_status"]] == [
        ("2", "AVAILABLE"), ("1", "AVAILABLE")
    ]
    status, answer = client.request("GET", "/v1/models/half_plus_two/versions/1/metadata")
    assert status == 200
    assert answer["model_spec"] == {"name": "half_plus_two", "signature_name": "", "version": "1"}
    signature = answer["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert signature["inputs"]["x"]["dtype"] == "DT_FLOAT"
    assert client.request("GET", "/healthz/ready") == (200, {"ready": True, "waiting_for": []})


def test_grpc(stub: Grpc) -> None:
    """Stock stubs get right answers by latest version, number and label, and every model's state and signatures."""
    x = np.array(QUESTION, np.float32)
    for spec, right in zip(SPECS, RIGHT, strict=True):
        version, outputs = stub.predict("half_plus_two", {"x": x}, **spec)
        assert version == right
        assert outputs["y"].dtype == np.float32
        assert outputs["y"].tolist() == ANSWERS[right]
    assert stub.statuses("half_plus_two") == {1: (30, 0), 2: (30, 0)}
    assert stub.signatures("half_plus_two")["serving_default"].inputs["x"].dtype == 1


def test_handle(connection: Connection) -> None:
    """Handle calls get right answers by latest version, number and label, and know the versions' states."""
    for spec, right in zip(SPECS, RIGHT, strict=True):
        assert connection.model("half_plus_two", **spec).predict(x=QUESTION)["y"].tolist() == ANSWERS[right]
    assert connection.model("half_plus_two").status() == (
        VersionStatus(2, PublicState.AVAILABLE), VersionStatus(1, PublicState.AVAILABLE)
    )


JOB = """
import asyncio, json, sys
import ray
from ray import serve
from serving_app import connect

app, address, question = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
connection = connect(app, address=address)
model = connection.model("half_plus_two", label="stable")
pinned = connection.model("half_plus_two", version=2)

def ask():
    return pinned.predict(x=question)["y"].tolist()

@ray.remote(num_cpus=0.1)
class Asker:
    async def ask(self):
        model = connect(app).model("half_plus_two")
        answers = await asyncio.gather(*(model.predict_async(x=question) for _ in range(20)))
        return [answer["y"].tolist() for answer in answers]

async def ask_async():
    return (await model.predict_async({"x": question}, outputs=["y"]))["y"].tolist()

FLAGS = ("RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD", "RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP")

@serve.deployment(ray_actor_options={"num_cpus": 0.1, "runtime_env": {"env_vars": dict.fromkeys(FLAGS, "0")}})
class Composed:
    def __init__(self):
        connection = connect(app)
        self.models = [connection.model("half_plus_two", version=version) for version in (1, 2)]

    async def __call__(self, question):
        first, second = await asyncio.gather(*(model.predict_async(x=question) for model in self.models))
        return [first["y"].tolist(), second["y"].tolist()]

async def ask_composed():
    return await serve.get_app_handle("composed").remote(question)

serve.run(Composed.bind(), name="composed", route_prefix=None)
composed = asyncio.run(ask_composed())
serve.delete("composed")

print(json.dumps({
    "composed": composed,
    "script": model.predict(x=question)["y"].tolist(),
    "coroutine": asyncio.run(ask_async()),
    "task": ray.get(ray.remote(num_cpus=0.1)(ask).remote()),
    "actor": ray.get(Asker.remote().ask.remote()),
}))
"""


def test_another_job(app: Serving, tmp_path: Path) -> None:
    """Another Ray job gets right answers from a script, a coroutine, a task that closes over a model, an async actor,
    and a Serve application that puts models together; that one, as the script, under Serve's flags for throughput."""
    script = tmp_path / "job.py"
    script.write_text(JOB)
    address = ray.get_runtime_context().gcs_address
    job = subprocess.run(
        [sys.executable, str(script), app.name, address, json.dumps(QUESTION)], capture_output=True, text=True,
        timeout=PATIENCE_S, env={**os.environ, "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1"},
    )
    assert job.returncode == 0, job.stderr
    [told] = [line for line in job.stdout.splitlines() if line.startswith("{")]  # Ray may have the last word
    assert json.loads(told) == {
        "script": ANSWERS[1], "coroutine": ANSWERS[1], "task": ANSWERS[2], "actor": [ANSWERS[2]] * 20,
        "composed": [ANSWERS[1], ANSWERS[2]],
    }


BAD_BODIES: list[tuple[str, Any, int, str]] = [
    ("half_plus_two", '{"instances": [1.0,', 400, "JSON"),
    ("half_plus_two", '{"instances": [1.0], "signature_name": "no_such"}', 400, "no_such"),
    ("half_plus_two", '{"instances": ["text"]}', 400, "x"),
    ("half_plus_two", '{"instances": [{"z": 1.0}]}', 400, "z"),
    ("half_plus_two", '{"instances": [[1.0, 2.0], [3.0]]}', 400, "x"),
    ("parser", '{"instances": [[1.0, 2.0, 3.0]], "signature_name": "predict"}', 400, "In[0]"),
    ("half_plus_two/versions/7", '{"instances": [1.0]}', 404, "7"),
    ("half_plus_two/labels/nobodys", '{"instances": [1.0]}', 400, "nobodys"),
    ("no_such_model", '{"instances": [1.0]}', 404, "no_such_model"),
]


@pytest.mark.parametrize(("model", "body", "status", "says"), BAD_BODIES)
def test_bad_rest_requests(rest: Rest, model: str, body: Any, status: int, says: str) -> None:
    """A request that is wrong gets an error that names what is wrong, and the next one on its connection an answer."""
    got, answer = rest.request("POST", f"/v1/models/{model}:predict", body)
    assert got == status, answer
    assert says in answer["error"]
    assert rest.predict("half_plus_two", {"instances": QUESTION}) == {"predictions": ANSWERS[2]}


FLOATS = np.array(QUESTION, np.float32)
WIDE = np.ones((1, 3), np.float32)  # the model multiplies rows of two by a matrix


@pytest.mark.parametrize(
    ("model", "inputs", "more", "code", "says"),
    [
        ("half_plus_two", {"x": FLOATS}, {"signature": "no_such"}, grpc.StatusCode.FAILED_PRECONDITION, "no_such"),
        ("half_plus_two", {"z": FLOATS}, {}, grpc.StatusCode.INVALID_ARGUMENT, "x"),
        ("half_plus_two", {}, {}, grpc.StatusCode.INVALID_ARGUMENT, "x"),
        ("half_plus_two", {"x": np.array([1], np.int64)}, {}, grpc.StatusCode.INVALID_ARGUMENT, "x"),
        ("parser", {"x": WIDE}, {"signature": "predict"}, grpc.StatusCode.INVALID_ARGUMENT, "In[0]"),
        ("half_plus_two", {"x": FLOATS}, {"version": 7}, grpc.StatusCode.NOT_FOUND, "7"),
        ("no_such_model", {"x": FLOATS}, {}, grpc.StatusCode.NOT_FOUND, "no_such_model"),
    ],
)
def test_bad_grpc_requests(
    stub: Grpc, model: str, inputs: dict[str, Any], more: dict[str, Any], code: grpc.StatusCode, says: str
) -> None:
    """A call that is wrong gets a status that names what is wrong."""
    with pytest.raises(grpc.RpcError, match=re.escape(says)) as raised:
        stub.predict(model, inputs, **more)
    assert raised.value.code() is code


def test_bad_handle_calls(app: Serving, connection: Connection) -> None:
    """A handle call that is wrong raises the error of the core that says what is wrong, and so does a wrong app."""
    with pytest.raises(Unavailable, match=f"no serving app named 'nobody' .*{app.name!r}"):
        connect("nobody")
    model = connection.model("half_plus_two")
    with pytest.raises(FailedPrecondition, match="no_such"):
        model.predict(x=QUESTION, signature_name="no_such")
    with pytest.raises(InvalidArgument, match="'x' must be of type"):
        model.predict(x=["text"])
    with pytest.raises(InvalidArgument):
        model.predict(z=QUESTION)
    with pytest.raises(RuntimeFailure, match="In\\[0\\]"):
        connection.model("parser").predict(x=WIDE, signature_name="predict")
    with pytest.raises(NotFound, match="7"):
        connection.model("half_plus_two", version=7).predict(x=QUESTION)


def test_batches(connection: Connection, rest: Rest, zoo: Zoo) -> None:
    """Concurrent calls that share a batch get the answers they would get alone, and a bad one among them fails alone.
    """
    example = zoo.examples("parser")[0]
    texts = list(example.inputs["inputs"])
    model = connection.model("parser")

    def ask(index: int) -> Any:
        if index == 7:
            with pytest.raises(RuntimeFailure, match="parse"):
                model.predict(inputs=[b"this is no example"])
            return example.outputs["scores"][index % 3]
        return model.predict(inputs=[texts[index % 3]], outputs=["scores"])["scores"][0]

    with ThreadPoolExecutor(24) as threads:
        answers = list(threads.map(ask, range(24)))
    np.testing.assert_allclose(answers, [example.outputs["scores"][index % 3] for index in range(24)], rtol=1e-5)


def test_examples(stub: Grpc, rest: Rest, connection: Connection, zoo: Zoo) -> None:
    """A batched model classifies and regresses examples, by REST, by handle and, both in one run, by MultiInference."""
    classified, regressed, _ = zoo.examples("parser")
    scores, value = classified.outputs["scores"][0], regressed.outputs["outputs"][0, 0]
    classes, total = stub.infer(
        "parser", classified.inputs["inputs"][0], ("serving_default", "classify"), ("regress", "regress")
    )
    (row,) = classes.classification_result.classifications
    assert [each.label for each in row.classes] == ["red", "green", "blue"]
    np.testing.assert_allclose([each.score for each in row.classes], scores, rtol=1e-5)
    assert [each.value for each in total.regression_result.regressions] == [value]
    status, answer = rest.request(
        "POST", "/v1/models/parser:regress", {"signature_name": "regress", "examples": [{"x": [1.0, 2.0]}]}
    )
    assert (status, answer) == (200, {"results": [value]})
    model = connection.model("parser")
    (pairs,) = model.classify([classified.inputs["inputs"][0]])
    assert [label for label, _ in pairs] == ["red", "green", "blue"]
    np.testing.assert_allclose([score for _, score in pairs], scores, rtol=1e-5)
    assert model.regress([{"x": [1.0, 2.0]}], signature_name="regress").tolist() == [value]


def test_large_tensors(connection: Connection, stub: Grpc, rest: Rest) -> None:
    """Forty megabytes in and forty megabytes out pass through every door."""
    values = np.arange(10_000_000, dtype=np.float32)
    assert np.array_equal(connection.model("dtypes").predict(x=values, signature_name="float32")["y"], values)
    _, outputs = stub.predict("dtypes", {"x": values}, signature="float32")
    assert np.array_equal(outputs["y"], values)
    text = '{"signature_name": "float32", "inputs": [' + ",".join(map(str, range(5_000_000))) + "]}"
    assert len(text) > 38_000_000
    assert np.array_equal(rest.predict("dtypes", text)["outputs"], np.arange(5_000_000))


def test_who_holds_tensorflow(app: Serving) -> None:
    """Only versions' replicas load TensorFlow's library, and nobody its Python package."""
    replicas = {**app.replicas("half_plus_two", 1), **app.replicas("dtypes", 1)}
    gateways = app.replicas()
    actors = {name: ray.get_actor(name, namespace="serve") for name in [*replicas, *gateways]}
    actors["controller"] = find_controller(app.name)
    imported = {
        name: actor.__ray_call__.remote(lambda _self: sorted({"tensorflow", "keras"} & sys.modules.keys()))
        for name, actor in actors.items()
    }
    assert {name: ray.get(answer) for name, answer in imported.items()} == {name: [] for name in actors}
    assert all("libtensorflow" in maps_of(pid) for pid in replicas.values())
    assert not any("libtensorflow" in maps_of(pid) for pid in (*gateways.values(), app.controller_pid()))


def maps_of(pid: int) -> str:
    """The files that a process has mapped."""
    return Path(f"/proc/{pid}/maps").read_text()


def test_a_version_is_warm_when_it_takes_requests(connection: Connection) -> None:
    """The first request to a model that adds up its inputs finds there what its warm-up has put in, twice 100."""
    assert connection.model("warm").predict(x=1.0)["total"] == 201.0
