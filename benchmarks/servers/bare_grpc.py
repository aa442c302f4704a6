"""A ceiling for gRPC in Python: `grpc.aio` with the codec of serving_app for requests and answers, without a model."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc.aio
import uvloop

from benchmarks.peers import arguments
from benchmarks.servers import arithmetic
from serving_app.protocol.predict_proto import decode_inputs, decode_predict, encode_predict

options = arguments.read()
compute = arithmetic.of(options.model)


async def predict(request: bytes, context: Any) -> bytes:
    """Rows in, rows out."""
    query = decode_predict(request)
    inputs = decode_inputs(query)
    return encode_predict("model", 1, "serving_default", {"y": compute(inputs["x"])})


async def main() -> None:
    """Serve until the process is ended."""
    unlimited = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    server = grpc.aio.server(options=unlimited)
    handler = grpc.unary_unary_rpc_method_handler(predict)
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("tensorflow.serving.PredictionService", {"Predict": handler}),)
    )
    server.add_insecure_port(f"127.0.0.1:{options.grpc_port}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    uvloop.install()
    asyncio.run(main())
