"""What follows from a rollout for its target: how the requests are shared until it is settled, and from then on."""

from __future__ import annotations

from typing import Any

from serving_app.core.rollout import Phase, Rollout
from serving_app.core.traffic import DEFAULT_TARGET, WHOLE


def traffic_for(rollout: Rollout) -> dict[str, Any]:
    """How the target's requests are to be shared until the rollout is settled, as a configuration says it."""
    weights = {rollout.from_version: WHOLE - rollout.weight, rollout.to_version: rollout.weight}
    mirror: dict[str, Any] = {}
    if rollout.mirror:
        mirror = {"version": rollout.to_version, "share": rollout.mirror, "tolerances": rollout.strategy.tolerances}
    return {**_rest(rollout), "weights": weights, "mirror": mirror or None}


def winner(rollout: Rollout) -> int:
    """The version that the target is to have in the end, as things stand."""
    return rollout.to_version if rollout.phase is Phase.PROMOTED else rollout.from_version


def final_traffic(rollout: Rollout, *, is_latest: bool, is_held: bool) -> dict[str, Any] | None:
    """How they are to be shared when it is settled; None if not at all.

    A label names the winner then. Requests that name nothing get the latest version unless they are shared: they stay
    so where that is another (`is_latest`), or where newer versions are to come by rollouts (`is_held`).
    """
    own = _rest(rollout) | _own_mirror(rollout)
    pinned = {**own, "weights": {winner(rollout): WHOLE}}
    if rollout.target != DEFAULT_TARGET:
        return pinned if own else None
    return None if rollout.before is None and is_latest and not is_held else pinned


def _rest(rollout: Rollout) -> dict[str, Any]:
    """What of the target's own settings is none of the rollout's business."""
    before = rollout.before or {}
    return {name: before[name] for name in ("sticky", "audience") if before.get(name)}


def _own_mirror(rollout: Rollout) -> dict[str, Any]:
    """The mirror that the target had before, unless that version answers itself now."""
    mirror = rollout.before.get("mirror") if rollout.before else None
    return {"mirror": mirror} if mirror and mirror["version"] != winner(rollout) else {}
