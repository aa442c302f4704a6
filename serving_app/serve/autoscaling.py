"""How many replicas a version should have: by the calls that its replicas have in hand.

Serve's own policy counts the requests between handles and replicas. Here those are hops, each with up to hundreds of
calls, so the replicas count the calls themselves (`record_autoscaling_stats`) and this policy scales by that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # replicas import this module, and need no configuration
    from serving_app.config import AutoscalingConfig

CALLS = "calls"
"""The name under which replicas report the calls that they have in hand."""

Policy = Callable[[Any], tuple[float, dict[str, Any]]]


def make_policy() -> Policy:
    """The policy, as a function that Serve's controller can run although it may not have this package."""
    name = CALLS

    def by_calls(context: Any) -> tuple[float, dict[str, Any]]:
        in_hand = sum((context.aggregated_metrics or {}).get(name, {}).values())
        # Hops that wait for a replica are not in any replica's hand yet.
        return max(in_hand, context.total_num_requests) / context.config.target_ongoing_requests, {}

    return by_calls


def serve_options(config: AutoscalingConfig) -> dict[str, Any]:
    """The `autoscaling_config` of a version's deployment; Serve applies bounds and delays to what the policy says."""
    return {
        **config.model_dump(),
        "policy": {"policy_function": make_policy()},
        "metrics_interval_s": 1.0,
        "look_back_period_s": max(2.0, config.upscale_delay_s),
    }
