"""The rows for servers that were started in other ways, asked of front ends in this process."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.conformance import rows
from tests.conformance.local import Local
from tests.conformance.rows import Row, Setting
from tests.conformance.server import Server
from tests.serve.fronts import LoopThread
from tests.zoo import Zoo

_GATEWAYS: dict[str, dict[str, Any]] = {
    Setting.CORS: {"rest_cors": True},
    Setting.CHECKED: {"check_method_names": True},
    Setting.CONTENT: {"tensor_content": True},
}


@pytest.fixture(scope="module")
def servers(zoo: Zoo) -> Iterator[dict[str, Server]]:
    """A server for each setting."""
    loop = LoopThread()
    local = Local(loop, zoo)
    yield {setting: local.start(**gateway) for setting, gateway in _GATEWAYS.items()}
    local.close()
    loop.stop()


@pytest.mark.parametrize("row", [row for setting in _GATEWAYS for row in rows(setting)], ids=str)
def test_a_setting_shows_as_in_tensorflow_serving(servers: dict[str, Server], row: Row) -> None:
    """With a setting on, clients see what TensorFlow Serving's clients see with its flag."""
    complaint = servers[row.setting].complaint(row, original=False)
    assert complaint is None, complaint
