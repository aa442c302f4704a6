"""The time that JSON takes in a gateway, beside what one would write by hand with `json` or `orjson` and NumPy.

Both ways: the body of a request into tensors, a tensor into the body of an answer. An image of 224 x 224 x 3 as floats,
as bytes (integers) and in base64; scores of 1,000 classes; 100 rows of 20 features; three numbers. Each figure is the
least of many runs, in CPU time, so that neighbours on the machine matter little.

    python -m benchmarks.bench_codec [--rounds 15]
"""

from __future__ import annotations

import argparse
import json
import time
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import orjson

from serving_app.core.signatures import DType, Signature, TensorSpec
from serving_app.protocol.json_answer import encode_outputs
from serving_app.protocol.json_predict import decode_inputs, parse_predict

Array = np.ndarray[Any, Any]
Ways = dict[str, Callable[[Any], Any]]

YARDSTICK = "orjson + NumPy"
LIBRARIES: dict[str, Callable[[bytes], Any]] = {"json + NumPy": json.loads, YARDSTICK: orjson.loads}

WRITERS: Ways = {
    "serving_app, exact": lambda tensor: encode_outputs({"y": tensor}, is_row=True, style="exact"),
    "serving_app, compact": lambda tensor: encode_outputs({"y": tensor}, is_row=True, style="compact"),
    "json + NumPy": lambda tensor: json.dumps({"predictions": tensor.tolist()}).encode(),
    YARDSTICK: lambda tensor: orjson.dumps({"predictions": tensor}, option=orjson.OPT_SERIALIZE_NUMPY),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    draw = np.random.default_rng(0)
    image = draw.random((1, 224, 224, 3), np.float32)
    pixels = draw.integers(0, 256, image.shape, np.uint8)
    few = np.array([1.0, 2.0, 5.0], np.float32)
    _compare_readers("image as floats", image.tolist(), {"x": DType.FLOAT}, 1, options.rounds)
    _compare_readers("image as integers", pixels.tolist(), {"x": DType.UINT8}, 1, options.rounds)
    encoded = [{"b64": b64encode(pixels.tobytes()).decode()}]
    _compare_readers("image in base64", encoded, {"x": DType.STRING}, 10, options.rounds)
    rows = [{f"feature{index}": float(value) for index, value in enumerate(row)} for row in draw.random((100, 20))]
    _compare_readers("100 rows of 20 features", rows, dict.fromkeys(rows[0], DType.FLOAT), 10, options.rounds)
    _compare_readers("three numbers", few.tolist(), {"x": DType.FLOAT}, 2000, options.rounds)
    for name, tensor, calls in (
        ("image", image, 1),
        ("scores of 1,000 classes", np.exp(-20 * draw.random((1, 1000), np.float32)), 50),
        ("three numbers", few, 2000),
        ("three thirds", few / 3, 2000),
    ):
        _compare(f"{name} into answer", WRITERS, tensor, calls, options.rounds)


def _compare_readers(name: str, instances: Any, inputs: Mapping[str, DType], calls: int, rounds: int) -> None:
    signature = Signature({name: TensorSpec(f"{name}:0", dtype, None) for name, dtype in inputs.items()}, {})
    ways: Ways = {"serving_app": lambda body: decode_inputs(parse_predict(body), signature)}
    for library, loads in LIBRARIES.items():
        ways[library] = _by_hand(loads, inputs)
    body = json.dumps({"instances": instances}).encode()
    _compare(f"{name} into tensors: {len(body):,} bytes", ways, body, calls, rounds)


def _by_hand(loads: Callable[[bytes], Any], inputs: Mapping[str, DType]) -> Callable[[bytes], Any]:
    """What one would write for a model that one knows, and requests that are right."""
    if DType.STRING in inputs.values():
        return lambda body: [b64decode(row["b64"]) for row in loads(body)["instances"]]
    if len(inputs) > 1:
        return lambda body: _columns(loads(body)["instances"], list(inputs))
    form = np.uint8 if DType.UINT8 in inputs.values() else np.float32
    return lambda body: np.array(loads(body)["instances"], form)


def _columns(rows: list[dict[str, float]], names: list[str]) -> dict[str, Array]:
    return {name: np.array([row[name] for row in rows], np.float32) for name in names}


def _compare(what: str, ways: Ways, argument: Any, calls: int, rounds: int) -> None:
    print(what)
    # The ways take turns, so that a machine that slows down does so for all.
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            times[name].append(_time(way, argument, calls))
    for name in ways:
        ratio = min(times[name]) / min(times[YARDSTICK])
        print(f"    {name:22} {_text(min(times[name])):>10}  {ratio:5.2f} times {YARDSTICK}")


def _time(way: Callable[[Any], Any], argument: Any, calls: int) -> float:
    start = time.process_time()
    for _ in range(calls):
        way(argument)
    return (time.process_time() - start) / calls


def _text(seconds: float) -> str:
    return f"{seconds * 1e3:.1f} ms" if seconds > 1e-3 else f"{seconds * 1e6:.1f} µs"


if __name__ == "__main__":
    main()
