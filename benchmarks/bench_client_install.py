"""What it takes to become a client: time to install, size on disk, packages, and time and memory of an import.

    python -m benchmarks.bench_client_install [--stock] [--starts 5] [--pip-options ...]

Into a fresh virtual environment goes this checkout with the extra `client`; with `--stock` into another one
`tensorflow-serving-api`, which brings TensorFlow. Time to install is that of pip without its cache, downloads included,
so it depends on the network; size is that of all files in site-packages but pip's own. Then a fresh interpreter imports
what a caller needs, several times: CPU time of the process beyond an empty one's, the least of all starts, and its peak
memory.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]

EMPTY = "pass"
REST = "from serving_app.remote import RestClient"
GRPC = "from serving_app.remote import GrpcClient"
STOCK = "import grpc; from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc"


class Start(NamedTuple):
    """What starting an interpreter with some imports takes."""

    cpu_s: float
    wall_s: float
    megabytes: float


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stock", action="store_true", help="measure tensorflow-serving-api, too")
    parser.add_argument("--starts", type=int, default=5, help="interpreters to start for each import")
    parser.add_argument("--pip-options", nargs=argparse.REMAINDER, default=[], help="handed to pip install")
    options = parser.parse_args()
    measure("serving-app[client]", f"{ROOT}[client]", {"REST": REST, "gRPC": GRPC}, options)
    if options.stock:
        measure("tensorflow-serving-api", "tensorflow-serving-api", {"gRPC": STOCK}, options)


def measure(name: str, requirement: str, imports: dict[str, str], options: argparse.Namespace) -> None:
    """Install into a fresh environment, look at it, and start interpreters there."""
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = str(Path(folder) / "bin" / "python")
        began = time.monotonic()
        command = [python, "-m", "pip", "install", "--quiet", "--no-cache-dir", "--disable-pip-version-check"]
        subprocess.run([*command, *options.pip_options, requirement], check=True)
        seconds = time.monotonic() - began
        packages, megabytes = look(Path(folder))
        print(f"{name}: installed in {seconds:.1f} s, {packages} packages, {megabytes:.0f} MB")
        empty = start(python, EMPTY, options.starts)
        for what, program in imports.items():
            found = start(python, program, options.starts)
            print(
                f"  import for {what}: {1000 * (found.cpu_s - empty.cpu_s):.0f} ms of CPU, "
                f"{1000 * (found.wall_s - empty.wall_s):.0f} ms, {found.megabytes - empty.megabytes:.0f} MB more memory"
            )


def look(folder: Path) -> tuple[int, float]:
    """The packages of an environment, the measured one included, and their megabytes; those of Python do not count."""
    (site,) = (folder / "lib").glob("python*/site-packages")
    own = ("pip", "setuptools", "_distutils_hack", "pkg_resources")
    entries = [entry for entry in site.iterdir() if not entry.name.startswith(own)]
    packages = sum(entry.name.endswith(".dist-info") for entry in entries)
    files = [each for entry in entries for each in ([entry] if entry.is_file() else entry.rglob("*")) if each.is_file()]
    return packages, sum(each.stat().st_size for each in files) / 1e6


def start(python: str, program: str, starts: int) -> Start:
    """The least of several starts; the first, which writes byte code, is not counted."""
    measured = [run(python, program) for _ in range(starts + 1)][1:]
    return Start(*map(min, zip(*measured, strict=True)))


def run(python: str, program: str) -> Start:
    """One start."""
    began = time.monotonic()
    child = subprocess.Popen([python, "-I", "-c", program], env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"})
    _, status, usage = os.wait4(child.pid, 0)
    seconds = time.monotonic() - began
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"{program!r} failed in {python}")
    kilobytes = usage.ru_maxrss / (1 if sys.platform == "linux" else 1024)
    return Start(cpu_of(usage), seconds, kilobytes / 1000)


def cpu_of(usage: resource.struct_rusage) -> float:
    """Seconds of CPU."""
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
