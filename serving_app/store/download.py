"""Bringing the files of a remote version onto the disk, in pieces, so that a download which was cut short goes on.

Pieces are asked for several at a time and written in their order, by one thread. So a file that is not complete is
always a beginning of the file: its length alone tells where to go on, whatever ended the process before. Until it is
complete and checked a file has a name that no file of a version has; then it gets its own.

Nothing is forced onto the disk: after a power failure a file may be shorter than it was. Whoever uses a copy compares
sizes first, and what is missing then is downloaded again.
"""

from __future__ import annotations

import errno
import hashlib
import random
import shutil
import stat
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from serving_app.core.errors import (
    Code,
    FailedPrecondition,
    InvalidArgument,
    ResourceExhausted,
    ServingError,
    Unavailable,
)
from serving_app.store.filesystem import translated_errors
from serving_app.store.remote import RemoteFile, RemoteVersion, look_again

Progress = Callable[[int, int], None]
"""Told how many bytes are there, of how many."""

PIECE_BYTES = 8 * 2**20
"""Large enough that the way to the store and back is a small part of the time, small enough to lose."""

WINDOW_BYTES = 64 * 2**20
"""Bytes that are under way or wait to be written, at most: what a download costs in memory."""

THREADS = 16
"""Pieces under way at a time: enough for small files, whose time is all in the way to the store and back."""

PAUSES_S = (0.5, 1.0, 2.0, 4.0)
"""Between two tries of a piece. Drivers try again themselves, where they see that it makes sense."""

PROGRESS_STEP_S = 0.3

LASTING = frozenset(
    {Code.NOT_FOUND, Code.PERMISSION_DENIED, Code.FAILED_PRECONDITION, Code.INVALID_ARGUMENT, Code.RESOURCE_EXHAUSTED}
)
"""Errors that another try would only repeat."""


@dataclass(frozen=True, slots=True)
class _Piece:
    """The bytes of a file from `start` up to, not including, `end`."""

    file: RemoteFile
    start: int
    end: int

    @property
    def size(self) -> int:
        return self.end - self.start


def download(version: RemoteVersion, part: Path, progress: Progress) -> None:
    """Complete the directory `part`, which may hold what an earlier download of the same version left.

    When it returns, the directory holds the files of the version, each of its right size, and nothing else. If it
    raises, what was received stays for the next try; not so if the version has changed, or if the disk is full.
    The caller sees to it that nobody else works in the directory. `progress` is called in the caller's thread.
    """
    try:
        with translated_writes(part, version):
            missing = _sort_out(version, part)
        _receive(version, missing, part, progress)
        _refuse_if_changed(version, part)
    except ServingError as error:
        # Of a file that was replaced or removed meanwhile drivers say many things, none of which is the reason.
        if error.code in {Code.NOT_FOUND, Code.INVALID_ARGUMENT}:
            _refuse_if_changed(version, part)
        if error.code == Code.RESOURCE_EXHAUSTED:
            shutil.rmtree(part, ignore_errors=True)  # the neighbours need the room
        raise


def _refuse_if_changed(version: RemoteVersion, part: Path) -> None:
    if look_again(version) != version:
        shutil.rmtree(part, ignore_errors=True)  # nobody will ask for this content again
        raise Unavailable(f"{version.path} changed while it was copied; it is copied again at the next try")


def bytes_received(version: RemoteVersion, part: Path) -> int:
    """How many bytes of a version are in `part`, whoever works there."""
    return sum(_size(part / file.name) or _size(_begun(part, file)) or 0 for file in version.files)


def is_complete(version: RemoteVersion, directory: Path) -> bool:
    """Whether every file of the version is in the directory and has its size."""
    return all(_size(directory / file.name) == file.size for file in version.files)


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        return None


def _begun(part: Path, file: RemoteFile) -> Path:
    """Where a file lies until it is complete. Its own name with something added could be too long, or taken."""
    return part / f".receiving-{hashlib.sha256(file.name.encode(errors='surrogateescape')).hexdigest()[:32]}"


def _sort_out(version: RemoteVersion, part: Path) -> list[RemoteFile]:
    """The files that are still to be received; what `part` should not hold is removed."""
    part.mkdir(parents=True, exist_ok=True)
    complete = {part / file.name: file.size for file in version.files}
    begun = {_begun(part, file): file.size for file in version.files}
    for path in list(part.rglob("*")):
        found = path.lstat()
        if stat.S_ISDIR(found.st_mode):
            continue
        is_ours = found.st_size == complete.get(path) or found.st_size <= begun.get(path, -1)
        if not (is_ours and stat.S_ISREG(found.st_mode)):
            path.unlink()
    return [file for file in version.files if not (part / file.name).exists()]


