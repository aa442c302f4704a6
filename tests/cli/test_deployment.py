"""What a command tells of a gateway that did not start."""

from __future__ import annotations

import pytest

from serving_app.cli.deployment import last_raised

STACK = """The deployment failed to start 3 times in a row. Error:
ray::ServeReplica:default:gateway.initialize_and_get_metadata() (pid=7)
  File "/app/serving_app/serve/gateway.py", line 58, in __init__
    self._keys = await asyncio.to_thread(read_keys, applied.config)
{}
"""


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        ("serving_app.serve.neighbours.PortTaken: gRPC port h:1 is in use", "gRPC port h:1 is in use"),
        ("serving_app.core.errors.FailedPrecondition: gateway.ssl_config_file: no", "gateway.ssl_config_file: no"),
        ("OSError: [Errno 98] in use", "[Errno 98] in use"),
        ("KeyError: 'x'", "'x'"),
    ],
)
def test_the_last_words_are_told_without_the_stack(raised: str, said: str) -> None:
    """Of the stacks that Serve collects a user sees what the last exception said, whosever it is."""
    assert last_raised([STACK.format("ValueError: an older one"), STACK.format(raised)]) == said
    assert last_raised([]) == ""
