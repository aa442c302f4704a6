"""A model store with moods: an HTTP server in this process that speaks as much of WebHDFS as fsspec asks for.

Controllers and replicas reach it as they reach any store, by URI, over a socket, so what goes wrong here goes wrong as
it does in the world: an answer that never comes, an error, a body that breaks off. Files live in memory.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from enum import Enum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

SCHEME = "webhdfs"

_PREFIX = "/webhdfs/v1"
_LONGEST_HANG_S = 120.0


class Mood(Enum):
    """What is wrong with the files of a model."""

    FAILS = "answers every question with an error"
    VANISHED = "says that there is nothing"
    HANGS = "does not answer until the mood is over"
    SLOW = "takes two seconds for every answer"
    BREAKS_OFF = "closes the connection in the middle of its answers"


class Store:
    """Files by path, and a mood for some directories below the root. Any thread may do anything."""

    def __init__(self) -> None:
        self._files: dict[str, tuple[bytes, int]] = {}
        self._directories: set[str] = set()
        self._moods: dict[str, Mood] = {}
        self._lock = threading.Lock()
        self._lifted = threading.Condition(self._lock)

    def make_directory(self, path: str) -> None:
        """A directory that is there also when it is empty."""
        with self._lock:
            self._directories.add(path)

    def write(self, path: str, content: bytes) -> None:
        """A file, or another content for it."""
        with self._lock:
            self._files[path] = content, int(time.time() * 1000)

    def remove(self, path: str) -> None:
        """Everything below a path, at once."""
        with self._lock:
            for name in [name for name in self._files if name.startswith(path + "/")]:
                del self._files[name]

    def set_mood(self, directory: str, mood: Mood | None) -> None:
        """From now on everything below a directory of the root suffers from this, or from nothing."""
        with self._lock:
            if mood is None:
                self._moods.pop(directory, None)
            else:
                self._moods[directory] = mood
            self._lifted.notify_all()

    def suffer(self, path: str) -> Mood | None:
        """The mood that a question about a path meets, when it has been slow and has hung for long enough."""
        directory = "/" + path.split("/")[1]
        with self._lock:
            mood = self._moods.get(directory)
            if mood is Mood.HANGS:
                self._lifted.wait_for(lambda: self._moods.get(directory) is not Mood.HANGS, _LONGEST_HANG_S)
                return Mood.FAILS
        if mood is Mood.SLOW:
            time.sleep(2.0)
        return mood

    def read(self, path: str) -> bytes | None:
        """A file's content, if it is one."""
        with self._lock:
            found = self._files.get(path)
            return found[0] if found else None

    def status(self, path: str) -> dict[str, Any] | None:
        """What WebHDFS calls a FileStatus: of a file, or of a directory."""
        with self._lock:
            return self._status(path)

    def children(self, path: str) -> list[dict[str, Any]] | None:
        """The same of everything in a directory; of a file, its own."""
        with self._lock:
            own = self._status(path)
            if own is None or own["type"] == "FILE":
                return own and [own]
            below = path.rstrip("/") + "/"
            names = {name[len(below) :].split("/")[0] for name in self._files if name.startswith(below)}
            return [{**(self._status(below + name) or {}), "pathSuffix": name} for name in sorted(names)]

    def _status(self, path: str) -> dict[str, Any] | None:
        found = self._files.get(path)
        if found:
            return {"pathSuffix": "", "type": "FILE", "length": len(found[0]), "modificationTime": found[1]}
        if path in self._directories or any(name.startswith(path.rstrip("/") + "/") for name in self._files):
            return {"pathSuffix": "", "type": "DIRECTORY", "length": 0, "modificationTime": 0}
        return None


@contextlib.contextmanager
def serve_store() -> Iterator[tuple[Store, int]]:
    """A store, and the port at which it answers for as long as the block runs."""
    store = Store()

    class Answers(_Answers):
        files = store

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False  # clients keep their connections
        request_queue_size = 128  # replicas that start ask all at once

    server = Server(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever, name="store", daemon=True)
    thread.start()
    try:
        yield store, server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Answers(BaseHTTPRequestHandler):
    files: Store
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        target = urlsplit(self.path)
        path = unquote(target.path.removeprefix(_PREFIX))
        query = {name: values[0] for name, values in parse_qs(target.query).items()}
        with contextlib.suppress(ConnectionError):  # nobody waits for it any more
            self._answer(path, query)

    def _answer(self, path: str, query: dict[str, str]) -> None:
        mood = self.files.suffer(path)
        if mood is Mood.FAILS:
            self._refuse(500, "StandbyException", "the store is out of order")
            return
        operation = query["op"]
        content = self.files.read(path)
        children = self.files.children(path)
        if mood is Mood.VANISHED or children is None:
            self._refuse(404, "FileNotFoundException", f"File {path} does not exist.")
        elif operation == "OPEN" and content is not None:
            start = int(query.get("offset", 0))
            self._send(200, content[start : start + int(query.get("length", len(content)))], mood)
        elif operation == "LISTSTATUS":
            self._send_json(200, {"FileStatuses": {"FileStatus": children}}, mood)
        elif operation == "GETFILESTATUS":
            self._send_json(200, {"FileStatus": self.files.status(path)}, mood)
        else:
            self._refuse(400, "UnsupportedOperationException", f"{operation} of {path}")

    def _refuse(self, status: int, exception: str, message: str) -> None:
        self._send_json(status, {"RemoteException": {"exception": exception, "message": message}})

    def _send_json(self, status: int, document: Any, mood: Mood | None = None) -> None:
        self._send(status, json.dumps(document).encode(), mood)

    def _send(self, status: int, body: bytes, mood: Mood | None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if mood is Mood.BREAKS_OFF:
            self.wfile.write(body[: len(body) // 2])
            self.close_connection = True
        else:
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """No line per request."""
