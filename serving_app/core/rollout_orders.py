"""What people want of a rollout: a function for each order, which raises FailedPrecondition where it makes no sense."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from serving_app.core.errors import FailedPrecondition
from serving_app.core.rollout import ACTIVE, Phase, Rollout, decide, enter, note
from serving_app.core.rollout import pause as stay
from serving_app.core.rollout_course import duration
from serving_app.core.strategy import Analysis

_MOST_MARKS = 8


def promote(rollout: Rollout, now: float) -> Rollout:
    """On to the next step, or the end, whatever gates say."""
    _expect(rollout, "promoted", Phase.RUNNING, Phase.PAUSED)
    return enter(note(rollout, now, "sent to the next step by hand"), rollout.step + 1, now)


def promote_full(rollout: Rollout, now: float) -> Rollout:
    """To the end at once, whatever gates say."""
    _expect(rollout, "promoted", Phase.RUNNING, Phase.PAUSED)
    return decide(rollout, now, Phase.PROMOTED, "by hand")


def pause(rollout: Rollout, now: float) -> Rollout:
    """Stay at this step until told; gates that are watched all along can still fail the rollout."""
    _expect(rollout, "paused", Phase.RUNNING)
    return stay(rollout, now, "by hand")


def resume(rollout: Rollout, now: float) -> Rollout:
    """Go on. Of a step that was cut short the rest follows; what was inconclusive is measured again."""
    _expect(rollout, "resumed", Phase.PAUSED)
    assert rollout.paused is not None
    takes = duration(rollout.current)
    if rollout.paused - rollout.since < takes:
        since = rollout.since + now - rollout.paused
    else:
        since = now if isinstance(rollout.current, Analysis) else now - takes
    return note(replace(rollout, phase=Phase.RUNNING, since=since, paused=None, reason=""), now, "resumed by hand")


def abort(rollout: Rollout, now: float) -> Rollout:
    """Back to the version before, at once."""
    _expect(rollout, "aborted", *ACTIVE)
    return decide(rollout, now, Phase.ABORTED, "by hand")


def retry(rollout: Rollout, now: float) -> Rollout:
    """Once more, from the first step."""
    _expect(rollout, "tried again", Phase.FAILED, Phase.ABORTED, Phase.UNDONE)
    again = replace(
        rollout, phase=Phase.WAITING, step=-1, since=now, changed=now, weight=0.0, mirror=0.0, reason="",
        settled=False, measured=0.0, paused=None, missed=None, checks={},
    )
    return note(again, now, "tried again by hand")


def undo(rollout: Rollout, now: float) -> Rollout:
    """Back to the version before, without steps, while that is still kept."""
    _expect(rollout, "undone", Phase.PROMOTED)
    if rollout.settled:
        raise FailedPrecondition(
            f"rollout {rollout.id} was promoted more than {rollout.strategy.keep_s:g} s ago (keep_s), or the requests "
            f"were changed since; start a rollout to version {rollout.from_version} to go back"
        )
    return decide(rollout, now, Phase.UNDONE, "by hand")


def release(rollout: Rollout, now: float, why: str) -> Rollout:
    """Leave the target to somebody else, as it is."""
    if rollout.is_active:
        rollout = decide(rollout, now, Phase.ABORTED, why)
    return replace(rollout, settled=True)


def _expect(rollout: Rollout, done: str, *phases: Phase) -> None:
    if rollout.phase not in phases:
        wanted = " or ".join(sorted(phase.value for phase in phases))
        raise FailedPrecondition(
            f"rollout {rollout.id} is {rollout.phase.value}, and only one that is {wanted} can be {done}"
        )


ORDERS: Mapping[str, Callable[[Rollout, float], Rollout]] = {
    "promote": promote,
    "promote_full": promote_full,
    "pause": pause,
    "resume": resume,
    "abort": abort,
    "retry": retry,
    "undo": undo,
}
"""What people can do with a rollout, by its name."""

UPWARD = frozenset({"promote", "promote_full"})
"""Orders that give the candidate requests, whatever its evidence is: it must be there at least."""


def mark(rollout: Rollout, order: str) -> Rollout:
    """The rollout that remembers that it has carried out this order. Whoever gives one and gets no answer, because the
    controller died at that moment, gives it again with the same mark."""
    return replace(rollout, orders=(*rollout.orders, order)[-_MOST_MARKS:]) if order else rollout
