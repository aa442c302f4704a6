"""Whether this process shows Ray's token to a cluster that it joins."""

from __future__ import annotations

import os
import sys

_VARIABLES = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
_FILE = "~/.ray/auth_token"
"""Where Ray looks for the token of a cluster."""


def use_token(address: str | None) -> None:
    """Let Ray show its token to the cluster at this address, if it has one and nobody said whether to.

    Ray does so by itself only where it finds the cluster by itself; else it asks for 20 seconds without, noisily. A
    cluster without tokens takes no notice. Ray minds it only if it is not imported yet.
    """
    has_token = any(os.environ.get(name) for name in _VARIABLES) or os.path.isfile(os.path.expanduser(_FILE))
    if address and has_token and "ray" not in sys.modules:
        os.environ.setdefault("RAY_AUTH_MODE", "token")
