"""Ports for servers that are about to be started."""

from __future__ import annotations

import random
import socket

_PORTS = range(20_000, 32_768)
"""Below those that the system gives to connections, any of which may come in the moment before a server starts."""

_told: list[socket.socket] = []


def free_port() -> int:
    """A TCP port that nobody uses now, and that nobody else is told of while this process lives.

    Its number is kept as a UDP port, which is in no server's way.
    """
    while True:
        port = random.choice(_PORTS)
        kept = socket.socket(type=socket.SOCK_DGRAM)
        try:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", port))
            kept.bind(("127.0.0.1", port))
        except OSError:
            kept.close()
            continue
        _told.append(kept)
        return port
