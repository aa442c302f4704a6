"""The notebooks, run as a reader runs them, on a real Ray cluster; and read, as they lie there."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from benchmarks.ports import free_port
from tests.cluster.commands import workers
from tests.cluster.waiting import wait_for
from tests.conftest import Demo
from tests.docs.pages import ROOT, anchors
from tests.machine import Machine, machine_with_ray
from tests.notebooks.running import pictures, printed, read, run

FOLDER = ROOT / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


class Told(NamedTuple):
    """What a reader sees who runs a notebook: texts in this order, and at least so many pictures."""

    texts: tuple[str, ...]
    pictures: int = 0


TOLD: dict[str, Told] = {"rollout.ipynb": Told(("2.5",))}
"""By the notebook's name."""


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    """A machine on which a Ray cluster runs that takes jobs, with nothing on it."""
    with machine_with_ray(dashboard_port=free_port()) as machine:
        yield machine


@pytest.fixture
def folder(demo: Demo) -> Iterator[Path]:
    """Where a notebook runs, with the demo's models, which are made only once. Sockets lie here, so its name is short.
    """
    folder = Path(tempfile.mkdtemp(prefix="nb-", dir="/tmp"))
    shutil.copytree(demo.folder, folder / ".demo")
    yield folder
    shutil.rmtree(folder)


@pytest.mark.cluster
@pytest.mark.parametrize("name", TOLD)
def test_notebooks_run(name: str, folder: Path, machine: Machine) -> None:
    """Every cell runs, from the first to the last, and tells and draws what it should; nothing is left of it then,
    neither processes of its own nor actors on a cluster that stays."""
    others = workers(machine.cluster)
    notebook = run(FOLDER / name, folder, machine.environment)
    told, at = printed(notebook), 0
    for text in TOLD[name].texts:
        at = told.find(text, at)
        assert at >= 0, f"{text!r} is not told, or too early, in\n{told}"
    assert pictures(notebook) >= TOLD[name].pictures
    wait_for("all of its actors to end", lambda: workers(machine.cluster) <= others)


def test_every_notebook_is_run() -> None:
    """There is a row for each notebook, and for nothing else."""
    assert TOLD.keys() == {path.name for path in NOTEBOOKS}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_notebooks_are_kept_without_outputs(path: Path) -> None:
    """What is in the repository is what people wrote: no outputs, no counts, nothing of the machine where it was run.
    """
    notebook = read(path)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.outputs for cell in cells if cell.outputs or cell.execution_count is not None] == []
    assert notebook.metadata.keys() <= {"kernelspec", "language_info"}
    assert notebook.metadata.kernelspec.name == "python3"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_notebooks_begin_with_what_they_are_about(path: Path) -> None:
    """The first cell is text, with the one title of the notebook."""
    texts = [cell.source for cell in read(path).cells if cell.cell_type == "markdown"]
    assert texts[0] == read(path).cells[0].source
    assert [text for text in texts if re.match(r"# \S", text)] == texts[:1]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_links_of_notebooks_lead_somewhere(path: Path) -> None:
    """Every link of a notebook to another place of the project names a file that is there, and a heading in it."""
    text = "\n".join(cell.source for cell in read(path).cells if cell.cell_type == "markdown")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not target.startswith(("http:", "https:")):
            name, _, anchor = target.partition("#")
            file = (path.parent / name).resolve()
            assert file.is_file(), target
            assert not anchor or anchor in anchors(file), target


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_notebooks_are_listed(path: Path) -> None:
    """The page about notebooks links to each."""
    assert f"](../notebooks/{path.name})" in (ROOT / "docs" / "notebooks.md").read_text(encoding="utf-8")