def _receive(version: RemoteVersion, files: Sequence[RemoteFile], part: Path, progress: Progress) -> None:
    done, total = bytes_received(version, part), version.size
    pieces = {file.name: _pieces(file, _size(_begun(part, file)) or 0) for file in files}
    report = throttled(progress)
    report(done, total)
    with closing(_contents(version, [piece for file in files for piece in pieces[file.name]])) as contents:
        for file in files:
            with translated_writes(part, version):
                digest = _take_up(part, file)
            for content in islice(contents, len(pieces[file.name])):
                with translated_writes(part, version):
                    _append(_begun(part, file), content)
                if digest is not None:
                    digest.update(content)
                done += len(content)
                report(done, total)
            if digest is not None and digest.digest() != file.md5:
                _begun(part, file).unlink()
                raise Unavailable(f"{version.path}/{file.name} arrived damaged; it is copied again at the next try")
            with translated_writes(part, version):
                _begun(part, file).rename(part / file.name)


def _pieces(file: RemoteFile, start: int) -> list[_Piece]:
    """What is missing of a file of which the first `start` bytes are there."""
    starts = range(start, file.size, PIECE_BYTES)
    return [_Piece(file, first, min(first + PIECE_BYTES, file.size)) for first in starts]


def _take_up(part: Path, file: RemoteFile) -> hashlib._Hash | None:
    """Make sure of the file that pieces are appended to; the MD5 of what it holds, if there is one to compare with."""
    (part / file.name).parent.mkdir(parents=True, exist_ok=True)
    with open(_begun(part, file), "a+b") as begun:
        begun.seek(0)
        if file.md5 is None:
            return None
        return hashlib.file_digest(begun, lambda: hashlib.md5(usedforsecurity=False))


def _append(path: Path, content: bytes) -> None:
    with open(path, "ab") as file:
        file.write(content)


def _contents(version: RemoteVersion, pieces: Iterable[_Piece]) -> Generator[bytes, None, None]:
    """The bytes of the pieces, in order, asked for several at a time."""
    # A driver that is not made for many calls at once may talk through a single connection.
    threads = THREADS if version.filesystem.async_impl else 1
    given_up = threading.Event()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="download")
    under_way: deque[tuple[_Piece, Future[bytes]]] = deque()
    size = 0
    try:
        for piece in pieces:
            while under_way and size + piece.size > WINDOW_BYTES:
                earlier, content = under_way.popleft()
                size -= earlier.size
                yield content.result()
            under_way.append((piece, pool.submit(_ask_patiently, version, piece, given_up)))
            size += piece.size
        while under_way:
            yield under_way.popleft()[1].result()
    finally:
        given_up.set()
        pool.shutdown(cancel_futures=True)


def _ask_patiently(version: RemoteVersion, piece: _Piece, given_up: threading.Event) -> bytes:
    """The bytes of a piece, at the second or a later try if need be."""
    for pause in PAUSES_S:
        try:
            return _ask(version, piece)
        except ServingError as error:
            if error.code in LASTING or given_up.wait(pause * random.uniform(0.5, 1.5)):
                raise
    return _ask(version, piece)


def _ask(version: RemoteVersion, piece: _Piece) -> bytes:
    path = f"{version.path}/{piece.file.name}"
    with translated_errors(path, version.filesystem):
        content = bytes(version.filesystem.cat_file(piece.file.key, start=piece.start, end=piece.end))
    if len(content) != piece.size:
        raise Unavailable(f"{path}: the store sent {len(content)} bytes where {piece.size} were asked for")
    return content


def throttled(progress: Progress) -> Progress:
    """The same, called a few times per second at most, and for the last byte."""
    told_at, told = -PROGRESS_STEP_S, -1

    def report(done: int, total: int) -> None:
        nonlocal told_at, told
        now = time.monotonic()
        if done != told and (done == total or now - told_at >= PROGRESS_STEP_S):
            told_at, told = now, done
            progress(done, total)

    return report


@contextmanager
def translated_writes(place: Path, version: RemoteVersion) -> Iterator[None]:
    """Turns the errors of the node's own disk into ours; `place` is where the version is written."""
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise ResourceExhausted(
                f"{version.path} does not fit on the node's disk: it needs {version.size} bytes below {place.parent}; "
                f"free some space or move cache_dir ({error})"
            ) from error
        if error.errno == errno.ENAMETOOLONG:
            raise InvalidArgument(
                f"{version.path} has a file with a name too long for the node's disk; rename it in the store ({error})"
            ) from error
        raise FailedPrecondition(
            f"The cache directory {place.parent} cannot be written: {error}; set another cache_dir"
        ) from error
