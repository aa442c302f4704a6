"""Bringing the files of a version to where it is served from, so that no server ever takes a part of it for the whole.

On a disk they are written to a directory that is no version, and forced onto the disk; then it gets its name, all at
once. Object stores cannot rename a directory. There the files are written in place, and last the one without which a
version counts as unfinished (serving_app.store.completeness): everything else first, several at a time; when the store
says that all of it is there, in its right size, the model's own file; after that the marker, if the model has one.

Whatever ends an upload before its end, what is there then is no version.
"""

from __future__ import annotations

import errno
import hashlib
import os
import random
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from fsspec.callbacks import Callback

from serving_app.core.errors import DataLoss, FailedPrecondition, ServingError
from serving_app.publishing.claims import SHELF
from serving_app.publishing.place import Place
from serving_app.store.download import LASTING, PAUSES_S, Progress, throttled
from serving_app.store.remote import RemoteFile, look_into

Content = Path | bytes
"""What a file holds: that of a file of this machine, or these bytes."""

THREADS = 16
"""Small files on the way at a time: their time is all in the way to the store and back."""

LARGE_BYTES = 32 * 2**20
"""Files from this size on go one by one: drivers send several parts of one at a time, which they keep in memory."""

_LAST = ("model.tflite", "saved_model.pbtxt", "saved_model.pb")
"""What makes a directory a version, in the order of its writing; what comes last decides."""


def upload(
    place: Place, number: int, files: Mapping[str, Content], progress: Progress, done_marker: str | None = None
) -> None:
    """Write a version. When it returns, all of it is there; when it raises, nothing, as far as that can be had.

    `progress` is called from several threads, one at a time. Raises one of the errors that
    serving_app.store.filesystem lists, and DataLoss if the store has something else than what it was given.
    """
    if done_marker is not None:
        files = {**files, done_marker: files.get(done_marker, b"")}
    counter = _Counter(sum(map(size_of, files.values())), throttled(progress))
    write = _write_on_disk if place.is_local else _write_in_order
    write(place, number, files, counter, done_marker)


def size_of(content: Content) -> int:
    """The bytes of a file."""
    return len(content) if isinstance(content, bytes) else content.stat().st_size


class _Counter:
    """How much of the whole is written. Any thread may tell."""

    def __init__(self, total: int, report: Progress) -> None:
        self._total = total
        self._report = report
        self._written: dict[str, int] = {}
        self._lock = threading.Lock()
        report(0, total)

    def tell(self, name: str, written: int) -> None:
        """So many bytes of a file are written; less than before, if it is written once more."""
        with self._lock:
            self._written[name] = written
            self._report(sum(self._written.values()), self._total)


# --- a disk ----------------------------------------------------------------------------------------------------------


def _write_on_disk(
    place: Place, number: int, files: Mapping[str, Content], counter: _Counter, _done_marker: str | None
) -> None:
    staged = f"{SHELF}/{number}.files"
    try:
        with place.writing(str(number)):
            for name, content in files.items():
                place.make_parent(f"{staged}/{name}")
                _write_file(Path(place.key(f"{staged}/{name}")), content)
                counter.tell(name, size_of(content))
            for directory, _, _ in os.walk(place.key(staged)):
                _force_names(directory)
            _rename(place, staged, number)
    except BaseException as error:
        _clear(place, [staged], error)
        raise


def _rename(place: Place, staged: str, number: int) -> None:
    """Give the version its name. The system puts a directory in the place of an empty one, and of nothing else."""
    try:
        os.rename(place.key(staged), place.key(str(number)))
    except OSError as error:
        if error.errno in {errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR}:
            raise FailedPrecondition(
                f"{place.path(str(number))} has appeared meanwhile, from somebody who claims no numbers; publish again"
            ) from error
        raise
    _force_names(place.key(""))


def _write_file(path: Path, content: Content) -> None:
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        shutil.copyfile(content, path)
    _force(path)


