"""One path for the UNIX sockets of all gateways of a node.

Two sockets cannot have one path, and gRPC, which makes and removes them, would remove a path that is another gateway's
by now. So each gateway has a path of its own beside the common one, and the common one is a second name (a hard link)
of one of them, which is moved in one step:

    /run/serving.sock            the one that clients know: the same socket as ...
    /run/serving.sock.5b1f0c     ... this gateway's
    /run/serving.sock.9ea2d4     another gateway's, ready to step in

Whoever comes takes the common name over, and whoever goes gives it to another, so that it always leads to somebody. Of
two who take it at once the later one has it, which is as good. A gateway that was killed cannot give; the others look
every second whether somebody answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import glob
import logging
import os
import secrets
import socket
import stat
from collections.abc import Mapping

from serving_app.core.errors import FailedPrecondition
from serving_app.serve.neighbours import PortTaken, ask_teller, describe

logger = logging.getLogger("ray.serve")

LOOK_S = 1.0
"""How often a gateway looks whether the common path leads to somebody."""


def socket_place(path: str) -> str:
    """What a path for gRPC is called between gateways."""
    return f"unix:{path}"


def check_socket(path: str, identity: Mapping[str, str]) -> None:
    """Raise FailedPrecondition unless a socket can be at the path: nobody is there, or a gateway of the same app is.

    What gateways that were killed have left behind is removed.
    """
    folder = os.path.dirname(path)
    if not os.path.isdir(folder) or not os.access(folder, os.W_OK | os.X_OK):
        raise FailedPrecondition(
            f"gateway.grpc_socket_path {path}: this user can make no file in {folder} on this node; make the "
            "directory, or set another path"
        )
    if os.path.lexists(path) and not _is_socket(path):
        raise FailedPrecondition(
            f"gateway.grpc_socket_path {path} is no socket but another kind of file; move it, or set another path"
        )
    if answers(path) and (neighbour := ask_teller(socket_place(path))) != identity:
        raise PortTaken(f"the UNIX socket {path} is in use by {describe(neighbour)}; stop it, or set another path")
    for sibling in _siblings(path):
        if not answers(sibling):
            _remove(sibling)


class SharedPath:
    """The common path, as one gateway sees it."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.own = f"{path}.{secrets.token_hex(3)}"
        """Where this gateway's own socket is to be."""
        self._watch: asyncio.Task[None] | None = None

    def take(self) -> None:
        """Let the common path lead here, and see to it that it goes on leading somewhere; the own socket listens."""
        self._point_to(self.own)
        self._watch = asyncio.get_running_loop().create_task(self._step_in())

    async def leave(self) -> None:
        """Let the common path lead to another gateway if it leads here, or nowhere if there is no other."""
        if self._watch is not None:
            self._watch.cancel()
        await asyncio.to_thread(self._give)

    def _give(self) -> None:
        leads_here = _same_file(self.path, self.own)
        _remove(self.own)
        if leads_here:
            heir = next((each for each in _siblings(self.path) if answers(each)), None)
            self._point_to(heir) if heir else _remove(self.path)

    async def _step_in(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                await asyncio.to_thread(self._look)
            except OSError as error:
                logger.warning("the UNIX socket %s answers nobody, and cannot be taken over: %s", self.path, error)

    def _look(self) -> None:
        if not _same_file(self.path, self.own) and not answers(self.path):
            self._point_to(self.own)

    def _point_to(self, target: str) -> None:
        step = f"{self.own}~"
        _remove(step)
        try:
            os.link(target, step)
            os.replace(step, self.path)
        except FileNotFoundError:
            return  # the directory, or the other gateway, has just gone; who remains looks again


def answers(path: str) -> bool:
    """Whether a socket is there and somebody listens at it."""
    try:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(1.0)
            probe.connect(path)
    except TimeoutError:
        return True  # so many wait there that there is no room for another
    except OSError:
        return False
    return True


def _siblings(path: str) -> list[str]:
    found = glob.glob(f"{glob.escape(path)}.{'[0-9a-f]' * 6}")
    return sorted(each for each in found if _is_socket(each))


def _is_socket(path: str) -> bool:
    try:
        return stat.S_ISSOCK(os.stat(path).st_mode)
    except OSError:
        return False


def _same_file(one: str, other: str) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False


def _remove(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
