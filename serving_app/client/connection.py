"""Calling servables from any Ray job: by name, version or label, without a socket.

    from serving_app import connect

    model = connect().model("half_plus_two", label="stable")
    model.predict(x=[1.0, 2.0, 5.0])             # {"y": array([2.5, 3. , 4.5], dtype=float32)}
    await model.predict_async(x=[1.0, 2.0, 5.0])

A connection follows the route table as a gateway does, so new versions and moved labels need no reconnect. It works in
plain scripts, notebooks, tasks, actors and Serve deployments, and may be handed from one to the other.

The same connection asks and tells the controller, which calls never do: `connect().status()`, `model.set_label(...)`.
"""

from __future__ import annotations

import json
import os
import threading
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from serving_app.client.attributes import check_attributes
from serving_app.client.control import ConfigForm, Control, join_cluster
from serving_app.client.link import Link, forget, hold, let_go
from serving_app.client.link_loop import check_process, wait
from serving_app.client.model import Model
from serving_app.client.rollouts import Rollouts
from serving_app.core.errors import InvalidArgument, Unavailable
from serving_app.core.history import Happening
from serving_app.core.metrics import Snapshot
from serving_app.core.plan import Plan
from serving_app.core.servable import spec_of
from serving_app.core.views import AppView


def connect(app: str = "default", *, address: str | None = None) -> Connection:
    """A connection to the serving app of this name on the Ray cluster that this process belongs to.

    A process that belongs to none yet joins the one at `address`, or the one that Ray finds by itself. Raises
    Unavailable when there is no cluster, or no such serving app on it, and FailedPrecondition in a process that belongs
    to another cluster already.
    """
    connection = Connection(app, address)
    connection._linked()
    return connection


class Connection:
    """A way to one serving app. Closed by `close`, at the end of a `with` block, or when nobody has it any more.

    It may be pickled, as everything that tasks and actors take or close over: there it connects at the first use.
    """

    def __init__(self, app: str, address: str | None = None) -> None:
        self.app = app
        self._address = address
        self._control = Control(app)
        self._link: Link | None = None
        self._opening = threading.Lock()
        self._closed = False

    def __repr__(self) -> str:
        return f"Connection({self.app!r}{', closed' if self._closed else ''})"

    def __reduce__(self) -> tuple[Any, ...]:
        return Connection, (self.app, self._address)

    def model(
        self,
        name: str,
        *,
        version: int | None = None,
        label: str | None = None,
        attributes: Mapping[str, str] | None = None,
    ) -> Model:
        """A model by name: its latest version, or one by number or by label. Looked up at each call.

        Where its requests are shared among versions, the `attributes` decide as headers of HTTP requests do.
        """
        return Model(self, spec_of(name, version, label), check_attributes(attributes or {}))

    @property
    def rollouts(self) -> Rollouts:
        """The moves of requests from one version to another, step by step."""
        return Rollouts(self._asked(), wait)

    def status(self) -> AppView:
        """Everything that is served, with its states, and everything that is wrong."""
        return wait(self._asked().view())

    def config(self, form: ConfigForm = "yaml", *, secrets: bool = False) -> str:
        """The configuration in force, as a text. Credentials are written as `***` unless `secrets` are asked for."""
        return wait(self._asked().config(form, secrets=secrets))

    def apply(self, config: str | Mapping[str, Any] | os.PathLike[str], *, dry_run: bool = False) -> Plan:
        """Put a configuration in force; returns what that changed, or with `dry_run` what it would change.

        `config` is a text in either form, the path of a file with one, or the settings as a mapping. What is refused
        changes nothing.
        """
        text, source = read_config(config)
        return wait(self._asked().apply(text, source, dry_run=dry_run))

    def history(
        self, model: str | None = None, version: int | None = None, limit: int = 100
    ) -> tuple[Happening, ...]:
        """The newest things that happened, oldest first: to everything, to a model, or to one of its versions."""
        return wait(self._asked().history(model, version, limit))

    def metrics(self) -> Snapshot:
        """What was counted until now, in the whole app: by the name of a metric, and by the values of its labels.

        What this process has asked on its connections is in it; what others have, up to a second ago. Raises
        Unavailable while it is not known exactly, shortly after a restart of the controller.
        """
        asked = self._asked()
        if self._link is not None:
            wait(self._link.bring_counts())
        return wait(asked.metrics())

    def close(self) -> None:
        """Follow no more. Calls that are under way are still answered; closing again does nothing."""
        with self._opening:
            self._closed = True
            link, self._link = self._link, None
        if link is not None and self._forget.detach() is not None:
            let_go(link)

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    @property
    def _is_linked(self) -> bool:
        """Whether `_linked` need not wait."""
        return self._link is not None

    def _linked(self) -> Link:
        """The link of this process, taken at the first use."""
        check_process()
        link = self._link
        if link is None:
            return self._take_link()
        link.check_cluster()
        return link

    def _take_link(self) -> Link:
        with self._opening:
            self._join()
            if self._link is None:
                self._link = hold(self.app)
                self._forget = weakref.finalize(self, forget, self._link)
                self._forget.atexit = False
            return self._link

    def _asked(self) -> Control:
        """The controller, for a question."""
        check_process()
        self._join()
        return self._control

    def _join(self) -> None:
        if self._closed:
            raise Unavailable("this connection is closed; connect again")
        join_cluster(self._address)


def read_config(config: str | Mapping[str, Any] | os.PathLike[str]) -> tuple[str, str]:
    """A configuration as a text, and how errors should call it."""
    if isinstance(config, Mapping):
        return json.dumps(config, ensure_ascii=False, allow_nan=False), "The configuration"  # JSON is YAML, too
    if isinstance(config, str):
        if "\n" not in config and os.path.isfile(config):
            raise InvalidArgument(f"{config!r} names a file; hand over pathlib.Path({config!r}) to apply what is in it")
        return config, "The configuration"
    path = Path(config)
    try:
        return path.read_text(encoding="utf-8"), str(path)
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"The configuration file {path} cannot be read: {error}") from error