def _force_names(directory: str) -> None:
    """Have the names in a directory survive a power failure, where the file system can be asked for that."""
    try:
        _force(directory)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.ENOTSUP}:  # as some network file systems say of directories
            raise


def _force(path: str | Path) -> None:
    """Have what was written survive a power failure: a file's content, or what a directory holds."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# --- a store ---------------------------------------------------------------------------------------------------------


def _write_in_order(
    place: Place, number: int, files: Mapping[str, Content], counter: _Counter, done_marker: str | None
) -> None:
    in_order = stages(files, done_marker)
    try:
        for names in in_order:
            _write_all(place, number, {name: files[name] for name in names}, counter)
            _verify(place, number, {name: files[name] for name in names})
    except BaseException as error:
        written = [f"{number}/{name}" for names in in_order for name in names]
        _clear(place, [str(number), *written] if place.has_directories else written, error)
        raise


def stages(names: Iterable[str], done_marker: str | None = None) -> list[list[str]]:
    """The files in the order of their writing: those of one stage at a time, in any order."""
    last = [name for name in (*_LAST, done_marker) if name is not None and name in names]
    first = [name for name in names if name not in last]
    return [*([first] if first else []), *([name] for name in last)]


def _write_all(place: Place, number: int, files: Mapping[str, Content], counter: _Counter) -> None:
    large = [name for name, content in files.items() if size_of(content) >= LARGE_BYTES]
    small = [name for name in files if name not in large]
    # A driver that is not made for many calls at once may talk through a single connection.
    threads = THREADS if place.filesystem.async_impl else 1
    stop = threading.Event()

    def write(name: str) -> None:
        _patiently(lambda: _put(place, number, name, files[name], counter), stop)

    for names, at_once in ((large, 1), (small, threads)):
        with _several(at_once, stop) as pool:
            for written in [pool.submit(write, name) for name in names]:
                written.result()


@contextmanager
def _several(threads: int, stop: threading.Event) -> Iterator[ThreadPoolExecutor]:
    """Threads that begin nothing more once something went wrong."""
    pool = ThreadPoolExecutor(threads, thread_name_prefix="upload")
    try:
        yield pool
    except BaseException:
        stop.set()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _patiently(work: Callable[[], None], stop: threading.Event) -> None:
    """Do it, at the second or a later try if need be."""
    for pause in PAUSES_S:
        try:
            return work()
        except ServingError as error:
            if error.code in LASTING or stop.wait(pause * random.uniform(0.5, 1.5)):
                raise
    return work()


def _put(place: Place, number: int, name: str, content: Content, counter: _Counter) -> None:
    target = f"{number}/{name}"
    with place.writing(target):
        if isinstance(content, bytes):
            place.write(target, content)
        else:
            place.make_parent(target)
            told = Callback(hooks={"written": lambda _size, value, **_: counter.tell(name, value)})
            place.filesystem.put_file(str(content), place.key(target), callback=told)
    counter.tell(name, size_of(content))


def _verify(place: Place, number: int, files: Mapping[str, Content]) -> None:
    """Raise DataLoss unless the store has these files as they are here."""
    found = {file.name: file for file in look_into(place.path(str(number)), place.options).files}
    for name, content in files.items():
        there = found.get(name)
        if there is None or there.size != size_of(content) or not _is_intact(there, content):
            what = "is not there" if there is None else f"has {there.size} bytes of {size_of(content)}, or others"
            raise DataLoss(f"{place.path(f'{number}/{name}')} {what} after its upload; publish again")


def _is_intact(there: RemoteFile, content: Content) -> bool:
    if there.md5 is None:
        return True
    if isinstance(content, bytes):
        return hashlib.md5(content, usedforsecurity=False).digest() == there.md5
    with content.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).digest() == there.md5


def _clear(place: Place, names: Sequence[str], error: BaseException) -> None:
    """Remove what was written of a version; what stays is told with the error, and is no version either."""
    for name in reversed(names):  # what makes it a version first
        try:
            place.remove(name)
        except ServingError as left:
            error.add_note(f"{place.path(name)} could not be removed: {left}")
            return
