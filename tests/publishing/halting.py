"""A publisher in a process of its own, which stops in the middle of its upload and waits to be killed."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import fsspec

from serving_app import publish
from serving_app.publishing import upload as uploading
from tests.store.shared import SharedFileSystem


class HaltingFileSystem(SharedFileSystem):
    """Tells when a certain file is about to be written, and never writes it."""

    halt_at = ""
    told: Any = None

    def put_file(self, lpath: str, rpath: str, **more: Any) -> None:
        halt_before(rpath, self.halt_at, self.told)
        super().put_file(lpath, rpath, **more)


def halt_before(path: str, halt_at: str, told: Any) -> None:
    """Go on unless this is the file."""
    if path.endswith(halt_at):
        told.send("about to write it")
        while True:
            signal.pause()


def publish_halfway(model: str, base_path: str, options: dict[str, Any], halt_at: str, told: Any) -> None:
    """Publish, and stop when this file is about to be written."""
    HaltingFileSystem.halt_at, HaltingFileSystem.told = halt_at, told
    fsspec.register_implementation("shared", HaltingFileSystem, clobber=True)
    write = uploading._write_file

    def write_or_halt(path: Path, content: Any) -> None:
        halt_before(str(path), halt_at, told)
        write(path, content)

    uploading._write_file = write_or_halt
    publish(model, base_path=base_path, storage_options=options)
