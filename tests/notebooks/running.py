"""Running a notebook as a reader does: every cell in its order, in a kernel of its own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

from tests.cluster.commands import kill_processes, processes
from tests.cluster.waiting import wait_for

_CELL_S = 900
"""How long a cell may take before the notebook has failed; those that wait for evidence take long where all is slow."""


def read(path: Path) -> NotebookNode:
    """A notebook as it lies there."""
    return nbformat.read(path, as_version=4)


def run(path: Path, folder: Path, environment: Mapping[str, str]) -> NotebookNode:
    """The notebook with its outputs, run in this folder. An error of a cell is raised with what it has printed.

    The kernel has ended afterwards, and so has all that was started from it in the folder.
    """
    notebook = read(path)
    client = NotebookClient(
        notebook, timeout=_CELL_S, startup_timeout=_CELL_S, iopub_timeout=_CELL_S, kernel_name="python3",
        resources={"metadata": {"path": str(folder)}}, extra_arguments=["--InteractiveShell.colors=nocolor"],
    )  # fmt: skip
    manager = client.create_kernel_manager()
    # Sockets with names of their own: of ports, another process may have got one in the moment before it is opened.
    manager.transport = "ipc"
    manager.shutdown_wait_time = _CELL_S
    manager.connection_file = str(folder / "kernel.json")
    try:
        client.execute(env={**environment, "IPYTHONDIR": str(folder / ".ipython")})
        wait_for("the kernel and what it has started to end", lambda: not processes(folder))
    finally:
        kill_processes(folder)
    return notebook


def printed(notebook: NotebookNode) -> str:
    """All that the cells have printed, and the values of their last lines.

    What a cell prints comes in pieces of any size, between which there may be warnings; those are left out.
    """
    texts = []
    for cell in notebook.cells:
        outputs = cell.get("outputs", ())
        texts.append("".join(output.text for output in outputs if output.get("name") == "stdout"))
        texts += [output.data.get("text/plain", "") for output in outputs if output.output_type == "execute_result"]
    return "\n".join(text.rstrip("\n") for text in texts if text)


def pictures(notebook: NotebookNode) -> int:
    """How many pictures the cells show."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    return sum("image/png" in output.get("data", {}) for output in outputs)
