"""The number of the next version, given to one publisher and to no other (decision 0031).

Who publishes leaves a marker below the base path, in a directory whose name is no version, so that servers take no
notice of it:

    .publishing/7.claim         somebody writes version 7; on a disk, where the system makes a file for one alone
    .publishing/7.TOKEN.claim   the same anywhere else, with a token of the publisher's own
    .publishing/7.done          version 7 was published; no later one has been since

A claim counts when its owner has written it, has then found no other claim to the number, and has then found no such
version. In this order: who is done removes the claim after the version is there to be seen. Two who claim at once see
each other, or the later one sees the earlier; so at most one goes on. All that this asks of a store is that a listing
shows what was written before it began.

Markers of publishers that died are left behind, and block nobody: the next number is higher. They are removed a week
later by whoever publishes then.
"""

from __future__ import annotations

import getpass
import json
import logging
import os
import secrets
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from serving_app.core.errors import FailedPrecondition, ServingError
from serving_app.publishing.place import Place
from serving_app.store.listing import MAX_VERSION

logger = logging.getLogger(__name__)

SHELF = ".publishing"
"""The directory of the markers, and on a disk of versions that are not whole yet."""

_ABANDONED_S = 7 * 24 * 3600.0
"""No upload takes so long."""


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to write one version."""

    place: Place
    number: int
    marker: str

    def fulfil(self) -> None:
        """The version is there: let its number be remembered, and the markers go that nobody needs any more.

        Nothing that goes wrong here undoes the version, so it is only logged.
        """
        try:
            self.place.write(f"{SHELF}/{self.number}.done", _describe_publisher())
            markers = _markers(self.place)
            now = markers.get(f"{self.number}.done")
            for name, changed_at in markers.items():
                is_outdated = name.endswith(".done") and _number_of(name) < self.number
                if name == self.marker or is_outdated or _is_abandoned(name, changed_at, now):
                    self.place.remove(f"{SHELF}/{name}")
        except ServingError as error:
            logger.warning("version %d is published, but its marker could not be cleared away: %s", self.number, error)

    def withdraw(self) -> None:
        """Nothing of the version was left: whoever comes next may have the number."""
        self.place.remove(f"{SHELF}/{self.marker}")


def claim_number(place: Place, version: int | None = None) -> Claim:
    """The number of a new version: this one, or else one above all that exist or are claimed.

    Raises FailedPrecondition if the version that is asked for exists, or somebody else is about to write it.
    """
    if version is not None:
        return _claim_this(place, version)
    taken = {_number_of(name) for name in _markers(place)} | place.versions().keys()
    number = 1 + max(taken, default=0)
    while True:
        if number > MAX_VERSION:
            raise FailedPrecondition(f"{place.base_path} has version {MAX_VERSION}, above which there is no number")
        marker = _mark(place, number)
        rivals = sorted(_rivals(place, number))
        if marker and rivals == [marker] and number not in place.versions():
            return Claim(place, number, marker)
        # Those who met here all go on to different numbers, if they have all seen each other.
        ahead = 0
        if marker:
            ahead = rivals.index(marker) if marker in rivals else 0
            place.remove(f"{SHELF}/{marker}")
        taken = {_number_of(name) for name in _markers(place)} | place.versions().keys()
        number = 1 + max(taken | {number}) + ahead


def _claim_this(place: Place, version: int) -> Claim:
    marker = _mark(place, version)
    rivals = [name for name in _rivals(place, version) if name != marker and not name.endswith(".done")]
    try:
        if rivals:
            path = place.path(f"{SHELF}/{rivals[0]}")
            raise FailedPrecondition(
                f"version {version} is being published by {_read_publisher(place, rivals[0])}; wait for that, or "
                f"remove {path} if it has ended. Without a version the next number is taken"
            )
        if version in (versions := place.versions()):
            raise FailedPrecondition(
                f"version {version} exists at {versions[version]}; leave the version out to get the next number, or "
                "remove that one first"
            )
    except BaseException:
        if marker:
            place.remove(f"{SHELF}/{marker}")
        raise
    assert marker is not None  # whose marker it is otherwise is among the rivals
    return Claim(place, version, marker)


def _mark(place: Place, number: int) -> str | None:
    """Leave a marker; None if somebody else has one that excludes it."""
    if place.is_local:
        marker = f"{number}.claim"
        with place.writing(SHELF):
            place.make_parent(f"{SHELF}/{marker}")
        return marker if place.create(f"{SHELF}/{marker}", _describe_publisher()) else None
    marker = f"{number}.{secrets.token_hex(8)}.claim"
    place.write(f"{SHELF}/{marker}", _describe_publisher())
    return marker


def _rivals(place: Place, number: int) -> list[str]:
    """All markers of a number, one's own among them."""
    return [name for name in _markers(place) if _number_of(name) == number]


def _markers(place: Place) -> Mapping[str, float | None]:
    """What lies beside the versions, and when each was changed last, by the clock of the store."""
    found: dict[str, float | None] = {}
    for path, file in place.files(SHELF).items():
        name = path.partition("/")[0]
        if name.partition(".")[0].isdecimal():
            found[name] = max(filter(None, (found.get(name), file.changed_at)), default=None)
    return found


def _number_of(marker: str) -> int:
    return int(marker.partition(".")[0])


def _is_abandoned(marker: str, changed_at: float | None, now: float | None) -> bool:
    is_known = changed_at is not None and now is not None and not marker.endswith(".done")
    return is_known and now - changed_at > _ABANDONED_S  # type: ignore[operator]  # both are told


def publisher_name() -> str:
    """Who publishes: the user and the machine."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError, ImportError):  # a container may run as a user without a name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def _describe_publisher() -> bytes:
    since = datetime.now(UTC).isoformat(timespec="seconds")
    return json.dumps({"by": publisher_name(), "process": os.getpid(), "since": since}).encode()


def _read_publisher(place: Place, marker: str) -> str:
    try:
        told = json.loads(place.read(f"{SHELF}/{marker}"))
        return f"{told['by']} (process {told['process']}, since {told['since']})"
    except (ServingError, ValueError, KeyError, TypeError):  # it went, or is a directory, or not written yet
        return "somebody else"
