"""The Source of one model: which finished versions it has, and which are still being written.

A version must not be loaded while somebody uploads it, and no store says when an upload is over. So it counts as
finished when

* the file that is configured as its marker is there; then nothing else is asked. Otherwise, when
* the files are there that its platform needs (serving_app.store.completeness), and
* nothing has changed for long enough: two looks that are the settle time apart saw the same names, sizes, times and
  tags; or the version was there at our first look, and the store says that its newest file is older than a minute (or
  the settle time, if that is longer).

The latter lets versions that were there before us be served at once. It compares the store's clock with ours, which
need not agree to the second: hence a whole minute, where two looks by one clock need no such room. What came or
changed before our eyes is not believed to be old: S3 dates a large object at the beginning of its upload.

A version that lacks files which never come is handed on after a while: its load then fails with TensorFlow's own
error, which helps its owner more than silence. The while is long, because an object store shows nothing of a file, nor
that it is on its way, until all of it is there; what is missing is told meanwhile. One that the configured marker is
missing of is never handed on.

Only versions that the policy would pick, or that are named besides, are looked into; while one of them is unfinished,
the policy picks among the others. So `latest` falls back to the version before, and does not notice that there is more
to come.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any

from serving_app.core.errors import FailedPrecondition, NotFound, PermissionDenied
from serving_app.core.policies import Latest, Specific, VersionPolicy, aspired_versions
from serving_app.store.completeness import BROKEN, find_lack
from serving_app.store.files import StoredFile, list_files, read_file
from serving_app.store.listing import list_versions

GIVE_UP_S = 900.0
"""How long a version that lacks files must rest until it is handed on as it is, if nobody says otherwise: longer than a
shard of ten gigabytes takes at 100 Mbit/s."""

BROKEN_S = 30.0
"""The same, at most, of one whose files are there and one of them is broken: what replaces that is not on its way
unseen for long, as what is missing may be."""

TRUSTED_AGE_S = 60.0
"""How old the newest file of a version must be, by the store's clock, for a first look to be enough."""

_REFRESH_MIN_S, _REFRESH_MAX_S = 10.0, 60.0
"""How often the sizes of a finished version are read again: a tenth of the time since they changed, within this."""

_READABLE_GRAPH_BYTES = 64 * 2**20
"""The largest saved_model.pb that is read to see whether its variables are missing."""


@dataclass(frozen=True, slots=True)
class Poll:
    """What one poll found. Two equal polls mean that there is no news."""

    versions: Mapping[int, str]
    """The path of each finished version: those that the policy picks, and others once found finished."""
    waiting: Mapping[int, str] = field(default_factory=dict)
    """Why each version that the policy would pick is not finished."""
    sizes: Mapping[int, int] = field(default_factory=dict)
    """The bytes of each finished version that was looked into. They change when its files do."""
    warnings: tuple[str, ...] = ()
    """What the model's owner should know."""
    found: frozenset[int] = frozenset()
    """Every version that lies there, whatever the policy and whether or not it is finished."""
    again_in: float | None = field(default=None, compare=False)
    """Seconds until a version will be finished if nothing changes any more; None if none waits only for that."""


@dataclass(slots=True)
class _Version:
    """What is known of a version that was looked into."""

    path: str
    files: Mapping[str, StoredFile] | None = None
    """As of the last look; None for a version that is known to be finished without one."""
    same_since: float = 0.0
    """When the first look that saw exactly these files was over."""
    looked_at: float = 0.0
    """When the last look was over."""
    finished: bool = False
    lack: str | None = None
    """What it lacks; a version that was handed on all the same may still lack it."""
    graph: tuple[StoredFile, bytes] | None = None
    """The content of saved_model.pb, with what the store said of it when it was read."""

    @property
    def is_resting(self) -> bool:
        """Whether nothing but time has to pass."""
        return not self.finished and self.lack is None


