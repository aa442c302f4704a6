"""The truth about the soak's models: what was put into the store, what a label was set to, when failing is no fault.

Every fact stands here before it can show: a version before it is uploaded, a label before it is set. Any thread may
ask.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

MOVES_REACH_ALL_S = 40.0
"""How long after a label was moved a request may still be answered by the version it named before: its reader may be
waiting for a controller that has just been killed. As a rule it is milliseconds."""


@dataclass
class Version:
    """A version as it was put into the store. It counts from when it is whole; removed ones stay known."""

    number: int
    is_good: bool
    is_whole: bool = False
    is_removed: bool = False
    longest_pause_s: float = 0.0  # in which nothing of it was written


@dataclass
class Outage:
    """A time in which requests to a model may fail, because of something that was done to it on purpose."""

    reason: str
    since: float = field(default_factory=time.monotonic)
    until: float | None = None

    def overlaps(self, begun: float, ended: float) -> bool:
        """Whether a request of this time may have met it."""
        return self.since <= ended and (self.until is None or begun <= self.until)


@dataclass
class LabelSetting:
    """What a label was set to, from the order until no reader can have missed that it was set to something else."""

    version: int
    since: float
    until: float | None = None


class Model:
    """One model: its versions, its label if it has one, its outages."""

    def __init__(self, name: str, *, replicas: int = 1, is_labelled: bool = False) -> None:
        self.name = name
        self.replicas = replicas
        self.is_labelled = is_labelled
        self.versions: dict[int, Version] = {}
        self._settings: list[LabelSetting] = []
        self._outages: list[Outage] = []
        self._lock = threading.Lock()

    @property
    def directory(self) -> str:
        """Where its versions lie in the store."""
        return f"/{self.name}"

    def add(self, is_good: bool) -> Version:
        """The next version; it is about to be uploaded."""
        with self._lock:
            version = Version(max(self.versions, default=0) + 1, is_good)
            self.versions[version.number] = version
            return version

    def present(self) -> list[Version]:
        """The whole versions in the store that are good, oldest first."""
        with self._lock:
            found = [each for each in self.versions.values() if each.is_good and each.is_whole and not each.is_removed]
        return sorted(found, key=lambda each: each.number)

    # Its label.

    @property
    def label(self) -> int | None:
        """What the label was set to last."""
        return self._settings[-1].version if self._settings else None

    def begin_to_set(self, version: int) -> None:
        """The label is about to be set: from now on it may answer for this version as well as for the one before."""
        with self._lock:
            self._settings.append(LabelSetting(version, time.monotonic()))

    def end_setting(self, was_set: bool) -> None:
        """The label was set, and soon nobody follows the former setting; or it was refused, and nothing changed."""
        with self._lock:
            if not was_set:
                self._settings.pop()
            elif len(self._settings) > 1:
                self._settings[-2].until = time.monotonic() + MOVES_REACH_ALL_S

    def may_answer_for_label(self, version: int, begun: float, ended: float) -> bool:
        """Whether the label meant this version at some moment of a request."""
        with self._lock:
            return any(
                each.version == version and each.since <= ended and (each.until is None or begun <= each.until)
                for each in self._settings
            )

    # Its outages.

    def begin_outage(self, reason: str) -> Outage:
        """From now on requests may fail, until `end_outage`."""
        outage = Outage(reason)
        with self._lock:
            self._outages.append(outage)
        return outage

    def end_outage(self, outage: Outage) -> None:
        """Requests that begin from now on must be answered again."""
        outage.until = time.monotonic()

    @property
    def is_out(self) -> bool:
        """Whether it has an outage now."""
        return any(outage.until is None for outage in self._outages)

    def may_fail(self, begun: float, ended: float) -> bool:
        """Whether a request of this time met an outage."""
        with self._lock:
            return any(outage.overlaps(begun, ended) for outage in self._outages)


def make_models(count: int) -> list[Model]:
    """Of every four models one has a label and serves all its versions, one has two replicas, two are plain."""
    return [Model(f"m{index:02}", replicas=1 + (index % 4 == 2), is_labelled=index % 4 == 1) for index in range(count)]
