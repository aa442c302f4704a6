"""Gateways that are replaced under load, and ports that are taken."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cluster.asking import ask_everywhere, ask_rest, steadily
from tests.cluster.serving import Serving
from tests.cluster.waiting import wait_for
from tests.zoo import Zoo

pytestmark = pytest.mark.cluster


@pytest.mark.parametrize(("before", "after"), [(1, 1), (2, 1), (1, 2)])
def test_gateways_are_replaced(app: Serving, base: Path, zoo: Zoo, before: int, after: int) -> None:
    """A changed configuration is applied by other gateways on the same ports, without a failed request."""
    kept = {"half_plus_two": str(base)}
    app.deploy(kept, gateways=before)
    app.wait_for_version("half_plus_two", 1)
    first = app.replicas()
    with steadily(ask_everywhere(app)) as load:
        app.deploy({**kept, "added": {"base_path": zoo.base("half_plus_two")}}, gateways=after)
        app.wait_for_version("added", 2)
        wait_for("other gateways", lambda: len(app.replicas()) == after and not app.replicas().keys() & first.keys())
        wait_for("the old gateways to say good-bye", lambda: len(app.status()["gateways"]) == after)
        load.wait_for_more()
    load.assert_nothing_failed()
    assert ask_rest(app, "added")() == 2
