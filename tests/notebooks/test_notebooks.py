"""The notebooks, run as a reader runs them, on a real Ray cluster; and read, as they lie there."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

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


TOLD: dict[str, Told] = {
    "ab_test.ipynb": Told(
        (
            "870 users, half of them with each version",
            "version 2 if x-team is 'testers', version 1 50 %, version 2 50 %, by x-user",
            "0 of 200 have another version when they come again\ntesters get version 2\n",
            "accepted readings, version 2 beside version 1: +",
            "more than chance explains: True",
            "from version 2 to 1: 0 of ",
            "{2}",
        ),
        pictures=2,
    ),
    "quickstart.ipynb": Told(
        (
            '"predictions": [2.5, 3.0, 4.5\n',
            "REST: {'y': array([2.5, 3. , 4.5], dtype=float32)}",
            "gRPC: {'y': array([2.5, 3. , 4.5], dtype=float32)}",
            "answers by version 1, then version 2 took over",
            "2 AVAILABLE\n1 AVAILABLE\nversion 1: [2.5]",
            "stable [2.5]\ncanary [3.5]",
            "before: [2.5]\nafter:  [3.5]",
            "label stable moves to this version from version 1",
            "LocalApp('notebook', stopped)",
        )
    ),
    "ray_jobs.ipynb": Told(
        (
            "1000 answers, their sum is 251750.0",
            "missing 'x'; unknown 'X'",
            "[2.5, 3.0, 4.5]",
            "the images show [0, 1, 2, 3, 4]; the models say [0, 1, 2, 3, 4] and 7.0",
            "digits reads 99.",
            "version 1 is served: True",
            "input  image  float [?, 64]",
            "small_digits reads 9",
            "LocalApp('notebook', stopped)",
        )
    ),
    "rollout.ipynb": Told(
        (
            "['1', '2', '3', '4', 'images.npz'] (600, 64)",
            "version 1 to 2, promoted at 100 %",
            "step 1: ",
            "version 2 to 4, failed at 0 % (",
            " requests failed, such as by\n",
            "version 2 to 3, failed at 0 % (",
            "answers by version 3: 0",
        ),
        pictures=5,
    ),
}
"""By the notebook's name."""


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    """A machine on which a Ray cluster runs, with nothing on it."""
    with machine_with_ray() as machine:
        yield machine


@pytest.fixture(scope="module")
def models(demo: Demo, digit_versions: Demo, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models as notebooks make and keep them, made only once."""
    models = tmp_path_factory.mktemp("models") / ".demo"
    shutil.copytree(demo.folder, models)
    shutil.copytree(digit_versions.folder, models / "digit_versions")
    return models


@pytest.fixture
def folder(models: Path) -> Iterator[Path]:
    """Where a notebook runs, with the models at hand. Sockets lie here, so its name is short."""
    folder = Path(tempfile.mkdtemp(prefix="nb-", dir="/tmp"))
    shutil.copytree(models, folder / ".demo")
    yield folder
    shutil.rmtree(folder)


@pytest.mark.cluster
@pytest.mark.parametrize("name", TOLD)
def test_notebooks_run(name: str, folder: Path, machine: Machine) -> None:
    """Every cell runs, from the first to the last, and tells and draws what it should; nothing is left of it then,
    neither processes of its own nor actors on a cluster that stays."""
    notebook = run(FOLDER / name, folder, machine.environment)
    told, at = printed(notebook), 0
    for text in TOLD[name].texts:
        at = told.find(text, at)
        assert at >= 0, f"{text!r} is not told, or too early, in\n{told}"
    assert pictures(notebook) >= TOLD[name].pictures
    wait_for("the serving app to end, and Serve with it", lambda: not _serving(machine))


def _serving(machine: Machine) -> set[str]:
    """The actors of serving apps and of Serve. Ray Data has some of its own, which stay for as long as the cluster."""
    serving = ("ray::serve", "ray::proxy", "ray::controller")
    return {title for title in workers(machine.cluster) if title.lower().startswith(serving)}


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
