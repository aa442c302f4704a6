"""A ceiling for REST in Python: uvicorn with uvloop and httptools, orjson and NumPy, no checks and no model."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
import uvicorn

from benchmarks.peers import arguments
from benchmarks.servers import arithmetic

options = arguments.read()
compute = arithmetic.of(options.model)


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Rows in, rows out."""
    if scope["type"] != "http":
        return
    body, more = b"", True
    while more:
        message = await receive()
        body = body + message["body"] if body else message["body"]
        more = message.get("more_body", False)
    outputs = compute(np.array(orjson.loads(body)["instances"], np.float32))
    answer = orjson.dumps({"predictions": outputs}, option=orjson.OPT_SERIALIZE_NUMPY)
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(answer)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer})


if __name__ == "__main__":
    uvicorn.run(
        app, host="127.0.0.1", port=options.http_port, loop="uvloop", http="httptools", lifespan="off",
        access_log=False, log_level="warning",
    )  # fmt: skip
