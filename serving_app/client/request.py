"""A request of a Python caller, and what it means by the routes of some moment: which version, and who gets a copy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from serving_app.core.routing import Candidate, Route, RouteTable, find_candidate, resolve
from serving_app.core.servable import ModelSpec
from serving_app.core.signatures import Signature
from serving_app.core.traffic import Attributes
from serving_app.protocol.calls import Call

MakeCall = Callable[[Mapping[str, Signature]], Call]
"""Makes a call for a version that has these signatures. Raises what is wrong with the request."""


class Request(NamedTuple):
    """What somebody wants to have answered; by `table` it is this call of this version.

    Where requests are shared by chance, that is drawn once for each table: who asks in one way, is sent away, and asks
    in another must not draw again, or versions that send more away would get fewer.
    """

    spec: ModelSpec
    attributes: Attributes
    make: MakeCall
    table: RouteTable | None
    """None where it is to be drawn again in any case."""
    route: Route
    candidate: Candidate | None
    """Who gets a copy."""
    call: Call

    def by(self, table: RouteTable) -> Request:
        """The same by the routes of another moment; the call is made anew if another version is asked in another way.
        """
        if table is self.table:
            return self
        route = resolve(self.spec, table, self.attributes)
        candidate = find_candidate(self.spec, table, route)
        call = self.call
        if route.signatures is not self.route.signatures and route.signatures != self.route.signatures:
            call = self.make(route.signatures)._replace(timeout=call.timeout)
        return self._replace(table=table, route=route, candidate=candidate, call=call)

    def refused(self) -> Request:
        """The same, to be drawn again: another version may be there."""
        return self._replace(table=None)

    def later(self, seconds: float) -> Request:
        """The same after so much of its time."""
        timeout = self.call.timeout
        return self if timeout is None else self._replace(call=self.call._replace(timeout=timeout - seconds))
