"""What the controller and a gateway tell one another about colocated versions.

A gateway that comes, or finds a controller that does not know it, first tells everything that it holds. From then on it
asks again and again what it is to hold besides and what no more, and tells what became of that. Each load of a version
has a ticket, so that what is told of an earlier one is not taken for news of the present one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from serving_app.core.batching import BatchingChoice
from serving_app.core.servable import ServableId
from serving_app.core.signatures import Signature
from serving_app.core.views import Failure
from serving_app.host import Assignment


class Orders(NamedTuple):
    """What a gateway is to hold from now on besides what it was told before, by ticket, and what no more.

    With `is_all` it is to hold nothing else. `batching` is how what it was told before is to be batched from now on,
    where that has changed. The number of the orders is what it asks by the next time; one below 0
    means that it is not known here, and is to tell first what it holds.
    """

    number: int
    hold: Mapping[str, Assignment] = {}
    drop: tuple[str, ...] = ()
    is_all: bool = False
    batching: Mapping[str, BatchingChoice] = {}


UNKNOWN = Orders(-1)


class Holding(NamedTuple):
    """What became of one ticket in a gateway: held once there are signatures, failed for a reason, gone, or neither of
    these yet."""

    ticket: str
    servable: ServableId
    signatures: Mapping[str, Signature] | None = None
    failure: Failure | None = None
    is_gone: bool = False


class Admission(NamedTuple):
    """Whether a gateway may take traffic: it holds everything that others have. A reason says that it never will."""

    is_admitted: bool = False
    failure: Failure | None = None
    is_known: bool = True
