"""The runtime in a process of its own: what it imports, what it lives with, and that memory comes back."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.zoo import Zoo

LOAD = """
import numpy
from serving_app.runtime import LoadOptions, loader_for
servable = loader_for("tensorflow").load(path, LoadOptions())
assert servable.run("serving_default", {"x": numpy.array([1, 2, 5], "f4")})["y"].tolist() == [2.5, 3, 4.5]
"""
USE_TLS = """
import hashlib, hmac, ssl, grpc
context = ssl.create_default_context()
hashlib.sha256(b"x").hexdigest(), hmac.new(b"k", b"m", "sha256").hexdigest()
inside, outside = ssl.MemoryBIO(), ssl.MemoryBIO()
handshake = context.wrap_bio(inside, outside, server_hostname="localhost")
try:
    handshake.do_handshake()
except ssl.SSLWantReadError:
    assert outside.read()
channel = grpc.secure_channel("localhost:1", grpc.ssl_channel_credentials())
channel.close()
"""
NO_TENSORFLOW = """
import sys
assert not [name for name in sys.modules if name.split(".")[0] in ("tensorflow", "keras", "ray")]
"""
CLOSE = "servable.close()"


def run_python(*parts: str, path: str, log: str = "") -> str:
    """Run code in a fresh interpreter; warnings are errors there too. Returns what it printed.

    It logs nothing, but for lines with `log` in them.
    """
    code = "\n".join((f"path = {path!r}", *parts))
    # Left alone, glibc keeps freed blocks of megabytes in whichever thread's heap had them, and what a process holds
    # swings by several of them. With a fixed threshold it gives each back at once, so what stays is what leaked.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": str(1 << 20)}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, env=environment
    )
    logged = [line for line in done.stderr.splitlines() if not log or log not in line]
    assert (done.returncode, logged) == (0, [])
    return done.stdout


@pytest.mark.parametrize(
    "order",
    [(LOAD, USE_TLS), (USE_TLS, LOAD), (LOAD, USE_TLS, CLOSE, LOAD), ("import orjson, ssl", LOAD, USE_TLS)],
    ids=["runtime first", "tls first", "runtime twice", "imports first"],
)
def test_the_library_lives_with_tls(zoo: Zoo, order: tuple[str, ...]) -> None:
    """TLS, hashing and gRPC work before and after the library is opened, without TensorFlow's Python, without noise."""
    run_python(*order, NO_TENSORFLOW, path=zoo.path("half_plus_two"))


def test_the_library_lives_with_tensorflows_own_python(zoo: Zoo) -> None:
    """A user's process that imports tensorflow as well gets right answers from both."""
    use_tensorflow = """
import os
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import warnings
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import tensorflow as tf
assert tf.reduce_sum(tf.constant([1, 2])).numpy() == 3
"""
    run_python(LOAD, use_tensorflow, LOAD, path=zoo.path("half_plus_two"))


def test_importing_the_package_opens_nothing(zoo: Zoo) -> None:
    """The contract alone brings neither the library nor protobuf into a process."""
    loads_nothing = """
import sys
import serving_app.runtime
assert "google.protobuf" not in sys.modules
with open("/proc/self/maps") as maps:
    assert "libtensorflow" not in maps.read()
"""
    run_python(loads_nothing, NO_TENSORFLOW, path="")


def test_an_exit_without_close_is_clean(zoo: Zoo) -> None:
    """A process may end with versions loaded and answers alive, lent inputs included."""
    keep = """
import numpy
from serving_app.runtime import LoadOptions, loader_for
servable = loader_for("tensorflow").load(path, LoadOptions())
room = numpy.ones(2_000_016, "f4")
start = -room.ctypes.data % 64 // 4
answers = [servable.run("add", {"x": room[start : start + 2_000_000].reshape(2000, 1000)}), servable.run("whole", {})]
"""
    run_python(keep, path=zoo.path("heavy"))


def test_memory_comes_back(zoo: Zoo) -> None:
    """Twenty loads of eight megabytes, each with fifty runs, grow the process by less than half of one."""
    churn = """
import numpy
from serving_app.runtime import LoadOptions, loader_for
from serving_app.runtime.tensorflow_c.tensor import lent_arrays

def resident():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * 4096

loader, x, rows = loader_for("tensorflow"), numpy.ones((2000, 1000), "f4"), numpy.arange(10, dtype="i4")
sizes = []
for _ in range(25):
    servable = loader.load(path, LoadOptions())
    for _ in range(50):
        servable.run("serving_default", {"rows": rows})
    servable.run("add", {"x": x})
    servable.run("whole", {})
    servable.close()
    sizes.append(resident())
assert lent_arrays() == 0
print(sizes[-1] - sizes[4])
"""
    assert int(run_python(churn, path=zoo.path("heavy"))) < 4e6
