"""Large answers are written beside the event loop, so that other requests are answered meanwhile."""

from __future__ import annotations

import json
import threading
from typing import Any

import numpy as np
import pytest

from serving_app.core.servable import ModelSpec
from serving_app.protocol import grpc_methods, predict_proto
from serving_app.serve import rest_app
from serving_app.serve.data_plane import LARGE_BYTES
from tests.serve.fronts import Front, channel
from tests.serve.test_rest_app import ask
from tests.stepping import PATIENCE_S


@pytest.mark.parametrize("size", [1, LARGE_BYTES + 1])
def test_large_answers_are_written_in_a_thread(front: Front, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """In either protocol it is the bytes of strings that count, and not the pointers to them."""
    threads: list[threading.Thread] = []

    def noted(function: Any) -> Any:
        def call(*args: Any, **options: Any) -> Any:
            threads.append(threading.current_thread())
            return function(*args, **options)

        return call

    monkeypatch.setattr(rest_app, "encode_outputs", noted(rest_app.encode_outputs))
    monkeypatch.setattr(predict_proto, "encode_predict", noted(predict_proto.encode_predict))
    body = json.dumps({"signature_name": "string", "inputs": ["a" * size]})
    assert ask(front.rest_address, "POST", "/v1/models/dtypes:predict", body)[0] == 200
    inputs = {"x": np.array([b"a" * size], object)}
    request = predict_proto.encode_predict_request(ModelSpec("dtypes"), "string", inputs)
    with channel(front.grpc_address) as client:
        client.unary_unary(grpc_methods.PREDICT)(request, timeout=PATIENCE_S)
    loop = front.run(_current_thread())
    assert [thread is loop for thread in threads] == [size == 1] * 2


async def _current_thread() -> threading.Thread:
    return threading.current_thread()
