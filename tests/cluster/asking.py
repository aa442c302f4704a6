"""The ways to ask a serving app, and asking steadily while something happens to it.

half_plus_two is asked throughout: version 1 adds two, version 2 adds three, so every answer tells who gave it.
"""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from serving_app import connect
from tests.cluster.serving import Serving
from tests.cluster.waiting import PATIENCE_S, wait_for

QUESTION = [1.0, 2.0, 5.0]
ANSWERS = {1: [2.5, 3.0, 4.5], 2: [3.5, 4.0, 5.5]}

NOTHING: Mapping[str, str] = {}

Ask = Callable[[], int]
"""Asks once; returns the version that has answered. Raises if the request failed or the answer is nobody's."""


def version_of(answer: Any) -> int:
    """The version whose answer this is."""
    for version, right in ANSWERS.items():
        if np.array_equal(answer, right):
            return version
    raise AssertionError(f"no version answers {answer!r}")


IDLE_S = 0.5
"""How long a connection may have rested to be used again. A gateway that goes closes those that rest for a second."""


class Rest:
    """A client with one connection that it keeps alive, as long as the server does and it is used."""

    def __init__(self, port: int, prefix: str = "") -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
        self._prefix = prefix
        self._answered_at = 0.0

    def request(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] = NOTHING
    ) -> tuple[int, Any]:
        """Status and parsed body. A body that is text is sent as it is, anything else as JSON."""
        text = body if isinstance(body, str | None) else json.dumps(body)
        if time.monotonic() - self._answered_at > IDLE_S:
            self._connection.close()  # the next request opens it again
        try:
            self._connection.request(method, self._prefix + path, text, dict(headers))
            answer = self._connection.getresponse()
            read = answer.read()
        except OSError:
            self._connection.close()
            raise
        self._answered_at = time.monotonic()
        return answer.status, json.loads(read)

    def predict(self, where: str, body: Any, headers: Mapping[str, str] = NOTHING) -> Any:
        """The answer to a request that must succeed, to `half_plus_two/labels/stable`, say."""
        status, answer = self.request("POST", f"/v1/models/{where}:predict", body, headers)
        assert status == 200, (status, answer)
        return answer

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


class Grpc:
    """The stock stubs of tensorflow-serving-api on one channel, with tensors made by TensorFlow itself."""

    def __init__(self, port: int) -> None:
        unlimited = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
        # A channel shares its connections with others to the same address, unless told not to.
        options = [*unlimited, ("grpc.use_local_subchannel_pool", 1)]
        self._channel = grpc.insecure_channel(f"127.0.0.1:{port}", options)
        self._predictions = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)
        self._models = model_service_pb2_grpc.ModelServiceStub(self._channel)

    def predict(
        self, name: str, inputs: dict[str, Any], *, version: int | None = None, label: str = "", signature: str = "",
        metadata: Mapping[str, str] = NOTHING,
    ) -> tuple[int, dict[str, Any]]:
        """The version that has answered, and its outputs."""
        request = predict_pb2.PredictRequest()
        self._name(request.model_spec, name, version, label)
        request.model_spec.signature_name = signature
        for key, value in inputs.items():
            request.inputs[key].CopyFrom(tf.make_tensor_proto(value))
        response = self._predictions.Predict(request, timeout=PATIENCE_S, metadata=tuple(metadata.items()))
        outputs = {key: tf.make_ndarray(tensor) for key, tensor in response.outputs.items()}
        return response.model_spec.version.value, outputs

    def infer(self, name: str, example: bytes, *tasks: tuple[str, str]) -> Any:
        """The results of several tasks (signature, method) about one serialized example."""
        request = inference_pb2.MultiInferenceRequest()
        for signature, method in tasks:
            task = request.tasks.add(method_name=f"tensorflow/serving/{method}")
            task.model_spec.name, task.model_spec.signature_name = name, signature
        request.input.example_list.examples.add().ParseFromString(example)
        return self._predictions.MultiInference(request, timeout=PATIENCE_S).results

    def statuses(self, name: str) -> dict[int, tuple[int, int]]:
        """State and error code of each version."""
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = name
        response = self._models.GetModelStatus(request, timeout=PATIENCE_S)
        return {each.version: (each.state, each.status.error_code) for each in response.model_version_status}

    def signatures(self, name: str) -> Any:
        """The signatures of the latest version, by name."""
        request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
        request.model_spec.name = name
        packed = self._predictions.GetModelMetadata(request, timeout=PATIENCE_S).metadata["signature_def"]
        signatures = get_model_metadata_pb2.SignatureDefMap()
        assert packed.Unpack(signatures)
        return signatures.signature_def

    @staticmethod
    def _name(spec: Any, name: str, version: int | None, label: str) -> None:
        spec.name = name
        if version is not None:
            spec.version.value = version
        if label:
            spec.version_label = label

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()


