"""The time that JSON takes in a gateway, beside what one would write by hand with `json` or `orjson` and NumPy.

An image of 224 x 224 x 3 floats and a request of three numbers, both ways: the body of a request into a tensor, a
tensor into the body of an answer. Each is the least of many runs, in CPU time, so that neighbours on the machine matter
little.

    python -m benchmarks.bench_codec [--rounds 15]
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import orjson

from serving_app.core.signatures import DType, Signature, TensorSpec
from serving_app.protocol.json_answer import encode_outputs
from serving_app.protocol.json_predict import decode_inputs, parse_predict

SIGNATURE = Signature({"x": TensorSpec("x:0", DType.FLOAT, None)}, {})

Array = np.ndarray[Any, Any]

READERS: dict[str, Callable[[bytes], Array]] = {
    "serving_app": lambda body: decode_inputs(parse_predict(body), SIGNATURE)["x"],
    "json + NumPy": lambda body: np.array(json.loads(body)["instances"], np.float32),
    "orjson + NumPy": lambda body: np.array(orjson.loads(body)["instances"], np.float32),
}
WRITERS: dict[str, Callable[[Array], bytes]] = {
    "serving_app, exact": lambda tensor: encode_outputs({"y": tensor}, is_row=True, style="exact"),
    "serving_app, compact": lambda tensor: encode_outputs({"y": tensor}, is_row=True, style="compact"),
    "json + NumPy": lambda tensor: json.dumps({"predictions": tensor.tolist()}).encode(),
    "orjson + NumPy": lambda tensor: orjson.dumps({"predictions": tensor}, option=orjson.OPT_SERIALIZE_NUMPY),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    image = np.random.default_rng(0).random((1, 224, 224, 3), np.float32)
    few = np.array([1.0, 2.0, 5.0], np.float32)
    for name, tensor, calls in (("image", image, 1), ("three numbers", few, 2000)):
        body = json.dumps({"instances": tensor.tolist()}).encode()
        print(f"{name}: {len(body):,} bytes of JSON")
        _compare("request into tensor", READERS, body, calls, options.rounds)
        _compare("tensor into answer", WRITERS, tensor, calls, options.rounds)


def _compare(what: str, ways: dict[str, Callable[[Any], Any]], argument: Any, calls: int, rounds: int) -> None:
    print(f"  {what}")
    # The ways take turns, so that a machine that slows down does so for all.
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            times[name].append(_time(way, argument, calls))
    for name in ways:
        ratio = min(times[name]) / min(times["orjson + NumPy"])
        print(f"    {name:22} {_text(min(times[name])):>10}  {ratio:5.2f} times orjson + NumPy")


def _time(way: Callable[[Any], Any], argument: Any, calls: int) -> float:
    start = time.process_time()
    for _ in range(calls):
        way(argument)
    return (time.process_time() - start) / calls


def _text(seconds: float) -> str:
    return f"{seconds * 1e3:.1f} ms" if seconds > 1e-3 else f"{seconds * 1e6:.1f} µs"


if __name__ == "__main__":
    main()
