"""What `pip install serving-app[client]` brings is enough, and is all."""

from __future__ import annotations

import shutil
import subprocess
import sys
import venv
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.serve.fronts import Front

ROOT = Path(__file__).parents[2]


def closure(name: str, extra: str) -> set[str]:
    """The distributions that an extra of a distribution needs, its own name included."""
    needed: set[str] = set()
    waiting = [(name, extra)]
    while waiting:
        at, with_extra = waiting.pop()
        needed.add(at)
        for line in metadata.requires(at) or ():
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": with_extra}):
                found = requirement.name.lower().replace("_", "-")
                waiting += [(found, each) for each in ("", *requirement.extras) if found not in needed]
    return needed


NEEDED = closure("serving-app", "client") - {"serving-app"}


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The interpreter of an environment with a wheel of the project and with what its extra needs, and nothing else.

    Those packages are copied from the environment of the tests, so that no network is needed.
    """
    folder = tmp_path_factory.mktemp("fresh")
    wheel(folder)
    venv.create(folder / "venv", symlinks=True, with_pip=False)
    python = folder / "venv" / "bin" / "python"
    (site,) = (folder / "venv" / "lib").glob("python*/site-packages")
    for name in NEEDED:
        copy(name, site)
    (built,) = folder.glob("*.whl")
    shutil.unpack_archive(built, site, "zip")
    yield python
    shutil.rmtree(folder)


def wheel(folder: Path) -> None:
    """Build a wheel into a folder, with what is here, from a copy: building leaves things behind."""
    source = folder / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "serving_app", source / "serving_app", ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-c", f"from setuptools import build_meta; build_meta.build_wheel({str(folder)!r})"]
    subprocess.run(command, cwd=source, check=True, capture_output=True)


def copy(name: str, site: Path) -> None:
    """Install a distribution as it is installed here."""
    for file in metadata.distribution(name).files or ():
        if ".." in file.parts or file.suffix == ".pyc":
            continue
        target = site / file
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file.locate(), target)


ASK = """
import importlib.util, sys
from serving_app.remote import GrpcClient, RestClient
with RestClient("http://" + sys.argv[1]) as rest, GrpcClient(sys.argv[2]) as grpc:
    for client in (rest, grpc):
        print(client.model("half_plus_two", label="stable").predict(x=[1.0])["y"].tolist())
print(*filter(importlib.util.find_spec, ("ray", "tensorflow", "pandas", "pydantic", "yaml", "fsspec")))
"""


def test_the_extra_is_enough_to_call_servers(fresh: Path, front: Front) -> None:
    """With nothing but the extra `client`, both clients ask a server; Ray and TensorFlow are not there."""
    done = run(fresh, "-W", "error", "-c", ASK, front.rest_address, front.grpc_address)
    assert done.stdout.split("\n") == ["[2.5]", "[2.5]", "", ""]


def test_the_commands_say_what_is_missing(fresh: Path) -> None:
    """There the commands tell which extra brings what they need."""
    done = run(fresh, "-c", "from serving_app import scripts; print(scripts.serving_app())")
    assert done.stdout == "1\n"
    assert "pip install 'serving-app[cpu]'" in done.stderr
    assert "Traceback" not in done.stderr


IMPORT = """
import sys
import serving_app, serving_app.remote
def connect(): serving_app.connect()
def publish(): serving_app.publish
def client(): sys.modules["httptools"] = None; serving_app.remote.RestClient
for use in (connect, publish, client):
    try:
        use()
    except Exception as error:
        print(error)
"""


def test_imports_say_what_is_missing(fresh: Path) -> None:
    """Who asks for what another extra brings hears of that extra."""
    connect, publish, client = run(fresh, "-c", IMPORT).stdout.splitlines()
    assert connect.startswith("Ray is not installed")
    assert "serving-app[serve]" in connect
    assert publish.endswith("which serving_app.publish needs: pip install 'serving-app[serve]'")
    assert client == "httptools is not installed, which RestClient needs: pip install 'serving-app[client]'"


def run(python: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(python), "-I", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd=python.parent)


def test_the_extra_needs_few_packages() -> None:
    """Nothing that only servers need has come into what the clients need."""
    assert sorted(NEEDED) == [
        "grpcio", "httptools", "ml-dtypes", "numpy", "orjson", "protobuf", "pysimdjson", "typing-extensions"
    ]
