"""Recording a model while a notebook goes on, from a thread."""

from __future__ import annotations

import threading
import time

from serving_app.client.connection import Connection
from serving_app.core.errors import NotFound, ServingError
from serving_app.notebook.recording import Recording, read_look


class Recorder:
    """Looks at one model every so often, until `stop` or the end of a `with` block.

    `recording` grows meanwhile. `problem` says why the last look failed; None if it did not. A controller that starts
    again, or an app that is gone, is no reason to stop.
    """

    def __init__(self, connection: Connection, model: str, *, every_s: float = 1.0) -> None:
        if model not in connection.status().models:
            raise NotFound(f"no model {model!r} is served, so there is nothing to record")
        self.recording = Recording(model)
        self.problem: str | None = None
        self.connection = connection
        self._every_s = every_s
        self._ended = threading.Event()
        self.look()
        self._thread = threading.Thread(target=self._run, name=f"recorder of {model}", daemon=True)
        self._thread.start()

    def __repr__(self) -> str:
        return f"Recorder({self.recording!r}{', stopped' if self._ended.is_set() else ''})"

    def look(self) -> None:
        """Look now, besides. Raises nothing that the app has to say: that is the `problem` then."""
        try:
            counted, view = self.connection.metrics(), self.connection.status()
        except ServingError as error:
            self.problem = str(error)
            return
        self.problem = None
        if (model := view.models.get(self.recording.model)) is not None:
            self.recording.add(read_look(time.time(), model, counted))

    def stop(self) -> Recording:
        """Record no more, after a last look; again it does nothing."""
        if not self._ended.is_set():
            self._ended.set()
            self._thread.join()
            self.look()
        return self.recording

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.stop()

    def _run(self) -> None:
        while not self._ended.wait(self._every_s):
            self.look()
