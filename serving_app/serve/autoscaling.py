"""How many replicas a version should have: by the calls that its replicas have in hand.

Serve's own policy counts the requests between handles and replicas. Here those are hops, each with up to hundreds of
calls, so the replicas count the calls themselves (`record_autoscaling_stats`) and this policy scales by that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # replicas import this module, and need no configuration
    from serving_app.config import AutoscalingConfig

CALLS = "calls"
"""The name under which replicas report the calls that they have in hand."""


def by_calls(context: Any) -> tuple[float, dict[str, Any]]:
    """The policy. Serve imports it by its name here and sends it as it is to its controller, which may not have this
    package: so it uses nothing but what it is given and constants of this module."""
    in_hand = sum((context.aggregated_metrics or {}).get(CALLS, {}).values())
    # Hops that wait for a replica are not in any replica's hand yet.
    return max(in_hand, context.total_num_requests) / context.config.target_ongoing_requests, {}


def serve_options(config: AutoscalingConfig) -> dict[str, Any]:
    """The `autoscaling_config` of a version's deployment; Serve applies bounds and delays to what the policy says."""
    return {
        **config.model_dump(),
        "policy": {"policy_function": by_calls},
        "metrics_interval_s": 1.0,
        "look_back_period_s": max(2.0, config.upscale_delay_s),
    }
