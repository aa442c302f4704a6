"""The long run; see the package."""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.conformance.models import ZOO
from tests.fuzz.running import ALONE, LISTENING, listening, run
from tests.serve.fronts import LoopThread
from tests.zoo import Zoo


def main() -> None:
    """Ends with the first input that breaks a target, made as small as can be."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30), help="the seed of a run to repeat")
    known = ", ".join((*ALONE, *LISTENING))
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {known}; default all")
    options = parser.parse_args()
    names = options.targets or [*ALONE, *LISTENING]
    seconds = options.minutes * 60 / len(names)
    print(f"--seed {options.seed}")
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "tests.zoo", folder, *ZOO], check=True, capture_output=True)
        loop = LoopThread()
        try:
            with listening(loop, Zoo(Path(folder))) as more:
                for name in names:
                    count = run((ALONE | more)[name], seconds, options.seed)
                    print(f"{name:8} {count:9} inputs, {seconds * 1e6 / count:.0f} us each", flush=True)
        finally:
            loop.stop()


if __name__ == "__main__":
    main()
