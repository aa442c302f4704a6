"""Commands that a user types, run in a folder of their own, and the processes that they leave there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.cluster.asking import QUESTION, Rest, version_of
from tests.cluster.waiting import PATIENCE_S, wait_for

BIN = Path(sys.executable).parent


def processes(folder: Path) -> dict[int, str]:
    """The processes that were started in a folder, with their titles; Ray's own are among them, and its workers."""
    found = {}
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and Path(os.readlink(entry / "cwd")) == folder:
                found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
        except OSError:  # it has just ended
            continue
    return found


def kill_processes(folder: Path) -> None:
    """Kill all that was started in a folder, and what that starts meanwhile."""
    while left := processes(folder):
        for pid in left:
            with suppress(ProcessLookupError):  # many end with the one that was killed before them
                os.kill(pid, signal.SIGKILL)


def workers(folder: Path) -> set[str]:
    """The titles of the processes there that are actors."""
    services = ("ray::IDLE", "ray::DashboardAgent", "ray::RuntimeEnvAgent")
    return {title for title in processes(folder).values() if title.startswith("ray::") and title not in services}


@contextmanager
def running(folder: Path, command: Sequence[str], **environment: str) -> Iterator[subprocess.Popen[Any]]:
    """A command in a folder, as from a terminal of its own. It is ended by Ctrl-C; what is left then is killed."""
    with (folder / "output").open("w") as output:
        process = subprocess.Popen(
            command, cwd=folder, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
            env={**os.environ, **environment},
        )
    try:
        yield process
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(PATIENCE_S) == 0
    except BaseException as error:
        error.add_note((folder / "output").read_text())
        raise
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def wait_for_answer(port: int, model: str) -> int:
    """The version that answers, as soon as one does."""

    def look() -> Any:
        client = Rest(port)
        try:
            status, answer = client.request("POST", f"/v1/models/{model}:predict", {"instances": QUESTION})
        except OSError:
            return None
        finally:
            client.close()
        return answer["predictions"] if status == 200 else None

    return version_of(wait_for(f"an answer at port {port}", look))
