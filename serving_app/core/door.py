"""Where a replica can be reached without Ray."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Door:
    """Where one replica listens for calls that come on a lane: at a UNIX socket for who is on its node, at a TCP port
    for others; either may be missing. Who knocks shows the secret.

    `app` is the application that the replica belongs to, `replica` a name that no other one ever has.
    """

    app: str
    replica: str
    node: str
    path: str | None
    host: str | None
    port: int
    secret: bytes = field(repr=False)