def open_rest(app: Serving) -> Rest:
    """A connection to the app's own REST listener, closed before the app goes."""
    rest = Rest(app.rest_port)
    app.clients.callback(rest.close)
    return rest


def open_grpc(app: Serving) -> Grpc:
    """A channel to the app's gRPC listener, closed before the app goes."""
    stub = Grpc(app.grpc_port)
    app.clients.callback(stub.close)
    return stub


def ask_rest(app: Serving, where: str = "half_plus_two", attributes: Mapping[str, str] = NOTHING) -> Ask:
    """Asks through a REST connection of its own, `half_plus_two/labels/stable`, say."""
    rest = open_rest(app)
    return lambda: version_of(rest.predict(where, {"instances": QUESTION}, attributes)["predictions"])


def ask_grpc(app: Serving, attributes: Mapping[str, str] = NOTHING) -> Ask:
    """Asks for the latest half_plus_two through a channel of its own; the version that is named must be the right one.
    """
    stub = open_grpc(app)

    def ask() -> int:
        inputs = {"x": np.array(QUESTION, np.float32)}
        version, outputs = stub.predict("half_plus_two", inputs, metadata=attributes)
        assert version == version_of(outputs["y"])
        return version

    return ask


def ask_handle(app: Serving, attributes: Mapping[str, str] = NOTHING) -> Ask:
    """Asks for the latest half_plus_two through a handle."""
    model = app.clients.enter_context(connect(app.name)).model("half_plus_two", attributes=attributes)
    return lambda: version_of(model.predict(x=QUESTION, timeout=PATIENCE_S)["y"])


def ask_everywhere(app: Serving, attributes: Mapping[str, str] = NOTHING) -> dict[str, Ask]:
    """A way to ask for the latest half_plus_two through each of the doors."""
    rest = ask_rest(app, attributes=attributes)
    return {"REST": rest, "gRPC": ask_grpc(app, attributes), "handle": ask_handle(app, attributes)}


class Load:
    """What came of asking steadily: by asker, how often each version answered, and what went wrong."""

    def __init__(self, names: list[str]) -> None:
        self.answers: dict[str, Counter[int]] = {name: Counter() for name in names}
        self.failures: list[str] = []

    def assert_nothing_failed(self) -> None:
        """Fails with the first failures, whole."""
        assert not self.failures, f"{len(self.failures)} failures:\n" + "\n".join(self.failures[:5])

    def wait_for_more(self, count: int = 5) -> None:
        """Returns when every asker has got so many answers more than now."""
        before = {name: counter.total() for name, counter in self.answers.items()}
        wait_for(
            f"{count} more answers to each asker; failures: {self.failures[:3]}",
            lambda: all(counter.total() >= before[name] + count for name, counter in self.answers.items()),
        )

    def wait_for_answer_of(self, version: int) -> None:
        """Returns when every asker has been answered by this version."""
        wait_for(
            f"an answer of version {version} to each asker; failures: {self.failures[:3]}",
            lambda: all(counter[version] for counter in self.answers.values()),
        )


@contextmanager
def steadily(asks: dict[str, Ask], pause_s: float = 0.01) -> Iterator[Load]:
    """Asks over and over, each asker in a thread of its own, for as long as the block runs."""
    load = Load(list(asks))
    stop = threading.Event()

    def run(name: str, ask: Ask) -> None:
        while not stop.is_set():
            try:
                load.answers[name][ask()] += 1
            except Exception as error:
                load.failures.append(f"{time.strftime('%X')} {name}: {type(error).__name__}: {error}")
            stop.wait(pause_s)

    threads = [threading.Thread(target=run, args=item, name=f"asks {item[0]}") for item in asks.items()]
    for thread in threads:
        thread.start()
    try:
        load.wait_for_more()
        yield load
        load.wait_for_more()
    finally:
        stop.set()
        for thread in threads:
            thread.join()
