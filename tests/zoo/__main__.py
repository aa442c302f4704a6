"""`python -m tests.zoo DEST [NAME...]` makes models; without names, all of them."""

import sys
from pathlib import Path

import tests.zoo.forms
import tests.zoo.heads
import tests.zoo.lite  # noqa: F401  # all of them add their makers
from tests.zoo.build import make

if len(sys.argv) < 2:
    sys.exit(__doc__)
make(Path(sys.argv[1]), sys.argv[2:])
