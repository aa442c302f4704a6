"""The whole suite, as two runs of pytest at once: most of its time goes into waiting for Ray.

    python -m tests [OPTIONS]      options are handed to both runs; for tests by name run pytest itself

One run has `tests/cluster`, whose tests share a Ray cluster, the other everything else, `tests/own_clusters` included.
The output of the latter is shown as it comes, that of the former below it. The exit status is that of the first run
that failed. Ctrl-C ends both.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

_ROOT = Path(__file__).parents[1]
_CLUSTER = "tests/cluster"

_NO_TESTS = 5
"""What pytest returns when its options select none; of two runs one may well have none."""


def main(options: Sequence[str]) -> int:
    """Run both; returns the exit status."""
    color = ["--color=yes"] if sys.stdout.isatty() else []
    options = ["--durations=15", "--durations-min=3", *options]  # where the minutes go
    with tempfile.TemporaryFile() as later:
        # Each with a cache of its own, so that `--last-failed` in either knows what failed there.
        cluster = _start([_CLUSTER, "-o", "cache_dir=.pytest_cache/cluster", *color, *options], later)
        others = _start([f"--ignore={_CLUSTER}", "tests", *options])
        runs = [others, cluster]
        # A terminal sends Ctrl-C to all three; each run then ends by itself, and this one waits for that.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, lambda *_: [run.terminate() for run in runs])
        statuses = [run.wait() for run in runs]
        later.seek(0)
        sys.stdout.flush()
        shutil.copyfileobj(later, sys.stdout.buffer)
        sys.stdout.flush()
    if statuses == [_NO_TESTS] * 2:
        return _NO_TESTS
    return next((status for status in statuses if status not in (0, _NO_TESTS)), 0)


def _start(arguments: Sequence[str], output: object = None) -> subprocess.Popen[bytes]:
    """A run of pytest. Started before signals are seen to, so that it minds them as ever."""
    command = [sys.executable, "-m", "pytest", *arguments]
    return subprocess.Popen(command, cwd=_ROOT, stdout=output, stderr=subprocess.STDOUT if output else None)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
