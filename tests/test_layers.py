"""Imports go one way: what each package may know of, and what merely importing it costs."""

from __future__ import annotations

import ast
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import serving_app

ROOT = Path(serving_app.__file__).parent

FORMATS = {"numpy", "ml_dtypes", "google"}  # google: protobuf

LAYERS: dict[str, set[str]] = {
    "core": set(),
    "config": {"core", "protocol", "pydantic", "yaml", "google"},
    "protocol": {"core", "orjson", "simdjson", *FORMATS},
    "store": {"core", "config", "fsspec"},
    "runtime": {"core", "protocol", "ai_edge_litert", "flatbuffers", *FORMATS},
    "host": {"core", "protocol", "runtime", "store", *FORMATS},
    "client": {"core", "protocol", "grpc", "ray", "ray_private", "uvloop", *FORMATS},
    "publishing": {"core", "config", "protocol", "store", "client", "fsspec", *FORMATS},
    "ray_private": {"ray"},
    "serve": {
        *("core", "config", "protocol", "store", "runtime", "host", "client", "ray_private"),
        *("ray", "grpc", "httptools", *FORMATS),
    },
    "data": {
        *("core", "config", "protocol", "store", "host", "client", "serve"),
        *("ray", "pyarrow", "fsspec", "orjson", *FORMATS),
    },
    "demo": {"numpy", "tensorflow", "sklearn"},
    "cli": {
        *("core", "config", "protocol", "store", "runtime", "host", "client", "publishing", "serve", "ray_private"),
        *("data", "demo", "ray", "yaml"),
    },
    "notebook": {"core", "config", "client", "demo", "cli", "ray", "matplotlib", "IPython"},
    "remote": {"core", "protocol", "grpc", "httptools", *FORMATS},
    "scripts": set(),
    "__init__": {"client", "publishing", "serve"},
}
"""What each part may import besides itself and the standard library: parts of this package, and others."""

LATE = {"ray", "tensorflow", "sklearn"}
"""Packages that a part may name in its row, but which must not come with importing every module of it."""

WITHOUT_RAY = {"core", "config", "protocol", "store", "runtime", "host"}


def modules() -> Iterator[tuple[str, Path]]:
    """Every module by its part."""
    for path in sorted(ROOT.rglob("*.py")):
        yield path.relative_to(ROOT).with_suffix("").parts[0], path


def imported(path: Path) -> Iterator[str]:
    """What a module imports, wherever it does so: parts of this package by their name, other packages by theirs."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} imports relatively; write the whole name"
            module = node.module or ""
            names = [f"{module}.{alias.name}" for alias in node.names] if module == "serving_app" else [module]
        else:
            continue
        for name in names:
            package, _, rest = name.partition(".")
            if package == "serving_app":
                yield rest.partition(".")[0]
            elif package not in sys.stdlib_module_names:
                yield package


def test_every_part_has_its_row() -> None:
    """A new package has to say what it may import before anything imports it."""
    assert {part for part, _ in modules()} == LAYERS.keys()


@pytest.mark.parametrize("part", LAYERS)
def test_imports_go_one_way(part: str) -> None:
    """No module imports what its row does not name, at its top or inside a function."""
    allowed = LAYERS[part] | {part, "__version__"}
    for other, path in modules():
        if other == part:
            unknown = set(imported(path)) - allowed
            assert not unknown, f"{path.relative_to(ROOT)} imports {sorted(unknown)}, which {part} may not know of"


def test_the_rows_go_one_way() -> None:
    """The table itself has no circle: parts can be ordered so that each knows only of those before it."""
    placed: set[str] = set()
    rows = {part: row & LAYERS.keys() for part, row in LAYERS.items()}
    while ready := {part for part, row in rows.items() if row <= placed}:
        placed |= ready
        rows = {part: row for part, row in rows.items() if part not in ready}
    assert not rows


def test_only_the_demo_imports_tensorflow() -> None:
    """No process that serves ever imports TensorFlow's Python package; the demo makes its models in one of its own."""
    for part, path in modules():
        if part != "demo":
            assert not {"tensorflow", "keras", "tensorflow_serving"} & set(imported(path)), path


def loaded_after(*names: str) -> set[str]:
    """The packages that a fresh interpreter has loaded after importing these modules."""
    program = f"import sys, {', '.join(names)}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def all_of(part: str) -> list[str]:
    package = f"serving_app.{part}"
    found = [module.name for module in pkgutil.walk_packages([str(ROOT / part)], f"{package}.")]
    return [package, *(name for name in found if not name.endswith(".__main__"))]  # those run a command


def test_importing_the_package_costs_nothing() -> None:
    """`import serving_app` brings the standard library alone: who asks for more pays when asking."""
    foreign = loaded_after("serving_app") - set(sys.stdlib_module_names)
    assert not foreign & {"ray", "tensorflow", "numpy", "google", "grpc", "pydantic", "yaml", "fsspec", "uvicorn"}


def test_layers_below_the_shell_need_no_ray_and_no_tensorflow() -> None:
    """A fresh interpreter that imports every module of these parts has loaded neither."""
    assert not loaded_after(*(name for part in sorted(WITHOUT_RAY) for name in all_of(part))) & LATE


def test_the_client_needs_no_ray_until_it_calls_a_handle() -> None:
    """Everything of the client but what calls through handles comes without Ray and TensorFlow."""
    names = [name for name in all_of("client") if not name.endswith((".hops", ".callers"))]
    assert "serving_app.client.connection" in names
    assert not loaded_after(*names) & LATE


def test_the_remote_client_needs_nothing_of_a_server() -> None:
    """Everything of it comes without what only servers and processes on a cluster need."""
    assert not loaded_after(*all_of("remote")) & {*LATE, "pydantic", "yaml", "fsspec", "uvloop", "pandas", "pyarrow"}


def test_the_shell_and_the_command_line_come_without_tensorflow() -> None:
    """Importing everything that serves loads neither TensorFlow, nor what the demo trains with, nor what draws."""
    loaded = loaded_after(*(name for part in ("serve", "cli", "demo", "notebook") for name in all_of(part)))
    assert not loaded & {"tensorflow", "keras", "sklearn", "matplotlib"}


def test_the_public_names_are_there() -> None:
    """What the package lists can be had from it, and nothing else is pretended."""
    assert serving_app.__all__ == ["app", "connect", "publish", "write_warmup"]
    for name in serving_app.__all__:
        assert callable(getattr(serving_app, name))
    with pytest.raises(AttributeError, match="no attribute 'nope'"):
        _ = serving_app.nope
