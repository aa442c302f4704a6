"""A way to an object store that counts what passes, and on which things go wrong when a test says so."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

_OF_ONE_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length"}


class Proxy:
    """Passes requests on to an endpoint, one by one. `read` has the bytes of answers, by the last part of the path."""

    def __init__(self, endpoint: str) -> None:
        self.target = urlsplit(endpoint).netloc
        self.read: dict[str, int] = {}
        self.before: Callable[[str], None] = lambda name: None
        """Called before a request is passed on; what it raises breaks the connection."""
        self.before_bytes: Callable[[str, int], None] = lambda name, start: None
        """Called likewise, with where the bytes begin that are asked for."""
        self.instead: Callable[[str], tuple[int, bytes] | None] = lambda path: None
        """The status and body of an answer to a path with its query that is not to be passed on; None passes it on."""
        self.cut: Callable[[str, bytes], bytes] = lambda name, body: body
        """What is sent of the body of an answer whose headers promise all of it."""
        self.lock = threading.Lock()
        self.url = ""

    def count(self, name: str, size: int) -> None:
        with self.lock:
            self.read[name] = self.read.get(name, 0) + size


@contextmanager
def proxy_to(endpoint: str) -> Iterator[Proxy]:
    """A proxy that runs."""
    proxy = Proxy(endpoint)

    class Handler(BaseHTTPRequestHandler):
        def pass_on(self) -> None:
            name = unquote(urlsplit(self.path).path).rsplit("/", 1)[-1]
            self.close_connection = True
            try:
                proxy.before(name)
                proxy.before_bytes(name, int(re.sub(r"\D*(\d*).*", r"\1", self.headers.get("Range", "")) or 0))
            except ConnectionError:
                return
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if (answered := proxy.instead(self.path)) is not None:
                self.answer(*answered)
                return
            onward = HTTPConnection(proxy.target)
            onward.request(self.command, self.path, body, dict(self.headers))
            answer = onward.getresponse()
            content = answer.read()
            onward.close()
            sent = proxy.cut(name, content)
            if self.command == "GET":
                proxy.count(name, len(sent))
            self.send_response(answer.status)
            for key, value in answer.getheaders():
                if key.lower() not in _OF_ONE_HOP:
                    self.send_header(key, value)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(sent)

        def answer(self, status: int, content: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json" if content.startswith(b"{") else "application/xml")
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Connection", "close")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        do_GET = do_HEAD = do_PUT = do_POST = pass_on

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128  # of the default of 5 the rest is turned away, and asks again after its timeout

        def handle_error(self, *_: object) -> None:
            """A client that was killed leaves a broken pipe, which is what the test is about."""

    server = Server(("127.0.0.1", 0), Handler)
    proxy.url = "http://{}:{}".format(*server.server_address)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
