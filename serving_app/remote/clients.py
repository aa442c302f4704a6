"""What all clients have: terms of calls, and who runs their plans."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import NoReturn, Self, TypeVar

from serving_app.core.servable import spec_of
from serving_app.remote.calls import Dialect
from serving_app.remote.catalog import Catalog
from serving_app.remote.models import AsyncModel, Model
from serving_app.remote.plans import Exchange, Plan, Terms, terms
from serving_app.remote.retries import Retries
from serving_app.remote.running import run, run_async

T = TypeVar("T")


class _Client:
    """A server, and how to ask it."""

    def __init__(self, server: str, dialect: Dialect, retries: Retries, typed: bool) -> None:
        self.dialect = dialect
        self.catalog = Catalog() if typed else None
        self._server = server
        self._retries = retries

    def terms(self, timeout: float | None) -> Terms:
        """The terms of a call that begins now."""
        return terms(self._server, timeout, self._retries)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._server!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"{self!r} has connections, which cannot be pickled; make a client in each process")


class BlockingClient(_Client):
    """A client for threads, of which many may use it. Closed by `close`, or at the end of a `with` block."""

    def __init__(
        self,
        server: str,
        dialect: Dialect,
        retries: Retries,
        typed: bool,
        exchange: Callable[[Exchange], bytes],
        close: Callable[[], None],
    ) -> None:
        super().__init__(server, dialect, retries, typed)
        self._exchange = exchange
        self._close = close

    def model(self, name: str, *, version: int | None = None, label: str | None = None) -> Model:
        """A model by name: its latest version, or one by number or by label. Nothing is asked before the first call."""
        return Model(self, spec_of(name, version, label))

    def close(self) -> None:
        """Close the connections. Calls that are made later fail."""
        self._close()

    def run(self, plan: Plan[T]) -> T:
        """The result of a plan."""
        return run(plan, self._exchange)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, stack: TracebackType | None
    ) -> None:
        self.close()


class AsyncClient(_Client):
    """A client for the coroutines of one event loop. Closed by `close`, or at the end of an `async with` block."""

    def __init__(
        self,
        server: str,
        dialect: Dialect,
        retries: Retries,
        typed: bool,
        exchange: Callable[[Exchange], Awaitable[bytes]],
        close: Callable[[], Awaitable[None]],
    ) -> None:
        super().__init__(server, dialect, retries, typed)
        self._exchange = exchange
        self._close = close

    def model(self, name: str, *, version: int | None = None, label: str | None = None) -> AsyncModel:
        """A model by name: its latest version, or one by number or by label. Nothing is asked before the first call."""
        return AsyncModel(self, spec_of(name, version, label))

    async def close(self) -> None:
        """Close the connections. Calls that are made later fail."""
        await self._close()

    async def run(self, plan: Plan[T]) -> T:
        """The result of a plan."""
        return await run_async(plan, self._exchange)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, stack: TracebackType | None
    ) -> None:
        await self.close()
