"""Closed-loop load over HTTP with wrk (Debian and Ubuntu: apt-get install wrk)."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass

_SCRIPT = """
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = [==[{body}]==]
done = function(summary, latency, requests)
  io.write(string.format("RESULT %d %d %d %d %d %d\\n", summary.requests, summary.duration,
    summary.errors.status, summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout,
    latency:percentile(50), latency:percentile(99)))
end
"""


@dataclass(frozen=True)
class Load:
    """What came of one run: requests per second, latencies in milliseconds, failures."""

    rate: float
    median_ms: float
    p99_ms: float
    failed: int


def run(url: str, body: object, *, connections: int, seconds: int) -> Load:
    """Send this body (as it is, or a value as JSON) over so many connections for so long."""
    if shutil.which("wrk") is None:
        sys.exit("this benchmark needs wrk: apt-get install wrk")
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(_SCRIPT.replace("{body}", body.decode() if isinstance(body, bytes) else json.dumps(body)))
        script.flush()
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s", "-s", script.name, url]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = re.search(r"RESULT (\d+) (\d+) (\d+) (\d+) (\d+) (\d+)", output)
    if found is None:
        sys.exit(f"wrk printed no result:\n{output}")
    requests, micros, status, socket, median, p99 = map(int, found.groups())
    return Load(requests / (micros / 1e6), median / 1000, p99 / 1000, status + socket)
