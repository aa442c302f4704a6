"""What tests of several packages share."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.zoo import Zoo

_ZOO_SOURCES = Path(__file__).parent / "zoo"


@pytest.fixture(scope="session")
def zoo(pytestconfig: pytest.Config) -> Zoo:
    """Models of every kind, made by TensorFlow in its own process; kept in pytest's cache until a maker changes."""
    digest = hashlib.sha256()
    for source in sorted(_ZOO_SOURCES.iterdir()):
        if source.is_file():
            digest.update(source.read_bytes())
    cache = pytestconfig.cache.mkdir("zoo")
    folder = cache / digest.hexdigest()[:16]
    if not folder.exists():
        for outdated in cache.glob("?" * len(folder.name)):
            shutil.rmtree(outdated)
        making = Path(tempfile.mkdtemp(prefix="making-models-", dir=cache))
        made = subprocess.run(
            [sys.executable, "-m", "tests.zoo", str(making)],
            cwd=_ZOO_SOURCES.parents[1],
            capture_output=True,
            text=True,
        )
        assert made.returncode == 0, made.stderr
        making.rename(folder)
    return Zoo(folder)
