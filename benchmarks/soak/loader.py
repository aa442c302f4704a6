"""A platform without a framework: versions that answer who they are, and a ledger of every load.

A version is two files. `table.json` says what it is, `weights.bin` gives it weight; the former has the digest of the
latter, so a version that was loaded before it was finished is noticed. Whatever happens to it is appended to the ledger
that `table.json` names, a line each, by whichever process it happens in.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from serving_app.core.errors import DataLoss, Unavailable
from serving_app.core.servable import ServableId
from serving_app.core.signatures import DEFAULT_SIGNATURE, DType, Signature, TensorSpec
from serving_app.runtime.loader import LoadOptions

PLATFORM = f"{__name__}:TableLoader"

_ANY = TensorSpec("", DType.INT64, (-1,))
_SIGNATURES = {
    DEFAULT_SIGNATURE: Signature({"x": _ANY}, {"version": _ANY, "model": TensorSpec("", DType.STRING, (-1,))})
}


def files_of(
    servable: ServableId, ledger: Path, *, broken: bool = False, load_s: float = 0.0, weight: int = 1 << 14
) -> dict[str, bytes]:
    """The files of a version by name, in the worst order to upload them: what names the others comes first.

    It takes `load_s` seconds to load, and fails to if it is `broken`.
    """
    weights = random.Random(str(servable)).randbytes(weight)
    table = {
        "model": servable.name,
        "version": servable.version,
        "broken": broken,
        "load_s": load_s,
        "digest": hashlib.sha256(weights).hexdigest(),
        "ledger": str(ledger),
    }
    return {"table.json": json.dumps(table).encode(), "weights.bin": weights}


class Entry(NamedTuple):
    """A line of the ledger: `what` happened (begun, loaded, failed, torn, closed) to a version in a process."""

    what: str
    servable: ServableId
    pid: int
    at: float


def read_ledger(ledger: Path, start: int = 0) -> Iterator[tuple[Entry, int]]:
    """The entries from an offset on, each with the offset behind it. A line that is not whole yet is left for later."""
    if not ledger.exists():
        return
    with ledger.open("rb") as lines:
        lines.seek(start)
        for line in lines:
            if not line.endswith(b"\n"):
                return
            start += len(line)
            what, model, version, pid, at = line.decode().split()
            yield Entry(what, ServableId(model, int(version)), int(pid), float(at)), start


@dataclass
class _Table:
    """A version that answers its own name and number."""

    servable: ServableId
    ledger: Path
    is_closed: bool = False

    @property
    def signatures(self) -> Mapping[str, Signature]:
        return _SIGNATURES

    def run(
        self,
        signature_name: str,
        inputs: Mapping[str, Any],
        outputs: Sequence[str] | None = None,
        timeout: float | None = None,
    ) -> dict[str, Any]:
        if self.is_closed:
            raise Unavailable(f"{self.servable} is closed")
        rows = len(inputs["x"])
        return {
            "version": np.full(rows, self.servable.version, np.int64),
            "model": np.full(rows, self.servable.name.encode(), object),
        }

    def tell(self, what: str) -> None:
        """Append to the ledger; short lines of several processes do not mix."""
        line = f"{what} {self.servable.name} {self.servable.version} {os.getpid()} {time.time():.3f}\n"
        with self.ledger.open("ab", buffering=0) as ledger:
            ledger.write(line.encode())

    def close(self) -> None:
        if not self.is_closed:
            self.is_closed = True
            self.tell("closed")


class TableLoader:
    """Loads what `files_of` made."""

    def load(self, path: str, options: LoadOptions) -> _Table:
        """Take as long as the version says, and fail if it is broken or not whole."""
        table = json.loads((Path(path) / "table.json").read_bytes())
        servable = _Table(ServableId(table["model"], table["version"]), Path(table["ledger"]))
        servable.tell("begun")
        time.sleep(table["load_s"])
        if table["broken"]:
            servable.tell("failed")
            raise DataLoss(f"{servable.servable} is broken on purpose")
        weights = Path(path) / "weights.bin"
        if not weights.exists() or hashlib.sha256(weights.read_bytes()).hexdigest() != table["digest"]:
            servable.tell("torn")
            raise DataLoss(f"{servable.servable} was not finished when it was loaded")
        servable.tell("loaded")
        return servable
