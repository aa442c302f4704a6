"""What a command tells of a gateway that did not start."""

from __future__ import annotations

import pytest
from ray.serve.schema import (
    ApplicationStatus,
    ApplicationStatusOverview,
    DeploymentStatus,
    DeploymentStatusOverview,
    DeploymentStatusTrigger,
)

from serving_app.cli.deployment import last_raised, why_failed

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


def test_a_gateway_that_fails_is_told_from_one_that_is_lost() -> None:
    """A gateway that Serve calls unhealthy has failed if it raised something, and else is on its way back."""

    def app(status: ApplicationStatus, message: str) -> ApplicationStatusOverview:
        trigger = DeploymentStatusTrigger.HEALTH_CHECK_FAILED
        gateway = DeploymentStatusOverview(DeploymentStatus.UNHEALTHY, trigger, {}, message)
        return ApplicationStatusOverview(status, "", 0.0, {"Gateway": gateway})

    raised = STACK.format("serving_app.serve.neighbours.PortTaken: gRPC port h:1 is in use")
    lost = "A replica's health check failed. This deployment will be UNHEALTHY until the replica recovers."
    assert why_failed(app(ApplicationStatus.UNHEALTHY, raised)) == "gRPC port h:1 is in use"
    assert why_failed(app(ApplicationStatus.DEPLOY_FAILED, raised)) == "gRPC port h:1 is in use"
    assert why_failed(app(ApplicationStatus.UNHEALTHY, lost)) == ""
    assert why_failed(app(ApplicationStatus.DEPLOYING, raised)) == ""
    assert why_failed(None) == ""