class ModelSource:
    """Looks for the versions of one model. `poll` blocks; one call at a time, from any thread."""

    def __init__(
        self,
        name: str,
        base_path: str,
        version_policy: VersionPolicy | None = None,
        *,
        named: AbstractSet[int] = frozenset(),
        platform: str = "tensorflow",
        prefer_tflite: bool = False,
        options: Mapping[str, Any] | None = None,
        settle_s: float = 1.0,
        give_up_s: float | None = GIVE_UP_S,
        done_marker: str | None = None,
        finished: Mapping[int, str] | None = None,
        clock: Callable[[], float] = time.monotonic,
        calendar: Callable[[], float] = time.time,
    ) -> None:
        """`named` are versions to be served besides the policy's. `finished` has versions, with their paths, that were
        found finished before. Without `give_up_s` a version that lacks files is never handed on. `clock` measures the
        time between looks, `calendar` is held against the times that stores tell."""
        self._name = name
        self._base_path = base_path
        self._policy = version_policy or Latest()
        self._named = named
        self._platform = platform
        self._prefer_tflite = prefer_tflite
        self._options = options or {}
        self._settle_s = settle_s
        self._give_up_s = give_up_s
        self._done_marker = done_marker
        self._clock = clock
        self._calendar = calendar
        self._known = {number: _Version(path, finished=True) for number, path in (finished or {}).items()}
        # The paths of versions that were there at the first look, without those that have changed since.
        self._untouched: set[str] | None = None

    def _pick(self, found: AbstractSet[int]) -> frozenset[int]:
        return aspired_versions(self._policy, found, self._named)

    def poll(self) -> Poll:
        """The state of the store now. Raises one of the errors that serving_app.store.filesystem lists."""
        listing = list_versions(self._base_path, self._options, servable=self._name)
        found = dict(listing.versions)
        here = set(found.values())
        self._untouched = here if self._untouched is None else self._untouched & here
        self._known = {number: known for number, known in self._known.items() if found.get(number) == known.path}
        waiting: dict[int, str] = {}
        looked: set[int] = set()
        while picks := self._pick(found.keys() - waiting.keys()) - looked:
            # The newest first: should the store fail now, what was learned about it is not lost.
            for number in sorted(picks, reverse=True):
                looked.add(number)
                known = self._known.setdefault(number, _Version(found[number]))
                try:
                    self._look(known)
                except NotFound:
                    del found[number], self._known[number]  # It went since it was listed.
                    continue
                except (PermissionDenied, FailedPrecondition) as error:
                    known.lack = known.lack if known.finished else error.message
                if not known.finished:
                    waiting[number] = known.lack or f"its files have to rest for {self._settle_s:g} s"
        finished = {number: known for number, known in sorted(self._known.items()) if known.finished}
        return Poll(
            versions={number: known.path for number, known in finished.items()},
            waiting=dict(sorted(waiting.items())),
            sizes={number: _add_sizes(known.files) for number, known in finished.items() if known.files is not None},
            warnings=(*listing.warnings, *self._warn_of_missing(found), *self._warn_of_lacks(finished)),
            found=frozenset(found),
            again_in=self._find_next(waiting),
        )

    def _look(self, version: _Version) -> None:
        """Look into a version unless that is needless, and decide whether it is finished."""
        began = self._clock()
        if version.finished:
            self._refresh(version, began)
            return
        self._read(version)
        version.lack = self._find_lack(version)
        version.finished = self._is_finished(version, began)
        if version.finished:
            version.graph = None

    def _read(self, version: _Version) -> None:
        files = list_files(version.path, self._options)
        version.looked_at = self._clock()
        if files != version.files:
            if version.files is not None and self._untouched is not None:
                self._untouched.discard(version.path)
            version.files = files
            # The end of this look, to be held against the beginning of later ones: a look may take long.
            version.same_since = version.looked_at

    def _refresh(self, version: _Version, now: float) -> None:
        """See now and then whether a version that is finished was uploaded anew.

        It stays finished whatever is seen, because it may be serving; who failed to load it learns from its size.
        """
        rested = now - version.same_since
        gap = min(max(_REFRESH_MIN_S, rested / 10), _REFRESH_MAX_S)
        if version.files is None or abs(now - version.looked_at) >= gap:
            before = version.files
            self._read(version)
            if version.lack is not None and version.files != before:
                version.lack = self._find_lack(version)  # whoever was told of it should hear when it is there
                version.graph = None

    def _find_lack(self, version: _Version) -> str | None:
        files = version.files or {}
        if self._done_marker is not None:
            return None if self._done_marker in files else f"there is no file {self._done_marker} yet"
        return find_lack(
            self._platform, files, lambda: self._read_graph(version), prefer_tflite=self._prefer_tflite
        )

    def _is_finished(self, version: _Version, began: float) -> bool:
        if self._done_marker is not None:
            return version.lack is None
        if version.lack is None and self._settle_s == 0:
            return True
        patience = self._find_patience(version)
        return self._find_age(version) >= max(TRUSTED_AGE_S, patience) or began - version.same_since >= patience

    def _find_patience(self, version: _Version) -> float:
        """How long a version like this must rest."""
        if version.lack is None:
            return self._settle_s
        give_up_s = math.inf if self._give_up_s is None else self._give_up_s
        return max(self._settle_s, min(give_up_s, BROKEN_S) if version.lack in BROKEN else give_up_s)

    def _find_age(self, version: _Version) -> float:
        """Seconds since the newest file got its content; 0 if the store does not tell, or we know better."""
        if self._untouched is None or version.path not in self._untouched:
            return 0.0
        times = [file.changed_at for file in (version.files or {}).values()]
        known = [time for time in times if time is not None]
        return self._calendar() - max(known) if known and len(known) == len(times) else 0.0

    def _read_graph(self, version: _Version) -> bytes | None:
        """The content of saved_model.pb; None if it is too large to be worth it."""
        file = (version.files or {})["saved_model.pb"]
        if file.size > _READABLE_GRAPH_BYTES:
            return None
        if version.graph is None or version.graph[0] != file:
            version.graph = file, read_file(f"{version.path}/saved_model.pb", self._options)
        return version.graph[1]

    def _find_next(self, waiting: Iterable[int]) -> float | None:
        """How long until the first version will have rested that waits for nothing else."""
        resting = [known for number in waiting if (known := self._known[number]).is_resting]
        if not resting:
            return None
        rests_at = min(known.same_since for known in resting) + self._settle_s
        return max(0.0, rests_at - self._clock())

    def _warn_of_missing(self, found: Mapping[int, str]) -> list[str]:
        if not isinstance(self._policy, Specific):
            return []
        # TensorFlow Serving's text (file_system_storage_path_source.cc).
        return [
            f"Version {number} of servable {self._name}, which was requested to be served as a 'specific' version in "
            "the servable's version policy, was not found in the file system"
            for number in sorted(set(self._policy.versions) - found.keys())
        ]

    def _warn_of_lacks(self, finished: Mapping[int, _Version]) -> list[str]:
        return [
            f"version {number} does not change any more and is taken as it is, but {known.lack}"
            for number, known in finished.items()
            if known.lack
        ]


def _add_sizes(files: Mapping[str, StoredFile]) -> int:
    return sum(file.size for file in files.values())
