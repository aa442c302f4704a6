"""The rollouts that are known: one of them, what is new of them, and which are forgotten in the end."""

from __future__ import annotations

from collections.abc import Iterable

from serving_app.core.errors import NotFound
from serving_app.core.rollout import Rollout, Transition

_MOST_KEPT = 10
"""Rollouts of a model that are remembered after they are settled."""
_MOST_IN_ALL = 500


def find_rollout(rollouts: Iterable[Rollout], number: int) -> Rollout:
    """One of them. Raises NotFound."""
    for each in rollouts:
        if each.id == number:
            return each
    raise NotFound(f"There is no rollout {number}; `serving-app rollout list` shows those that there are")


def with_rollout(rollouts: Iterable[Rollout], changed: Rollout) -> tuple[Rollout, ...]:
    """The same with one of them as it is now."""
    return tuple(changed if each.id == changed.id else each for each in rollouts)


def forget_oldest(rollouts: tuple[Rollout, ...], model: str) -> tuple[Rollout, ...]:
    """All but the oldest that are settled. Of each target the last one stays: it tells what was turned away."""
    last = {(each.model, each.target): each.id for each in rollouts}
    settled = [each for each in rollouts if each.settled and last[each.model, each.target] != each.id]
    of_model = [each.id for each in settled if each.model == model]
    in_all = [each.id for each in settled]
    forgotten = {*of_model[: max(0, len(of_model) - _MOST_KEPT)], *in_all[: max(0, len(in_all) - _MOST_IN_ALL)]}
    return tuple(each for each in rollouts if each.id not in forgotten)


def new_transitions(before: Rollout | None, after: Rollout) -> tuple[Transition, ...]:
    """What it did in between."""
    known = set(map(id, before.transitions)) if before is not None else set()
    return tuple(each for each in after.transitions if id(each) not in known)


def newest_moment(rollouts: Iterable[Rollout]) -> float:
    """The last moment that any of them knows of."""
    return max((max(each.since, each.changed, each.transitions[-1].at) for each in rollouts), default=0.0)
